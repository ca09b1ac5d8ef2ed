"""glyphs(): an Omniglot that needs no download, drawn from the fonts that come with matplotlib.

Real writing systems in up to 16 typefaces (DejaVu Sans, Serif, Mono and STIX; upright, bold, oblique): base
letters only, no two alike, 20 drawings a letter. Scripts are split, not letters: no script is in two splits.

    train   Latin, Greek, Cyrillic, Coptic, Old Italic, Lisu, Armenian, Canadian Aboriginal, Tifinagh
    val     Arabic, Ogham
    test    Georgian, Hebrew, Lao, N'Ko

The scripts with many letters in common (A, O, T), by descent or by their simple geometry, are all in train.
"""

import json
import random
import unicodedata
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from PIL import ImageFont

from metalib.data import lettering
from metalib.data.images import ClassImages
from metalib.data.lettering import ink, typeface
from metalib.data.root import cached

FILE = Path(__file__).with_name("glyphs.json")
TABLE = json.loads(FILE.read_text(encoding="utf-8"))
# First word of a letter's Unicode name -> script. Of two look-alikes the first in this order is kept: test
# and val come before train, because they are small.
SCRIPTS, FONTS = TABLE["scripts"], TABLE["fonts"]
REFERENCES = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono")  # look-alikes are judged in these
DRAWINGS, SIZE, SIDE = 20, 28, (15.0, 19.0)


class Letter(NamedTuple):
    """One class of the bank: a character, its Unicode name, its script, and the split its script belongs to."""

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
    arrays = cached(f"glyphs-seed{seed}", lambda: _draw_all(fonts, seed), _valid,
                    made_from=[*fonts.values(), FILE, Path(__file__), Path(lettering.__file__)])
    return lettering.bank(arrays, arrays["scripts"].tolist())


def _valid(arrays: dict[str, np.ndarray]) -> bool:
    images, lengths = arrays["images"], {len(array) for array in arrays.values()}
    return len(lengths) == 1 and images.dtype == np.uint8 and images.shape[1:] == (DRAWINGS, SIZE, SIZE)


def _font_files() -> dict[str, Path]:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = {name: folder / f"{name}.ttf" for name in FONTS}
    if missing := [name for name, path in files.items() if not path.is_file()]:
        raise FileNotFoundError(f"{', '.join(missing)} not in {folder}: pip install --force-reinstall matplotlib")
    return files


def _draw_all(files: dict[str, Path], seed: int) -> dict[str, np.ndarray]:
    fonts = {n: typeface(p) for n, p in files.items()}
    covered = {n: _codes(p) for n, p in files.items()}
    letters = _letters(covered["DejaVuSans"])  # the one font that has all the scripts
    letters = _distinct(letters, {n: fonts[n] for n in REFERENCES}, covered)
    styles = [[fonts[n] for n in FONTS if ord(x.character) in covered[n]] for x in letters]
    return {"images": np.stack([_drawings(x, fs, seed) for x, fs in zip(letters, styles, strict=True)]),
            "names": np.array([x.name for x in letters]), "scripts": np.array([x.script for x in letters]),
            "splits": np.array([x.split for x in letters])}


def _codes(path: Path) -> set[int]:
    with TTFont(path, lazy=True) as font:
        return set(font.getBestCmap())


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


def _distinct(letters: list[Letter], fonts: dict[str, ImageFont.FreeTypeFont],
              covered: dict[str, set[int]]) -> list[Letter]:
    """The letters that look like none before them, in any of these fonts."""
    sheets = []
    for name, font in fonts.items():
        rows = [i for i, x in enumerate(letters) if ord(x.character) in covered[name]]
        sheets.append((rows, [ink(font, letters[i].character) for i in rows]))
    return [letters[i] for i in lettering.distinct([x.split for x in letters], sheets, sheets)]


def _drawings(letter: Letter, fonts: list[ImageFont.FreeTypeFont], seed: int) -> np.ndarray:  # uint8 (20, 28, 28)
    rng = random.Random(f"{seed} {letter.name}")  # a stream a letter: the same on every version of Python
    looks = [(ink(font, letter.character), 0.0) for font in fonts]
    if len(looks) < 4:  # the script has no oblique: add slanted copies
        looks += [(image, 0.2) for image, _ in looks]
    return lettering.drawings(looks, DRAWINGS, SIZE, SIDE, rng)
