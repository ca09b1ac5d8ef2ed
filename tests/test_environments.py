"""Environments are tasks like any other: drawn from a generator, mapped over, trained on, tested with one protocol."""

import math

import pytest
import torch
from torch import nn
from torch.func import vmap

from metalib import (
    RL2,
    BanditRule,
    Bandits,
    Learner,
    MDPs,
    Navigations,
    PolicyMAML,
    Sinusoids,
    TrainConfig,
    audit,
    certify_gradient,
    compare,
    meta_gradient,
    meta_test,
    meta_train,
    mlp,
    seeded,
    shared_episodes,
    training_episodes,
)
from metalib.episode import check_episodes, each, one_task, rows, task_axis
from metalib.functional import derived
from metalib.tasks.environments import MDP, Bandit, chosen, noise

KINDS = {"bandit": Bandits(3, 7, dtype=torch.float64), "mdp": MDPs(4, 3, 3, 2, dtype=torch.float64),
         "navigation": Navigations(7, dtype=torch.float64)}
VELOCITIES = 0.2 * torch.randn(7, 2, generator=seeded(1), dtype=torch.float64)
kinds = pytest.mark.parametrize("kind", KINDS)


def drawn(kind, n=4, seed=0):
    return KINDS[kind].sample(n, generator=seeded(seed))


def acted(task):
    """What comes of a fixed sequence of actions in one task: observations and rewards."""
    state, u, seen, got = task.start(), noise(task, 0), [], []
    for t in range(task.horizon):
        action = VELOCITIES[t] if not hasattr(task, "rewards") else torch.eye(3, dtype=torch.float64)[t * t % 3]
        seen.append(task.observe(state, t))
        state, reward = task.step(state, action, u[t, 2:], t)
        got.append(reward)
    return torch.stack(seen), torch.stack(got)


@kinds
def test_one_seed_is_one_task_and_a_roll_out_through_vmap_is_the_roll_out_of_a_loop(kind):
    tasks, again, other = drawn(kind), drawn(kind), drawn(kind, seed=1)
    assert torch.equal(tasks[0], again[0]) and torch.equal(tasks.key, again.key)
    assert not torch.equal(tasks[0], other[0])
    at_once = vmap(acted, (task_axis(tasks),))(tasks)
    for t in range(4):
        assert all(torch.equal(a[t], b) for a, b in zip(at_once, acted(one_task(tasks, t))))


@kinds
def test_several_episodes_side_by_side_are_these_episodes_one_by_one(kind):
    task, K = one_task(drawn(kind), 0), 5
    u = noise(task, 3, K)  # (H, K, 4)
    states = task.start().expand(K, -1)
    actions = torch.eye(3, dtype=torch.float64)[torch.arange(K) % 3] if kind != "navigation" else u[0, :, :2] - 0.5
    side_by_side = [states]
    for t in range(task.horizon):
        states, reward = task.step(states, actions, u[t, :, 2:], t)
        for k in range(K):
            state, alone = task.step(side_by_side[-1][k], actions[k], u[t, k, 2:], t)
            assert torch.equal(state, states[k]) and torch.equal(alone, reward[k])
        side_by_side.append(states)


def test_an_arm_pays_as_often_as_its_p_says():
    task = Bandit(torch.tensor([0.2, 0.9]), torch.tensor(3), 4000)
    u = noise(task, 0)
    for a, action in enumerate(torch.eye(2)):
        _, rewards = task.step(task.start(), action.expand(4000, 2), u[:, 2:], 0)
        assert abs(float(rewards.mean() - task.p[a])) < 4 * math.sqrt(0.25 / 4000)


