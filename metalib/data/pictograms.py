"""pictograms(): a domain that needs no download, icons drawn from the fonts in the `qtawesome` wheel.

One name, such as "horse", is drawn by three to six families of icons: a class is a name, and its 16 drawings take the
families in turn. Names of companies are left out: logos are trademarks, and every family draws them alike.

    family                 version          licence of the font   notice
    Font Awesome Free      6.7.2, 5.15.4    SIL OFL 1.1           Copyright (c) Fonticons, Inc., fontawesome.com
    Elusive Icons          2.0              SIL OFL 1.1           elusiveicons.com
    Phosphor               1.3.0            MIT                   Copyright (c) Phosphor Icons, phosphoricons.com
    Material Design Icons  6.9.96           Apache 2.0            Pictogrammers, pictogrammers.com
    Remix Icon             2.5.0            Apache 2.0            Remix Design, remixicon.com
    Codicons               0.0.36           CC BY 4.0             Copyright (c) Microsoft Corporation

The licences are those that qtawesome states. The pictures made here are turned, stretched and made small; `NOTICE` has
these lines for a page that shows them.
"""

import hashlib
import json
import random
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFont

from metalib.arguments import check_whole
from metalib.data import lettering
from metalib.data.classes import SPLIT_NAMES
from metalib.data.images import ClassImages
from metalib.data.lettering import Jitter, ink, typeface
from metalib.data.root import cached

NOTICE = "\n".join(__doc__.splitlines()[5:12])
WHEEL = "1.4.2"
# SHA-256 of each font and of its character map, in all versions that are accepted.
FILES = {
    "fontawesome6-solid-webfont-6.7.2": ("9e81b0a5fa3a",),
    "fontawesome5-solid-webfont-5.15.4": ("b7c14d94b0d8",),
    "fontawesome6-regular-webfont-6.7.2": ("3a721c883e8e",),
    "fontawesome5-regular-webfont-5.15.4": ("29ae54c36759",),
    "elusiveicons-webfont-2.0": ("8553c673f9f9",),
    "phosphor-1.3.0": ("68849993ca31",),
    "materialdesignicons6-webfont-6.9.96": ("c746e97ae307",),
    "remixicon-2.5.0": ("bcab7b04fd94",),
    "codicon-0.0.36": ("d6b6503ee34b",),
    "fontawesome6-brands-webfont-6.7.2": ("8e9e2901fc0b",),
    "fontawesome5-brands-webfont-5.15.4": ("bbe9d3c1d088",),
}
SOLID, REGULAR, MATERIAL = list(FILES)[:2], list(FILES)[2:4], ["materialdesignicons6-webfont-6.9.96"]
BRANDS = list(FILES)[-2:]
# Family -> its styles: (the fonts that have it, the newer first; what the style adds to a name).
FAMILIES: dict[str, list[tuple[list[str], str]]] = {
    "Font Awesome": [(SOLID, ""), (REGULAR, "")],
    "Elusive": [(["elusiveicons-webfont-2.0"], "")],
    "Phosphor": [(["phosphor-1.3.0"], suffix) for suffix in ("", "-bold", "-fill")],  # light and thin fade away
    "Material Design": [(MATERIAL, ""), (MATERIAL, "-outline")],
    "Remix": [(["remixicon-2.5.0"], "-fill"), (["remixicon-2.5.0"], "-line")],
    "Codicons": [(["codicon-0.0.36"], "")],
}
# Across splits, look-alikes are judged where icons are outlines: filled ones resemble each other as all blots do.
OUTLINES = (("Phosphor", 0), ("Remix", 1), ("Material Design", 1), ("Codicons", 0))
LEAST, DRAWINGS, SIZES = 3, 16, (28, 64)
HELD_OUT = {"test": range(20), "val": range(20, 32)}  # percent of first words, by their hash; train has the others
JITTER = Jitter(side=(18.0, 23.0), shift=2.2, stretch=0.1, turn=0.15, slant=0.15)


class Icon(NamedTuple):
    """One class: a name, the split of its first word, and {(family, style): (font, character)}."""

    name: str
    split: str
    looks: dict[tuple[str, int], tuple[str, str]]


def pictograms(size: int = 28, seed: int = 0) -> ClassImages:
    """Some two hundred icons, 16 drawings each by three to six families, uint8 size x size, ink 255, with splits.

    Classes are names that at least three families draw; of names that look alike, as for the letters of `glyphs`, one
    is kept. Groups are first words ("file" of "file-pdf"), and no group is in two splits. Size 64 shows the same
    drawings as 28, only finer. Drawn once (about half a minute) and then read from the cache under the data root. The
    same seed gives the same bytes on every machine; it changes the jitter, never the classes.

    Raises ImportError without qtawesome (Qt itself is not needed), FileNotFoundError or ValueError if its fonts are
    other ones, damaged or unreadable, ValueError for another size.
    """
    check_whole(1, size=size)
    if size not in SIZES:
        raise ValueError(f"size={size}: expected 28 or 64")
    folder = _folder()
    maps = {stem: _verified(folder, stem) for stem in FILES}
    made_from = [Path(__file__).read_bytes(), Path(lettering.__file__).read_bytes(), repr(FILES).encode()]
    sha = hashlib.sha256(b"".join(made_from)).hexdigest()[:8]
    arrays = cached(f"pictograms{size}-seed{seed}-{sha}", lambda: _draw_all(folder, maps, size, seed),
                    lambda a: a["images"].shape[1:] == (DRAWINGS, size, size) and len(a["names"]) == len(a["images"]))
    images, names, splits = arrays["images"], arrays["names"].tolist(), arrays["splits"].tolist()
    n = len(names)
    return ClassImages.from_arrays(images.reshape(n * DRAWINGS, size, size), np.repeat(np.arange(n), DRAWINGS),
                                   names=names, groups=[_word(name) for name in names],
                                   splits={s: [i for i in range(n) if splits[i] == s] for s in SPLIT_NAMES})


