"""The check of the code exercise on neural processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metalib.judging.checks.asking import ask, demand, distance, given, pair, percent, tensor


def check_mixture(answer: Callable[..., Any]) -> None:
    """`answer(means, stds)`, each (L, M) -> (mean, standard deviation) of the equal mixture, each (M,)."""
    g = torch.Generator().manual_seed(0)
    for L, M in ((4, 3), (2, 5), (1, 4), (7, 1), (3, 3)):
        means = 3 * torch.randn(L, M, generator=g, dtype=torch.float64)
        stds = 0.2 + 2 * torch.rand(L, M, generator=g, dtype=torch.float64)
        with given(f"{L} draw{'s' * (L > 1)} and {M} input{'s' * (M > 1)}"):
            mean, std = pair(ask(answer, means, stds), "the answer")
            mean, std = tensor(mean, "the mean", (M,)), tensor(std, "the standard deviation", (M,))
            off = distance(mean, means.mean(0))
            demand(off <= 1e-6, f"the mean is {percent(off)} off: every draw counts the same")
            second = (stds.square() + means.square()).mean(0)  # E y^2, another way than the page's
            right = (second - means.mean(0).square()).sqrt()
            off = distance(std, right)
            demand(off <= 1e-6, (
                f"the mean is right, and the standard deviation is {percent(off)} off. Draw y by first choosing a row "
                "at random: in what two ways does it vary? Do standard deviations add, or variances?"))
