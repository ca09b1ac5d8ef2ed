"""glyphs(): an Omniglot that needs no download, drawn from the fonts that come with matplotlib.

Real writing systems in up to 16 typefaces (DejaVu Sans, Serif, Mono and STIX; upright, bold, oblique): base
letters only, no two alike, 20 drawings a letter. Scripts are split, not letters: no script is in two splits.

    train   Latin, Greek, Cyrillic, Coptic, Old Italic, Lisu, Canadian Aboriginal, Arabic, Ogham
    val     Armenian, Lao
    test    Georgian, Hebrew, N'Ko, Tifinagh

The scripts that descend from Greek share many letters (A, O, T), so they are all in train.
"""

from __future__ import annotations

import hashlib
import math
import random
import unicodedata
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from metalib.data.images import ClassImages
from metalib.data.root import cached

# First word of a letter's Unicode name -> script. Of two look-alikes the first in this order is kept: test
# and val come before train, because they are small.
SCRIPTS = {
    "test": {"GEORGIAN": "Georgian", "HEBREW": "Hebrew", "NKO": "N'Ko", "TIFINAGH": "Tifinagh"},
    "val": {"ARMENIAN": "Armenian", "LAO": "Lao"},
    "train": {
        "LATIN": "Latin",
        "GREEK": "Greek",
        "CYRILLIC": "Cyrillic",
        "COPTIC": "Coptic",
        "OLD": "Old Italic",
        "LISU": "Lisu",
        "CANADIAN": "Canadian Aboriginal",
        "ARABIC": "Arabic",
        "OGHAM": "Ogham",
    },
}
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
)
REFERENCES = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono")  # look-alikes are judged in these
ALIKE = 0.93  # two letters are look-alikes if each covers this share of the other's ink
DRAWINGS, SIZE = 20, 28
# A drawing's longer side and shift in pixels, log stretch, turn in radians, slant as a tangent; chosen so
# that comparing raw pixels is as hard as on Omniglot (about 48 % at 5-way 1-shot on the test split).
SIDE, SHIFT, STRETCH, TURN, SLANT = (15.0, 19.0), 2.25, 0.1, 0.15, 0.15
VERSION = 1  # part of the cache's name: raise it whenever the drawings change


class Letter(NamedTuple):
    character: str
    name: str
    script: str
    split: str


def glyphs(seed: int = 0) -> ClassImages:
    """About a thousand characters of 15 scripts, 20 drawings each, uint8 28 x 28, ink 255, split by script.

    Drawn once (a few seconds) and then read from the cache under the data root. The same seed gives the same
    bytes on every machine with the same fonts; the seed changes the jitter, never the characters. Groups are
    scripts. Raises FileNotFoundError if matplotlib's fonts are missing.
    """
    fonts = _font_files()
    sha = hashlib.sha256(b"".join(path.read_bytes() for path in fonts.values())).hexdigest()[:8]
    arrays = cached(f"glyphs-v{VERSION}-seed{seed}-fonts{sha}", lambda: _draw_all(fonts, seed), _valid)
    images, scripts, splits = arrays["images"], arrays["scripts"].tolist(), arrays["splits"].tolist()
    n = len(images)
    return ClassImages.from_arrays(
        images.reshape(n * DRAWINGS, SIZE, SIZE),
        np.repeat(np.arange(n), DRAWINGS),
        names=arrays["names"].tolist(),
        groups=scripts,
        splits={s: [i for i in range(n) if splits[i] == s] for s in ("train", "val", "test")},
    )


def _valid(arrays: dict[str, np.ndarray]) -> bool:
    images, lengths = arrays["images"], {len(array) for array in arrays.values()}
    return len(lengths) == 1 and images.dtype == np.uint8 and images.shape[1:] == (DRAWINGS, SIZE, SIZE)


def _font_files() -> dict[str, Path]:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = {name: folder / f"{name}.ttf" for name in FONTS}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"matplotlib's fonts {', '.join(missing)} are not in {folder}: "
            "reinstall it with `pip install --force-reinstall matplotlib`"
        )
    return files


def _draw_all(files: dict[str, Path], seed: int) -> dict[str, np.ndarray]:
    basic = ImageFont.Layout.BASIC  # not Raqm, which shapes text and is not in every build of Pillow
    fonts = {n: ImageFont.truetype(str(p), 96, layout_engine=basic) for n, p in files.items()}
    covered = {n: set(TTFont(p, lazy=True).getBestCmap()) for n, p in files.items()}
    letters = _letters(covered["DejaVuSans"])  # the one font that has all the scripts
    letters = [letters[i] for i in _distinct(letters, {n: fonts[n] for n in REFERENCES}, covered)]
    styles = [[fonts[n] for n in FONTS if ord(x.character) in covered[n]] for x in letters]
    return {
        "images": np.stack([_drawings(x, fs, seed) for x, fs in zip(letters, styles, strict=True)]),
        "names": np.array([x.name for x in letters]),
        "scripts": np.array([x.script for x in letters]),
        "splits": np.array([x.split for x in letters]),
    }


