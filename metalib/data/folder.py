"""A reader's own folders of image files, read with care: what is doubtful is named and refused, never guessed."""

import os
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
UNREADABLE = (".svg", ".heic", ".heif", ".avif", ".jp2", ".psd")  # images that Pillow may not read
IGNORED = ("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test"}


def read_folder(path: str | Path, *, size: int | None, grayscale: bool, invert: bool) -> dict[str, Any]:
    """What `ClassImages.from_arrays` takes, of image files, one folder a class at any depth: `path/group/class/*.png`.

    - Folders and files are read in sorted order, so the result does not depend on the file system. Links are
      followed; a folder that is reached twice is refused. Hidden files and folders, and those in `IGNORED`, are
      passed over.
    - Where `path` holds `train`, `val` and `test` (any two or one of them, also as `valid`, `validation`, ...) with
      class folders in them, they are splits. A class that stands in two of them is refused.
    - What is transparent is laid on white paper; the camera's rotation (EXIF) is applied. `size` resizes every image
      to size x size (Lanczos); without it all must have one size. `invert` comes last.
    - Refused, each by name: a file that cannot be read or is damaged, 16 bits a channel in grey, animations and files
      of several pages, more pixels than Pillow trusts, an empty class folder, a broken link.

    Raises FileNotFoundError or ValueError naming the folder or file, and the fix.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; expected one that holds one folder a class")
    if size is not None and not (type(size) is int and size > 0):
        raise ValueError(f"size={size!r}: expected one positive integer; images become size x size")
    found = _walk(path, {}, top=True)
    if not found:
        raise FileNotFoundError(f"no images in {path}: expected path/class/image with {', '.join(SUFFIXES)}")
    if path in found:
        raise ValueError(f"{found[path][0].name} lies directly in {path}: put each image in the folder of its class")
    roots = _split_roots(path, list(found))  # {"train": path/"train", ...}, or {"": path}
    classes: dict[Path, tuple[str, Path]] = {}  # "group/class" -> (its split, its folder)
    for split, root in roots.items():
        for folder in (f for f in found if f.is_relative_to(root)):
            name = folder.relative_to(root)
            if name in classes:
                raise ValueError(f"class {str(name)!r} stands in {classes[name][1].relative_to(path)} and in "
                                 f"{folder.relative_to(path)}: splits are of classes here, and no class may be in two. "
                                 f"Read one of them, from_folder({str(root)!r}), and use .split_classes(seed=0), or "
                                 "move each class into one split")
            classes[name] = split, folder
    names = sorted(classes)
    files = [(n, file) for n, name in enumerate(names) for file in found[classes[name][1]]]
    images: list[np.ndarray] = []
    for _, file in files:
        images.append(image := _read(file, size, grayscale, invert))
        if image.shape != images[0].shape:
            (h, w), (first_h, first_w) = image.shape[-2:], images[0].shape[-2:]
            raise ValueError(f"{file} is {w} x {h}, but {files[0][1].name} is {first_w} x {first_h}: give size=, e.g. "
                             "size=28, to resize every image")
    return {"images": np.stack(images), "labels": np.array([n for n, _ in files]),
            "names": [_text(name) for name in names],
            "groups": ["" if name.parent == Path(".") else _text(name.parent) for name in names],
            "splits": {s: [n for n, name in enumerate(names) if classes[name][0] == s] for s in roots if s} or None}


def _walk(folder: Path, seen: dict[str, Path], top: bool = False) -> dict[Path, list[Path]]:
    """{folder that holds images: its files}, both sorted; `seen` maps real paths to where they were reached."""
    real = os.path.realpath(folder)
    if real in seen:
        raise ValueError(f"{folder} and {seen[real]} are one folder, reached twice through a link: remove the link")
    seen[real] = folder
    found: dict[Path, list[Path]] = {}
    files: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name in IGNORED:
            continue
        suffix = entry.suffix.lower()
        if entry.is_dir():
            found |= _walk(entry, seen)
        elif entry.is_symlink() and not entry.exists():
            raise ValueError(f"{entry} is a link to {os.readlink(entry)}, which is not there: mend or remove the link")
        elif suffix in UNREADABLE:
            raise ValueError(f"{entry} is an image that cannot be read: convert it to PNG, or remove it")
        elif suffix in SUFFIXES and entry.is_file():
            files.append(entry)
    if files:
        found = {folder: files} | found
    if not found and not top:
        raise ValueError(f"{folder} holds no image ({', '.join(SUFFIXES)}): add some, or remove the folder")
    return found


def _split_roots(path: Path, folders: list[Path]) -> dict[str, Path]:
    """{"train": path/"train", ...} if the folders in `path` are splits of the classes, {"": path} if they are not."""
    parts = [folder.relative_to(path).parts for folder in folders]
    named = {p[0]: SPLITS[p[0].lower()] for p in parts if len(p) > 1 and p[0].lower() in SPLITS}
    others = sorted({p[0] for p in parts} - set(named))
    fix = "give from_folder() the folder above the classes, or rename"
    if named and others:
        raise ValueError(f"{path} holds {', '.join(named)}, which look like splits of the classes, beside "
                         f"{', '.join(others[:3])}: {fix}")
    all_alike = all(name.lower() in SPLITS for name in others)
    if direct := [name for name in named or others if (name,) in parts and (named or all_alike)]:
        raise ValueError(f"{path} holds images directly in {', '.join(direct)}: expected e.g. train/class/image.png")
    if len(set(named.values())) < len(named):
        raise ValueError(f"{path} holds {', '.join(named)}, of which two mean one split: merge them")
    siblings: dict[tuple[str, ...], list[str]] = defaultdict(list)  # a folder -> the classes in it, named like splits
    for p in parts:
        inner = p[1:] if named else p
        if len(inner) > 1 and inner[-1].lower() in SPLITS:
            siblings[p[:-1]].append(p[-1])
        if any(part.lower() in SPLITS for part in inner[:-1]) or len(siblings[p[:-1]]) > 1:
            raise ValueError(f"{path.joinpath(*p)} looks like a split of the classes, which belongs to the top, "
                             f"path/train/class/image.png: {fix}")
    return {split: path / name for name, split in named.items()} or {"": path}


def _read(path: Path, size: int | None, grayscale: bool, invert: bool) -> np.ndarray:  # uint8 (H, W) or (3, H, W)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = _decoded(opened, "L" if grayscale else "RGB")
    except (MemoryError, PermissionError):  # says enough, and the file may be in order
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} has more pixels than Pillow trusts ({error}): make it smaller, or, if you trust it, "
                         "raise PIL.Image.MAX_IMAGE_PIXELS") from error
    except Exception as error:  # a damaged file raises almost anything: OSError, SyntaxError, struct.error, ...
        raise ValueError(f"{path} cannot be read ({error}): replace or remove it") from error
    if size is not None:
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    pixels = 255 - pixels if invert else pixels
    return pixels if grayscale else np.moveaxis(pixels, -1, 0)


def _decoded(opened: Image.Image, mode: str) -> Image.Image:
    if opened.mode[0] in "IF":
        raise ValueError(f"has {opened.mode} pixels; expected 8 bits a channel: scale it to 0..255 and save it again")
    if getattr(opened, "n_frames", 1) > 1 and opened.format != "MPO":  # a phone's JPEG with its thumbnail
        raise ValueError(f"has {opened.n_frames} frames or pages; expected one: save the one that you mean")
    image = ImageOps.exif_transpose(opened)
    if not image.has_transparency_data:
        return image.convert(mode)
    image = image.convert("RGBA")
    low, high = image.getchannel("A").getextrema()
    laid = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert(mode)
    extrema = np.array(laid.getextrema()).reshape(-1, 2)  # (channels, 2)
    if low < high and (extrema == 255).all():
        raise ValueError("is white on transparent, so nothing of it is seen on white paper: lay it on a dark one")
    return laid


def _text(name: Path) -> str:
    """A path as text that can be printed and hashed: bytes that are no UTF-8 are escaped."""
    return os.fsencode(name.as_posix()).decode("utf-8", "backslashreplace")
