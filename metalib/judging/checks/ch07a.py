"""The check of the code exercise on solved heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metalib.functional import seeded
from metalib.judging.checks.asking import ask, demand, given, tensor


def check_ridge_head(answer: Callable[..., Any]) -> None:
    """`answer(Z, Y, strength)` -> W (D, N), where the gradient of |Z W - Y|^2 + strength |W|^2 vanishes."""
    for seed, M, D, N, strength in ((0, 3, 8, 3, 1.0), (1, 5, 6, 5, 0.1), (2, 6, 40, 2, 25.0), (3, 20, 4, 3, 3.0),
                                    (4, 4, 4, 2, 0.5)):
        g = seeded(seed)
        Z = torch.randn(M, D, generator=g, dtype=torch.float64)
        Y = torch.randn(M, N, generator=g, dtype=torch.float64)
        with given(f"{M} examples, {D} features, {N} columns of targets and strength = {strength}"):
            W = tensor(ask(answer, Z, Y, strength), "W", (D, N))
            for n in range(N):
                slope = _slope(Z, Y[:, n], strength, W[:, n])
                start = _slope(Z, Y[:, n], strength, torch.zeros_like(W[:, n]))
                share = float(slope.norm() / start.norm())
                demand(share <= 1e-6, (
                    f"column {n} is no minimum of its objective: the gradient there is {share:.3g} times as long as "
                    "the gradient at W = 0. Which matrix is added, to which product, and does each column have its own "
                    "targets?"))


def _slope(Z: Tensor, y: Tensor, strength: float, w: Tensor) -> Tensor:
    """The gradient of |Z w - y|^2 + strength |w|^2, by autograd."""
    w = w.clone().requires_grad_()
    with torch.enable_grad():
        loss = (Z @ w - y).square().sum() + strength * w.square().sum()
        return torch.autograd.grad(loss, w)[0]
