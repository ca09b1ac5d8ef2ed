"""Tasks made from a bank of labelled examples: N-way K-shot episodes, and plain classification written as tasks."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from metalib.arguments import check_whole
from metalib.data.classes import ClassData
from metalib.episode import Data, Episode
from metalib.functional import seeded
from metalib.tasks.protocol import check_request

ORDERS = 100  # random orders of a fact's values that are tried before a bank is refused


class FewShot:
    """N-way K-shot classification episodes from a bank of labelled examples: images, vectors, token ids.

    Each episode draws N classes without replacement, in random order, so that labels 0..N-1 are a fresh random
    bijection; then K + Q of each class's examples in one permutation, so that support and query never share one. Two
    rotations of one character never meet. The support is ordered by class; the query is shuffled, so that its order
    says nothing. The generator is a CPU generator, so the episodes are the same on every device.

        support.x (T, N*K, C, H, W) in [0, 1]    support.y (T, N*K)    query likewise with Q
        support.x (T, N*K, ...)                  of a `ClassData`, whose integers stay integers

    Args:
        images: the classes to draw from: one split, usually, of a `ClassImages` or of any `ClassData`.
        way: N.
        shot: K.
        query: Q, query examples per class.
        within: "group" draws all classes of an episode from one group (an alphabet, a domain), each group equally
            often; None draws them from the whole bank.
        apart: a fact of the bank (`about`): a patient, a smear, a writer is in an episode's support or in its query,
            whatever the class, never in both (see `Parted`).
        queries: another bank of the same classes that the query is drawn from, such as the official test part.
        dtype: of the images, or of whatever holds floating-point numbers; None takes PyTorch's default dtype.

    Raises:
        ValueError: fewer than N classes (rotations of one character count once) in the bank or, with `within`, in one
            of its groups; a class with fewer than K + Q examples; a class that `apart` cannot part; `queries` of
            other classes.
    """

    def __new__(cls, *given: Any, apart: str | None = None, queries: ClassData | None = None, **options: Any) -> Self:
        """A `Parted` where support and query have rules of their own."""
        return super().__new__(Parted if cls is FewShot and (apart, queries) != (None, None) else cls)

    def __init__(self, images: ClassData, way: int = 5, shot: int = 1, query: int = 15, *,
                 within: str | None = None, apart: str | None = None, queries: ClassData | None = None,
                 dtype: torch.dtype | None = None) -> None:
        images, dtype = _bank(_joined(images, queries), dtype)
        check_whole(1, way=way, shot=shot, query=query)
        way, shot, query = int(way), int(shot), int(query)  # NumPy's integers are none of a checkpoint's
        self.images, self.way, self.shot, self.query, self.dtype = images, way, shot, query, dtype
        self.within, self.apart = within, apart
        if (apart, queries) != (None, None) and not isinstance(self, Parted):
            raise TypeError(f"apart=, queries=: make {type(self).__name__} a subclass of metalib.tasks.few_shot.Parted")
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
        self._group = self._groups() if within is not None else None  # of each character
        if isinstance(self, Parted):
            self._sides(of_two=queries is not None)

    def _groups(self) -> Tensor:
        """The group of each character, as a number; refuses a bank that cannot fill an episode from every group."""
        if self.within != "group":
            raise ValueError(f"within={self.within!r}: expected None, or 'group', which takes the bank's groups=")
        groups = [self.images.groups[c] for c in self._by_base[self._first].tolist()]
        names = sorted(set(groups))
        if "" in names:
            c = self.images.groups.index("")
            raise ValueError(f"class {c} ({self.images.names[c]}) has no group: build the bank with groups=[...]")
        if small := [g for g in names if groups.count(g) < self.way]:
            raise ValueError(f"{len(small)} of {len(names)} groups have fewer than {self.way} classes: lower way=, or "
                             f"leave them out, bank.subset(c for c, g in enumerate(bank.groups) if g not in {small})")
        return torch.tensor([names.index(g) for g in groups])

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
        check_request(n, generator)

        def rand(*shape: int) -> Tensor:  # float64, so that ties do not happen
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        keys = rand(n, len(self._per_base))
        if self._group is not None:
            group = torch.randint(int(self._group.max()) + 1, (n, 1), generator=generator)
            keys = keys.masked_fill(self._group != group, -1.0)
        base = keys.topk(self.way).indices  # (T, N), distinct, in random order
        turn = (rand(n, self.way) * self._per_base[base]).long()  # which rotation
        classes = self._by_base[self._first[base] + turn]  # (T, N)
        counts = self._counts[classes]  # (T, N)
        keys = rand(n, self.way, int(counts.max()))
        keys = keys.masked_fill(torch.arange(keys.shape[-1]) >= counts[..., None], -1.0)
        return classes, keys.topk(self.shot + self.query).indices  # (T, N, K+Q), distinct

    def sample_rows(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Episodes as rows of the bank, for an audit: support (T, N*K), labels, query (T, N*Q), labels, by class."""
        classes, examples = self.sample_indices(n, generator=generator)
        index = self._starts[classes][..., None] + examples  # (T, N, K+Q)
        y = torch.arange(self.way)[:, None].expand_as(index)
        return tuple(part.flatten(1) for side in (slice(self.shot), slice(self.shot, None))
                     for part in (index[..., side], y[..., side]))

    def _data(self, index: Tensor, y: Tensor) -> Data:
        bank = self.images
        return Data(bank.rows(index, self.dtype), y.to(bank.device).contiguous(), self.way)  # x (T, M, C, H, W)

    def __repr__(self) -> str:
        rules = (("within", self.within), ("apart", self.apart))
        given = "".join(f", {name}={value!r}" for name, value in rules if value is not None)
        return f"FewShot(way={self.way}, shot={self.shot}, query={self.query}, classes={len(self._counts)}{given})"


