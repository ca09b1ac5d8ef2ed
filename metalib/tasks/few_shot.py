"""Tasks made from a bank of labelled images: N-way K-shot episodes, and plain classification written as tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from metalib.data.images import ClassImages
from metalib.episode import Data, Episode


class FewShot:
    """N-way K-shot classification episodes from a bank of labelled images.

    Each episode draws N classes without replacement, in random order, so that labels 0..N-1 are a fresh random
    bijection; then K + Q of each class's images in one permutation, so that support and query never share one. Two
    rotations of one character never meet. The support is ordered by class; the query is shuffled, so that its order
    says nothing. The generator is a CPU generator, so the episodes are the same on every device.

        support.x (T, N*K, C, H, W) in [0, 1]    support.y (T, N*K)    query likewise with Q

    Args:
        images: the classes to draw from: one split, usually.
        way: N.
        shot: K.
        query: Q, query examples per class.
        dtype: of the images.

    Raises:
        ValueError: fewer than N classes (rotations of one character count once), or a class with fewer than K + Q
            examples.
    """

    def __init__(self, images: ClassImages, way: int = 5, shot: int = 1, query: int = 15, *,
                 dtype: torch.dtype = torch.float32) -> None:
        if min(way, shot, query) < 1:
            raise ValueError(f"way={way}, shot={shot}, query={query}: each must be at least 1")
        self.images, self.way, self.shot, self.query, self.dtype = images, way, shot, query, dtype
        base, per_base = images.base.cpu().unique(return_counts=True)
        if len(base) < way:
            raise ValueError(f"{len(base)} classes cannot make a {way}-way episode: lower way= or add classes")
        self._counts, self._starts = images.counts.cpu(), images.starts.cpu()
        if int(self._counts.min()) < shot + query:
            c = int(self._counts.argmin())
            raise ValueError(f"class {c} ({images.names[c]}) has {int(self._counts[c])} examples; {shot}-shot + "
                             f"{query}-query needs {shot + query}: lower query= or drop the class")
        self._by_base = images.base.cpu().argsort(stable=True)  # the classes, rotations of one character side by side
        self._per_base, self._first = per_base, per_base.cumsum(0) - per_base

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """n episodes on the device of the images."""
        classes, examples = self.sample_indices(n, generator=generator)
        T, N, K, Q = n, self.way, self.shot, self.query
        index = self._starts[classes][..., None] + examples  # (T, N, K+Q), rows of the image bank
        y = torch.arange(N)[:, None].expand(T, N, K + Q)
        shuffle = torch.rand(T, N * Q, generator=generator, dtype=torch.float64).argsort(1)
        query = index[..., K:].reshape(T, N * Q).gather(1, shuffle)
        query_y = y[..., K:].reshape(T, N * Q).gather(1, shuffle)
        return Episode(self._data(index[..., :K].reshape(T, N * K), y[..., :K].reshape(T, N * K)),
                       self._data(query, query_y))

    def sample_indices(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(classes (T, N), examples within each class (T, N, K+Q)): what an audit needs to see."""
        def rand(*shape: int) -> Tensor:  # float64, so that ties do not happen
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        base = rand(n, len(self._per_base)).topk(self.way).indices  # (T, N), distinct, in random order
        turn = (rand(n, self.way) * self._per_base[base]).long()  # which rotation
        classes = self._by_base[self._first[base] + turn]  # (T, N)
        counts = self._counts[classes]  # (T, N)
        keys = rand(n, self.way, int(counts.max()))
        keys = keys.masked_fill(torch.arange(keys.shape[-1]) >= counts[..., None], -1.0)
        return classes, keys.topk(self.shot + self.query).indices  # (T, N, K+Q), distinct

    def _data(self, index: Tensor, y: Tensor) -> Data:
        bank = self.images.images
        return Data(_pictures(bank, index, self.dtype), y.to(bank.device).contiguous(), self.way)  # x (T, M, C, H, W)

    def __repr__(self) -> str:
        return f"FewShot(way={self.way}, shot={self.shot}, query={self.query}, classes={len(self._counts)})"


def _pictures(bank: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows of a bank of bytes as numbers in [0, 1]: (..., C, H, W) on the bank's device.

    `index_select` copies whole images, and the division is in place: bank[index].to(dtype) / 255 with less traffic.
    """
    rows = bank.index_select(0, index.flatten().to(bank.device)).unflatten(0, index.shape)
    return rows.to(dtype).div_(255)


class Classify:
    """Plain classification of all classes, written as tasks with an empty support set: what `Pretrained` trains on.

        query.x (T, batch, C, H, W)    query.y (T, batch), the class's index in `images`; never re-labelled

    Args:
        images: the training classes.
        batch: images per task.
        dtype: of the images.
    """

    def __init__(self, images: ClassImages, batch: int = 128, *, dtype: torch.dtype = torch.float32) -> None:
        self.images, self.batch, self.dtype = images, batch, dtype
        self.way = len(images.counts)

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """n batches, drawn with replacement, on the device of the images."""
        bank = self.images.images
        index = torch.randint(len(bank), (n, self.batch), generator=generator)
        x, y = _pictures(bank, index, self.dtype), self.images.labels.cpu()[index].to(bank.device)
        return Episode(Data(x[:, :0], y[:, :0], self.way), Data(x, y, self.way))
