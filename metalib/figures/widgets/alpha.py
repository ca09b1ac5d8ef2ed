"""Chapter 5's figure: inner steps in a valley, and a rate to drag until they no longer arrive."""

import torch
from torch import Tensor, nn

from metalib.episode import Data
from metalib.figures.widgets.widget import Widget, words
from metalib.learners.maml import MAML

SIDES = ((-2, 6), (-4, 3))  # the window: phi_1, phi_2
LEVELS = tuple(k * k for k in range(1, 10))  # of the contours of the support loss: equal distances between them
MOST_STEPS, MOST_RATE = 20, 0.4


def quadratic(support: Data) -> tuple[Tensor, Tensor]:
    """(H, w) with L_S(phi) = (phi - w)' H (phi - w) / 2, the mean squared error of phi . x: (2, 2) and (2,).

    Raises:
        ValueError: inputs that are not points of a plane, targets that no phi . x hits, or inputs all on one line.
    """
    x, y = support.x, support.y
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"support.x has shape {tuple(x.shape)}; expected (K, 2), points of a plane")
    H, w = 2 * x.T @ x / len(x), torch.linalg.lstsq(x, y).solution[:, 0]
    if float(torch.linalg.eigvalsh(H)[0]) < 1e-6 or float((x @ w - y[:, 0]).abs().max()) > 1e-6:
        raise ValueError("the loss is no bowl with bottom 0: expected targets y = w . x, and inputs not on one line")
    return H, w


def path(support: Data, rate: float, steps: int, start: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """MAML's inner iterates phi_0, ..., phi_steps from phi_0 = start: (steps + 1, 2)."""
    learner = MAML(nn.Linear(2, 1, bias=False).double(), rate, steps)
    with torch.no_grad():
        learner.net.weight.copy_(torch.tensor([start], dtype=torch.float64))
        return torch.cat([phi["weight"] for phi in learner.path(support)])


def figure(support: Data, *, rate: float = 0.05, steps: int = 8, start: tuple[float, float] = (0.0, 0.0)) -> Widget:
    """Drag the inner rate until the steps no longer arrive; then the bound 2 / lambda_max shows itself.

    The page gets H and w and takes the steps itself, as `path` does (tests/test_widget_alpha.py compares them). The
    picture for where scripts do not run is of chapter 5's task.

    Args:
        support: K points of a plane, x (K, 2) and y = w . x (K, 1), in float64.
        rate: the inner rate alpha at the beginning, below the bound.
        steps: J at the beginning.
        start: theta at the beginning, (phi_1, phi_2).

    Raises:
        ValueError: see `quadratic`; a bound outside the track; a rate or a number of steps that cannot be chosen.
    """
    H, w = quadratic(support)
    bound = 2 / float(torch.linalg.eigvalsh(H)[-1])
    if not 0 < rate < bound < MOST_RATE or not 0 <= steps <= MOST_STEPS:
        raise ValueError(f"rate={rate}, bound {bound:.3f}, steps={steps}: expected 0 < rate < bound < {MOST_RATE} and "
                         f"0 to {MOST_STEPS} steps")
    data = {"H": [[round(v, 10) for v in row] for row in H.tolist()], "w": [round(v, 10) for v in w.tolist()],
            "sides": SIDES, "levels": LEVELS, "rate": rate, "steps": steps, "start": start,
            "mostRate": MOST_RATE, "mostSteps": MOST_STEPS}
    return Widget("alpha.js", data, **words("alpha", steps=steps), parts=("slide.js",), colours=32)
