"""A gradient that is not checked is wrong until shown otherwise: the check."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from metalib.episode import Data, Episode
from metalib.fast.private import call
from metalib.functional import Params, dot, relative_error
from metalib.learner import Learner, meta_gradient


@dataclass(frozen=True)
class Certificate:
    """How far `meta_gradient` is from independent computations, in float64.

    Attributes:
        vmap: relative error of map="vmap" against a plain double backward, one task at a time.
        loop: the same of map="loop". Where the learner keeps the default `task_gradient` both are plain autograd, so
            this checks the mean over tasks; it says more where `task_gradient` is overridden.
        finite_difference: relative error of the directional derivative <grad, v> against central differences of the
            meta-loss, the best over step sizes. Only meaningful for a smooth network and an exact (order 2) gradient.
        smooth: whether the caller asked for finite differences to count.
    """

    vmap: float
    loop: float
    finite_difference: float
    smooth: bool

    @property
    def passed(self) -> bool:
        """vmap and loop agree with the double backward to 1e-10, and with finite differences to 1e-5 where asked."""
        return max(self.vmap, self.loop) <= 1e-10 and (not self.smooth or self.finite_difference <= 1e-5)

    def __str__(self) -> str:
        counts = "" if self.smooth else "  (not counted: smooth=False)"
        return (f"relative error of the meta-gradient: {'passed' if self.passed else 'FAILED'}\n"
                f"  vmap against a double backward          {_size(self.vmap, 1e-10)}\n"
                f"  loop against a double backward          {_size(self.loop, 1e-10)}\n"
                f"  directional finite differences          {_size(self.finite_difference, 1e-5)}{counts}")


def certify_gradient(learner: Learner, episode: Episode, smooth: bool = False) -> Certificate:
    """Check a learner's meta-gradient on a float64 copy of it.

    Args:
        learner: any learner; it is not changed.
        episode: one task, or a meta-batch of them.
        smooth: whether finite differences count. Say True for tanh networks and False where there is a ReLU or a
            max-pool, whose kinks make finite differences meaningless, and for first-order approximations.

    Returns:
        A `Certificate`; print it, or assert its `passed`.
    """
    if episode.support.y.ndim == 1 or (episode.support.y.is_floating_point() and episode.support.x.ndim == 2):
        episode = Episode(*(Data(d.x[None], d.y[None], d.way) for d in episode))
    learner, episode = copy.deepcopy(learner).double(), episode.to(torch.float64)
    expected = double_backward(learner, episode)
    errors = {}
    for how in ("vmap", "loop"):
        meta_gradient(learner, episode, how)
        errors[how] = relative_error({k: p.grad for k, p in learner.named_parameters() if p.requires_grad}, expected)
    return Certificate(**errors, finite_difference=directional_error(learner, episode, expected), smooth=smooth)


def double_backward(learner: Learner, episode: Episode) -> Params:
    """The mean meta-gradient by plain autograd: each task's loss by itself, no vmap, no outer torch.func."""
    params = {k: p for k, p in learner.named_parameters() if p.requires_grad}
    total = {k: torch.zeros_like(p) for k, p in params.items()}
    for t in range(episode.tasks):
        grads = torch.autograd.grad(learner(episode.task(t)), list(params.values()), allow_unused=True)
        for k, g in zip(params, grads):
            total[k] += 0 if g is None else g / episode.tasks
    return total


def directional_error(learner: Learner, episode: Episode, gradient: Params, *, seed: int = 0) -> float:
    """|<grad, v> - (L(theta + h v) - L(theta - h v)) / 2h| / |<grad, v>| for a random v, the least over h."""
    theta = {k: p.detach() for k, p in learner.named_parameters() if p.requires_grad}
    g = torch.Generator().manual_seed(seed)
    v = {k: torch.randn(p.shape, generator=g, dtype=p.dtype) for k, p in theta.items()}
    slope = float(dot(gradient, v))

    def loss(h: float) -> float:
        moved = {k: p + h * v[k] for k, p in theta.items()}
        with torch.no_grad():
            losses = [call(learner, moved, episode.task(t)) for t in range(episode.tasks)]
        return float(torch.stack(losses).mean())

    steps = (1e-3, 1e-4, 1e-5, 1e-6)
    return min(abs(slope - (loss(h) - loss(-h)) / (2 * h)) for h in steps) / max(abs(slope), 1e-300)


def _size(error: float, tolerance: float) -> str:
    """The error if it is worth reading, else only that it is below the tolerance: rounding noise differs by CPU."""
    return f"< {tolerance:.0e}" if error <= tolerance else f"{error:.1e}"
