"""The check of chapter 15's code exercise: the share of outside requests that a threshold lets through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metalib.functional import seeded
from metalib.judging.checks.asking import ask, demand, given, number


def check_false_accepts(answer: Callable[..., Any]) -> None:
    """`answer(inside (n,), outside (m,), keep)` -> the share of outside that is accepted.

    A score is accepted at or above the largest threshold that accepts at least the share `keep` of inside. The scores
    are float64; they come in no order, with ties, and n * keep is not always whole.
    """
    for seed, n, m, keep, ties in ((0, 40, 600, 0.95, False), (1, 20, 1000, 0.5, False), (2, 33, 1280, 0.9, False),
                                   (3, 50, 800, 0.8, True), (4, 7, 500, 1.0, False), (5, 1, 180, 0.95, False),
                                   (6, 60, 140, 0.95, True), (7, 33, 900, 0.8, False), (8, 7, 600, 0.9, False),
                                   (9, 50, 800, 0.8, False)):
        g = seeded(seed)
        inside = torch.randn(n, generator=g, dtype=torch.float64) + 1
        outside = 1.5 * torch.randn(m, generator=g, dtype=torch.float64) + 0.5
        if ties:
            inside, outside = inside.round(), outside.round()
        words = "many equal scores" if ties else "no two equal"
        with given(f"{n} inside scores and {m} outside ones, {words}, keep = {keep}"):
            share = number(ask(answer, inside.clone(), outside.clone(), keep), "the share")
            demand(0 <= share <= 1, f"a share lies between 0 and 1, and you returned {share:.4g}")
            accepted = share * m
            demand(abs(accepted - round(accepted)) <= 1e-6 * m, (
                f"{share:.4f} is no share of {m} requests: that would be {accepted:.3f} of them"))
            right = _accepted(inside, outside, keep)
            demand(round(accepted) <= right, (
                f"you accept {round(accepted)} outside requests, which takes a lower threshold than is needed: is "
                "yours the largest that keeps enough of the inside ones?"))
            demand(round(accepted) >= right, (
                f"you accept {round(accepted)} outside requests; a threshold that keeps a share {keep} of the inside "
                "ones accepts more. Is a score equal to the threshold accepted, and is the number to keep rounded up?"))


def _accepted(inside: torch.Tensor, outside: torch.Tensor, keep: float) -> int:
    """The right number of accepted requests, by trying every inside score as the threshold."""
    enough = [t for t in inside.tolist() if float((inside >= t).sum()) >= keep * len(inside) - 1e-9]
    return int((outside >= max(enough)).sum())
