"""Drawing what a font holds with Pillow, identically on every machine, and telling which two drawings look alike."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from metalib.data.classes import SPLIT_NAMES
from metalib.data.images import ClassImages

ALIKE, ALIKE_ACROSS = 0.955, 0.915  # within a split by `overlap`; from split to split also by `resemblance`
# How much drawings of one class differ: shift in pixels of 28, log stretch, turn in radians, slant as a tangent; chosen
# so that comparing raw pixels of letters is as hard as on Omniglot (about 48 % at 5-way 1-shot on the test split).
SHIFT, STRETCH, TURN, SLANT = 2.2, 0.1, 0.15, 0.15


def typeface(path: Path, pixels: int = 96) -> ImageFont.FreeTypeFont:
    """A font at that many pixels an em, laid out by Pillow itself: Raqm shapes text and is not in every build."""
    return ImageFont.truetype(str(path), pixels, layout_engine=ImageFont.Layout.BASIC)


def ink(font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    """The letter, ink 255 on paper 0, cropped to its ink."""
    left, top, right, bottom = font.getbbox(character)
    image = Image.new("L", (max(right - left, 1), max(bottom - top, 1)))
    ImageDraw.Draw(image).text((-left, -top), character, fill=255, font=font)
    return image.crop(image.getbbox())


def place(letter: Image.Image, side: float, size: int, *, fine: int, stretch: float = 1.0, turn: float = 0.0,
          slant: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> Image.Image:
    """The letter scaled to `side` pixels (its longer side), then R(turn) Shear(slant) Stretch, and centred.

    Drawn `fine` times larger by nearest neighbour, which Pillow does in fixed point, and averaged down in
    integers to size x size: identical bytes on every machine.
    """
    scale = fine * side / max(letter.size)
    sx, sy = scale * stretch, scale / stretch
    c, s = math.cos(turn), math.sin(turn)
    # Pillow takes the inverse, from drawing to letter: Stretch^-1 Shear^-1 R^-1 (x - centre).
    a, b, d, e = (c - slant * s) / sx, (s + slant * c) / sx, -s / sy, c / sy
    x, y = ((size / 2 + offset) * fine for offset in shift)
    inverse = (a, b, letter.width / 2 - a * x - b * y, d, e, letter.height / 2 - d * x - e * y)
    large = letter.transform((size * fine,) * 2, Image.Transform.AFFINE, inverse, Image.Resampling.NEAREST)
    return large.reduce(fine)


def drawings(looks: Sequence[tuple[Image.Image, float]], count: int, size: int, sides: tuple[float, float],
             rng: random.Random) -> np.ndarray:
    """uint8 (count, size, size): the looks (ink, slant) in turn, each turned, slanted, stretched and shifted a little.

    sides: the range of the longer side, in pixels of a picture of 28 x 28. Another size gives the same drawings, finer.
    """
    made, unit = [], size / 28
    for d in range(count):
        image, slant = looks[d % len(looks)]
        side = rng.uniform(*sides)
        stretch, turn, tilt, right, down = (rng.uniform(-w, w) for w in (STRETCH, TURN, SLANT, SHIFT, SHIFT))
        shape = {"stretch": math.exp(stretch), "turn": turn, "slant": slant + tilt}
        made.append(np.asarray(place(image, side * unit, size, fine=4, shift=(right * unit, down * unit), **shape)))
    return np.stack(made)


def bank(drawn: dict[str, np.ndarray], groups: list[str]) -> ClassImages:
    """The bank of `images` (n, count, size, size), whose n classes have these `names`, `splits` and groups."""
    images, splits = drawn["images"], drawn["splits"]
    return ClassImages.from_arrays(images.reshape(-1, *images.shape[2:]),
                                   np.repeat(np.arange(len(images)), images.shape[1]), names=drawn["names"].tolist(),
                                   groups=groups, splits={s: np.flatnonzero(splits == s) for s in SPLIT_NAMES})


def distinct(splits: Sequence[str], loose: Sequence[tuple[list[int], list[Image.Image]]],
             strict: Sequence[tuple[list[int], list[Image.Image]]]) -> list[int]:
    """The classes, in their order, that look like none before them: a loose comparison anywhere, a strict one across.

    splits: of each class, in the order in which they are to be kept: the small splits first. Both comparisons take
    sheets, (the class of each drawing, the drawings): drawings are compared with all others of their sheet. Two classes
    are alike if any two drawings on a sheet of `loose` overlap by more than 0.955, or, for classes of different splits,
    if any two on a sheet of `strict` resemble each other by more than 0.915.
    """
    split, keep = np.array(splits), list(range(len(splits)))
    for sheets, alike_on in ((loose, _overlapping), (strict, _resembling)):
        alike = np.zeros((len(split), len(split)), dtype=bool)
        for classes, images in sheets:
            left = [i for i, c in enumerate(classes) if c in keep]
            rows = np.array(classes)[left]
            i, j = np.nonzero(alike_on([images[i] for i in left], split[rows]))
            alike[rows[i], rows[j]] = True
        first: list[int] = []
        for i in keep:
            if not alike[i, first].any():
                first.append(i)
        keep = first
    return keep


def _overlapping(drawn: list[Image.Image], split: np.ndarray) -> np.ndarray:  # bool (M, M)
    return overlap(drawn) > ALIKE


def _resembling(drawn: list[Image.Image], split: np.ndarray) -> np.ndarray:  # bool (M, M), False within a split
    held_out = np.flatnonzero(split != "train")
    alike = np.zeros((len(drawn), len(drawn)), dtype=bool)
    alike[held_out] = resemblance([drawn[i] for i in held_out], drawn) > ALIKE_ACROSS
    return (alike | alike.T) & (split[:, None] != split)


def overlap(letters: list[Image.Image]) -> np.ndarray:
    """(M, M) in [0, 1]: how much of each other's ink two letters cover, give or take half a pixel in 20.

    The smaller of the two shares. The weight of a stroke hardly counts, a dot does: 1 for A = Alpha. The sums
    are of integers below 2^53, hence exact in float64, whatever the order in which a machine adds them.
    """
    placed = [place(letter, 40, 56, fine=2) for letter in letters]
    widened = [image.filter(ImageFilter.MaxFilter(3)) for image in placed]
    a, b = (np.stack([np.asarray(image, dtype=np.float64).ravel() for image in s]) for s in (placed, widened))
    share = (a @ b.T) / (255 * a.sum(1, keepdims=True))  # (M, M): how much of row is covered by column
    return np.minimum(share, share.T)


def resemblance(some: list[Image.Image], others: list[Image.Image]) -> np.ndarray:
    """(M, L) in [-1, 1]: correlation of the blurred letters, each of `some` shifted and stretched to fit best.

    Shifts of up to a pixel in 20, stretches of up to 8 %: what a hurried reader sees. About 0.95 for V with and
    without a dot beside it.
    """

    def blurred(letters: list[Image.Image], stretch: float) -> np.ndarray:  # (M, 32, 32)
        placed = (place(letter, 20, 32, fine=4, stretch=stretch) for letter in letters)
        return np.stack([np.asarray(p.filter(ImageFilter.GaussianBlur(1)), dtype=np.float64) for p in placed])

    def unit(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1)
        flat = flat - flat.mean(1, keepdims=True)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    best, fixed = np.full((len(some), len(others)), -1.0), unit(blurred(others, 1.0)).T
    for stretch in (0.92, 1.0, 1.08):
        a = blurred(some, stretch)
        for shift in [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
            best = np.maximum(best, unit(np.roll(a, shift, (1, 2))) @ fixed)
    return best