def _folder() -> Path:
    spec = find_spec("qtawesome")  # found, not imported: importing it needs Qt
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("pictograms() draws the icon fonts of qtawesome, which is not installed: pip install "
                          '"metalib[images]" (Qt is not needed)')
    return Path(spec.submodule_search_locations[0]) / "fonts"


def _verified(folder: Path, stem: str) -> dict[str, int]:
    """The character map of a font, {name: code point}, after its digest and the font's were found right."""
    cure = f"pip install --force-reinstall qtawesome=={WHEEL}"
    name, version = stem.rsplit("-", 1)
    font, table = folder / f"{stem}.ttf", folder / f"{name}-charmap-{version}.json"
    if missing := [path.name for path in (font, table) if not path.is_file()]:
        raise FileNotFoundError(f"{' and '.join(missing)} not in {folder}: pictograms() draws the fonts of qtawesome "
                                f"{WHEEL}, and another version has others: {cure}")
    try:
        data, content = font.read_bytes(), table.read_bytes()
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read ({error.strerror}): make it readable, or {cure}") from error
    found = hashlib.sha256(data + content).hexdigest()[:12]
    if found not in FILES[stem]:
        raise ValueError(f"{font} or its character map is damaged, or of another version (digest {found}, expected "
                         f"{' or '.join(FILES[stem])}): {cure}")
    return {icon: int(code, 16) for icon, code in json.loads(content).items()}


def _draw_all(folder: Path, maps: dict[str, dict[str, int]], size: int, seed: int) -> dict[str, np.ndarray]:
    fonts = {stem: typeface(folder / f"{stem}.ttf", 128) for stem in FILES}
    icons = _distinct(_icons(maps), fonts)
    return {"images": np.stack([_drawings(icon, fonts, size, seed) for icon in icons]),
            "names": np.array([icon.name for icon in icons]), "splits": np.array([icon.split for icon in icons])}


def _icons(maps: dict[str, dict[str, int]]) -> list[Icon]:
    """What at least three families draw, no logos: the test split's names first, then val's, so that they are kept."""
    styles = [(family, i, stem, suffix) for family, found in FAMILIES.items()
              for i, (stems, suffix) in enumerate(found) for stem in reversed(stems)]
    looks: dict[str, dict[tuple[str, int], tuple[str, str]]] = {}
    for family, i, stem, suffix in styles:  # a newer font's overwrites an older one's
        for icon, code in maps[stem].items():
            if icon.endswith(suffix):
                looks.setdefault(icon.removesuffix(suffix), {})[family, i] = (stem, chr(code))
    icons = [Icon(name, _split(name), looks[name]) for name in sorted(looks)
             if len({family for family, _ in looks[name]}) >= LEAST and not any(name in maps[b] for b in BRANDS)]
    return [icon for split in reversed(SPLIT_NAMES) for icon in icons if icon.split == split]


def _word(name: str) -> str:
    return name.split("-")[0]


def _split(name: str) -> str:
    percent = int(hashlib.sha256(_word(name).encode()).hexdigest(), 16) % 100
    return next((split for split, share in HELD_OUT.items() if percent in share), "train")


def _distinct(icons: list[Icon], fonts: dict[str, ImageFont.FreeTypeFont]) -> list[Icon]:
    """The icons that look like none before them: families draw one thing under two names, "x" and "close"."""
    drawn = [(c, style, ink(fonts[stem], character)) for c, icon in enumerate(icons)
             for style, (stem, character) in icon.looks.items()]

    def sheet(*styles: tuple[str, int]) -> tuple[list[int], list[Image.Image]]:
        rows = [(c, image) for c, style, image in drawn if style in styles or not styles]
        return [c for c, _ in rows], [image for _, image in rows]

    keep = lettering.distinct([icon.split for icon in icons], [sheet()], [sheet(style) for style in OUTLINES])
    return [icons[i] for i in keep]


def _drawings(icon: Icon, fonts: dict[str, ImageFont.FreeTypeFont], size: int, seed: int) -> np.ndarray:
    """uint8 (16, size, size): the families in turn, each with its styles in turn."""
    families = list(dict.fromkeys(family for family, _ in icon.looks))
    looks = []
    for d in range(DRAWINGS):
        family = families[d % len(families)]
        styles = [look for (f, _), look in icon.looks.items() if f == family]
        stem, character = styles[d // len(families) % len(styles)]
        looks.append((ink(fonts[stem], character), 0.0))
    return lettering.drawings(looks, DRAWINGS, size, JITTER, random.Random(f"{seed} {icon.name}"))
