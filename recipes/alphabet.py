"""The ProtoNet that chapter 0's page runs on the reader's own drawings: trained on printed letters, tested on hands.

    OMP_NUM_THREADS=1 python recipes/alphabet.py --force    # replaces what is there; --resume runs/alphabet continues

Trains on glyphs' nine training scripts alone. Needs Omniglot for its test (a download, or METALIB_DATA).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from metalib import ClassImages, Episode, FewShot
from metalib.data.lettering import place

SIDE, SIZE = 17, 28


class Handwritten:
    """Tasks whose drawings are each bent by a smooth field and drawn with a pen of another width.

        x'(u) = x(A u + b(u)),    b a cubic surface through 4 x 4 normal displacements of `bend` pixels

    A turns, slants and stretches a little more than `glyphs` does. The pen is up to half a pixel wider or narrower on each side.
    """

    def __init__(self, tasks: FewShot, bend: float, pen: float) -> None:
        self.tasks, self.bend, self.pen = tasks, bend, pen

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        episodes = self.tasks.sample(n, generator=generator)
        return Episode(*(part._replace(x=self.redraw(part.x, generator)) for part in episodes))

    def redraw(self, drawings: Tensor, generator: torch.Generator) -> Tensor:
        x = drawings.flatten(0, 1)  # (M, 1, H, W)
        M, _, _, W = x.shape
        if self.bend:
            field = torch.randn(M, 2, 4, 4, generator=generator) * (2 * self.bend / W)
            field = F.interpolate(field, size=x.shape[2:], mode="bicubic", align_corners=True)
            A = torch.eye(2, 3) + 0.06 * self.bend * torch.randn(M, 2, 3, generator=generator) * torch.tensor([1.0, 1, 0])
            grid = F.affine_grid(A, x.shape, align_corners=False) + field.permute(0, 2, 3, 1)
            x = F.grid_sample(x, grid, align_corners=False)
        if self.pen:
            fine = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            wide, narrow = F.max_pool2d(fine, 3, 1, 1), -F.max_pool2d(-fine, 3, 1, 1)
            t = self.pen * (2 * torch.rand(M, 1, 1, 1, generator=generator) - 1)
            fine = torch.where(t > 0, fine + t * (wide - fine), fine - t * (narrow - fine))
            x = F.avg_pool2d(fine, 2)
        return x.reshape(drawings.shape)


def as_the_page(bank: ClassImages, pen: int = 5) -> ClassImages:
    """The bank's drawings, centred and scaled as the page does it, and traced with its pen (pen=1: with their own)."""
    done = [redrawn(image, pen) for image in bank.images[:, 0].numpy()]
    return ClassImages.from_arrays(np.stack(done), bank.labels, names=bank.names, groups=bank.groups)


def redrawn(image: np.ndarray, pen: int) -> np.ndarray:
    fine = Image.fromarray(image).resize((8 * SIZE,) * 2, Image.Resampling.BICUBIC)
    ink = fine.point(lambda v: 255 * (v >= 110))
    if ink.getbbox() is None:
        ink = fine.point(lambda v: 255 * (v >= 30))
    large = place(ink.crop(ink.getbbox()), 4 * (SIDE - (pen - 1) / 4), 4 * SIZE, fine=1)
    return np.asarray(large.filter(ImageFilter.MaxFilter(pen)).reduce(4))
