"""MAML with a policy gradient: returns do not show a wrong second derivative, so the second derivative is looked at."""

import functools

import pytest
import torch
from torch import nn
from torch.func import grad, hessian, vmap

from metalib import (
    Bandits,
    LinearTasks,
    MDPs,
    Navigations,
    PolicyMAML,
    TrainConfig,
    certify_gradient,
    load,
    meta_gradient,
    meta_test,
    meta_test_path,
    meta_train,
    mlp,
    save,
    seeded,
)
from metalib.episode import one_task
from metalib.functional import relative_error
from metalib.learners.policy_gradient import advantages, objective
from metalib.tasks.environments import MDP, Bandit

# Two states; where one goes depends on what one does. theta: logits (S, A). Three steps.
P = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.1, 0.9]]], dtype=torch.float64)
R = torch.tensor([[0.0, 0.3], [1.0, 0.2]], dtype=torch.float64)
THETA = torch.tensor([[0.3, -0.2], [-0.5, 0.4]], dtype=torch.float64)
CHAIN = MDP(P, R, torch.tensor(5), 3, 3)


def expected_return(theta, task=CHAIN):
    """By dynamic programming."""
    pi, V = theta.softmax(-1), torch.zeros(2, dtype=torch.float64)
    for _ in range(task.horizon):
        V = (pi * (task.r + torch.einsum("san,n->sa", task.P, V))).sum(-1)
    return V[0]


UNMOVED = CHAIN._replace(P=P[:, :1].expand(2, 2, 2))  # where one goes is the same whatever one does


@functools.cache
def estimated(how, moved=True):
    """((mean, standard error) of the surrogate's gradient, of its Hessian) over 100,000 episodes, in 100 batches."""
    learner = PolicyMAML(nn.Linear(2, 2, bias=False).double(), episodes=1000)
    task = CHAIN if moved else UNMOVED

    def one(i):
        played = learner.play({"weight": THETA.T}, task, i)

        def value(theta):
            return objective(learner.log_prob({"weight": theta.T}, task, played), advantages(played["rewards"]), how)

        return grad(value)(THETA), hessian(value)(THETA)

    return [(values.mean(0), values.std(0) / 10) for values in vmap(one)(torch.arange(100))]


@pytest.mark.parametrize("how", ["dice", "lvc", "naive"])
def test_every_surrogate_has_the_right_gradient_in_the_mean(how):
    (mean, error), _ = estimated(how)
    assert bool(((mean - grad(expected_return)(THETA)).abs() < 3 * error).all())
    assert float(error.max()) < 1e-3


def test_dice_has_the_right_hessian_in_the_mean_where_the_state_depends_on_the_action():
    _, (mean, error) = estimated("dice")
    assert bool(((mean - hessian(expected_return)(THETA)).abs() < 3 * error).all())
    assert float(error.max()) < 1e-3


@pytest.mark.parametrize("how", ["naive", "lvc"])
def test_naive_and_lvc_have_not(how):
    """By more than its largest entry, 60 standard errors: LVC too, because what an action does to later ones counts."""
    _, (mean, error) = estimated(how)
    exact = hessian(expected_return)(THETA)
    wrong = (mean - exact).abs()
    assert float(wrong.max()) > 60 * float(error.max()) and float(wrong.max()) > float(exact.abs().max())


def test_lvc_is_right_and_varies_less_where_actions_change_no_state_and_naive_is_wrong_even_there():
    exact = hessian(lambda theta: expected_return(theta, UNMOVED))(THETA)
    (lvc, small), (dice, large), (naive, error) = (estimated(how, moved=False)[1] for how in ("lvc", "dice", "naive"))
    assert bool(((lvc - exact).abs() < 3 * small + 1e-12).all()) and bool(((dice - exact).abs() < 3 * large).all())
    assert float(small.norm()) < 0.7 * float(large.norm())
    assert float((naive - exact).abs().max()) > 60 * float(error.max())


