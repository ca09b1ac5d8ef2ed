"""Tasks made from a bank of labelled examples: N-way K-shot episodes, and plain classification written as tasks."""

import torch
from torch import Tensor

from metalib.arguments import check_whole
from metalib.data.classes import ClassData
from metalib.episode import Data, Episode
from metalib.tasks.protocol import check_request


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
        dtype: of the images, or of whatever holds floating-point numbers; None takes PyTorch's default dtype.

    Raises:
        ValueError: fewer than N classes (rotations of one character count once) in the bank or, with `within`, in one
            of its groups; a class with fewer than K + Q examples.
    """

    def __init__(self, images: ClassData, way: int = 5, shot: int = 1, query: int = 15, *,
                 within: str | None = None, dtype: torch.dtype | None = None) -> None:
        dtype = torch.get_default_dtype() if dtype is None else dtype
        images = _bank(images, dtype)
        check_whole(1, way=way, shot=shot, query=query)
        way, shot, query = int(way), int(shot), int(query)  # NumPy's integers are none of a checkpoint's
        self.images, self.way, self.shot, self.query, self.dtype = images, way, shot, query, dtype
        self.within = within
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

    def _groups(self) -> Tensor:
        """The group of each character, as a number; refuses a bank that cannot fill an episode from every group."""
        if self.within != "group":
            raise ValueError(f"within={self.within!r}: expected None, or 'group', which takes the bank's groups=")
        groups = [self.images.groups[c] for c in self._by_base[self._first].tolist()]
        names = sorted(set(groups))
        if "" in names:
            c = self.images.groups.index("")
            raise ValueError(f"class {c} ({self.images.names[c]}) has no group, which within='group' needs: build the "
                             "bank with groups=[...], one string a class")
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

    def _data(self, index: Tensor, y: Tensor) -> Data:
        bank = self.images
        return Data(bank.rows(index, self.dtype), y.to(bank.device).contiguous(), self.way)  # x (T, M, C, H, W)

    def __repr__(self) -> str:
        within = "" if self.within is None else f", within={self.within!r}"
        return f"FewShot(way={self.way}, shot={self.shot}, query={self.query}, classes={len(self._counts)}{within})"


class Classify:
    """Plain classification of all classes, written as tasks with an empty support set: what `Pretrained` trains on.

        query.x (T, batch, C, H, W)    query.y (T, batch), the class's index in `images`; never re-labelled

    Args:
        images: the training classes, a `ClassImages` or any `ClassData`.
        batch: examples per task.
        dtype: of the images, or of whatever holds floating-point numbers; None takes PyTorch's default dtype.
    """

    def __init__(self, images: ClassData, batch: int = 128, *, dtype: torch.dtype | None = None) -> None:
        dtype = torch.get_default_dtype() if dtype is None else dtype
        images = _bank(images, dtype)
        check_whole(1, batch=batch)
        self.images, self.batch, self.dtype = images, batch, dtype
        self.way = len(images.counts)

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """n batches, drawn with replacement, on the device of the images."""
        check_request(n, generator)
        bank = self.images
        index = torch.randint(len(bank.labels), (n, self.batch), generator=generator)
        x, y = bank.rows(index, self.dtype), bank.labels.cpu()[index].to(bank.device)
        return Episode(Data(x[:, :0], y[:, :0], self.way), Data(x, y, self.way))

    def __repr__(self) -> str:
        return f"Classify(batch={self.batch}, classes={self.way})"


def _bank(images: ClassData, dtype: torch.dtype) -> ClassData:
    if not isinstance(images, ClassData):
        raise TypeError(f"tasks are drawn from a ClassImages or a ClassData, not from a {type(images).__name__}: build "
                        "one with ClassData.from_arrays(x, labels) or ClassImages.from_arrays(images, labels)")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype={dtype!r}: expected a floating-point dtype; a ClassData's integers stay integers")
    if images.x.is_floating_point() and torch.finfo(images.x.dtype).max > (most := torch.finfo(dtype).max):
        if float(images.x.abs().max()) > most:
            raise ValueError(f"examples as large as {float(images.x.abs().max()):.3g} are infinite in {dtype}: scale "
                             f"them, or set dtype={images.x.dtype}")
    return images
