"""RL^2: its gradient is right in the mean, its memory is a function of the past, and a collapse can be seen."""

import pytest
import torch

from metalib import (
    RL2,
    BanditRule,
    Bandits,
    MDPs,
    Navigations,
    TrainConfig,
    certify_gradient,
    compare,
    load,
    meta_gradient,
    meta_test,
    meta_train,
    save,
    seeded,
)
from metalib.episode import one_task
from metalib.functional import relative_error
from metalib.learners.policy import entropy
from metalib.tasks.environments import Bandit

CORES = ("recurrent", "arms", "counts")
cores = pytest.mark.parametrize("core", CORES)
BANDITS, PROCESSES = Bandits(3, 6, dtype=torch.float64), MDPs(3, 2, 4, 2, dtype=torch.float64)


def built(core="recurrent", actions=3, features=0, seed=0, **more):
    torch.manual_seed(seed)
    return RL2(actions, features, core, **{"dim": 6, **more}).double()


def gradients(learner, episodes, map="vmap"):
    loss = meta_gradient(learner, episodes, map)
    return {"loss": loss, **{k: p.grad.clone() for k, p in learner.named_parameters()}}


def exact(learner, p, H):
    """The expected return of a lifetime, by enumeration of all actions and rewards."""
    def worth(h, action, reward, t):
        left = torch.tensor([1 - t / H], dtype=torch.float64)
        h, _, logits = learner.body(h, action, reward, left)
        total = 0.0
        for a, q in enumerate(logits.softmax(-1)):
            one = torch.eye(len(p), dtype=torch.float64)[a]
            total = total + q * p[a]
            if t < H - 1:
                for r, chance in ((1.0, p[a]), (0.0, 1 - p[a])):
                    total = total + q * chance * worth(h, one, torch.tensor(r, dtype=torch.float64), t + 1)
        return total

    zeros = torch.zeros(len(p), dtype=torch.float64)
    return worth(torch.zeros(learner.body.memory, dtype=torch.float64), zeros, zeros[0], 0)


@cores
def test_the_mean_meta_gradient_is_that_of_the_enumerated_return(core):
    """Over 20,000 lifetimes of one bandit: within 3.5 standard errors, in batches of 500, where most are large."""
    learner, p, H = built(core, actions=2, dim=6, seed=1), torch.tensor([0.3, 0.8], dtype=torch.float64), 3
    names = [k for k, _ in learner.named_parameters() if k.startswith("body")]
    slope = torch.autograd.grad(exact(learner, p, H), [learner.get_parameter(k) for k in names])
    keys, batches = torch.arange(20000).reshape(40, 500), []
    for k in keys:
        meta_gradient(learner, Bandit(p.expand(500, 2), k, H))
        batches.append(torch.cat([-H * learner.get_parameter(k).grad.flatten() for k in names]))
    batches, slope = torch.stack(batches), torch.cat([g.flatten() for g in slope])
    error = batches.std(0) / 40**0.5
    assert float(((batches.mean(0) - slope).abs() / (error + 1e-9)).max()) < 3.5
    assert float((slope.abs() / (error + 1e-9)).max()) > 20


@cores
def test_vmap_is_the_loop_and_the_double_backward(core):
    learner = built(core)
    episodes = BANDITS.sample(3, generator=seeded(0))
    ways = [gradients(learner, episodes, map) for map in ("vmap", "loop")]
    assert relative_error(*ways) < 1e-10
    certificate = certify_gradient(learner, episodes)
    assert certificate.consistent and certificate.approximate and not certificate.passed
    assert "consistent, not verified" in str(certificate)


def test_an_mdp_goes_the_same_ways():
    learner = built(actions=2, features=3)
    episodes = PROCESSES.sample(3, generator=seeded(0))
    assert relative_error(*(gradients(learner, episodes, map) for map in ("vmap", "loop"))) < 1e-10
    assert meta_test(learner, PROCESSES, 5).metric == "return"


@cores
def test_the_meta_loss_is_minus_the_return_and_float32_agrees(core):
    learner, episodes = built(core, entropy=0.5), BANDITS.sample(4, generator=seeded(0))
    loss = meta_gradient(learner, episodes)
    played = [learner.predict(learner.adapt(task), task) for task in (one_task(episodes, t) for t in range(4))]
    assert float(loss) == pytest.approx(-sum(float(one["return"]) for one in played) / 4)
    wide = gradients(learner, episodes)
    narrow = gradients(learner.float(), episodes._replace(p=episodes.p.float()))
    assert relative_error(narrow, wide) < 1e-4


def test_memory_goes_on_where_an_episode_ended_and_its_numbers_are_new():
    learner, task = built(), one_task(BANDITS.sample(1, generator=seeded(0)), 0)
    phi = learner.adapt(task, 1)
    assert int(phi[-1]) == 1 and not torch.equal(phi[0], learner.adapt(task)[0])
    twice, once_more = learner.adapt(task, 2), learner.play(phi, task)[0]
    assert all(torch.equal(a, b) for a, b in zip(twice, once_more))
    first, second = learner.predict(learner.adapt(task), task), learner.predict(phi, task)
    assert not torch.equal(first["rewards"], second["rewards"]) or not torch.equal(first["actions"], second["actions"])
    scores = [meta_test(learner, BANDITS, 5, steps=j).mean for j in (0, 1)]
    assert scores[0] == meta_test(learner, BANDITS, 5).mean != scores[1]


