"""Drawing a letter with Pillow, identically on every machine, and telling which two letters look alike."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont


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
