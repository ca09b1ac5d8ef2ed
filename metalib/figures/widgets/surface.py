"""Chapter 4's figure: the meta-loss of a two-parameter MAML, with three arrows that claim to be its gradient."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from metalib.episode import Episode, task_axis
from metalib.figures.widgets.widget import Widget
from metalib.learners.maml import MAML
from metalib.tasks import Sinusoids

ALPHA, MOST_STEPS = 0.1, 6
META_RATE, RACE = 0.1, 60  # of the race downhill: the rate of both gradients, and how many meta-iterations it lasts
WAVES = ((3.0, -1.0), (2.0, 0.9), (1.5, 0.2))  # the (amplitude, phase) of each task
SIDE = ((0.0, 4.0), (-2.0, 2.0))  # the square that is shown: amplitude, then phase
STARTS = [(0.4 * i, 0.4 * k) for i in range(1, 10) for k in range(-4, 5)]  # a coarse grid in the square
LEVELS = (0.3, 0.6, 1.0, 1.5, 2.2, 3.2, 4.5, 6.5, 9.0)  # of the contours, in units of the meta-loss


class SineWave(nn.Module):
    """The model with two parameters, f(x) = a sin(x + b), in float64.

    Args:
        a: amplitude.
        b: phase, in radians.
    """

    def __init__(self, a: float = 0.0, b: float = 0.0) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(float(a), dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(float(b), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * torch.sin(x + self.b)


def waves() -> Episode:
    """The figure's meta-batch: three sine waves, each with 5 support and 10 query points."""
    A, b = torch.tensor(WAVES, dtype=torch.float64).T
    x = 10 * torch.rand(len(WAVES), 15, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 5
    return Sinusoids(5, 10).episode(A, b, x[:, :5], x[:, 5:])


def meta_loss(theta: Tensor, steps: int) -> Tensor:
    """The mean meta-loss of `waves()` at each theta (n, 2): (n,)."""
    learner, episodes = MAML(SineWave(), ALPHA, steps), waves()

    def one(theta: Tensor) -> Tensor:
        named = {"net.a": theta[0], "net.b": theta[1]}
        return vmap(lambda e: functional_call(learner, named, (e,)), (task_axis(episodes),))(episodes).mean()

    with torch.no_grad():
        return vmap(one)(theta)


def gradients(theta: Tensor, steps: int, order: int) -> Tensor:
    """MAML's meta-gradient of that meta-loss at each theta (n, 2), with order 1 or 2: (n, 2)."""
    learner, episodes = MAML(SineWave(), ALPHA, steps, order), waves()

    def one(theta: Tensor) -> Tensor:
        named = {"net.a": theta[0], "net.b": theta[1]}
        grads, _ = vmap(learner.task_gradient, (None, task_axis(episodes)))(named, episodes)
        return torch.stack([grads["net.a"].mean(), grads["net.b"].mean()])

    return vmap(one)(theta)


def differences(theta: Tensor, steps: int, *, h: float = 1e-5) -> Tensor:
    """The same gradient without any derivative: central differences of `meta_loss`, (n, 2)."""
    sides = [h * e for e in torch.eye(2, dtype=theta.dtype)]
    return torch.stack([(meta_loss(theta + e, steps) - meta_loss(theta - e, steps)) / (2 * h) for e in sides], 1)


def race(start: tuple[float, float], steps: int, order: int, n: int = RACE) -> tuple[Tensor, Tensor]:
    """n meta-iterations theta <- theta - META_RATE * gradient from `start`: every theta (n+1, 2), its loss (n+1,)."""
    way = [torch.tensor([start], dtype=torch.float64)]
    for _ in range(n):
        way.append(way[-1] - META_RATE * gradients(way[-1], steps, order))
    thetas = torch.cat(way)
    return thetas, meta_loss(thetas, steps)


def figure(steps: int = 3, start: tuple[float, float] = (1.2, 0.8)) -> Widget:
    """The interactive figure, as it looks before it is touched: `steps` inner steps from theta = `start`.

    The page gets the tasks' inputs and computes the rest itself, in float64, as `meta_loss`, `gradients`,
    `differences` and `race` do (tests/test_widget_surface.py compares them).

    Raises:
        ValueError: too many steps, or a start outside the square.
    """
    inside = all(low <= v <= high for v, (low, high) in zip(start, SIDE, strict=True))
    if not inside or not 0 <= steps <= MOST_STEPS:
        raise ValueError(f"steps={steps}, start={start}: expected 0 to {MOST_STEPS} steps and an (a, b) within {SIDE}")
    support, query = (data.x[:, :, 0].tolist() for data in waves())  # targets may differ in the last bit: not stored
    data = {"alpha": ALPHA, "rate": META_RATE, "race": RACE, "most": MOST_STEPS, "steps": steps, "start": start,
            "waves": WAVES, "side": SIDE, "levels": LEVELS, "support": support, "query": query}
    return Widget("surface.js", data, parts=("slide.js",),
                  alt="The meta-loss over two parameters, with the exact, the first-order and the finite-difference "
                      f"gradient at one point, after {steps} inner steps; one can move the point, change the steps, "
                      "and let the exact and the first-order gradient race downhill.")
