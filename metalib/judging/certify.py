"""A gradient that is not checked is wrong until shown otherwise: the check."""

import copy
from dataclasses import dataclass

import torch

from metalib.episode import Episode, count, each, moved, one_task, tensors
from metalib.fast.fallback import explained
from metalib.fast.private import call
from metalib.functional import Params, dot, relative_error
from metalib.learner import Learner, choose_map, meta_gradient

# h of the finite differences, in the order in which they are tried. Rounding costs 1e-16 / h, curvature h^2. A kink of
# the inner loss makes the meta-loss jump, which costs (jump) / h unless h is small enough to reach none.
STEPS = {True: (1e-4, 1e-3, 1e-5, 1e-6), False: (1e-8, 1e-7, 1e-9, 1e-6, 1e-10)}  # for a smooth network, or another
TOLERANCE = {True: 1e-5, False: 1e-4}
DIRECTIONS = 3


@dataclass(frozen=True)
class Certificate:
    """How far `meta_gradient` is from other computations of it, in float64.

    Attributes:
        vmap: relative error of map="vmap" against a plain double backward, one task at a time; None where vmap was not
            tried or cannot go.
        loop: the same of map="loop". Where the learner keeps the default `task_gradient` both are plain autograd, so
            this checks the mean over tasks; it says more where `task_gradient` is overridden.
        finite_difference: relative error of directional derivatives <grad, v> against central differences of the
            meta-loss, over several directions v, each at its best step size. The one number here that knows nothing of
            derivatives: a double backward goes wherever the learner's own graph goes, and stops where that is cut.
        smooth: whether the caller promised a smooth network, which finite differences must meet more closely.
        approximate: whether the learner declares that its gradient is not the derivative of the meta-loss.
    """

    vmap: float | None
    loop: float
    finite_difference: float
    smooth: bool
    approximate: bool = False

    @property
    def consistent(self) -> bool:
        """vmap and loop agree with the double backward to 1e-10: three ways along the same graph."""
        return all(error <= 1e-10 for error in (self.vmap, self.loop) if error is not None)

    @property
    def tolerance(self) -> float:
        """Of the finite differences: 1e-5 for a smooth network, else 1e-4."""
        return TOLERANCE[self.smooth]

    @property
    def passed(self) -> bool:
        """Consistent, and verified by finite differences: it is the derivative of the meta-loss."""
        return self.consistent and self.finite_difference <= self.tolerance

    def __str__(self) -> str:
        verdict = ("passed" if self.passed else "FAILED" if not self.consistent
                   else "consistent, not verified" if self.approximate
                   else "FAILED, it differs from the meta-loss's gradient")
        counts = "" if self.passed or not self.approximate else "  (not counted: declared approximate)"
        vmap = "not tried, or cannot go" if self.vmap is None else _size(self.vmap, 1e-10)
        return (f"relative error of the meta-gradient: {verdict}\n"
                f"  vmap against a double backward          {vmap}\n"
                f"  loop against a double backward          {_size(self.loop, 1e-10)}\n"
                f"  directional finite differences          {_size(self.finite_difference, self.tolerance)}{counts}")


