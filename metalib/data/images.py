"""ClassImages: the bank whose examples are images, and what can be done with images alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metalib.data.classes import ClassData
from metalib.data.folder import read_folder
from metalib.data.inputs import as_uint8


class ClassImages(ClassData):
    """M images of n classes, sorted by class. Build one with `from_arrays` or `from_folder`.

    A `ClassData` whose `x`, also called `images`, is uint8 (M, C, H, W): ink (foreground) bright, paper 0;
    photographs as they are.
    """

    _what: ClassVar[str] = "images"

    @classmethod
    def from_arrays(cls, images: Any, labels: Any, *, names: Sequence[str] | None = None,
                    groups: Sequence[str] | None = None, splits: Mapping[str, Iterable[int]] | None = None) -> Self:
        """A bank from an array of images and one label an image.

        images: (M, H, W) or channels-first (M, C, H, W); uint8, float in [0, 1], or bool (True is ink, 255). labels:
        (M,) integers or strings, in any order; the distinct values, ascending, become classes 0 .. n-1, and their
        names. `names`, `groups` (one string a class) and `splits` (class indices) refer to that numbering. Raises
        ValueError or TypeError, naming what was given and the fix.
        """
        return cls._sorted(as_uint8(images), labels, names, groups, splits)

    @classmethod
    def from_folder(cls, path: str | Path, *, size: int | None = None, grayscale: bool = True,
                    invert: bool = False) -> Self:
        """A bank from image files, one folder a class: `path/class/*.png` or `path/group/class/*.png`.

        `size` resizes to size x size; without it, all images must have one size. What is transparent is laid on white
        paper. `invert` turns dark ink on light paper into bright on dark. A `path` that holds `train`, `val` and
        `test` is read with these splits of its classes; else `.split_classes(seed=0)` makes them.
        Raises FileNotFoundError or ValueError naming the file and the fix (see `metalib.data.folder`).
        """
        return cls.from_arrays(**read_folder(path, size=size, grayscale=grayscale, invert=invert))

    @property
    def images(self) -> Tensor:
        """The images, uint8 (M, C, H, W)."""
        return self.x

    def rows(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        """Images as a learner sees them, (..., C, H, W) in [0, 1] for an index (...), on the bank's device."""
        return self._pick(index).to(dtype).div_(255)  # in place: less traffic

    def with_rotations(self) -> Self:
        """Four times the classes: class r n + c is class c turned by r quarter turns (counter-clockwise).

        The usual augmentation of Omniglot (Santoro et al. 2016). `base` and `splits` follow each character.
        """
        n = len(self)
        if len(torch.unique(self.base)) != n:
            raise ValueError("this bank holds rotations already; call with_rotations() once, on the original")
        if self.images.shape[-1] != self.images.shape[-2]:
            raise ValueError(f"rotations need square images, not {self.shape}: use from_folder(size=...)")
        turns = range(4)
        return replace(
            self, x=torch.cat([torch.rot90(self.images, r, dims=(-2, -1)) for r in turns]),
            labels=torch.cat([self.labels + r * n for r in turns]),
            starts=torch.cat([self.starts + r * len(self.images) for r in turns]), counts=self.counts.repeat(4),
            names=tuple(f"{name} rot{90 * r}" if r else name for r in turns for name in self.names),
            groups=self.groups * 4, base=self.base.repeat(4),
            splits=self._map_splits(lambda cs: [r * n + c for r in turns for c in cs]))
