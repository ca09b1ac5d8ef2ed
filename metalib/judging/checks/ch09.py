"""The checks of chapter 9's code exercises: sums over a grid of weights, and autograd on weights that stay hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metalib.functional import seeded
from metalib.judging.checks.asking import ask, demand, distance, given, pair, percent, tensor


def check_posterior_predictive(answer: Callable[..., Any]) -> None:
    """`answer(x, y, query, noise, prior)` -> the mean and the variance of the target at every row of query."""
    for seed, D, K, noise, prior in ((0, 1, 1, 0.5, 1.0), (1, 1, 4, 0.7, 2.0), (2, 2, 3, 0.6, 0.5), (3, 2, 0, 0.3, 1.5),
                                     (4, 2, 7, 1.3, 1.7)):
        x, y, query = _pairs(seed, D, K)
        w, weight = _grid(x, y, noise, prior)
        mean = weight @ (w @ query.T)
        variance = weight @ (w @ query.T - mean).square() + noise**2
        with given(f"{K} pairs in {D} dimensions, noise = {noise} and prior = {prior}"):
            got = pair(ask(answer, x, y, query, noise, prior), "the answer")
            got_mean, got_variance = (tensor(g, what, (len(query),)) for g, what in zip(got, ("the mean",
                                                                                              "the variance")))
            error = float((got_mean - mean).abs().max() / (1 + mean.abs().max()))
            demand(error <= 1e-6, (
                f"the mean is {percent(error)} off (the largest difference). How strong is the penalty on w, given "
                "both noise and prior, and is the misfit a sum or a mean?"))
            demand(bool((got_variance > 0).all()), f"a variance should be positive; yours begin "
                                                   f"{got_variance[:3].tolist()}")
            error = distance(got_variance, variance)
            demand(error <= 1e-6, (
                f"the variance is {percent(error)} off (the length of the difference, relative). What is uncertain in "
                "a target: w, or the noise, or both; and in which units?"))


def check_step(answer: Callable[..., Any]) -> None:
    """`answer(x, y, f, query, g, rate, penalty)` -> predictions on pairs and queries after one step of descent."""
    for seed, D, K, rate, penalty in ((0, 1, 2, 0.1, 0.0), (1, 3, 5, 0.05, 0.2), (2, 2, 9, 0.2, 0.7),
                                      (3, 5, 3, 0.03, 1.0)):
        x, y, query = _pairs(seed + 20, D, K)
        w = torch.randn(D, generator=seeded(seed + 70), dtype=torch.float64, requires_grad=True)
        loss = (x @ w - y).square().mean() + penalty * w.square().sum()
        with torch.no_grad():
            moved = w - rate * torch.autograd.grad(loss, w)[0]
            f, g, right = x @ w, query @ w, (x @ moved, query @ moved)
        with given(f"{K} pairs in {D} dimensions, rate = {rate} and penalty = {penalty}"):
            got = pair(ask(answer, x, y, f, query, g, rate, penalty), "the answer")
            for new, wanted, what in zip(got, right, ("pairs", "queries")):
                error = distance(tensor(new, f"the predictions on the {what}", (len(wanted),)), wanted)
                demand(error <= 1e-8, (
                    f"the predictions on the {what} are {percent(error)} off (the length of the difference, relative) "
                    "from what one step from any w with these predictions makes. Which factor stands before the sum, "
                    "from which sign of residual, and what does the penalty do to a prediction?"))


def _pairs(seed: int, D: int, K: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (K, D), y (K,) and six queries."""
    g = seeded(seed + 900)
    x, y = torch.randn(K, D, generator=g, dtype=torch.float64), torch.randn(K, generator=g, dtype=torch.float64)
    return x, y, torch.randn(6, D, generator=g, dtype=torch.float64)


def _grid(x: Tensor, y: Tensor, noise: float, prior: float) -> tuple[Tensor, Tensor]:
    """Weights w (G, D) on a grid of eight prior deviations each way, and their posterior shares (G,)."""
    D = x.shape[1]
    axis = torch.linspace(-8 * prior, 8 * prior, 401, dtype=torch.float64)
    w = torch.cartesian_prod(*[axis] * D).reshape(-1, D)
    return w, (-(w / prior).square().sum(1) / 2 - (w @ x.T - y).square().sum(1) / (2 * noise**2)).softmax(0)
