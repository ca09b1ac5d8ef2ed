"""omniglot(): 1,623 handwritten characters of 50 alphabets, each drawn by 20 people (Lake et al. 2015)."""

import hashlib
import io
import json
import zipfile
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from metalib.arguments import check_choice
from metalib.data.classes import SPLIT_NAMES
from metalib.data.images import ClassImages
from metalib.data.root import cached, fetch
from metalib.progress import progress

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
MD5 = {"images_background": "68d2efa1b9178cc56df9314c21c6e718",  # of the official files
       "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811"}
CHARACTERS = {"images_background": 964, "images_evaluation": 659}
DRAWERS, DRAWN, SIZE = 20, 105, 28


def omniglot(split: str = "vinyals", rotations: bool | str = False) -> ClassImages:
    """The real benchmark: 20 drawings of each character, uint8 28 x 28 (Lanczos from 105 x 105), ink 255.

    Groups are alphabets. `split` says which characters are train / val / test:

    - "vinyals": 1028 / 172 / 423, as published by Vinyals et al. (2016). The classes are disjoint, but one
      alphabet, Gurmukhi, is on both sides: 41 of its characters are in train and 4 in test.
    - "background": 792 / 172 / 659, by Lake's two sets. Test is the 20 evaluation alphabets; val is Armenian,
      Bengali, Early Aramaic, Hebrew and Mkhedruli (the val of "vinyals"); train is the other 25 background
      alphabets. No alphabet is shared, so this is the stricter test.

    `rotations` adds each character's quarter turns as new classes, four times as many (Santoro et al. 2016):
    True or "train" does so for train only; "all" for val and test too, which is what Snell et al. (2017) and
    Finn et al. (2017) evaluate on. The two give different numbers: say which. False, the default, adds none.

    Reads the official zips without unpacking them, from `<data root>/omniglot/`, or downloads them there once
    (MD5 verified). Raises FileNotFoundError (no file and no network), or ValueError (a damaged file, or an
    unknown option), naming the fix.
    """
    check_choice(split, "split", "vinyals", "background")
    if rotations not in (False, True, "train", "all"):
        raise ValueError(f"rotations={rotations!r}; expected False, True (the same as 'train') or 'all'")
    zips = {name: fetch(f"omniglot/{name}.zip", f"{URL}{name}.zip", md5) for name, md5 in MD5.items()}
    sha = hashlib.sha256(b"".join(path.read_bytes() for path in zips.values())).hexdigest()[:8]
    arrays = cached(f"omniglot-v1-{sha}", lambda: _decode(zips), _valid)
    images, names, n = arrays["images"], arrays["names"].tolist(), len(arrays["names"])
    bank = ClassImages.from_arrays(images.reshape(n * DRAWERS, SIZE, SIZE), np.repeat(np.arange(n), DRAWERS),
                                   names=names, groups=[name.split("/")[0] for name in names],
                                   splits=_vinyals(names) if split == "vinyals" else _background(names))
    if not rotations:
        return bank
    turned = bank.with_rotations()
    train = set(turned.splits["train"])
    return turned if rotations == "all" else turned.subset(c for c in range(4 * n) if c < n or c in train)


def _vinyals(names: list[str]) -> dict[str, list[int]]:
    published = json.loads(Path(__file__).with_name("vinyals.json").read_text(encoding="utf-8"))
    number = {name: i for i, name in enumerate(names)}
    return {s: [number[f"{alphabet}/character{c:02d}"] for alphabet, cs in published[s].items() for c in cs]
            for s in SPLIT_NAMES}


def _background(names: list[str]) -> dict[str, list[int]]:
    val = _vinyals(names)["val"]
    last = CHARACTERS["images_background"]  # the background characters come first
    train = sorted(set(range(last)) - set(val))
    return {"train": train, "val": val, "test": list(range(last, len(names)))}


def _valid(arrays: dict[str, np.ndarray]) -> bool:
    n = sum(CHARACTERS.values())
    return arrays["images"].shape == (n, DRAWERS, SIZE, SIZE) and arrays["names"].shape == (n,)


def _decode(zips: dict[str, Path]) -> dict[str, np.ndarray]:
    """Images (1623, 20, 28, 28) and names, background first, by name whatever the order in the zips."""
    images, names = [], []
    with progress(sum(CHARACTERS.values()), "reading Omniglot") as bar:
        for name, path in zips.items():
            try:
                with zipfile.ZipFile(path) as archive:
                    drawings = _drawings(archive, name)
                    for character in sorted(drawings):
                        images.append([_read(archive, file) for file in sorted(drawings[character])])
                        names.append(character)
                        bar.update()
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
                raise ValueError(f"{path} is damaged or not the official file ({error}): delete it, and it is "
                                 f"downloaded again; without a network, copy {URL}{name}.zip there") from error
    return {"images": np.array(images, dtype=np.uint8), "names": np.array(names)}


def _drawings(archive: zipfile.ZipFile, name: str) -> dict[str, list[str]]:
    """{alphabet/character: files}, after checking that the archive is complete."""
    drawings: dict[str, list[str]] = defaultdict(list)
    for file in archive.namelist():
        parts = file.split("/")  # images_background/Greek/character01/0394_01.png
        if len(parts) == 4 and parts[0] == name and parts[3].endswith(".png"):
            drawings[f"{parts[1]}/{parts[2]}"].append(file)
    counts = sorted({len(files) for files in drawings.values()})
    if len(drawings) != CHARACTERS[name] or counts != [DRAWERS]:
        raise ValueError(f"it has {len(drawings)} characters with {' or '.join(map(str, counts)) or 'no'} drawings; "
                         f"expected {CHARACTERS[name]} with {DRAWERS}")
    return drawings


def _read(archive: zipfile.ZipFile, file: str) -> np.ndarray:  # uint8 (28, 28)
    image = Image.open(io.BytesIO(archive.read(file)))
    if image.size != (DRAWN, DRAWN):
        raise ValueError(f"{file} is {image.width} x {image.height}; expected {DRAWN} x {DRAWN}")
    return 255 - np.asarray(image.convert("L").resize((SIZE, SIZE), Image.Resampling.LANCZOS))
