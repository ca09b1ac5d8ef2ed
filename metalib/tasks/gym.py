"""The environments for agents of other libraries: `import metalib.tasks.gym` registers them with Gymnasium.

    gymnasium.make("metalib/Bandit-v0", arms=5, horizon=50)    gymnasium.make("metalib/MDP-v0")
    gymnasium.make("metalib/Navigation-v0")

A Gymnasium episode is one task: `reset` draws it, or takes `options={"task": a named tuple without its task axis}`, and
it is truncated after the task's horizon. Steps are those of `metalib.tasks.environments`, with the numbers of
`noise(task, 0)`, so an agent meets here what it meets there. `env.unwrapped.task` is what no agent may look at.

Needs the extra `rl`: pip install "metalib[rl]". Nothing else in metalib imports this module.
"""

import functools
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from metalib.episode import rows
from metalib.functional import seeded
from metalib.tasks.environments import Bandits, MDPs, Navigations, noise


class TaskEnv(gymnasium.Env):
    """A task distribution as a Gymnasium environment. The observation is the state's number (0 of a bandit), or place.

    Args:
        tasks: where `reset` draws.

    Raises:
        TypeError: `options["task"]` is no task of this kind.
        ValueError: it has a task axis or other sizes, or is no such environment; an action outside the action space
            (velocities may be larger than 0.1: the step clips them).
        RuntimeError: a step before `reset`, or after the last one.
    """

    metadata = {"render_modes": []}

    def __init__(self, tasks: Bandits | MDPs | Navigations) -> None:
        self.tasks, self.task = tasks, None
        self.one = rows(tasks.sample(1, generator=seeded(0)), 0)
        discrete, far = not isinstance(tasks, Navigations), 0.1001 * self.one.horizon  # a sum of 0.1s is rounded
        self.action_space = (Discrete(tasks.actions if isinstance(tasks, MDPs) else tasks.arms) if discrete
                             else Box(-0.1, 0.1, (2,), np.float32))
        self.observation_space = (Discrete(tasks.states if isinstance(tasks, MDPs) else 1) if discrete
                                  else Box(-far, far, (2,), np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """(the first observation, {}) of a new task."""
        super().reset(seed=seed)
        task = (options or {}).get("task")
        if task is None:
            task = rows(self.tasks.sample(1, generator=seeded(int(self.np_random.integers(2**32)))), 0)
        if not isinstance(task, type(self.one)):
            raise TypeError(f'options["task"] is a {type(task).__name__}: expected a {type(self.one).__name__}')
        if task.key.ndim:
            raise ValueError(f'options["task"] has a task axis of {len(task.key)}: give one, rows(tasks, 0)')
        task.check()
        if task[0].shape != self.one[0].shape:
            raise ValueError(f'options["task"] has {task._fields[0]} of shape {tuple(task[0].shape)}, this environment '
                             f"{tuple(self.one[0].shape)}: make one of the task's sizes")
        self.task, self.t, self.state, self.u = task, 0, task.start(), noise(task, 0)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """(observation, reward, False, whether it was the last step, {})."""
        if self.task is None or self.t >= self.task.horizon:
            raise RuntimeError("there is no step left: call reset() first")
        like, given, space = self.task[0], np.asarray(action), self.action_space
        if isinstance(space, Discrete):
            if given.size != 1 or given.item() not in range(int(space.n)):
                raise ValueError(f"action={action!r}: expected a whole number from 0 to {space.n - 1}")
            given = np.arange(space.n) == given.item()
        elif given.shape != space.shape or not np.isfinite(given).all():
            raise ValueError(f"action={action!r}: expected a velocity, {space.shape[0]} finite numbers")
        self.state, reward = self.task.step(self.state, like.new_tensor(given), self.u[self.t, 2:], self.t)
        self.t += 1
        return self._seen(), float(reward), False, self.t == self.task.horizon, {}

    def _seen(self) -> Any:
        seen = self.task.observe(self.state, self.t)
        if isinstance(self.observation_space, Box):
            return seen.numpy().astype(np.float32)
        return np.int64(seen.argmax()) if len(seen) else np.int64(0)


def _made(tasks: type[Bandits | MDPs | Navigations], **sizes: Any) -> TaskEnv:
    """The environment of `tasks(**sizes)`, for `gymnasium.make(id, **sizes)`."""
    return TaskEnv(tasks(**sizes))


for _name, _tasks in {"Bandit": Bandits, "MDP": MDPs, "Navigation": Navigations}.items():
    gymnasium.register(f"metalib/{_name}-v0", entry_point=functools.partial(_made, _tasks))