def test_an_mdp_goes_where_its_probabilities_say_and_an_episode_ends_in_state_0():
    task = one_task(MDPs(3, 2, 5, 2, dtype=torch.float64).sample(1, generator=seeded(0)), 0)
    torch.testing.assert_close(task.P.sum(-1), torch.ones(3, 2, dtype=torch.float64))
    n, state, action = 20000, torch.eye(3, dtype=torch.float64)[2], torch.eye(2, dtype=torch.float64)[1]
    u = noise(task._replace(horizon=n), 0)[:, 2:]
    following, reward = task.step(state.expand(n, 3), action.expand(n, 2), u, 0)
    error = 4 * (task.P[2, 1] * (1 - task.P[2, 1]) / n).sqrt()
    assert bool(((following.mean(0) - task.P[2, 1]).abs() < error).all())
    assert bool((reward == task.r[2, 1]).all())
    assert bool((task.step(state.expand(n, 3), action.expand(n, 2), u, 4)[0] == task.start()).all())


def test_a_walk_is_clipped_and_its_reward_is_minus_the_distance():
    task = one_task(Navigations(dtype=torch.float64).sample(1, generator=seeded(0)), 0)
    state, reward = task.step(task.start(), torch.tensor([5.0, -0.03], dtype=torch.float64), noise(task, 0)[0], 0)
    torch.testing.assert_close(state, torch.tensor([0.1, -0.03], dtype=torch.float64))
    assert float(reward) == pytest.approx(-float((state - task.goal).norm()))