class Parted(FewShot):
    """What `FewShot(..., apart=, queries=)` is: support and query of an episode come from two sides of the bank.

    `apart`: each episode puts the values of the fact in random order and cuts it, for all its classes alike, in the
    middle of the places that leave K support and Q query examples of every class; an order without such a place is
    drawn again, at most 100 times. Given the cut, each class's examples on a side are equally likely.
    `queries`: `images` becomes one bank of both, whose fact "side" says which example is whose.
    """

    def _sides(self, *, of_two: bool) -> None:
        """Which example may be support, which query; refuses a bank with a class that cannot be parted."""
        images = self.images
        side = images.about["side"] if of_two else np.full(len(images.x), "either")
        self._may = [torch.from_numpy(side != other) for other in ("query", "support")]  # be support, be query: (M,)
        values = side if self.apart is None else images.fact(self.apart)
        self._code = torch.from_numpy(np.unique(values, return_inverse=True)[1])  # (M,)
        labels, V = images.labels.cpu(), int(self._code.max()) + 1
        self._held = [torch.bincount((labels * V + self._code)[may], minlength=len(images) * V).view(-1, V)
                      for may in self._may]  # examples of each class and value, (n, V)
        self._near(torch.arange(len(images))[:, None], seeded(0))  # can each class be parted, for itself?

    def sample_indices(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(classes (T, N), examples within each class (T, N, K+Q)), the support's first."""
        classes, _ = super().sample_indices(n, generator=generator)
        place = torch.arange(int(self._counts[classes].max()))
        rows = (self._starts[classes][..., None] + place).clamp(max=len(self._code) - 1)  # (T, N, P)
        near = self._near(classes, generator)[:, None].expand(-1, self.way, -1).gather(2, self._code[rows])
        there = place < self._counts[classes][..., None]
        keys = torch.rand(rows.shape, generator=generator, dtype=torch.float64)
        return classes, torch.cat([keys.masked_fill(~(open_ & may[rows] & there), -1.0).topk(size).indices for
                                   open_, may, size in zip((near, ~near), self._may, (self.shot, self.query))], -1)

    def _near(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """Which values are the support's, (T, V); the query's are the others."""
        T, N = classes.shape
        near, found = torch.zeros(T, self._held[0].shape[1], dtype=torch.bool), torch.zeros(T, 1, dtype=torch.bool)
        for _ in range(ORDERS):
            order = torch.rand(near.shape, generator=generator, dtype=torch.float64).argsort(1)
            first, last = (held[classes].gather(2, order[:, None].expand(-1, N, -1)).cumsum(2) for held in self._held)
            cuts = ((first >= self.shot) & (last[..., -1:] - last >= self.query)).all(1)  # (T, V), in one run
            middle = cuts.int().argmax(1, keepdim=True) + (cuts.sum(1, keepdim=True) - 1) // 2
            near = torch.where(found, near, order.argsort(1) <= middle)
            found |= cuts.any(1, keepdim=True)
            if found.all():
                return near
        names = [self.images.names[c] for c in classes[int(found.int().argmin())].tolist()]
        raise ValueError(f"{'queries=' if self.apart is None else f'apart={self.apart!r}'} cannot part "
                         f"{' and '.join(map(repr, names))}: in {ORDERS} random orders of the values no cut left "
                         f"{self.shot} support and {self.query} query examples of each class. Lower shot= or query=, "
                         "or leave out classes whose examples share few values")


class Classify:
    """Plain classification of all classes, written as tasks with an empty support set: what `Pretrained` trains on.

        query.x (T, batch, C, H, W)    query.y (T, batch), the class's index in `images`; never re-labelled

    Args:
        images: the training classes, a `ClassImages` or any `ClassData`.
        batch: examples per task.
        dtype: of the images, or of whatever holds floating-point numbers; None takes PyTorch's default dtype.
    """

    def __init__(self, images: ClassData, batch: int = 128, *, dtype: torch.dtype | None = None) -> None:
        self.images, self.dtype = _bank(images, dtype)
        check_whole(1, batch=batch)
        self.batch, self.way = batch, len(images.counts)

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """n batches, drawn with replacement, on the device of the images."""
        check_request(n, generator)
        bank = self.images
        index = torch.randint(len(bank.labels), (n, self.batch), generator=generator)
        x, y = bank.rows(index, self.dtype), bank.labels.cpu()[index].to(bank.device)
        return Episode(Data(x[:, :0], y[:, :0], self.way), Data(x, y, self.way))

    def __repr__(self) -> str:
        return f"Classify(batch={self.batch}, classes={self.way})"


def _joined(images: ClassData, queries: ClassData | None) -> ClassData:
    """One bank of both, whose fact "side" says which examples are the support's; without `queries`, `images`."""
    if queries is None or not isinstance(images, ClassData):
        return images
    if not isinstance(queries, ClassData) or (queries.names, queries.shape) != (images.names, images.shape):
        has = f"{queries.names[:4]} ..., {queries.shape}" if isinstance(queries, ClassData) else type(queries).__name__
        own = f"{images.names[:4]} ..., {images.shape}"
        raise ValueError(f"queries= has {has}; expected a bank of the same classes in the same order, {own}")
    about = {name: np.concatenate([images.about[name], queries.about[name]])
             for name in images.about if name in queries.about}
    about["side"] = np.repeat(["support", "query"], [len(images.x), len(queries.x)])
    both = type(images).from_arrays(torch.cat([images.x, queries.x]), torch.cat([images.labels, queries.labels]),
                                    names=images.names, groups=images.groups, about=about)
    return replace(both, base=images.base)


def _bank(images: ClassData, dtype: torch.dtype | None) -> tuple[ClassData, torch.dtype]:
    """The bank and the dtype of what is drawn from it, if they go together."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not isinstance(images, ClassData):
        raise TypeError(f"tasks are not drawn from a {type(images).__name__}: build a ClassData.from_arrays(x, labels)")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype={dtype!r}: expected a floating-point dtype; a ClassData's integers stay integers")
    if images.x.is_floating_point() and torch.finfo(images.x.dtype).max > (most := torch.finfo(dtype).max):
        if float(images.x.abs().max()) > most:
            raise ValueError(f"some examples are infinite in {dtype}: scale them, or set dtype={images.x.dtype}")
    return images, dtype
