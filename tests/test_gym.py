"""Gymnasium sees the same environments, and metalib does not see Gymnasium."""

import subprocess
import sys

import pytest
import torch

from conftest import ROOT
from metalib import BanditRule, MDPs, seeded
from metalib.episode import one_task
from metalib.tasks.environments import noise

gymnasium = pytest.importorskip("gymnasium")
from gymnasium.utils.env_checker import check_env  # noqa: E402

import metalib.tasks.gym  # noqa: E402, F401 (registers)

NAMES = ("Bandit", "MDP", "Navigation")
names = pytest.mark.parametrize("name", NAMES)


@names
@pytest.mark.filterwarnings("error::UserWarning")
def test_gymnasium_s_own_checker_finds_nothing(name):
    check_env(gymnasium.make(f"metalib/{name}-v0").unwrapped)


@names
def test_a_step_is_the_step_of_the_task(name):
    env = gymnasium.make(f"metalib/{name}-v0")
    task = one_task(env.unwrapped.tasks.sample(3, generator=seeded(4)), 2)
    seen, _ = env.reset(seed=0, options={"task": task})
    state, u, env.action_space = task.start(), noise(task, 0), env.action_space
    env.action_space.seed(0)
    for t in range(task.horizon):
        expected = task.observe(state, t)
        assert seen == (expected.argmax() if len(expected) else 0) if name != "Navigation" else \
            torch.equal(torch.as_tensor(seen), expected)
        action = env.action_space.sample()
        vector = torch.as_tensor(action) if name == "Navigation" else torch.eye(int(env.action_space.n))[int(action)]
        state, reward = task.step(state, vector, u[t, 2:], t)
        seen, got, terminated, truncated, _ = env.step(action)
        assert got == float(reward) and not terminated and truncated == (t == task.horizon - 1)


def test_a_rule_earns_in_gymnasium_what_it_earns_in_a_meta_test():
    env = gymnasium.make("metalib/Bandit-v0", arms=4, horizon=12)
    env.reset(seed=3)
    task, rule = env.unwrapped.task, BanditRule("thompson")
    played = rule.predict(rule.adapt(task), task)
    earned = [env.step(int(action.argmax()))[1] for action in played["actions"]]
    assert earned == played["rewards"].tolist()


@names
def test_a_seed_is_a_task_and_the_next_reset_is_another(name):
    env = gymnasium.make(f"metalib/{name}-v0").unwrapped
    tasks = []
    for seed in (5, None, 5, None):
        env.reset(seed=seed)
        tasks.append(env.task)
    assert torch.equal(tasks[0][0], tasks[2][0]) and torch.equal(tasks[1][0], tasks[3][0])
    assert not torch.equal(tasks[0][0], tasks[1][0])


def test_mistakes_are_named():
    env = gymnasium.make("metalib/Bandit-v0", horizon=1).unwrapped
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step(0)
    with pytest.raises(ValueError, match="a task axis of 2"):
        env.reset(options={"task": env.tasks.sample(2, generator=seeded(0))})
    with pytest.raises(TypeError, match="expected a Bandit"):
        env.reset(options={"task": gymnasium.make("metalib/MDP-v0").unwrapped.tasks.sample(1, generator=seeded(0))})
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(RuntimeError, match="no step left"):
        env.step(0)


def test_the_core_never_imports_gymnasium():
    code = "import sys, metalib, metalib.tasks, metalib.learners.policy; sys.exit('gymnasium' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("name, actions", [
    ("Bandit", (5, -2, 0.5, None, [0, 1], "one")), ("MDP", (3, -1, 2.5, [1, 1, 1])),
    ("Navigation", (0.1, [0.1], [0.0, 0.1, 0.0], [float("inf"), 0.0], [0.0, float("nan")]))])
def test_an_action_outside_the_space_is_refused_and_the_time_stands(name, actions):
    env = gymnasium.make(f"metalib/{name}-v0").unwrapped
    env.reset(seed=1)
    for action in actions:
        with pytest.raises(ValueError, match="expected a (whole number from 0 to|velocity, 2 finite)"):
            env.step(action)
    assert env.t == 0
    env.step([5.0, -5.0] if name == "Navigation" else torch.tensor([1]))
    assert env.t == 1


@pytest.mark.parametrize("horizon", [3, 7, 20, 41, 100, 500])
def test_a_straight_walk_never_leaves_the_observation_space(horizon):
    env = gymnasium.make("metalib/Navigation-v0", horizon=horizon).unwrapped
    env.reset(seed=0)
    assert all(env.observation_space.contains(env.step([0.1, -0.1])[0]) for _ in range(horizon))


def test_a_task_of_other_sizes_or_that_is_none_is_refused():
    env = gymnasium.make("metalib/MDP-v0").unwrapped
    task = one_task(MDPs(4, 3).sample(1, generator=seeded(0)), 0)
    with pytest.raises(ValueError, match=r"P of shape \(4, 3, 4\), this environment \(5, 3, 5\)"):
        env.reset(options={"task": task})
    with pytest.raises(ValueError, match="sum to 2 .. 2"):
        env.reset(options={"task": task._replace(P=2 * task.P)})


@names
def test_environments_side_by_side_share_no_random_numbers(name):
    envs = gymnasium.make_vec(f"metalib/{name}-v0", num_envs=2, vectorization_mode="sync")
    envs.reset(seed=8)
    first, second = (env.unwrapped.task for env in envs.envs)
    assert not torch.equal(first[0], second[0])
    for seed, task in ((8, first), (9, second)):
        alone = gymnasium.make(f"metalib/{name}-v0").unwrapped
        alone.reset(seed=seed)
        assert torch.equal(alone.task[0], task[0]) and torch.equal(alone.u, noise(task, 0))