@cores
def test_the_past_decides_and_no_future_or_secret_does(core):
    """A policy sees its own actions and rewards: with p changed where it was never pulled, it goes on as before."""
    learner, task = built(core), one_task(BANDITS.sample(1, generator=seeded(1)), 0)
    before = {k: p.clone() for k, p in learner.named_parameters()}
    played = learner.predict(learner.adapt(task), task)
    pulled = played["actions"].sum(0) > 0
    other = task._replace(p=torch.where(pulled, task.p, 1 - task.p))
    again = learner.predict(learner.adapt(other), other)
    assert bool(pulled.any()) and torch.equal(played["rewards"], again["rewards"])
    assert all(torch.equal(p, before[k]) for k, p in learner.named_parameters())


@pytest.mark.parametrize("core", ["arms", "counts"])
def test_arms_that_share_weights_are_interchangeable(core):
    learner, order = built(core), torch.tensor([2, 0, 1])
    h = torch.rand(learner.body.memory, dtype=torch.float64, generator=seeded(0))
    action, left = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    _, _, logits = learner.body(h, action, torch.tensor(1.0, dtype=torch.float64), left)
    _, _, permuted = learner.body(h[order], action[order], torch.tensor(1.0, dtype=torch.float64), left)
    torch.testing.assert_close(logits[order], permuted)


def test_training_repeats_and_a_stopped_run_goes_on_to_the_bit(tmp_path):
    def trained(**more):
        torch.manual_seed(0)
        learner = RL2(3, core="counts", dim=8)
        meta_train(learner, Bandits(3, 8), TrainConfig(**{"iterations": 8, "meta_batch": 8, "clip": 1, **more}))
        return learner

    whole = trained()
    trained(iterations=5, checkpoint=tmp_path / "run.pt")
    resumed = trained(checkpoint=tmp_path / "run.pt")
    assert all(torch.equal(p, resumed.get_parameter(k)) for k, p in whole.named_parameters())
    save(whole, tmp_path / "policy.pt")
    again = load(tmp_path / "policy.pt")
    assert meta_test(again, Bandits(3, 8), 10).mean == meta_test(whole, Bandits(3, 8), 10).mean


def test_counts_learn_within_seconds_to_lose_much_less_than_chance():
    torch.manual_seed(0)
    learner, tasks = RL2(5, core="counts", dim=32), Bandits()
    meta_train(learner, tasks, TrainConfig(iterations=40, meta_batch=64, lr=1e-2, schedule="cosine", clip=1))
    ours, chance = (meta_test(one, tasks, 200, metric="regret") for one in (learner, BanditRule("random")))
    assert ours.mean < 0.6 * chance.mean


def test_a_collapsed_agent_is_seen_at_its_first_choice_only_if_that_can_differ_and_always_by_the_arms_it_tries():
    """`Counts` sees five equal arms before the first pull, so one that only repeats itself starts at entropy log 5."""
    learner, blind = RL2(5), RL2(5, core="counts")
    with torch.no_grad():
        learner.body.head.weight.zero_()
        learner.body.head.bias.copy_(torch.tensor([9.0, 0, 0, 0, 0]))
    blind.body.net = Repeat()
    greedy = meta_test(BanditRule("greedy"), Bandits(), 200, metric=["regret", arms_tried])
    for agent, low, high in ((learner, 0, 0.01), (blind, 1.609, 1.61)):
        first, regret, tried = meta_test(agent, Bandits(), 200, metric=[first_entropy, "regret", arms_tried])
        assert low <= first.mean < high and tried.mean < 1.1 < greedy[1].mean
        difference = compare(regret, greedy[0])
        assert difference.mean - difference.ci95 > 0


class Repeat(torch.nn.Module):
    """A logit of -60 / (n + 1): whatever was pulled first is pulled again."""

    def forward(self, x):
        return -60 * x[..., 3:4]


def arms_tried(play, task):
    return (play["actions"].sum(0) > 0).double().sum()


def first_entropy(play, task):
    return play["entropy"][0]


def test_entropy_is_log_a_of_equal_logits():
    assert float(entropy(torch.zeros(5))) == pytest.approx(float(torch.tensor(5.0).log()))
    assert float(entropy(torch.tensor([50.0, 0, 0]))) < 1e-10


@pytest.mark.parametrize("wrong, message", [
    ({"actions": 1}, "actions=1: .* at least 2"), ({"dim": 0}, "dim=0"), ({"core": "gru"}, "core='gru'"),
    ({"core": "arms", "features": 3}, "use core='recurrent'"), ({"entropy": -1}, "entropy=-1"),
    ({"features": 0.5}, "features=0.5")])
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        RL2(**{"actions": 5, **wrong})


def test_a_task_of_another_kind_size_or_dtype_is_refused_with_the_fix():
    with pytest.raises(TypeError, match="use PolicyMAML"):
        meta_test(RL2(2), Navigations(), 1)
    with pytest.raises(ValueError, match="build it with actions=2, features=3"):
        meta_test(RL2(2), MDPs(3, 2), 1)
    with pytest.raises(ValueError, match="build it with actions=4, features=0"):
        meta_test(RL2(3), Bandits(4), 1)
    with pytest.raises((TypeError, ValueError), match="float64"):
        meta_test(RL2(3), BANDITS, 1)


@pytest.mark.parametrize("core", ["arms", "counts"])
def test_a_memory_is_of_one_kind_of_task_for_any_time(core):
    learner, task = built(core), one_task(BANDITS.sample(2, generator=seeded(2)), 1)
    phi = learner.adapt(task, 1)
    assert learner.predict(phi, task._replace(horizon=3))["rewards"].shape == (3,)
    for other in (Bandits(5, 6, dtype=torch.float64), PROCESSES):
        with pytest.raises(ValueError, match="build it with actions="):
            learner.predict(phi, one_task(other.sample(1, generator=seeded(0)), 0))
    with pytest.raises(ValueError, match="a task axis of 2"):
        learner.adapt(BANDITS.sample(2, generator=seeded(2)), 1)
