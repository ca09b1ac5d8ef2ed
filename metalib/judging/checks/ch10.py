"""The check of chapter 10's code exercise: what one observation adds to a belief's precision, and to its pull."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metalib.functional import seeded
from metalib.judging.checks.asking import ask, demand, distance, given, pair, percent, tensor


def check_update(answer: Callable[..., Any]) -> None:
    """`answer(mean, covariance, z, y, noise)` -> (mean (D,), covariance (D, D)) once y was seen at features z (D,)."""
    for seed, D, noise in ((0, 3, 0.5), (1, 1, 2.0), (2, 4, 0.1), (3, 2, 1.3), (4, 6, 0.7)):
        g = seeded(seed)
        mean, z = (2 * torch.randn(D, generator=g, dtype=torch.float64) for _ in range(2))
        root = torch.randn(D, D, generator=g, dtype=torch.float64)
        C, y = root @ root.T + 0.3 * torch.eye(D, dtype=torch.float64), float(3 + seed)
        with given(f"D = {D}, a covariance that is not diagonal, a mean that is not zero, y = {y:g} and noise {noise}"):
            m, after = pair(ask(answer, mean.clone(), C.clone(), z.clone(), y, noise), "the answer")
            m, after = tensor(m, "the mean", (D,)), tensor(after, "the covariance", (D, D))
            off = distance(after, after.T)
            demand(off <= 1e-8, f"the covariance is not symmetric: {percent(off)} off its own transpose")
            least, *_, most = torch.linalg.eigvalsh(after).tolist() * 2
            demand(least > 1e-10 * most, f"the covariance has the eigenvalue {least:.3g}: nothing is that sure")
            sure = float(z @ after @ z)
            demand(sure < float(z @ C @ z), (
                f"the variance of z w is {sure:.4g} afterwards, which is not less than before: what does one see?"))
            off = distance(_precision(after) - _precision(C), torch.outer(z, z) / noise**2)
            demand(off <= 1e-6, (
                f"what the observation adds to the precision, the inverse of the covariance, is {percent(off)} off. "
                "How large is the variance of the surprise, and does the noise enter as a std or as a variance?"))
            pull = _precision(after) @ m - _precision(C) @ mean
            off = distance(pull, z * y / noise**2)
            demand(off <= 1e-6, (
                f"the covariance is right, and the mean is {percent(off)} off, as its pull (precision times mean) "
                "shows. What was expected of y before it was seen, and how far does a surprise move each weight?"))


def _precision(C: Tensor) -> Tensor:
    return torch.linalg.inv(C)
