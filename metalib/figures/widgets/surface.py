"""Chapter 4's figure: the meta-loss of a two-parameter MAML, with three arrows that claim to be its gradient."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import torch
from contourpy import contour_generator
from torch import Tensor, nn
from torch.func import functional_call, vmap

from metalib.episode import TASK_AXIS, Episode
from metalib.figures.plot import COLOURS
from metalib.figures.widgets.widget import Widget
from metalib.learners.maml import MAML
from metalib.tasks import Sinusoids

ALPHA, MOST_STEPS = 0.1, 6
WAVES = ((3.0, -1.0), (2.0, 0.9), (1.5, 0.2))  # the (amplitude, phase) of each task
SIDE = ((0.0, 4.0), (-2.0, 2.0))  # the square that is shown: amplitude, then phase
STARTS = [(0.4 * i, 0.4 * k) for i in range(1, 10) for k in range(-4, 5)]  # every theta that can be chosen
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
        return vmap(lambda e: functional_call(learner, named, (e,)), (TASK_AXIS,))(episodes).mean()

    with torch.no_grad():
        return vmap(one)(theta)


def gradients(theta: Tensor, steps: int, order: int) -> Tensor:
    """MAML's meta-gradient of that meta-loss at each theta (n, 2), with order 1 or 2: (n, 2)."""
    learner, episodes = MAML(SineWave(), ALPHA, steps, order), waves()

    def one(theta: Tensor) -> Tensor:
        named = {"net.a": theta[0], "net.b": theta[1]}
        grads, _ = vmap(learner.task_gradient, (None, TASK_AXIS))(named, episodes)
        return torch.stack([grads["net.a"].mean(), grads["net.b"].mean()])

    return vmap(one)(theta)


def differences(theta: Tensor, steps: int, *, h: float = 1e-5) -> Tensor:
    """The same gradient without any derivative: central differences of `meta_loss`, (n, 2)."""
    sides = [h * e for e in torch.eye(2, dtype=theta.dtype)]
    return torch.stack([(meta_loss(theta + e, steps) - meta_loss(theta - e, steps)) / (2 * h) for e in sides], 1)


def paths(a: float, b: float) -> Tensor:
    """Where each task's inner loop goes from theta = (a, b): (T, MOST_STEPS + 1, 2)."""
    learner = MAML(SineWave(a, b), ALPHA)

    def path(episode: Episode) -> Tensor:
        return torch.stack([torch.stack([phi["a"], phi["b"]]) for phi in learner.path(episode.support, MOST_STEPS)])

    with torch.no_grad():
        return vmap(path, (TASK_AXIS,))(waves())


def figure(steps: int = 3, start: tuple[float, float] = (1.2, 0.8)) -> Widget:
    """The interactive figure, as it looks before it is touched: `steps` inner steps from theta = `start`.

    Everything is computed here, in float64, and rounded to thousandths; the page only draws.

    Raises:
        ValueError: `steps` or `start` is not among those that can be chosen.
    """
    chosen = next((i for i, (a, b) in enumerate(STARTS) if abs(a - start[0]) + abs(b - start[1]) < 1e-9), None)
    if chosen is None or not 0 <= steps <= MOST_STEPS:
        raise ValueError(f"steps={steps}, start={start}: expected 0 to {MOST_STEPS} steps and one of surface.STARTS")
    theta = torch.tensor(STARTS, dtype=torch.float64)
    by_steps = [{"exact": _thousandths(gradients(theta, J, 2)), "first": _thousandths(gradients(theta, J, 1)),
                 "differences": _thousandths(differences(theta, J)), "loss": _thousandths(meta_loss(theta, J)),
                 "regions": _regions(J)} for J in range(MOST_STEPS + 1)]
    data = {"steps": steps, "start": chosen, "starts": _thousandths(theta), "waves": WAVES, "side": SIDE,
            "byStep": by_steps, "paths": [_thousandths(paths(a, b)) for a, b in STARTS]}
    return Widget("surface.js", data, png=_png(steps, start),
                  alt="The meta-loss over two parameters, with the exact, the first-order and the finite-difference "
                      f"gradient at one point, after {steps} inner steps; sliders move the point and change the steps.")


def _thousandths(values: Tensor) -> list:
    return (1000 * values).round().long().tolist()


def _grid(steps: int, n: int = 33) -> tuple[Tensor, Tensor, Tensor]:
    """Amplitudes (n,), phases (n,) and the meta-loss between them (n, n)."""
    a, b = (torch.linspace(*ends, n, dtype=torch.float64) for ends in SIDE)
    theta = torch.stack(torch.meshgrid(a, b, indexing="ij"), -1).reshape(-1, 2)
    return a, b, meta_loss(theta, steps).reshape(n, n)


def _regions(steps: int) -> list[list[list[int]]]:
    """For each level, the outlines of where the meta-loss is lower: flat lists [b, a, b, a, ...] in hundredths."""
    a, b, loss = _grid(steps)
    generator = contour_generator(b.numpy(), a.numpy(), loss.numpy(), fill_type="OuterOffset")
    regions = []
    for level in LEVELS:
        points, offsets = generator.filled(-1.0, level)
        rings = [p[i:j] for p, o in zip(points, offsets, strict=True) for i, j in zip(o[:-1], o[1:], strict=True)]
        regions.append([(100 * torch.tensor(ring)).round().long().flatten().tolist() for ring in rings])
    return regions


def _png(steps: int, start: tuple[float, float]) -> bytes:
    """The figure as it first appears, for print."""
    a, b, loss = _grid(steps, 65)
    theta = torch.tensor([start], dtype=torch.float64)
    figure, axis = plt.subplots(figsize=(5.2, 4.8), facecolor="white", layout="constrained")
    shades = plt.get_cmap("Blues")(torch.linspace(0.6, 0.0, len(LEVELS) + 1).numpy())
    axis.contourf(b, a, loss, levels=(0, *LEVELS, 1e9), colors=shades)
    arrows = {"exact": (-gradients(theta, steps, 2)[0], COLOURS[0], 7.0, "-"),
              "first order": (-gradients(theta, steps, 1)[0], COLOURS[3], 3.5, "-"),
              "finite differences": (-differences(theta, steps)[0], "black", 1.2, "--")}
    longest = max(float(g.norm()) for g, *_ in arrows.values())
    for name, (g, colour, width, line) in arrows.items():
        tip = (start[0] + float(g[0]) / longest, start[1] + float(g[1]) / longest)
        axis.plot((start[1], tip[1]), (start[0], tip[0]), color=colour, linewidth=width, linestyle=line, label=name,
                  solid_capstyle="butt")
    for wave, way in zip(WAVES, paths(*start), strict=True):
        axis.plot(way[:steps + 1, 1], way[:steps + 1, 0], ".-", color="0.35", linewidth=0.8)
        axis.plot(wave[1], wave[0], "kx")
    axis.plot(start[1], start[0], "ko", markersize=8)
    axis.set(xlabel="phase b (radians)", ylabel="amplitude a", xlim=SIDE[1], ylim=SIDE[0], aspect="equal",
             title=f"downhill in the meta-loss, J = {steps}")
    axis.legend(fontsize=8, loc="upper right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()
