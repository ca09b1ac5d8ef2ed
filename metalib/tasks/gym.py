"""The environments for agents of other libraries: `import metalib.tasks.gym` registers them with Gymnasium.

    gymnasium.make("metalib/Bandit-v0", arms=5, horizon=50)    gymnasium.make("metalib/MDP-v0")
    gymnasium.make("metalib/Navigation-v0")

A Gymnasium episode is one task: `reset` draws it, or takes `options={"task": a named tuple without its task axis}`, and
it is truncated after the task's horizon. Steps are those of `metalib.tasks.environments`, with the numbers of
`noise(task, 0)`, so an agent meets here what it meets there. `env.unwrapped.task` is what no agent may look at.

Needs the extra `rl`: pip install "metalib[rl]". Nothing else in metalib imports this module.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from metalib.episode import rows
from metalib.functional import seeded
from metalib.tasks.environments import MDP, Bandit, Bandits, MDPs, Navigation, Navigations, noise

Task = Bandit | MDP | Navigation


class TaskEnv(gymnasium.Env):
    """A task distribution as a Gymnasium environment.

    Args:
        tasks: where `reset` draws.

    Raises:
        TypeError: `options["task"]` is no task of this kind. ValueError: it has a task axis.
        RuntimeError: a step before `reset`, or after the last one.
    """

    metadata = {"render_modes": []}

    def __init__(self, tasks: Bandits | MDPs | Navigations) -> None:
        self.tasks, self.task = tasks, None
        self.kind = type(tasks.sample(1, generator=seeded(0)))
        discrete = not isinstance(tasks, Navigations)
        self.action_space = (Discrete(tasks.actions if isinstance(tasks, MDPs) else tasks.arms) if discrete
                             else Box(-0.1, 0.1, (2,), np.float32))
        self.observation_space = (Discrete(tasks.states if isinstance(tasks, MDPs) else 1) if discrete
                                  else Box(-0.1 * tasks.horizon, 0.1 * tasks.horizon, (2,), np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """(the first observation, {}) of a new task."""
        super().reset(seed=seed)
        task = (options or {}).get("task")
        if task is None:
            task = rows(self.tasks.sample(1, generator=seeded(int(self.np_random.integers(2**32)))), 0)
        if not isinstance(task, self.kind):
            raise TypeError(f'options["task"] is a {type(task).__name__}: expected a {self.kind.__name__}')
        if task.key.ndim:
            raise ValueError(f'options["task"] has a task axis of {len(task.key)}: give one, rows(tasks, 0)')
        self.task, self.t, self.state, self.u = task, 0, task.start(), noise(task, 0)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """(observation, reward, False, whether it was the last step, {})."""
        if self.task is None or self.t >= self.task.horizon:
            raise RuntimeError("there is no step left: call reset() first")
        like = self.task[0]
        if isinstance(self.action_space, Discrete):
            action = np.arange(self.action_space.n) == action
        vector = torch.as_tensor(np.asarray(action), dtype=like.dtype)
        self.state, reward = self.task.step(self.state, vector, self.u[self.t, 2:], self.t)
        self.t += 1
        return self._seen(), float(reward), False, self.t == self.task.horizon, {}

    def _seen(self) -> Any:
        seen = self.task.observe(self.state, self.t)
        if isinstance(self.observation_space, Box):
            return seen.numpy().astype(np.float32)
        return np.int64(seen.argmax()) if len(seen) else np.int64(0)


class BanditEnv(TaskEnv):
    """`Bandits`; the observation is always 0."""

    def __init__(self, arms: int = 5, horizon: int = 50) -> None:
        super().__init__(Bandits(arms, horizon))


class MDPEnv(TaskEnv):
    """`MDPs`; the observation is the number of the state."""

    def __init__(self, states: int = 5, actions: int = 3, length: int = 10, episodes: int = 4) -> None:
        super().__init__(MDPs(states, actions, length, episodes))


class NavigationEnv(TaskEnv):
    """`Navigations`; the observation is the position."""

    def __init__(self, horizon: int = 20, reach: float = 0.5) -> None:
        super().__init__(Navigations(horizon, reach))


for _env in (BanditEnv, MDPEnv, NavigationEnv):
    gymnasium.register(f"metalib/{_env.__name__.removesuffix('Env')}-v0", entry_point=_env)
