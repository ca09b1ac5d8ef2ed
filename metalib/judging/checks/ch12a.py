"""The check of page 12a's code exercise: how often each method of a league would be first on other tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metalib.functional import seeded
from metalib.judging.checks.asking import ask, demand, given, tensor


def check_first_share(answer: Callable[..., Any]) -> None:
    """`answer(scores (M, T), draws (B, T))` -> (M,), the share of the B redrawn sets of tasks that each method wins."""
    for seed, M, T, B in ((0, 3, 40, 200), (1, 5, 12, 64), (2, 2, 30, 1), (3, 4, 25, 300)):
        g = seeded(seed)
        scores = torch.rand(1, T, generator=g, dtype=torch.float64) + 0.3 * torch.randn(M, T, generator=g,
                                                                                        dtype=torch.float64)
        draws = torch.randint(T, (B, T), generator=g)
        with given(f"{M} methods with scores of no special kind, {T} tasks and {B} redrawn sets"):
            _compare(answer, scores, draws)
    g = seeded(4)
    scores = torch.randint(2, (3, 6), generator=g).double()  # means that are often equal
    scores = torch.cat([scores, scores[:1]])
    with given("scores of 0 and 1, where methods often share the first place"):
        _compare(answer, scores, torch.randint(6, (500, 6), generator=g))


def _compare(answer: Callable[..., Any], scores: torch.Tensor, draws: torch.Tensor) -> None:
    M, B = len(scores), len(draws)
    share = tensor(ask(answer, scores.clone(), draws.clone()), "the answer", (M,))
    total = float(share.sum())
    demand(abs(total - 1) <= 1e-9, f"the shares add up to {total:.4g}: every redrawn set has one first place to give")
    wins = torch.zeros(M, dtype=torch.float64)
    for draw in draws:
        totals = sum(scores[:, t] for t in draw.tolist())
        wins += (best := (totals - totals.max()).abs() < 1e-9).double() / best.sum()
    off = float((share - wins / B).abs().max())
    demand(off <= 1e-6, (f"one method's share is off by {off:.2g}. Are the same tasks redrawn for all methods, is a "
                         "method's score its mean over one redrawn set, and do equal ones share the first place?"))
