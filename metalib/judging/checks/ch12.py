"""The checks of chapter 12's code exercises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metalib.judging.checks.asking import apart, ask, close, demand, distance, given, number, percent


def check_second_order(answer: Callable[..., Any]) -> None:
    """`answer(log_prob, advantage)`, each (H, K) -> a scalar with the right first and second derivatives."""
    for H, K, seed in ((1, 4, 0), (3, 2, 1), (4, 5, 2), (2, 1, 3)):
        g = torch.Generator().manual_seed(seed)
        slope, bend = (torch.randn(H, K, 3, generator=g, dtype=torch.float64) for _ in range(2))
        A = torch.randn(H, K, generator=g, dtype=torch.float64)
        theta = torch.randn(3, generator=g, dtype=torch.float64).requires_grad_()
        log_prob = -1 + (slope * theta).sum(-1) + 0.5 * (bend * theta.square()).sum(-1)
        with given(f"{H} step{'s' * (H > 1)} and {K} episode{'s' * (K > 1)}"):
            value = ask(answer, log_prob, A)
            demand(isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad, (
                "the answer should be one number that can be differentiated: a tensor computed from log_prob"))
            first = _gradient(value.reshape(()), theta, "first")
            steps = slope + bend * theta.detach()  # the gradient of each l_t, (H, K, 3)
            right = (steps * A[..., None]).sum(0).mean(0)
            off = distance(first.detach(), right)
            demand(off <= 1e-6, (f"the gradient is {percent(off)} off: at the policy that acted it is the mean over "
                                 "episodes of the sum over steps of grad l_t times A_t"))
            second = torch.stack([_gradient(f, theta, "second") for f in first]).detach()
            off = distance(second, _curvature(steps, bend, A))
            demand(off <= 1e-6, (
                f"the gradient is right and the second derivative is {percent(off)} off: which products of gradients, "
                "of a step with itself and with the steps before it, should be in it?"))


def _gradient(f: Tensor, theta: Tensor, which: str) -> Tensor:
    if not f.requires_grad:
        return torch.zeros_like(theta)
    (g,) = torch.autograd.grad(f, theta, create_graph=True, allow_unused=True)
    demand(g is not None and bool(g.isfinite().all()), f"the {which} derivative is missing, or not a finite number")
    return g


def _curvature(steps: Tensor, bend: Tensor, A: Tensor) -> Tensor:
    """Step by step and episode by episode: every pair of choices up to t is weighed with the advantage of the later."""
    H, K, D = steps.shape
    total = torch.zeros(D, D, dtype=steps.dtype)
    for k in range(K):
        for t in range(H):
            total += A[t, k] * (torch.diag(bend[t, k]) + torch.outer(steps[t, k], steps[t, k])) / K
            for s in range(t):
                both = torch.outer(steps[s, k], steps[t, k])
                total += A[t, k] * (both + both.T) / K
    return total


def check_two_pull_index(answer: Callable[..., Any]) -> None:
    """`answer(wins, losses)` -> the index with two pulls to go."""
    for wins, losses in ((0, 0), (1, 0), (0, 1), (3, 2), (2, 7), (11, 4)):
        with given(f"{wins} wins and {losses} losses"):
            got = number(ask(answer, wins, losses), "the index")
            n, mean = wins + losses, (wins + 1) / (wins + losses + 2)
            demand(0 < got < 1, f"the index is a pay between 0 and 1; you returned {got:.4g}")
            demand(got > mean + 1e-9, (
                f"you returned {got:.4g}, and the mean of the arm is {mean:.4g}: with two pulls to go a pull also "
                "tells something, which is worth more than nothing"))
            pull = mean + mean * max(got, (wins + 2) / (n + 3)) + (1 - mean) * max(got, (wins + 1) / (n + 3))
            a, b = apart(2 * got, pull)
            demand(close(2 * got, pull, 1e-6), (
                f"at your index the known arm pays {a} in two pulls, and pulling this arm first brings {b}: the "
                "two should break even"))
