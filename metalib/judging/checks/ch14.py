"""The check of chapter 14's code exercise: the best cosine of two pictures, one of which may be moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metalib.functional import seeded
from metalib.judging.checks.asking import apart, ask, demand, given, tensor


def check_sliding(answer: Callable[..., Any]) -> None:
    """`answer(x, y, reach)` -> (M, N): for queries x (M, H, W) and means y (N, H, W), at least 0, the best cosine."""
    for seed, M, N, H, W, reach in ((0, 4, 3, 12, 12, 3), (1, 2, 5, 9, 14, 2), (2, 1, 1, 8, 8, 1)):
        g = seeded(seed)
        x, y = torch.zeros(M, H, W, dtype=torch.float64), torch.zeros(N, H, W, dtype=torch.float64)
        inside = (slice(None), slice(reach, H - reach), slice(reach, W - reach))
        x[inside], y[inside] = (torch.rand(n, H - 2 * reach, W - 2 * reach, generator=g, dtype=torch.float64)
                                * scale for n, scale in ((M, 3.0), (N, 0.5)))
        size = f"{M} queries and {N} means of {H} x {W} pixels"
        with given(f"{size}, reach 0"):
            still = _asked(answer, x, y, 0)
            demand(_off(still, x, y, 0) <= 1e-6,
                   "without any move the answer is not the cosine: what is divided by which lengths?")
        for down, right in ((reach, 0), (0, -reach), (-reach, 1), (-1, reach)):
            moved = y.roll((down, right), (1, 2))  # the margin is empty: no ink comes in again on the other side
            with given(f"{N} pictures of {H} x {W} pixels, each moved {down} down and {right} to the right, and reach "
                       f"{reach}"):
                own = _asked(answer, moved, y, reach).diagonal()
                worst = int((own - 1).abs().argmax())
                found, whole = apart(float(own[worst]), 1.0)
                demand((own - 1).abs().max() <= 1e-6, f"a moved picture and itself have {found}, not {whole}: "
                       "was that move tried, and do the lengths stay those of whole pictures?")
        with given(f"ink at one edge, and at the other, {H} x {W} pixels, reach {reach}"):
            edge, other = torch.zeros(2, 1, H, W, dtype=torch.float64)
            edge[0, 0, 2], other[0, -1, 2] = 1, 1
            demand(float(_asked(answer, edge, other, reach).max()) <= 1e-9,
                   "the two agree: does ink that leaves the paper come in again on the other side?")
        with given(f"{size}, ink everywhere, reach {reach}"):
            full, whole = torch.rand(M, H, W, generator=g).double(), torch.rand(N, H, W, generator=g).double()
            demand(_off(_asked(answer, full, whole, reach), full, whole, reach) <= 1e-6,
                   "the answer is off. Is the largest of all moves taken, for each query and each mean apart, with "
                   "the lengths of the pictures as they were before the move?")


def _asked(answer: Callable[..., Any], x: Tensor, y: Tensor, reach: int) -> Tensor:
    return tensor(ask(answer, x.clone(), y.clone(), reach), "the answer", (len(x), len(y)))


def _off(found: Tensor, x: Tensor, y: Tensor, reach: int) -> float:
    """The largest error of (M, N) cosines: by a convolution, whose kernels are the means."""
    x, y = (t / t.flatten(1).norm(dim=1)[:, None, None] for t in (x, y))
    return float((found - F.conv2d(F.pad(x[:, None], [reach] * 4), y[:, None]).amax((2, 3))).abs().max())
