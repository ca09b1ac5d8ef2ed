"""The checks of chapter 7's code exercises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

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
