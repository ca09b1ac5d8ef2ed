"""Environments as tasks: bandits, small Markov decision processes and navigation, each a named tuple of tensors.

A task distribution draws a meta-batch of them, `sample(n, generator=g)`, as it draws episodes anywhere else. One task,
without the task axis, is what an agent acts in:

    state = task.start();    features = task.observe(state, t)          t = 0, 1, ..., task.horizon - 1
    state, reward = task.step(state, action, u, t)                      u (2,) uniform numbers from (0, 1)
    task.rewards(state)                                                 the mean reward of each action, where they count

The action is a vector: one-hot of a discrete one, a velocity in the plane. State, action and u may have more axes in
front, for several episodes side by side. A step is a pure function of its arguments, and `noise(task, i)` are all the
numbers that the i-th episode uses, a function of the task's key alone. So roll-outs go through vmap, a resumed run
repeats them, and two agents in one task meet the same luck (common random numbers).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metalib.arguments import check_positive, check_whole
from metalib.keys import fold, uniform
from metalib.tasks.protocol import check_request


class Bandit(NamedTuple):
    """A row of slot machines: arm a pays 1 with probability p_a, else 0. There is no state.

    Attributes:
        p: (A,), or (T, A) in a meta-batch.
        key: of the task's randomness; `horizon`, H: the number of pulls.
    """

    p: Tensor
    key: Tensor
    horizon: int

    def check(self) -> None:
        """Raise a ValueError, of one task or a meta-batch, if a p is no probability or there is no pull."""
        if not (self.horizon >= 1 and self.p.is_floating_point() and bool(((self.p >= 0) & (self.p <= 1)).all())):
            raise ValueError(f"a Bandit with horizon={self.horizon} and {self.p.dtype} p from {self.p.min():g} to "
                             f"{self.p.max():g}: expected at least 1 pull, and floats from 0 to 1")

    def start(self) -> Tensor:
        """An empty state, (0,)."""
        return self.p[:0]

    def observe(self, state: Tensor, t: int) -> Tensor:
        """Nothing, (0,)."""
        return state

    def rewards(self, state: Tensor) -> Tensor:
        """p, (A,)."""
        return self.p

    def step(self, state: Tensor, action: Tensor, u: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """(the state, 1 where u[0] < p of the arm, else 0)."""
        return state, (u[..., 0] < (action * self.p).sum(-1)).to(self.p.dtype)


class MDP(NamedTuple):
    """A Markov decision process of a few states, in episodes of `length` steps that begin in state 0.

    Attributes:
        P: P[s, a] the distribution of the next state, (S, A, S), or (T, S, A, S).
        r: the reward of action a in state s, (S, A), or (T, S, A). It is certain.
        key: see `Bandit`; `length`: steps of an episode; `horizon`: of all episodes together.
    """

    P: Tensor
    r: Tensor
    key: Tensor
    length: int
    horizon: int

    def check(self) -> None:
        """Raise a ValueError, of one task or a meta-batch, if a P[s, a] is no distribution or there is no step."""
        total, shape = self.P.sum(-1), (*self.r.shape, self.r.shape[-2])
        if not (min(self.length, self.horizon) >= 1 and self.P.shape == shape
                and bool((self.P >= 0).all() & ((total - 1).abs() < 1e-3).all())):
            raise ValueError(f"an MDP with length={self.length}, horizon={self.horizon}, r {tuple(self.r.shape)} and P "
                             f"{tuple(self.P.shape)}, whose least entry is {self.P.min():g} and whose P[s, a] sum to "
                             f"{total.min():g} .. {total.max():g}: expected at least 1 step, P {shape}, nothing "
                             "negative, and sums of 1 (divide by P.sum(-1, keepdim=True))")

    def start(self) -> Tensor:
        """State 0, one-hot, (S,)."""
        return (torch.arange(self.r.shape[0], device=self.r.device) == 0).to(self.r.dtype)

    def observe(self, state: Tensor, t: int) -> Tensor:
        """The state, (S,)."""
        return state

    def rewards(self, state: Tensor) -> Tensor:
        """(A,)."""
        return state @ self.r

    def step(self, state: Tensor, action: Tensor, u: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """(the next state, the reward); at the end of an episode the next state is state 0."""
        following = chosen(torch.einsum("...s,...a,san->...n", state, action, self.P), u[..., 0])
        if (t + 1) % self.length == 0:
            following = self.start().expand_as(following)
        return following, (state @ self.r * action).sum(-1)


class Navigation(NamedTuple):
    """A point in the plane that walks from the origin towards a goal that it does not see.

        position <- position + clip(velocity, -0.1, 0.1),        reward = -|position - goal|

    Attributes:
        goal: (2,), or (T, 2).
        key, horizon: see `Bandit`.

    A shortened relative of the navigation of Finn, Abbeel and Levine (2017), "Model-agnostic meta-learning for fast
    adaptation of deep networks", section 5.3: there the reward is minus the squared distance, an episode has up to 100
    steps, and it ends within 0.01 of the goal.
    """

    goal: Tensor
    key: Tensor
    horizon: int

    def check(self) -> None:
        """Raise a ValueError, of one task or a meta-batch, for a goal that is not in the plane, or no step."""
        if self.horizon < 1 or self.goal.shape[-1:] != (2,):
            raise ValueError(f"a Navigation with horizon={self.horizon} and a goal of shape {tuple(self.goal.shape)}: "
                             "expected at least 1 step, and two numbers")

    def start(self) -> Tensor:
        """The origin, (2,)."""
        return torch.zeros_like(self.goal)

    def observe(self, state: Tensor, t: int) -> Tensor:
        """The position, (2,)."""
        return state

    def step(self, state: Tensor, action: Tensor, u: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """(the new position, minus its distance to the goal)."""
        state = state + action.clamp(-0.1, 0.1)
        return state, -((state - self.goal).square().sum(-1) + 1e-12).sqrt()  # the root has no slope at 0


class Bandits:
    """Bandits whose p are uniform on (0, 1): `sample` draws a `Bandit` with a leading task axis.

    Args:
        arms: A.
        horizon: H, pulls.
        dtype: of p, and of what an agent sees.
    """

    def __init__(self, arms: int = 5, horizon: int = 50, *, dtype: torch.dtype = torch.float32) -> None:
        check_whole(2, arms=arms)
        check_whole(1, horizon=horizon)
        self.arms, self.horizon, self.dtype = arms, horizon, dtype

    def sample(self, n: int, *, generator: torch.Generator) -> Bandit:
        """n bandits on the CPU."""
        keys = _keys(n, generator)
        return Bandit(torch.rand(n, self.arms, generator=generator, dtype=self.dtype), keys, self.horizon)


class MDPs:
    """Random decision processes: P[s, a] from the flat Dirichlet, r[s, a] uniform on (0, 1).

    Args:
        states, actions: S and A.
        length, episodes: steps of an episode, and how many of them are one task's lifetime.
        dtype: of P and r.
    """

    def __init__(self, states: int = 5, actions: int = 3, length: int = 10, episodes: int = 4, *,
                 dtype: torch.dtype = torch.float32) -> None:
        check_whole(2, states=states, actions=actions)
        check_whole(1, length=length, episodes=episodes)
        self.states, self.actions, self.length, self.episodes, self.dtype = states, actions, length, episodes, dtype

    def sample(self, n: int, *, generator: torch.Generator) -> MDP:
        """n processes on the CPU."""
        S, A, keys = self.states, self.actions, _keys(n, generator)
        e = -(1 - torch.rand(n, S, A, S, generator=generator, dtype=torch.float64)).log()  # exponentials: a Dirichlet
        r = torch.rand(n, S, A, generator=generator, dtype=self.dtype)
        return MDP((e / e.sum(-1, keepdim=True)).to(self.dtype), r, keys, self.length, self.length * self.episodes)


class Navigations:
    """Goals uniform on the square of half-width `reach` around the start: see `Navigation`.

    Args:
        horizon: steps of an episode.
        reach: half the width of the square.
        dtype: of the goal and positions.
    """

    def __init__(self, horizon: int = 20, reach: float = 0.5, *, dtype: torch.dtype = torch.float32) -> None:
        check_whole(1, horizon=horizon)
        check_positive(reach=reach)
        self.horizon, self.reach, self.dtype = horizon, reach, dtype

    def sample(self, n: int, *, generator: torch.Generator) -> Navigation:
        """n goals on the CPU."""
        keys = _keys(n, generator)
        goal = self.reach * (2 * torch.rand(n, 2, generator=generator, dtype=self.dtype) - 1)
        return Navigation(goal, keys, self.horizon)


def noise(task: Bandit | MDP | Navigation, i: int, episodes: int | None = None) -> Tensor:
    """The numbers of a task's i-th episode, (H, 4): two a step for the agent, two for the environment.

    With `episodes` = K, of K of them side by side, (H, K, 4).

    Raises:
        ValueError: a meta-batch.
    """
    if task.key.ndim:
        raise ValueError(f"a {type(task).__name__} with a task axis of {len(task.key)}: give one, one_task(tasks, 0)")
    shape = (task.horizon, 4) if episodes is None else (task.horizon, episodes, 4)
    return uniform(fold(task.key, i), *shape, dtype=task[0].dtype)


def chosen(p: Tensor, u: Tensor) -> Tensor:
    """One-hot of the category that u from (0, 1) picks from probabilities p (..., A); u has p's shape without A. NaN
    where p is: an agent that says nothing has no return."""
    below = p.cumsum(-1)[..., :-1] <= u[..., None]  # the last needs no comparison, whatever rounding did to the sum
    index = below.sum(-1, keepdim=True)
    return (torch.arange(p.shape[-1], device=p.device) == index).to(p.dtype) + 0 * p.sum(-1, keepdim=True)


def _keys(n: int, generator: torch.Generator) -> Tensor:
    check_request(n, generator)
    return torch.randint(2**62, (n,), generator=generator)
