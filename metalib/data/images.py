"""ClassImages: the bank whose examples are images; and images as a person wants to see them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metalib.data.classes import ClassData
from metalib.data.folder import read_folder
from metalib.data.inputs import as_uint8
from metalib.episode import Episode


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


def class_rows(task: Episode, queries: int, *, ink: bool | None = None) -> list[tuple[Tensor, Tensor]]:
    """(support, at most so many queries) of each class of one task of images, as `in_colour` has them: one decision
    for the whole task."""
    (sx, sy, way), (qx, qy, _) = task
    colours = in_colour(torch.cat([sx, qx]), ink=ink)
    sx, qx, sy, qy = colours[:len(sx)], colours[len(sx):], sy.cpu(), qy.cpu()
    return [(sx[sy == n], qx[qy == n][:queries]) for n in range(way)]


def in_colour(x: Tensor, *, ink: bool | None = None) -> Tensor:
    """Images (..., C, H, W) in [0, 1] or in bytes -> colours (..., 3, H, W) in [0, 1], float32, on the CPU.

    1 channel is grey; 2 are red and cyan; 4 are red, green, blue and opacity, on white paper; of more than 4 the first
    3 are shown.

    Args:
        x: the images.
        ink: True shows bright as dark: ink on white paper. False shows the numbers as they are. None finds out: ink
            is one channel with more than half of all pixels exactly 0, the paper, as in drawings and glyphs, and in no
            ordinary photograph (say ink=False for X-rays, ink=True for dense drawings).

    Raises:
        ValueError: no images.
    """
    if x.ndim < 3 or 0 in x.shape:
        raise ValueError(f"shape {tuple(x.shape)}: expected images (..., C, H, W)")
    C = x.shape[-3]
    if ink is None:
        ink = C == 1 and float((x == 0).float().mean()) > 0.5
    x = x.cpu().float() / (1 if x.is_floating_point() else 255)
    x = 1 - x if ink else x
    if C == 4:
        colour, opacity = x[..., :3, :, :], x[..., 3:, :, :]
        return colour * opacity + 1 - opacity
    return x[..., [0, 0, 0] if C == 1 else [0, 1, 1] if C == 2 else [0, 1, 2], :, :]
