"""ClassData: an immutable bank of labelled examples, sorted by class, from which few-shot tasks are drawn.

Every classification task of the book comes from one of these, whatever the examples are: images (`ClassImages`),
vectors, rows of a table, token ids. "train", "val" and "test" are splits of *classes*: an example of a test class is
never seen in training.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from metalib.data.inputs import Facts, as_classes, as_examples, as_facts, as_indices
from metalib.functional import seeded

SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True, eq=False, repr=False)
class ClassData:
    """M examples of n classes, sorted by class. Build one with `from_arrays`.

    Attributes:
        x: (M, ...), the examples: floats, integers or booleans.
        labels: int64 (M,), the class of each example, 0 .. n-1, ascending.
        starts: int64 (n,), where the block of each class begins.
        counts: int64 (n,), how many examples each class has.
        names: n strings, e.g. "Greek/small alpha".
        groups: n strings, the script, alphabet or domain of each class, "" if it has none.
        base: int64 (n,), the character that a class is a rotation of: two rotations of one character have the same
            base and must not meet in one episode.
        splits: {"train": class indices, "val": ..., "test": ...}, or None for a bank without splits.
        about: {name: one value an example, (M,)}, what is known about each example that no learner must use: the
            patient, the smear, the writer, the scanner, the place in the file. Strings are categories, numbers have a
            distance. Learners never see them; `FewShot(apart=)` parts by one, and `audit` says what each gives away.
    """

    x: Tensor
    labels: Tensor
    starts: Tensor
    counts: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]
    base: Tensor
    splits: dict[str, tuple[int, ...]] | None = None
    about: Facts = field(default_factory=dict)
    _what: ClassVar[str] = "examples"

    @classmethod
    def from_arrays(cls, x: Any, labels: Any, *, names: Sequence[str] | None = None,
                    groups: Sequence[str] | None = None, splits: Mapping[str, Iterable[int]] | None = None,
                    about: Mapping[str, Any] | None = None) -> Self:
        """A bank from any array of examples and one label an example.

        x: (M, ...), numbers: feature vectors, rows of a table, token ids (which stay integers). labels: (M,)
        integers or strings, in any order; the distinct values, ascending, become classes 0 .. n-1, and their names.
        `names`, `groups` (one string a class) and `splits` (class indices) refer to that numbering. `about`: facts
        that no learner must use, {name: numbers or strings, (M,)}, in the order of x. Raises ValueError or TypeError,
        naming what was given and the fix.
        """
        return cls._sorted(as_examples(x), labels, names, groups, splits, about)

    @classmethod
    def _sorted(cls, x: Tensor, labels: Any, names: Sequence[str] | None, groups: Sequence[str] | None,
                splits: Mapping[str, Iterable[int]] | None, about: Mapping[str, Any] | None = None) -> Self:
        labels, values = as_classes(labels, len(x), cls._what)
        if names is not None and isinstance(values[0], str):
            raise ValueError(f"the labels are strings, {values[:3]} ..., and become the names: leave names= out")
        order, counts = torch.argsort(labels, stable=True), torch.bincount(labels)
        n = len(counts)
        bank = cls(x=x[order], labels=labels[order], starts=counts.cumsum(0) - counts, counts=counts,
                   names=_per_class(names if names is not None else values, n, "names"),
                   groups=_per_class(groups if groups is not None else [""] * n, n, "groups"),
                   base=torch.arange(n, device=labels.device),
                   about={k: v[order.cpu()] for k, v in as_facts(about, len(x)).items()})
        return bank if splits is None else bank._with_splits(splits)

    def rows(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        """Examples as a learner sees them, (..., D) for an index (...), on the bank's device.

        Floating-point examples come in `dtype`; integers stay the integers that they are.
        """
        rows = self._pick(index)
        return rows.to(dtype) if rows.is_floating_point() else rows

    def _pick(self, index: Tensor) -> Tensor:  # index_select copies whole rows, unlike x[index]
        return self.x.index_select(0, index.flatten().to(self.x.device)).unflatten(0, index.shape)

    def split(self, name: str) -> Self:
        """The classes of one split: "train", "val" or "test". Raises ValueError if there is no such split."""
        if self.splits is None:
            raise ValueError(f"no split {name!r}: this bank has none, or is one split already: .split_classes(seed=0)")
        if name not in self.splits:
            raise ValueError(f"no split named {name!r}; this bank has {', '.join(map(repr, self.splits))}")
        return replace(self.subset(self.splits[name]), splits=None)

    def split_classes(self, fractions: tuple[float, float, float] = (0.64, 0.16, 0.2), *, seed: int = 0) -> Self:
        """The same bank with a random split of its classes into train, val and test.

        Rotations of one character stay in one split. The split depends on the seed and on the sorted class
        names only, never on the order in which files were read. Raises ValueError if a split would be empty.
        """
        if len(fractions) != 3 or not all(f >= 0 for f in fractions) or abs(sum(fractions) - 1) > 1e-6:
            raise ValueError(f"fractions={fractions}: give three numbers >= 0, train, val and test, that sum to 1")
        base = self.base.tolist()
        by_name = sorted(set(base), key=lambda b: self.names[base.index(b)])
        order = [by_name[i] for i in torch.randperm(len(by_name), generator=seeded(seed))]
        cuts = [round(len(order) * f) for f in (0, fractions[0], fractions[0] + fractions[1], 1)]
        parts = {name: set(order[a:b]) for name, a, b in zip(SPLIT_NAMES, cuts, cuts[1:], strict=False)}
        for (name, part), fraction in zip(parts.items(), fractions, strict=True):
            if fraction > 0 and not part:
                raise ValueError(f"{len(order)} classes are too few, {name} would be empty: change {fractions=}")
        return self._with_splits({name: [i for i, b in enumerate(base) if b in part] for name, part in parts.items()})

    def subset(self, classes: Iterable[int]) -> Self:
        """Only these classes, renumbered in the given order; splits are kept for the classes that remain."""
        classes = as_indices(classes, "subset()")
        if not classes:
            raise ValueError("subset() of no classes: give at least one class index")
        if len(set(classes)) != len(classes) or min(classes) < 0 or max(classes) >= len(self):
            raise ValueError(f"subset() takes distinct indices from 0 to {len(self) - 1}; got {classes[:8]} ...")
        pick = torch.tensor(classes, device=self.labels.device)
        counts = self.counts[pick]
        starts = counts.cumsum(0) - counts
        labels = torch.repeat_interleave(torch.arange(len(classes), device=pick.device), counts)  # (M',)
        rows = torch.arange(len(labels), device=pick.device) + (self.starts[pick] - starts)[labels]  # (M',)
        new = {old: i for i, old in enumerate(classes)}
        return replace(self, x=self.x[rows], labels=labels, starts=starts, counts=counts,
                       about={k: v[rows.cpu()] for k, v in self.about.items()},
                       names=tuple(self.names[c] for c in classes), groups=tuple(self.groups[c] for c in classes),
                       base=torch.unique(self.base[pick], return_inverse=True)[1],
                       splits=self._map_splits(lambda cs: [new[c] for c in cs if c in new]))

    def where(self, **facts: Any) -> Self:
        """Only the examples of which these facts hold: `bank.where(part="test")`; a list means any of its values.

        All classes stay, with their numbers and splits. Raises ValueError: a class would be left with no example, or
        the bank has no such fact.
        """
        keep = np.all([np.isin(self.fact(k), v) for k, v in facts.items()], axis=0) | np.zeros(len(self.x), bool)
        rows = torch.from_numpy(np.flatnonzero(keep)).to(self.device)
        counts = torch.bincount(self.labels[rows], minlength=len(self))
        if not bool(counts.all()):
            raise ValueError(f"no example of class {self.names[int(counts.argmin())]!r} has {facts}")
        return replace(self, x=self.x[rows], labels=self.labels[rows], starts=counts.cumsum(0) - counts, counts=counts,
                       about={k: v[keep] for k, v in self.about.items()})

    def by(self, fact: str, least: int = 1) -> Self:
        """The same examples with the values of a fact as their classes, in so far as `least` examples have the value.

        `bank.by("smear")` has one class a smear; what was the class is now the fact "class".
        """
        values, inverse, counts = np.unique(self.fact(fact), return_inverse=True, return_counts=True)
        if not (keep := counts[inverse] >= least).any():
            raise ValueError(f"no value of {fact!r} has {least} examples; the commonest has {counts.max()}")
        about = {**self.about, "class": np.array(self.names)[self.labels.cpu()]}
        return self._sorted(self.x[torch.from_numpy(keep).to(self.device)], inverse[keep],
                            [str(v) for v in values[counts >= least]], None, None,
                            {k: v[keep] for k, v in about.items()})

    def fact(self, name: str) -> np.ndarray:
        """The values of a fact, (M,). Raises ValueError naming those that there are."""
        if name not in self.about:
            has = ", ".join(map(repr, self.about)) or "none"
            raise ValueError(f"no fact {name!r}; this bank has {has}: give it with from_arrays(..., about=...)")
        return self.about[name]

    def to(self, device: str | torch.device) -> Self:
        """The same bank with its tensors on `device`."""
        if isinstance(device, torch.dtype):  # would cast labels and counts as well
            raise TypeError(f"a bank's .to() takes a device, not {device}: tasks cast, FewShot(..., dtype={device})")
        return replace(self, **{k: getattr(self, k).to(device) for k in ("x", "labels", "starts", "counts", "base")})

    def digest(self) -> str:
        """12 hexadecimal digits of SHA-256 over examples, labels and names: the same on every machine."""
        what = (tuple(self.x.shape), self.names) + ((str(self.x.dtype),) if self.x.dtype != torch.uint8 else ())
        sha = hashlib.sha256(repr(what).encode())
        sha.update(self.x.cpu().contiguous().view(torch.uint8).numpy())
        sha.update(self.labels.cpu().numpy().astype("<i8"))
        return sha.hexdigest()[:12]

    @property
    def n_classes(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, (C, H, W) for an image, (D,) for a vector."""
        return tuple(self.x.shape[1:])

    @property
    def device(self) -> torch.device:
        return self.x.device

    def __len__(self) -> int:
        return self.n_classes

    def __repr__(self) -> str:
        low, high = int(self.counts.min()), int(self.counts.max())
        per_class = f"{low}" if low == high else f"{low}-{high}"
        groups = len(set(self.groups) - {""})
        parts = [f"{len(self)} classes x {per_class} {self._what}", "x".join(map(str, self.shape)) or "1"]
        parts += [f"{groups} groups"] if groups else []
        parts += [f"{s} {len(c)}" for s, c in (self.splits or {}).items()]
        return f"{type(self).__name__}({', '.join(parts)})"

    def _map_splits(self, f: Callable[[tuple[int, ...]], list[int]]) -> dict[str, tuple[int, ...]] | None:
        return None if self.splits is None else {s: tuple(f(cs)) for s, cs in self.splits.items()}

    def _with_splits(self, splits: Mapping[str, Iterable[int]]) -> Self:
        splits = {name: tuple(as_indices(classes, f"split {name!r}")) for name, classes in splits.items()}
        seen: dict[int, str] = {}
        for name, classes in splits.items():
            if len(set(classes)) != len(classes):
                raise ValueError(f"split {name!r} names a class twice: {sorted(classes)[:12]} ...")
            for c in classes:
                if not 0 <= c < len(self):
                    raise ValueError(f"split {name!r} has class {c}; this bank has classes 0 to {len(self) - 1}")
                if (other := seen.setdefault(int(self.base[c]), name)) != name:
                    raise ValueError(f"class {c} ({self.names[c]}) is in splits {other!r} and {name!r}: keep each "
                                     "class, with its rotations, in one split")
        return replace(self, splits=splits)


def _per_class(strings: Sequence[str], n: int, what: str) -> tuple[str, ...]:
    if len(strings) != n:
        raise ValueError(f"{what}= has {len(strings)} entries; expected {n}, one a class")
    return tuple(str(s) for s in strings)
