"""What a learner sees: a support set to adapt on and a query set to be judged on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Data(NamedTuple):
    """Labelled examples.

    Attributes:
        x: inputs, (M, ...) for one task, (T, M, ...) for a meta-batch.
        y: targets, integer class indices 0..way-1 or floats, (M,) or (M, D); one more leading axis T for a meta-batch.
        way: the number of classes N, a plain int that is never mapped over; None for regression.
    """

    x: Tensor
    y: Tensor
    way: int | None = None


class Episode(NamedTuple):
    """One task's data, or a meta-batch of them when the tensors carry a leading task axis T.

    Attributes:
        support: what `adapt` reads (N*K examples).
        query: what the meta-loss is measured on (N*Q examples).
    """

    support: Data
    query: Data

    def task(self, t: int) -> Episode:
        """Task `t` of a meta-batch, without the task axis; images with their channels innermost in memory."""
        (sx, sy, way), (qx, qy, _) = self
        return Episode(Data(_channels_last(sx[t]), sy[t], way), Data(_channels_last(qx[t]), qy[t], way))

    def to(self, *args: torch.device | torch.dtype | str) -> Episode:
        """Move to a device, or cast the floating-point tensors to a dtype; integer labels keep theirs."""
        return Episode(*(Data(_to(d.x, *args), _to(d.y, *args), d.way) for d in self))

    def split(self, size: int) -> list[Episode]:
        """Meta-batches of at most `size` tasks each."""
        parts = [[t.split(size) for t in d[:2]] for d in self]
        return [Episode(*(Data(x[i], y[i], d.way) for (x, y), d in zip(parts, self))) for i in range(len(parts[0][0]))]

    @property
    def tasks(self) -> int:
        """T, the number of tasks in a meta-batch."""
        return self.support.x.shape[0]


# Which tensors carry the task axis, in the form that torch.vmap's `in_dims` takes: everything but `way`.
TASK_AXIS = Episode(Data(0, 0, None), Data(0, 0, None))


def _to(t: Tensor, *args: torch.device | torch.dtype | str) -> Tensor:
    keep = not t.is_floating_point()
    return t.to(*(a for a in args if not (keep and isinstance(a, torch.dtype)))) if args else t


def _channels_last(x: Tensor) -> Tensor:
    """Images (M, C, H, W) in the layout that CPU convolutions want; anything else as it is.

    With one channel the strides are ambiguous and `.contiguous(memory_format=torch.channels_last)` does nothing, after
    which every layer runs in the slow layout; a view through (M, H, W, 1) settles them.
    """
    if x.ndim != 4:
        return x
    M, C, H, W = x.shape
    return x.reshape(M, H, W, 1).permute(0, 3, 1, 2) if C == 1 else x.contiguous(memory_format=torch.channels_last)
