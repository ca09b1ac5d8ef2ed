"""The checks of chapter 11's code exercise: the best fixed loss by pairs of optima, which needs no best start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metalib.functional import seeded
from metalib.judging.checks.asking import ask, demand, given, tensor


def check_regret_so_far(answer: Callable[..., Any]) -> None:
    """`answer(optima, starts)` -> regret (T,) after each round against the start that is best for the rounds so far."""
    for seed, T, D in ((0, 1, 1), (1, 5, 1), (2, 7, 2), (3, 12, 3)):
        g = seeded(seed + 1100)
        optima, starts = (torch.randn(T, D, generator=g, dtype=torch.float64) for _ in range(2))
        optima = optima + 0.7 * torch.arange(T)[:, None]
        with given(f"{T} round{'s' if T > 1 else ''}, optima in {D} dimension{'s' if D > 1 else ''} and seed {seed}"):
            got = tensor(ask(answer, optima, starts), "the regret", (T,))
            played, apart = 0.0, 0.0
            for t in range(T):
                played += 0.5 * float((starts[t] - optima[t]).square().sum())
                apart += float((optima[:t] - optima[t]).square().sum())
                # the squared distances of all pairs, over twice the rounds, are what the best of all starts loses
                error = abs(float(got[t]) - (played - apart / (2 * (t + 1))))
                demand(error <= 1e-8 * (1 + played), (
                    f"after round {t} your regret {float(got[t]):.4g} is not what was lost minus what the best start "
                    "loses. Which rounds are counted by then, for which rounds is that start best, and does each loss "
                    "have its half and all its dimensions?"))
