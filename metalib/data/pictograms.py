"""pictograms(): a domain that needs no download, icons drawn from the fonts in the `qtawesome` wheel.

One name, such as "horse", is drawn by three to six families of icons: a class is a name, and its 16 drawings take the
families in turn. Names of companies are left out: logos are trademarks, and every family draws them alike.

The families are Font Awesome Free and Elusive Icons (SIL OFL 1.1), Phosphor (MIT), Material Design Icons and Remix Icon
(Apache 2.0), and Codicons (CC BY 4.0), as qtawesome states. `NOTICE` has a line for each, with version and copyright,
for a page that shows what is drawn here; pictograms.json beside this file has the fonts, styles and digests.
"""

import hashlib
import json
import random
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFont

from metalib.data import lettering
from metalib.data.classes import SPLIT_NAMES
from metalib.data.images import ClassImages
from metalib.data.lettering import ink, typeface
from metalib.data.root import cached

# Families, their fonts (a newer one first, where a name may be in either), what a style adds to a name, and SHA-256
# digests of each font and its character map together, of all versions that are accepted.
FILE = Path(__file__).with_name("pictograms.json")
TABLE = json.loads(FILE.read_text(encoding="utf-8"))
NOTICE = "\n".join("{family} {version}: {licence}, {notice}".format(**family) for family in TABLE["families"])
STYLES = [(family["family"], i, style) for family in TABLE["families"] for i, style in enumerate(family["styles"])]
LEAST, DRAWINGS, SIZES, SIDE = 3, 16, (28, 64), (18.0, 23.0)
HELD_OUT = {"test": range(20), "val": range(20, 32)}  # percent of first words, by their hash; train has the others


class Icon(NamedTuple):
    """One class: a name, the split of its first word, and {(family, style): (font, character)}."""

    name: str
    split: str
    looks: dict[tuple[str, int], tuple[str, str]]


def pictograms(size: int = 28, seed: int = 0) -> ClassImages:
    """Some two hundred icons, 16 drawings each by three to six families, uint8 size x size, ink 255, with splits.

    Classes are names that at least three families draw; of names that look alike, as for the letters of `glyphs`, one
    is kept (no measure knows what is meant: "envelope" and "mail" both stay, in one split). Groups are first words,
    "file" of "file-pdf", and no group is in two splits; the fact "family" says whose a drawing is. Size 64 shows the
    same drawings as 28, only finer. Drawn once (about five seconds) and then read from the cache under the data root.
    The same seed gives the same bytes on every machine; it changes the jitter, never the classes.

    Raises ImportError without qtawesome (Qt itself is not needed), FileNotFoundError or ValueError if its fonts are
    other ones, unreadable or damaged, ValueError for another size.
    """
    if size not in SIZES:
        raise ValueError(f"size={size!r}: expected 28 or 64")
    folder = _folder()
    maps = {stem: _verified(folder, stem) for stem in TABLE["digests"]}
    arrays = cached(f"pictograms{int(size)}-seed{seed}", lambda: _draw_all(folder, maps, int(size), seed),
                    lambda a: a["images"].shape == (len(a["names"]), DRAWINGS, size, size),
                    made_from=(Path(__file__), Path(lettering.__file__), FILE))
    bank = lettering.bank(arrays, [_word(name) for name in arrays["names"].tolist()])
    return replace(bank, about={"family": arrays["families"].flatten()})


def _folder() -> Path:
    spec = find_spec("qtawesome")  # found, not imported: importing it needs Qt
    if spec is None or not spec.submodule_search_locations:
        raise ImportError('pictograms() draws the fonts of qtawesome: pip install "metalib[images]" (Qt is not needed)')
    return Path(spec.submodule_search_locations[0]) / "fonts"


