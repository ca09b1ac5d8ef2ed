"""The check of chapter 0's code exercise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from metalib.data.glyphs import glyphs
from metalib.episode import Data
from metalib.functional import seeded
from metalib.judging.checks.asking import ask, demand, given, whole
from metalib.tasks.few_shot import FewShot


def check_nearest(answer: Callable[..., Any]) -> None:
    """`answer(support, x)` -> (M,), the label of the support drawing with the largest cosine to each query."""
    for support, x in _problems():
        labels, shape = support.y.tolist(), tuple(x.shape[1:])
        with given(f"{len(labels)} support images of shape {shape} with the labels {labels}, and {len(x)} queries"):
            got = whole(ask(answer, support, x), f"the labels of {len(x)} queries", (len(x),)).tolist()
            for j, label in enumerate(got):
                demand(label in labels, f"query {j} got the label {label}, which no support image has")
                cosine = torch.stack([_cosine(image, x[j]) for image in support.x])  # (N,)
                chosen = float(cosine[labels.index(label)])
                demand(chosen > float(cosine.max()) - 1e-6, (
                    f"query {j} got the label {label}, whose drawing has the cosine {chosen:.4f} with it, and another "
                    "drawing has a larger one. Is a drawing's length taken over all its pixels? Is it the label that "
                    "you return, or the row?"))


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.double(), b.double()
    return (a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt()


def _problems() -> Iterator[tuple[Data, Tensor]]:
    """Drawings whose support is out of order; then bold and faint pictures, in two channels, on grey paper."""
    g = seeded(0)
    episodes = FewShot(glyphs().split("val"), way=5, shot=1, query=3, dtype=torch.float32).sample(8, generator=g)
    for support, query in map(episodes.task, range(episodes.tasks)):
        order = torch.randperm(5, generator=g)
        yield support._replace(x=support.x[order], y=support.y[order]), query.x
    for N, M in ((7, 11), (2, 1), (3, 20)):
        x = torch.rand(N + M, 2, 3, 5, generator=g, dtype=torch.float32) ** 3
        paper, ink = torch.rand(2, N + M, 1, 1, 1, generator=g, dtype=torch.float32)
        x = (0.3 * paper + x) * (0.05 + 0.7 * ink)
        yield Data(x[:N], torch.arange(N).roll(1).flip(0), N), x[N:]
