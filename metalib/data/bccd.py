"""bccd(): 4,886 blood cells, cut out of 364 photographs of blood smears.

Shenggan and contributors, "BCCD Dataset" (2017), https://github.com/Shenggan/BCCD_Dataset. Licence: MIT, (c) 2017
shenggan. Not for clinical use.
"""

import hashlib
import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from metalib.data.classes import SPLIT_NAMES
from metalib.data.images import ClassImages
from metalib.data.root import cached, fetch, reading

URL = "https://codeload.github.com/Shenggan/BCCD_Dataset/zip/d272fb14cdff6e473fafeeeba32aba5f560e9e43"
CONTENT = ["13c9ac4167305847"]  # digests of the files in the zip, however it is packed
CLASSES = {"RBC": "red", "WBC": "white", "Platelets": "platelet"}
SIZE, LEAST = 28, 8  # pixels: of a cell as it is returned; of a box, below which (two have no width) it is left out


def bccd() -> ClassImages:
    """Red cells, white cells and platelets, uint8 RGB 3 x 28 x 28, with the facts "photograph" and "part".

    4,153 red, 372 white, 361 platelets. Each is the square around its box, moved inside the image and resized to 28
    pixels: small ones are enlarged and blurred, so size is still to be seen. Neighbouring squares may overlap. Which
    photographs are of one smear or one patient the files do not say. "part" is the official train / val / test, 205 /
    87 / 72 photographs. This module's docstring has licence and citation.

    Reads `<data root>/bccd/BCCD.zip`, or downloads it there once, and compares the files in it with the digest of the
    published ones. Raises FileNotFoundError (no file and no network) or ValueError (a damaged file or another version),
    naming the fix.
    """
    path = fetch("bccd/BCCD.zip", URL, None)
    cells = cached("bccd-v2", lambda: _decode(path), made_from=[path], valid=lambda arrays: {
        len(arrays.get(k, ())) for k in ("images", "kinds", "photographs", "parts")} == {4886})
    order = {kind: i for i, kind in enumerate(CLASSES)}
    return ClassImages.from_arrays(np.moveaxis(cells["images"], -1, 1), [order[k] for k in cells["kinds"].tolist()],
                                   names=list(CLASSES.values()),
                                   about={"photograph": cells["photographs"], "part": cells["parts"]})


def _decode(path: Path) -> dict[str, np.ndarray]:
    """The cells, by photograph and in the order of its annotation."""
    with reading(URL, path), zipfile.ZipFile(path) as archive:
        files = {short: archive.read(name) for name in archive.namelist()  # pictures, boxes and lists, below BCCD/
                 if (short := f"/{name}".partition("/BCCD/")[2]).endswith((".jpg", ".xml", ".txt"))}
        sha = hashlib.sha256(b"".join(n.encode() + hashlib.sha256(files[n]).digest() for n in sorted(files)))
        if sha.hexdigest()[:16] not in CONTENT:
            raise ValueError(f"its {len(files)} files have the digest {sha.hexdigest()[:16]}; expected {CONTENT}")
    part_of = {photo: part for part in SPLIT_NAMES for photo in files[f"ImageSets/Main/{part}.txt"].decode().split()}
    images, about = [], []
    for name in sorted(n for n in files if n.startswith("Annotations/")):
        photo = Path(name).stem
        picture = Image.open(io.BytesIO(files[f"JPEGImages/{photo}.jpg"])).convert("RGB")
        for cell in ElementTree.fromstring(files[name]).iter("object"):
            x0, y0, x1, y1 = (int(cell.find(f"bndbox/{k}").text) for k in ("xmin", "ymin", "xmax", "ymax"))
            side = min(max(x1 - x0, y1 - y0), *picture.size)
            if side >= LEAST:
                left, top = (min(max((a + b - side) / 2, 0), whole - side)
                             for a, b, whole in ((x0, x1, picture.width), (y0, y1, picture.height)))
                images.append(np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS,
                                                        box=(left, top, left + side, top + side))))
                about.append((cell.find("name").text, photo, part_of[photo]))
    kinds, photographs, parts = (np.array(values) for values in zip(*about))
    return {"images": np.array(images), "kinds": kinds, "photographs": photographs, "parts": parts}