def test_the_value_of_a_surrogate_at_the_policy_that_acted_and_the_numbers_of_the_worked_example():
    """One step, two arms that pay 1 and 0, chance 3/4 of the first: J'' = -3/32, and naive says -9/64."""
    theta = torch.tensor(3.0, dtype=torch.float64).log()
    exact = torch.func.grad(torch.func.grad(torch.sigmoid))(theta)
    assert float(exact) == pytest.approx(-3 / 32)
    for how, second in (("dice", -3 / 32), ("lvc", -3 / 32), ("naive", -9 / 64)):
        def mean(theta, how=how):  # over the two actions, with their chances
            log_p = torch.stack([theta.sigmoid(), 1 - theta.sigmoid()]).log()
            return sum(c * objective(log_p[a].reshape(1, 1), torch.tensor([[1.0 - a]]), how)
                       for a, c in enumerate((0.75, 0.25)))
        assert float(torch.func.grad(mean)(theta)) == pytest.approx(3 / 16)
        assert float(torch.func.grad(torch.func.grad(mean))(theta)) == pytest.approx(second)


def test_the_baseline_of_an_episode_is_the_mean_of_the_others():
    rewards = torch.tensor([[1.0, 2.0, 4.0], [0.0, 3.0, 0.0]])
    later = torch.tensor([[1.0, 5.0, 4.0], [0.0, 3.0, 0.0]])
    others = torch.tensor([[4.5, 2.5, 3.0], [1.5, 0.0, 1.5]])
    torch.testing.assert_close(advantages(rewards), later - others)


# --- the learner -------------------------------------------------------------------------------------------------

TASKS = {"navigation": (Navigations(4, dtype=torch.float64), 2, 2),
         "mdp": (MDPs(3, 2, 4, 1, dtype=torch.float64), 3, 2)}
kinds = pytest.mark.parametrize("kind", TASKS)


def built(kind="navigation", **more):
    torch.manual_seed(0)
    _, dim, out = TASKS[kind]
    return PolicyMAML(mlp(dim, (5,), out, activation="tanh").double(), 0.05, **{"episodes": 4, **more})


@pytest.mark.parametrize("how", ["dice", "lvc"])
@kinds
def test_vmap_is_the_loop_and_the_double_backward(kind, how):
    learner, episodes = built(kind, steps=2, surrogate=how), TASKS[kind][0].sample(3, generator=seeded(0))
    gradients = []
    for map in ("vmap", "loop"):
        loss = meta_gradient(learner, episodes, map)
        gradients.append({"loss": loss, **{k: p.grad.clone() for k, p in learner.named_parameters()}})
    assert relative_error(*gradients) < 1e-10
    certificate = certify_gradient(learner, episodes, smooth=True)
    assert certificate.consistent and certificate.approximate
    played = [learner.predict(learner.adapt(task), task) for task in (one_task(episodes, t) for t in range(3))]
    assert float(gradients[0]["loss"]) == pytest.approx(-sum(float(one["return"]) for one in played) / 3)


@kinds
def test_adapting_leaves_the_start_alone_and_repeats(kind):
    learner, task = built(kind), one_task(TASKS[kind][0].sample(1, generator=seeded(0)), 0)
    before = {k: p.clone() for k, p in learner.named_parameters()}
    phi, again = learner.adapt(task), learner.adapt(task)
    assert all(torch.equal(phi[k], again[k]) for k in phi)
    assert all(torch.equal(p, before[k]) for k, p in learner.named_parameters())
    assert all(torch.equal(p, before[f"net.{k}"]) for k, p in learner.adapt(task, 0).items())
    scores = meta_test_path(learner, TASKS[kind][0], 2, 6)
    assert [s.mean for s in scores[:2]] == [meta_test(learner, TASKS[kind][0], 6, steps=j).mean for j in (0, 1)]