def certify_gradient(learner: Learner, episode: Episode, smooth: bool = False, *, map: str = "auto") -> Certificate:
    """Check a learner's meta-gradient on a float64 copy of it.

    Finite differences count for every network. Through a ReLU or a max-pool they need a step as small as 1e-8, which
    reaches no kink, and weights that stand on none: zero biases under a blank image do, so unless `smooth` the copy is
    moved by 1e-4 at random. A first-order gradient (FOMAML) does not pass, because it is not the derivative of the
    meta-loss; nor does one that a `.data` or a `.detach()` has cut.

    Args:
        learner: any learner; it is not changed. What it draws at random (dropout) is drawn the same every time.
        episode: one task, or a meta-batch of them.
        smooth: True for tanh networks and the like: finite differences must then agree to 1e-5, else to 1e-4.
        map: "auto" checks the loop, and vmap where it can go; "loop" the loop alone; "vmap" both, and vmap must go.

    Returns:
        A `Certificate`; print it, or assert its `passed`.

    Raises:
        ValueError: a learner without a parameter to differentiate for, with complex ones, or one that cannot be copied.
    """
    if (episode.support.y.ndim == 1 or (episode.support.y.is_floating_point() and episode.support.x.ndim == 2)
            if isinstance(episode, Episode) else any(t.ndim == 0 for t in tensors(episode))):
        episode = each(lambda tensor: tensor[None], episode)
    episode, errors = moved(episode, torch.float64), {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learner = _float64_copy(learner, episode, 0 if smooth else 1e-4)
        torch.manual_seed(0)
        expected = double_backward(learner, episode)
        for how in ("vmap", "loop"):
            gradient = _meta_gradient(learner, episode, how, map)
            errors[how] = relative_error(gradient, expected) if gradient else None
        difference = directional_error(learner, episode, gradient, smooth=smooth)
    return Certificate(**errors, finite_difference=difference, smooth=smooth, approximate=learner.approximate)


def double_backward(learner: Learner, episode: Episode) -> Params:
    """The mean meta-gradient by plain autograd: each task's loss by itself, no vmap, no outer torch.func."""
    params = {k: p for k, p in learner.named_parameters() if p.requires_grad}
    total = {k: torch.zeros_like(p) for k, p in params.items()}
    for t in range(count(episode)):
        with explained():
            grads = torch.autograd.grad(call(learner, {}, one_task(episode, t)), list(params.values()),
                                        allow_unused=True)
        for k, g in zip(params, grads):
            total[k] += 0 if g is None else g / count(episode)
    return total


def directional_error(learner: Learner, episode: Episode, gradient: Params, *, smooth: bool, seed: int = 0) -> float:
    """How far <grad, v> is from d(h) = (L(theta + h v) - L(theta - h v)) / 2h, relative, over random directions v.

        sqrt( sum_v min_h (<grad, v> - d(h))^2 / sum_v <grad, v>^2 )

    A direction is done at the first step size that agrees to a tenth of the tolerance. theta is moved in place, and
    put back.
    """
    theta = {k: p for k, p in learner.named_parameters() if p.requires_grad}
    start = {k: p.detach().clone() for k, p in theta.items()}
    g = torch.Generator().manual_seed(seed)

    def loss(v: Params, h: float) -> float:
        with torch.no_grad():
            for k, p in theta.items():
                p.copy_(start[k] + h * v[k])
        torch.manual_seed(0)
        T = count(episode)
        return sum(float(call(learner, {}, one_task(episode, t)).detach()) for t in range(T)) / T

    apart, size, enough = 0.0, 0.0, 0.1 * TOLERANCE[smooth]
    for _ in range(DIRECTIONS):
        v = {k: torch.randn(p.shape, generator=g, dtype=p.dtype).to(p.device) for k, p in start.items()}
        slope, least = float(dot(gradient, v)), float("inf")
        for h in STEPS[smooth]:
            least = min(least, abs(slope - (loss(v, h) - loss(v, -h)) / (2 * h)))
            if least <= enough * abs(slope):
                break
        apart, size = apart + least**2, size + slope**2
    loss({k: torch.zeros_like(p) for k, p in start.items()}, 0.0)
    return (apart / max(size, 1e-300)) ** 0.5


def _meta_gradient(learner: Learner, episode: Episode, how: str, map: str) -> Params | None:
    """What `meta_gradient` leaves in p.grad, or None where map= says not to try or vmap cannot go."""
    if choose_map(learner, map) == map == "loop" and how == "vmap":
        return None
    torch.manual_seed(0)
    try:
        meta_gradient(learner, episode, how, threads=1)
    except RuntimeError:
        if how == map or how == "loop":
            raise
        return None
    return {k: p.grad.clone() for k, p in learner.named_parameters() if p.requires_grad}  # .backward() adds to p.grad


def _float64_copy(original: Learner, episode: Episode, shake: float) -> Learner:
    """A copy, each weight moved by a normal random number of this size."""
    theirs = {k: p for k, p in original.named_parameters() if p.requires_grad}
    if not theirs:
        raise ValueError(f"{type(original).__name__} has no parameter that requires a gradient: nothing to certify")
    if any(p.is_complex() for p in theirs.values()):
        raise ValueError(f"{type(original).__name__} has complex parameters, along which no finite difference is "
                         "taken: for the check, keep real ones and use torch.view_as_complex in forward()")
    try:
        learner = copy.deepcopy(original).double()
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{type(original).__name__} cannot be copied ({error}), and certify_gradient works on a copy "
                         "in float64: build it anew for the check, without cached tensors, locks or files") from error
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in learner.parameters():
            p.add_(shake * torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.device))
    loss = call(learner, {}, one_task(episode, 0))  # what it still takes from the original would be held fixed
    reached = torch.autograd.grad(loss, list(theirs.values()), allow_unused=True) if loss.requires_grad else ()
    for k, g_k in zip(theirs, reached):
        if g_k is not None:
            raise ValueError(f"a copy of {type(original).__name__} still uses the original's {k!r}, through a function "
                             "that captured it or a global variable: reach it through an attribute of the module")
    return learner


def _size(error: float, tolerance: float) -> str:
    """The error if it is worth reading, else only that it is below the tolerance: rounding noise differs by CPU."""
    return f"< {tolerance:.0e}" if error <= tolerance else f"{error:.1e}"