def _letters(codes: set[int]) -> list[Letter]:
    """Base letters: no accented or combined form, no presentation form, no modifier."""
    found = []
    scripts = [(first, s, split) for split, group in SCRIPTS.items() for first, s in group.items()]
    for first, script, split in scripts:
        for character in map(chr, sorted(codes)):
            name = unicodedata.name(character, "")
            letter = unicodedata.category(character) in ("Lu", "Ll", "Lo") and name.split()[:1] == [first]
            if letter and " WITH " not in name and not unicodedata.decomposition(character):
                short = [w.lower() for w in name.split()[1:] if w not in ("LETTER", "SYLLABICS", "ITALIC")]
                found.append(Letter(character, f"{script}/{' '.join(short)}", script, split))
    return found


def _distinct(
    letters: list[Letter], fonts: dict[str, ImageFont.FreeTypeFont], covered: dict[str, set[int]]
) -> list[int]:
    """Indices of the letters that look like no letter before them.

    Two letters are look-alikes if, in one font, each covers the share ALIKE of the other's ink, allowing half
    a pixel of misfit: the weight of a stroke does not count, and A = Alpha = small capital A. The sums are
    of integers below 2^53, hence exact in float64, whatever the order in which a machine adds them.
    """
    alike = np.zeros((len(letters), len(letters)), dtype=bool)
    for name, font in fonts.items():
        rows = [i for i, x in enumerate(letters) if ord(x.character) in covered[name]]
        ink = [_place(_ink(font, letters[i].character), 40, 56, fine=2) for i in rows]
        wide = [image.filter(ImageFilter.MaxFilter(3)) for image in ink]
        a, b = (np.stack([np.asarray(m, dtype=np.float64).ravel() for m in s]) for s in (ink, wide))
        share = (a @ b.T) / (255 * a.sum(1, keepdims=True))  # share[i, j]: how much of i is covered by j
        alike[np.ix_(rows, rows)] |= np.minimum(share, share.T) > ALIKE
    keep: list[int] = []
    for i in range(len(letters)):
        if not alike[i, keep].any():
            keep.append(i)
    return keep


def _drawings(letter: Letter, fonts: list[ImageFont.FreeTypeFont], seed: int) -> np.ndarray:
    """uint8 (20, 28, 28): the styles in turn, each turned, slanted, stretched and shifted a little."""
    rng = random.Random(f"{seed} {letter.name}")  # a stream a letter: the same on every version of Python
    ink = [(_ink(font, letter.character), 0.0) for font in fonts]
    if len(ink) < 4:  # the script has no oblique: add slanted copies
        ink += [(image, 0.2) for image, _ in ink]
    drawings = []
    for d in range(DRAWINGS):
        image, slant = ink[d % len(ink)]
        side = rng.uniform(*SIDE)
        stretch, turn, tilt, right, down = (rng.uniform(-w, w) for w in (STRETCH, TURN, SLANT, SHIFT, SHIFT))
        shape = {"stretch": math.exp(stretch), "turn": turn, "slant": slant + tilt, "shift": (right, down)}
        drawings.append(np.asarray(_place(image, side, SIZE, fine=4, **shape)))
    return np.stack(drawings)


def _ink(font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    """The letter, ink 255 on paper 0, cropped to its ink."""
    left, top, right, bottom = font.getbbox(character)
    image = Image.new("L", (max(right - left, 1), max(bottom - top, 1)))
    ImageDraw.Draw(image).text((-left, -top), character, fill=255, font=font)
    return image.crop(image.getbbox())


def _place(
    ink: Image.Image,
    side: float,
    size: int,
    *,
    fine: int,
    stretch: float = 1.0,
    turn: float = 0.0,
    slant: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Image.Image:
    """The letter scaled to `side` pixels (its longer side), then R(turn) Shear(slant) Stretch, and centred.

    Drawn `fine` times larger by nearest neighbour, which Pillow does in fixed point, and averaged down in
    integers to size x size: identical bytes on every machine.
    """
    scale = fine * side / max(ink.size)
    sx, sy = scale * stretch, scale / stretch
    c, s = math.cos(turn), math.sin(turn)
    # Pillow takes the inverse, from drawing to letter: Stretch^-1 Shear^-1 R^-1 (x - centre).
    a, b, d, e = (c - slant * s) / sx, (s + slant * c) / sx, -s / sy, c / sy
    x, y = ((size / 2 + offset) * fine for offset in shift)
    inverse = (a, b, ink.width / 2 - a * x - b * y, d, e, ink.height / 2 - d * x - e * y)
    large = ink.transform((size * fine,) * 2, Image.Transform.AFFINE, inverse, Image.Resampling.NEAREST)
    return large.reduce(fine)
