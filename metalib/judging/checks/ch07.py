"""The checks of chapter 7's code exercises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metalib.functional import seeded
from metalib.judging.checks.asking import ask, demand, given, pair, percent, tensor


def check_linear_classifier(answer: Callable[..., Any]) -> None:
    """`answer(z, y, way)` -> (W (N, D), b (N,)), whose logits q W^T + b differ as the squared distances do.

    For two classes m and n and any query q, logits_n - logits_m = |q - c_m|^2 - |q - c_n|^2, c_n the mean of class n.
    """
    for seed, counts, D in ((0, (1, 1, 1), 2), (1, (3, 3), 4), (2, (2, 5, 1, 3), 3), (3, (4, 2, 2, 1, 3), 6)):
        g, N = seeded(seed), len(counts)
        y = torch.tensor([n for n, k in enumerate(counts) for _ in range(k)])
        y = y[torch.randperm(len(y), generator=g)]
        z = 1.5 + torch.randn(len(y), D, generator=g, dtype=torch.float64)
        q = 3 * torch.randn(7, D, generator=g, dtype=torch.float64)
        with given(f"{counts} examples of {N} classes in mixed order, {D} dimensions"):
            W, b = pair(ask(answer, z, y, N), "(W, b)")
            W, b = tensor(W, "W", (N, D)), tensor(b, "b", (N,))
            logits = torch.stack([(W * x).sum(1) + b for x in q])  # (7, N)
            far = torch.stack([torch.stack([(x - sum(z[y == n]) / k).square().sum() for n, k in enumerate(counts)])
                               for x in q])
            for n in range(1, N):
                got, wanted = logits[:, n] - logits[:, 0], far[:, 0] - far[:, n]
                error = float((got - wanted).norm() / wanted.norm())
                demand(error <= 1e-5, (
                    f"logit {n} minus logit 0 at seven queries, the first {float(got[0]):.4g}, is {percent(error)} off "
                    "the difference of two squared distances. What is a class's c_n when its examples are few, many "
                    "or in any order, and which terms of |q - c_n|^2 depend on n?"))
