"""The checks of chapter 3's code exercises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metalib.functional import seeded
from metalib.judging.checks.asking import apart, ask, close, demand, given, number, off, pair

EXACT = 1.959963985  # the quantile that 1.96 stands for


def check_paired(answer: Callable[..., Any]) -> None:
    """`answer(a, b)` -> (mean, half width of the 95 % interval) of the paired difference a - b, scores (n,) each."""
    for n, shift, shared in ((400, 0.02, 0.1), (90, -0.03, 0.1), (160, 0.01, -0.05)):
        a, b = _scores(n, shift, shared)
        gap = float(a.mean() - b.mean())
        (aa, ab), (_, bb) = torch.stack([a, b]).cov().tolist()  # var(a - b) = var a + var b - 2 cov(a, b)
        spread = math.sqrt(aa + bb - 2 * ab)
        right = 1.96 * spread / math.sqrt(n)
        nu = n - 1  # Student's quantile, to 1e-6 here (Abramowitz and Stegun, 26.7.5)
        student = EXACT + (EXACT**3 + EXACT) / (4 * nu) + (5 * EXACT**5 + 16 * EXACT**3 + 3 * EXACT) / (96 * nu**2)
        with given(f"the scores of two methods on the same {n} tasks, correlation {ab / math.sqrt(aa * bb):.2f}"):
            mean, half = pair(ask(answer, a, b), "(mean, half width)")
            mean, half = number(mean, "the mean"), number(half, "the half width")
            demand(abs(mean - gap) <= 1e-6, f"your mean of a - b, {mean:.6g}, {off(mean, gap)}")
            said = f"your half width {half:.6g} {off(half, right)}"
            demand(not close(half, 1.96 * math.sqrt((aa + bb) / n), 1e-3),
                   f"{said}: it is that of two independent samples, and these are the same tasks")
            demand(not close(half, 1.96 * spread, 0.01),
                   f"{said}: it is the spread of single tasks, and a mean of n tasks varies less")
            demand(any(close(half, right * z / 1.96, 1e-4) for z in (1.96, EXACT, student)),
                   f"{said}: of which numbers is the sample standard deviation taken, and with which denominator?")


def check_tasks_needed(answer: Callable[..., Any]) -> None:
    """`answer(values, half_width)` -> the smallest n whose 95 % interval is at most half_width on each side."""
    for n, shift, scale, needed in ((400, 0.0, 1.0, 7.3), (250, -0.3, 0.4, 1.6), (300, -0.2, 1.5, 60.4),
                                    (150, -0.1, 0.7, 1000.3), (400, 0.0, 1.0, 20000.7)):
        values = 0.75 + shift + scale * (_scores(n, 0.0, 0.1)[0] - 0.75)
        s = float((values - values.mean()).norm()) / math.sqrt(n - 1)
        half = 1.96 * s / math.sqrt(needed)
        with given(f"a pilot of {n} tasks with mean {float(values.mean()):.2f}, half_width = {half:.6f}"):
            got = number(ask(answer, values, half), "the number of tasks")
            demand(math.isfinite(got) and got == round(got) and got >= 1, f"{got} is no number of tasks")
            wide, wanted = apart(half * math.sqrt(needed / got), half)
            demand(got >= math.ceil(needed * ((EXACT / 1.96) ** 2 - 1e-6)),
                   f"{got:.0f} tasks give +- {wide}, which is more than {wanted}")
            narrow, wanted = apart(half * math.sqrt(needed / max(got - 1, 1)), half)
            demand(got <= math.ceil(needed * (1 + 1e-6)),
                   f"{got:.0f} tasks are not the fewest: one less gives +- {narrow}, and {wanted} is enough")


def _scores(n: int, shift: float, shared: float) -> tuple[Tensor, Tensor]:
    """Scores (n,) of two methods; `shared` is how far the difficulty of a task moves both, or, if negative, apart."""
    task, one, two = torch.randn(3, n, generator=seeded(n), dtype=torch.float64)
    return 0.75 + shift + abs(shared) * task + 0.03 * one, 0.75 + shared * task + 0.04 * two
