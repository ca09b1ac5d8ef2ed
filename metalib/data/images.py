"""ClassImages: an immutable bank of images, sorted by class, from which few-shot tasks are drawn.

Every classification task of the book comes from one of these, whatever the images are: the embedded glyphs,
Omniglot, or a reader's own folders. "train", "val" and "test" are splits of *classes*: an image of a test
class is never seen in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metalib.data.inputs import as_uint8, read_folder

SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True, eq=False, repr=False)
class ClassImages:
    """M images of n classes, sorted by class. Build one with `from_arrays` or `from_folder`.

    images   uint8 (M, C, H, W)   ink (foreground) bright, paper 0
    labels   int64 (M,)           class of each image, 0 .. n-1, ascending
    starts   int64 (n,)           where the block of each class begins
    counts   int64 (n,)           how many images each class has
    names    n strings            e.g. "Greek/small alpha"
    groups   n strings            script or alphabet of each class, "" if it has none
    base     int64 (n,)           the character that a class is a rotation of: two rotations of one character
                                  have the same base and must not meet in one episode
    splits   {"train": class indices, "val": ..., "test": ...}, or None for a bank without splits
    """

    images: Tensor
    labels: Tensor
    starts: Tensor
    counts: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]
    base: Tensor
    splits: dict[str, tuple[int, ...]] | None = None

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any,
        *,
        names: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        splits: Mapping[str, Iterable[int]] | None = None,
    ) -> ClassImages:
        """A bank from an array of images and one integer label an image.

        images: (M, H, W) or channels-first (M, C, H, W); uint8, or float in [0, 1]. labels: (M,) integers, in
        any order; the distinct values, ascending, become classes 0 .. n-1. `names`, `groups` (one string a
        class) and `splits` (class indices) refer to that numbering. Raises ValueError or TypeError, naming
        what was given and the fix.
        """
        images, labels = as_uint8(images), torch.as_tensor(labels)
        if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
            raise TypeError(f"labels are {labels.dtype}; expected integers, one class number an image")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images but labels of shape {tuple(labels.shape)}: give one label an image")
        values, labels, counts = torch.unique(labels.long(), return_inverse=True, return_counts=True)
        order = torch.argsort(labels, stable=True)
        n = len(values)
        bank = cls(
            images=images[order],
            labels=labels[order],
            starts=counts.cumsum(0) - counts,
            counts=counts,
            names=_per_class(names if names is not None else [str(v) for v in values.tolist()], n, "names"),
            groups=_per_class(groups if groups is not None else [""] * n, n, "groups"),
            base=torch.arange(n, device=labels.device),
        )
        return bank if splits is None else bank._with_splits(splits)

    @classmethod
    def from_folder(
        cls, path: str | Path, *, size: int | None = None, grayscale: bool = True, invert: bool = False
    ) -> ClassImages:
        """A bank from image files, one folder a class: `path/class/*.png` or `path/group/class/*.png`.

        `size` resizes to size x size; without it, all images must have one size. `invert` turns dark ink on
        light paper into bright on dark. `.split_classes(seed=0)` then makes train, val and test.
        Raises FileNotFoundError or ValueError naming the file and the fix.
        """
        folder = read_folder(path, size=size, grayscale=grayscale, invert=invert)
        return cls.from_arrays(folder.images, folder.labels, names=folder.names, groups=folder.groups)

    def split(self, name: str) -> ClassImages:
        """The classes of one split: "train", "val" or "test". Raises ValueError if there is no such split."""
        if self.splits is None:
            raise ValueError(
                f"no split {name!r}: this bank has no splits (it is one split already, or none was made). "
                "Make them with images.split_classes(seed=0), or from_arrays(..., splits={'train': [...]})"
            )
        if name not in self.splits:
            raise ValueError(f"no split named {name!r}; this bank has {', '.join(map(repr, self.splits))}")
        return replace(self.subset(self.splits[name]), splits=None)

    def split_classes(self, fractions: tuple[float, float, float] = (0.64, 0.16, 0.2), *, seed: int = 0) -> ClassImages:
        """The same bank with a random split of its classes into train, val and test.

        Rotations of one character stay in one split. The split depends on the seed and on the sorted class
        names only, never on the order in which files were read. Raises ValueError if a split would be empty.
        """
        if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            raise ValueError(f"fractions={fractions}: give three numbers >= 0, train, val and test, that sum to 1")
        base = self.base.tolist()
        by_name = sorted(set(base), key=lambda b: self.names[base.index(b)])
        g = torch.Generator().manual_seed(seed)
        order = [by_name[i] for i in torch.randperm(len(by_name), generator=g)]
        cuts = [round(len(order) * f) for f in (0, fractions[0], fractions[0] + fractions[1], 1)]
        parts = [set(order[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
        for name, part, fraction in zip(SPLIT_NAMES, parts, fractions, strict=True):
            if fraction > 0 and not part:
                raise ValueError(
                    f"{len(order)} classes are too few for fractions={fractions}: {name} would be empty; "
                    "add classes or change fractions="
                )
        named = zip(SPLIT_NAMES, parts, strict=True)
        return self._with_splits({name: [i for i, b in enumerate(base) if b in part] for name, part in named})

    def subset(self, classes: Iterable[int]) -> ClassImages:
        """Only these classes, renumbered in the given order; splits are kept for the classes that remain."""
        classes = [int(c) for c in classes]
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
        return ClassImages(
            images=self.images[rows],
            labels=labels,
            starts=starts,
            counts=counts,
            names=tuple(self.names[c] for c in classes),
            groups=tuple(self.groups[c] for c in classes),
            base=torch.unique(self.base[pick], return_inverse=True)[1],
            splits=self._map_splits(lambda cs: [new[c] for c in cs if c in new]),
        )

    def with_rotations(self) -> ClassImages:
        """Four times the classes: class r n + c is class c turned by r quarter turns (counter-clockwise).

        The usual augmentation of Omniglot (Santoro et al. 2016). `base` and `splits` follow each character.
        """
        n = len(self)
        if len(torch.unique(self.base)) != n:
            raise ValueError("this bank holds rotations already; call with_rotations() once, on the original")
        if self.images.shape[-1] != self.images.shape[-2]:
            raise ValueError(f"rotations need square images, not {self.shape}: use from_folder(size=...)")
        turns = range(4)
        return ClassImages(
            images=torch.cat([torch.rot90(self.images, r, dims=(-2, -1)) for r in turns]),
            labels=torch.cat([self.labels + r * n for r in turns]),
            starts=torch.cat([self.starts + r * len(self.images) for r in turns]),
            counts=self.counts.repeat(4),
            names=tuple(f"{name} rot{90 * r}" if r else name for r in turns for name in self.names),
            groups=self.groups * 4,
            base=self.base.repeat(4),
            splits=self._map_splits(lambda cs: [r * n + c for r in turns for c in cs]),
        )

    def to(self, device: str | torch.device) -> ClassImages:
        """The same bank with its tensors on `device`."""
        moved = {k: getattr(self, k).to(device) for k in ("images", "labels", "starts", "counts", "base")}
        return replace(self, **moved)

    def digest(self) -> str:
        """12 hexadecimal digits of SHA-256 over images, labels and names: the same on every machine."""
        sha = hashlib.sha256(repr((tuple(self.images.shape), self.names)).encode())
        sha.update(self.images.cpu().contiguous().numpy())
        sha.update(self.labels.cpu().numpy().astype("<i8"))
        return sha.hexdigest()[:12]

    @property
    def n_classes(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return tuple(self.images.shape[1:])

    @property
    def device(self) -> torch.device:
        return self.images.device

    def __len__(self) -> int:
        return self.n_classes

    def __repr__(self) -> str:
        low, high = int(self.counts.min()), int(self.counts.max())
        per_class = f"{low}" if low == high else f"{low}-{high}"
        groups = len(set(self.groups) - {""})
        parts = [f"{len(self)} classes x {per_class} images", "x".join(map(str, self.shape))]
        parts += [f"{groups} groups"] if groups else []
        parts += [f"{s} {len(c)}" for s, c in (self.splits or {}).items()]
        return f"ClassImages({', '.join(parts)})"

    def _map_splits(self, f: Callable[[tuple[int, ...]], list[int]]) -> dict[str, tuple[int, ...]] | None:
        return None if self.splits is None else {s: tuple(f(cs)) for s, cs in self.splits.items()}

    def _with_splits(self, splits: Mapping[str, Iterable[int]]) -> ClassImages:
        splits = {name: tuple(int(c) for c in classes) for name, classes in splits.items()}
        seen: dict[int, str] = {}
        for name, classes in splits.items():
            for c in classes:
                if not 0 <= c < len(self):
                    raise ValueError(f"split {name!r} has class {c}; this bank has classes 0 to {len(self) - 1}")
                if int(self.base[c]) in seen:
                    raise ValueError(
                        f"class {c} ({self.names[c]}) is in splits {seen[int(self.base[c])]!r} and {name!r}: "
                        "keep each class, with its rotations, in one split"
                    )
            seen.update({int(self.base[c]): name for c in classes})
        return replace(self, splits=splits)


def _per_class(strings: Sequence[str], n: int, what: str) -> tuple[str, ...]:
    if len(strings) != n:
        raise ValueError(f"{what}= has {len(strings)} entries; expected {n}, one a class")
    return tuple(str(s) for s in strings)
