"""The check of chapter 21's code exercise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metalib.functional import seeded
from metalib.judging.checks.asking import ask, close, demand, given, number, off, pair


def check_beside(answer: Callable[..., Any]) -> None:
    """`answer(values, printed, n)` -> (D, h) in points, beside a printed mean of n tasks without an interval."""
    for level, tasks, printed, n in ((0.98, 400, 98.8, 1000), (0.98, 400, 97.9, 100), (0.7, 60, 64.3, 600),
                                     (0.7, 150, 75.1, 10_000), (0.999, 400, 98.0, 10_000_000)):
        values = _scores(level, tasks)
        gap = 100 * float(values.mean()) - printed
        one = 100 * float((values - values.mean()).norm()) / math.sqrt(tasks - 1)  # the spread of single tasks
        ours, theirs, rounding = 1.96 * one / math.sqrt(tasks), 1.96 * one / math.sqrt(n), 1.96 * 0.1 / math.sqrt(12)
        right = math.hypot(ours, theirs, rounding)
        with given(f"the scores of {tasks} tasks with mean {float(values.mean()):.3f}, printed = {printed}, n = {n}"):
            D, h = pair(ask(answer, values, printed, n), "(D, h)")
            D, h = number(D, "D"), number(h, "h")
            demand(abs(D - gap) <= 1e-4, (  # float32 knows 98.8 to 4e-6
                f"your D = {D:.6g} {off(D, gap)}: D is ours minus theirs, in points, where `printed` is in % and "
                "`values` are in [0, 1]"))
            said = f"your h = {h:.6g} {off(h, right)}"
            for like, why in ((ours, "their number has an interval too, even if unprinted"),
                              (ours + theirs, "variances add, half-widths do not"),
                              (math.hypot(ours, theirs), "the printed number is rounded, which adds a variance too")):
                demand(not close(h, like, 5e-5) or close(right, like, 2e-4), f"{said}: {why}")
            demand(any(close(h, right * z / 1.96, 1e-4) for z in (1.96, 1.959963985)),
                   f"{said}: which three variances add up, each in points, and of how many tasks is each a mean?")


def _scores(level: float, tasks: int) -> Tensor:
    """Task accuracies about `level`, out of 75 queries each."""
    spread = (1 - level) * torch.randn(tasks, generator=seeded(tasks), dtype=torch.float64)
    return (75 * (level + 0.7 * spread)).round().clamp(0, 75) / 75