@pytest.mark.parametrize("p", [[0.25, 0.25, 0.5], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
def test_a_category_is_chosen_by_its_probability_and_rounding_leaves_none_out(p):
    u = (torch.arange(1000) + 0.5) / 1000
    shares = chosen(torch.tensor(p).expand(1000, 3), u).mean(0)
    torch.testing.assert_close(shares, torch.tensor(p), atol=2e-3, rtol=0)
    assert float(chosen(torch.tensor([0.3, 0.3, 0.3]), torch.tensor(0.99999)).sum()) == 1


# --- the protocol: an episode is any named tuple of tensors ------------------------------------------------------

class Guess(Learner):
    """A learner of an environment in two lines: one weight an arm, whatever the task."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def adapt(self, support):
        return self.weight.softmax(0)

    def predict(self, phi, x):
        return {"return": x.horizon * (phi * x.p).sum(), "chance": phi.amax()}

    def task_loss(self, prediction, y):
        return -prediction["return"]


def test_any_named_tuple_is_trained_on_certified_and_tested():
    tasks, learner = KINDS["bandit"], Guess()
    assert certify_gradient(learner, tasks.sample(3, generator=seeded(0)), smooth=True).passed
    assert certify_gradient(learner, one_task(tasks.sample(3, generator=seeded(0)), 1), smooth=True).passed
    meta_train(learner, tasks, TrainConfig(iterations=3), val_tasks=tasks)
    scores = meta_test(learner, tasks, 40, metric=["return", "chance", lambda play, task: task.p[0]])
    assert [s.metric for s in scores] == ["return", "chance", "<lambda>"]
    p = torch.cat([one.p for one in (tasks.sample(1, generator=g) for g in [seeded(0)] for _ in range(40))])
    torch.testing.assert_close(scores[2].values, p[:, 0])
    assert meta_test(learner, tasks, 40).metric == "return"
    assert meta_test(learner, tasks, 40, map="loop").mean == pytest.approx(meta_test(learner, tasks, 40).mean)
    loss = meta_test(learner, tasks, 40, metric="loss")
    assert loss.mean == pytest.approx(-scores[0].mean)


def test_a_score_of_environments_says_nothing_of_queries_and_pairs_with_another():
    a, b = (meta_test(BanditRule(rule), KINDS["bandit"], 30, metric="regret") for rule in ("greedy", "random"))
    assert "transductive" not in str(a) and "protocols" not in str(compare(a, b)) and a.digest == b.digest
    assert compare(a, b).mean < 0


@pytest.mark.parametrize("short, long", [(Bandits(4, 11), Bandits(4, 12)), (MDPs(3, 2, 4, 1), MDPs(3, 2, 2, 2)),
                                         (Navigations(6), Navigations(9))])
def test_scores_of_other_horizons_are_of_other_tasks(short, long):
    class Nothing(Learner):
        def adapt(self, support):
            return support.key * 0.0

        def predict(self, phi, x):
            return {"return": phi}

    a, b, again = (meta_test(Nothing(), tasks, 3) for tasks in (short, long, short))
    assert a.digest == again.digest != b.digest
    with pytest.raises(ValueError, match="episodes"):
        compare(a, b)


def test_validation_keeps_the_weights_of_the_largest_return():
    torch.manual_seed(0)
    tasks, learner = Bandits(3, 5), RL2(3, core="counts", dim=8)
    history = meta_train(learner, tasks, TrainConfig(iterations=6, lr=0.1, val_every=1, val_episodes=20),
                         val_tasks=tasks)
    means = [mean for _, mean, _ in history.validations]
    assert history.best_iteration == 1 + means.index(max(means))


class Wrong:
    def __init__(self, change):
        self.change = change

    def sample(self, n, *, generator):
        return self.change(KINDS["bandit"].sample(n, generator=generator))


@pytest.mark.parametrize("change, error, message", [
    (lambda b: b._replace(p=b.p[0]), ValueError, "a leading task axis of 1"),
    (lambda b: rows(b, 0), ValueError, "a leading task axis of 1"),
    (lambda b: each(lambda t: torch.cat([t, t]), b), ValueError, "asked for 1 task and returned tensors"),
    (lambda b: tuple(b), TypeError, "another named tuple"),
    (lambda b: {"p": b.p}, TypeError, "another named tuple"),
])
def test_what_is_no_meta_batch_is_refused_with_the_shapes_it_has(change, error, message):
    with pytest.raises(error, match=message):
        meta_test(BanditRule(), Wrong(change), 1, metric="regret")


def test_mistakes_in_the_protocol_are_named_with_their_fix():
    tasks, learner = KINDS["bandit"], Guess()
    with pytest.raises(ValueError, match="a leading task axis T"):
        meta_gradient(learner, one_task(tasks.sample(1, generator=seeded(0)), 0))
    with pytest.raises(TypeError, match="expected a Learner"):
        meta_gradient(learner, tasks.sample(1, generator=seeded(0)).p)
    with pytest.raises(ValueError, match="no queries"):
        meta_test(learner, tasks, 2, transductive=False)
    with pytest.raises(ValueError, match=r"metric='regret': Guess predicts \['chance', 'return'\]"):
        meta_test(learner, tasks, 2, metric="regret")
    with pytest.raises(ValueError, match="draws a Bandit"):
        audit(tasks)
    fixed = Wrong(lambda b: KINDS["bandit"].sample(1, generator=seeded(0)))
    with pytest.raises(ValueError, match="one and the same task"):
        meta_test(learner, fixed, 10)


def test_the_checks_of_supervised_episodes_stay():
    batch = Sinusoids().sample(2, generator=seeded(0))
    for wrong, message in ((batch._replace(query=rows(batch.query, slice(0, 1))), "one target an example"),
                           (batch._replace(support=batch.support._replace(y=batch.support.y.long())), "way is None")):
        with pytest.raises(ValueError, match=message):
            meta_gradient(Mean(), wrong)


class Mean(Learner):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def adapt(self, support):
        return support.y.mean() + self.weight

    def predict(self, phi, x):
        return phi.expand(len(x), 1)


@pytest.mark.parametrize("make", [
    lambda: Bandits(1), lambda: Bandits(horizon=0), lambda: Bandits(2.0), lambda: MDPs(states=1),
    lambda: MDPs(length=0), lambda: Navigations(0), lambda: Navigations(reach=0),
    lambda: Bandits().sample(0, generator=seeded(0))])
def test_sizes_that_make_no_environment_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_an_environment_has_no_step_that_its_distribution_did_not_say():
    task = one_task(KINDS["mdp"].sample(1, generator=seeded(0)), 0)
    assert isinstance(task, MDP) and task.horizon == 6 and task.length == 3 and noise(task, 0).shape == (6, 4)


# --- numbers that would come out wrong without an error --------------------------------------------------------------

@pytest.mark.parametrize("kind, change, message", [
    ("bandit", lambda b: b._replace(p=b.p - 0.5), "a Bandit with horizon=7 .* p from -0.*floats from 0 to 1"),
    ("bandit", lambda b: b._replace(p=b.p / 0), "expected at least 1 pull"),
    ("bandit", lambda b: b._replace(horizon=-1), "horizon=-1"),
    ("bandit", lambda b: b._replace(p=(b.p > 0.5).int()), "int32 p from 0 to 1: .* floats"),
    ("mdp", lambda m: m._replace(P=m.P * 1.25), r"sum to 1.25 .. 1.25: .* \(divide by"),
    ("mdp", lambda m: m._replace(P=m.P * torch.tensor([-1.0, 1, 1, 1])), "least entry is -"),
    ("mdp", lambda m: m._replace(r=m.r[..., :2]), r"r \(4, 4, 2\) and P \(4, 4, 3, 4\).*P \(4, 4, 2, 4\)"),
    ("mdp", lambda m: m._replace(length=0), "length=0"),
    ("navigation", lambda n: n._replace(goal=n.goal[:, :1]), r"a goal of shape \(4, 1\): .* two numbers"),
    ("navigation", lambda n: n._replace(horizon=0), "horizon=0")])
def test_what_is_no_environment_is_refused_before_anybody_acts_in_it(kind, change, message):
    for tasks in (drawn(kind), KINDS[kind].sample(1, generator=seeded(3)), one_task(drawn(kind), 0)):
        tasks.check()
    with pytest.raises(ValueError, match=message):
        check_episodes(change(drawn(kind)))
    with pytest.raises(ValueError, match="expected at least 1"):
        meta_test(BanditRule(), Wrong(lambda b: change(KINDS[kind].sample(len(b.key), generator=seeded(0)))), 2)


class Blind(nn.Module):
    """A policy for bandits: it sees nothing, and its weights are logits."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(1, 3))

    def forward(self, x):
        return self.logits.expand(len(x), 3)


@pytest.mark.parametrize("kind, learner", [
    ("bandit", lambda: RL2(3, core="recurrent", dim=4)), ("bandit", lambda: RL2(3, core="arms", dim=4)),
    ("mdp", lambda: RL2(3, 4, dim=4)), ("mdp", lambda: PolicyMAML(mlp(4, (3,), 3), episodes=2)),
    ("bandit", lambda: PolicyMAML(Blind(), episodes=2))])
@pytest.mark.parametrize("map", ["vmap", "loop"])
def test_an_agent_that_says_nothing_has_no_return(kind, learner, map):
    learner = learner().double()
    assert math.isfinite(meta_test(learner, KINDS[kind], 3, map=map).mean)
    with torch.no_grad():
        next(learner.parameters())[0, 0] = math.nan
    score = meta_test(learner, KINDS[kind], 3, map=map)
    assert bool(score.values.isnan().all()) and "3 of 3 values are not finite" in str(score)


@pytest.mark.parametrize("other", [Bandits(3, 6), Bandits(4, 7), Bandits(3, 8)])
def test_environments_of_one_test_are_of_one_size_and_one_horizon(other):
    turns = Wrong(lambda b: next(order).sample(1, generator=seeded(int(b.key[0]) % 1000)))
    order = iter([Bandits(3, 7)] * 5 + [other] * 5)
    with pytest.raises(ValueError, match=r"differ.*, 7\].*ake one Tasks"):
        meta_test(BanditRule("random"), turns, 10)


@pytest.mark.parametrize("short, long", [(Bandits(4, 6), Bandits(4, 9)), (MDPs(3, 2, 4, 2), MDPs(3, 2, 2, 4)),
                                         (Navigations(3), Navigations(5))])
def test_a_longer_lifetime_in_the_same_task_is_still_seen_among_those_of_training(short, long):
    training = training_episodes(short, TrainConfig(iterations=9, meta_batch=1))
    assert shared_episodes(long, training, episodes=9, seed=derived(0, "train")) == 9


def test_an_agent_acts_in_one_task():
    for kind in KINDS:
        with pytest.raises(ValueError, match=r"a task axis of 4: .*one_task\(tasks, 0\)"):
            noise(drawn(kind), 0)
