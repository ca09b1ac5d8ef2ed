"""The check of chapter 1's code exercise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metalib.functional import seeded
from metalib.judging.checks.asking import ask, demand, given, number, off, pair


def check_empirical_bayes(answer: Callable[..., Any]) -> None:
    """`answer(support_y, sigma)` -> (m, w) of the toy, from support sets (T, K) and the known noise sigma."""
    for tau, sigma, shot, mean in ((1.0, 2.0, 5, 3.0), (0.5, 1.0, 1, -1.0), (1.0, 1.0, 10, 0.0), (6.0, 9.0, 2, 50.0)):
        y, right = _sets(tau, sigma, shot, mean), tau**2 / (tau**2 + sigma**2 / shot)
        with given(f"{len(y)} tasks of {shot} observations, sigma = {sigma}"):
            m, w = _ask(answer, y, sigma)
            demand(abs(m - mean) <= 0.1 * (tau + sigma), (
                f"your prior mean m = {m:.3f} is too {'large' if m > mean else 'small'}: it is not where the tasks' "
                "means lie"))
            demand(abs(w - right) <= 0.05, (
                f"your shrinkage w = {w:.3f} {off(w, right)}: the means of the support sets differ; how much of that "
                "is the tasks, and how much the noise that K observations leave?"))
    with given("60 tasks of 4 observations, sigma = 2.0, whose means differ less than the noise alone would make them"):
        m, w = _ask(answer, _alike(60, 4), 2.0)
        demand(abs(w) <= 0.1, (
            f"your shrinkage is w = {w:.3f} where nothing speaks for a difference between tasks: which variance is "
            "nearest to an estimate that came out negative?"))
    for tasks, shot in ((3, 2), (2, 5), (1, 5), (1, 1)):
        for y in (_alike(tasks, shot) + 1, _sets(9.0, 2.0, shot, 0.0)[:tasks]):
            with given(f"support_y = {[[round(v, 2) for v in row] for row in y.tolist()]}, sigma = 2.0"):
                m, w = _ask(answer, y, 2.0)
                low, high = float(y.mean(1).min()) - 1e-4, float(y.mean(1).max()) + 1e-4
                demand(low <= m <= high, f"your prior mean {m:.3f} lies outside the tasks' means")
                demand(0 <= w <= 1, f"your w = {w:.3f} is not between 0 and 1")


def _ask(answer: Callable[..., Any], y: Tensor, sigma: float) -> tuple[float, float]:
    m, w = pair(ask(answer, y, sigma), "(m, w)")
    return number(m, "m"), number(w, "w")


def _sets(tau: float, sigma: float, shot: int, mean: float) -> Tensor:
    """Support sets (T, K) of the chapter's toy: 8,000 tasks, so that every sound estimate is within a few percent."""
    g = seeded(shot)
    mu = mean + tau * torch.randn(8_000, 1, generator=g, dtype=torch.float64)
    return mu + sigma * torch.randn(8_000, shot, generator=g, dtype=torch.float64)


def _alike(tasks: int, shot: int) -> Tensor:
    """Support sets with sigma = 2 whose means all but agree: a tenth of the spread that the noise alone would give."""
    y = 2 * torch.randn(tasks, shot, generator=seeded(tasks), dtype=torch.float64)
    return y - 0.9 * y.mean(1, keepdim=True)