def test_episodes_of_an_inner_step_and_of_the_test_are_not_the_same():
    learner, task = built(), one_task(TASKS["navigation"][0].sample(1, generator=seeded(0)), 0)
    phi = learner.adapt(task, 0)
    actions = [learner.play(phi, task, i)["actions"] for i in (0, 1, -1)]
    assert not any(torch.equal(actions[i], actions[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_one_update_learns_to_walk_towards_a_goal_it_does_not_see():
    torch.manual_seed(0)
    learner, tasks = PolicyMAML(mlp(2, (32,), 2, activation="tanh"), 0.03, episodes=10), Navigations(10)
    meta_train(learner, tasks, TrainConfig(iterations=40, meta_batch=10, lr=5e-3, clip=1))
    before, after = meta_test_path(learner, tasks, 1, 100)
    assert (after.values - before.values).mean() > 0.5


def test_training_repeats_and_is_saved(tmp_path):
    def trained(**more):
        learner = built("mdp")
        meta_train(learner, TASKS["mdp"][0], TrainConfig(**{"iterations": 4, "meta_batch": 3, **more}))
        return learner

    whole = trained()
    trained(iterations=2, checkpoint=tmp_path / "run.pt")
    resumed = trained(checkpoint=tmp_path / "run.pt")
    assert all(torch.equal(p, resumed.get_parameter(k)) for k, p in whole.named_parameters())
    save(whole, tmp_path / "policy.pt")
    assert meta_test(load(tmp_path / "policy.pt"), TASKS["mdp"][0], 5).mean == meta_test(whole, TASKS["mdp"][0], 5).mean


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_bandit_shows_nothing_so_a_bias_is_its_policy():
    learner = PolicyMAML(nn.Linear(0, 3), 1.0, episodes=5)
    task = one_task(Bandits(3, 4).sample(1, generator=seeded(0)), 0)
    assert isinstance(task, Bandit) and not torch.equal(learner.adapt(task)["bias"], learner.net.bias)
    before, after = meta_test_path(learner, Bandits(3, 4), 1, 200)
    assert (after.values - before.values).mean() > 0


@pytest.mark.parametrize("wrong, error, message", [
    ({"episodes": 1}, ValueError, "at least 2"), ({"std": 0}, ValueError, "std=0: expected a number above 0"),
    ({"surrogate": "reinforce"}, ValueError, "'dice', 'lvc' or 'naive'"), ({"inner_lr": -1}, ValueError, "inner_lr=-1"),
    ({"steps": 0.5}, ValueError, "steps=0.5"), ({"net": 3}, TypeError, "a network")])
def test_wrong_arguments_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        PolicyMAML(**{"net": mlp(2, (4,), 2), **wrong})


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("kind, out", [("bandit", 1), ("bandit", 5), ("mdp", 1), ("mdp", 3), ("navigation", 1),
                                       ("navigation", 4)])
def test_a_net_whose_outputs_are_no_action_is_refused_one_that_broadcasts_too(kind, out):
    tasks, dim, right = (Bandits(3, 4, dtype=torch.float64), 0, 3) if kind == "bandit" else TASKS[kind]
    learner = PolicyMAML(nn.Linear(dim, out).double(), episodes=2)
    with pytest.raises(ValueError, match=rf"shape \(2, {out}\), expected \(2, {right}\).*set out_dim={right}"):
        meta_train(learner, tasks, TrainConfig(iterations=1))


def test_other_mistakes_are_named():
    with pytest.raises(TypeError, match="PolicyMAML acts in a Bandit, .* not in a Episode"):
        meta_train(built(), LinearTasks(2), TrainConfig(iterations=1))
    with pytest.raises(ValueError, match="mlp was built for inputs .M, 2., got .4, 3."):
        meta_test(built(), TASKS["mdp"][0], 2)
    with pytest.raises(ValueError, match="a task axis of 3"):
        built("mdp").adapt(TASKS["mdp"][0].sample(3, generator=seeded(0)))