def _verified(folder: Path, stem: str) -> dict[str, int]:
    """The character map of a font, {name: code point}, after its digest and the font's were found right."""
    cure = f"pictograms() draws those of qtawesome {TABLE['wheel']}: pip install qtawesome=={TABLE['wheel']}"
    try:
        name, version = stem.rsplit("-", 1)
        font, table = ((folder / f).read_bytes() for f in (f"{stem}.ttf", f"{name}-charmap-{version}.json"))
    except OSError as error:
        raise FileNotFoundError(f"{error.filename} cannot be read ({error.strerror}); another version of qtawesome has "
                                f"other fonts, and {cure}") from error
    if (found := hashlib.sha256(font + table).hexdigest()[:12]) not in TABLE["digests"][stem]:
        raise ValueError(f"{folder / stem}.ttf or its character map is damaged, or of another version (digest {found}, "
                         f"not {' or '.join(TABLE['digests'][stem])}): {cure} --force-reinstall")
    return {icon: int(code, 16) for icon, code in json.loads(table).items()}


def _draw_all(folder: Path, maps: dict[str, dict[str, int]], size: int, seed: int) -> dict[str, np.ndarray]:
    fonts = {stem: typeface(folder / f"{stem}.ttf", 128) for stem in maps}
    icons = _distinct(_icons(maps), fonts)
    return {"images": np.stack([_drawings(icon, fonts, size, seed) for icon in icons]),
            "names": np.array([icon.name for icon in icons]), "splits": np.array([icon.split for icon in icons]),
            "families": np.array([[family for family, _ in _turns(icon)] for icon in icons])}


def _icons(maps: dict[str, dict[str, int]]) -> list[Icon]:
    """What at least three families draw, no logos: the test split's names first, then val's, so that they are kept."""
    looks: dict[str, dict[tuple[str, int], tuple[str, str]]] = {}
    for family, i, style in STYLES:
        for stem in reversed(style["fonts"]):  # what a newer font has replaces an older one's
            for icon, code in maps[stem].items():
                if icon.endswith(style["suffix"]):
                    looks.setdefault(icon.removesuffix(style["suffix"]), {})[family, i] = (stem, chr(code))
    logos = {name for stem in TABLE["logos"] for name in maps[stem]}
    icons = [Icon(name, _split(name), found) for name, found in sorted(looks.items())
             if len({family for family, _ in found}) >= LEAST and name not in logos]
    return [icon for split in reversed(SPLIT_NAMES) for icon in icons if icon.split == split]


def _word(name: str) -> str:
    return name.split("-")[0]


def _split(name: str) -> str:
    percent = int(hashlib.sha256(_word(name).encode()).hexdigest(), 16) % 100
    return next((split for split, share in HELD_OUT.items() if percent in share), "train")


def _distinct(icons: list[Icon], fonts: dict[str, ImageFont.FreeTypeFont]) -> list[Icon]:
    """The icons that look like none before them: families draw one thing under two names, "x" and "close".

    Across splits, look-alikes are judged where icons are outlines: filled ones resemble each other as all blots do.
    """
    drawn = [(c, style, ink(fonts[stem], character)) for c, icon in enumerate(icons)
             for style, (stem, character) in icon.looks.items()]

    def sheet(styles: list[tuple[str, int]]) -> tuple[list[int], list[Image.Image]]:
        return [c for c, s, _ in drawn if s in styles], [image for _, s, image in drawn if s in styles]

    every, outlines = ([(f, i) for f, i, style in STYLES if style["outline"] or not only] for only in (False, True))
    keep = lettering.distinct([icon.split for icon in icons], [sheet(every)], [sheet([style]) for style in outlines])
    return [icons[i] for i in keep]


def _turns(icon: Icon) -> list[tuple[str, tuple[str, str]]]:
    """(family, look) of each drawing: the families in turn, each with its styles in turn."""
    families = list(dict.fromkeys(family for family, _ in icon.looks))
    styles = [[look for (f, _), look in icon.looks.items() if f == family] for family in families]
    F = len(families)
    return [(families[d % F], styles[d % F][d // F % len(styles[d % F])]) for d in range(DRAWINGS)]


def _drawings(icon: Icon, fonts: dict[str, ImageFont.FreeTypeFont], size: int, seed: int) -> np.ndarray:
    """uint8 (16, size, size)"""
    looks = [(ink(fonts[stem], character), 0.0) for _, (stem, character) in _turns(icon)]
    return lettering.drawings(looks, DRAWINGS, size, SIDE, random.Random(f"{seed} {icon.name}"))
