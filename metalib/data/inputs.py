"""What a reader brings: arrays and image folders, checked, in the form that ClassImages keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


class Folder(NamedTuple):
    """What a folder of images holds, as `ClassImages.from_arrays` takes it."""

    images: np.ndarray  # uint8 (M, H, W) or (M, 3, H, W)
    labels: np.ndarray  # int64 (M,)
    names: list[str]  # "group/class"
    groups: list[str]


def as_uint8(images: Any) -> Tensor:
    """(M, H, W) or (M, C, H, W), uint8 or float in [0, 1] -> uint8 (M, C, H, W), or an error."""
    images = torch.as_tensor(images)
    if images.ndim == 3:
        images = images[:, None]
    shape = tuple(images.shape)
    if images.ndim != 4 or 0 in shape:
        raise ValueError(f"images have shape {shape}; expected (M, H, W) or (M, C, H, W), none of them 0")
    if shape[-1] in (1, 3, 4) and shape[1] not in (1, 3, 4):
        raise ValueError(
            f"images have shape {shape}, which looks channels-last; expected (M, C, H, W): "
            "use np.moveaxis(images, -1, 1)"
        )
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise TypeError(f"images are {images.dtype}; expected uint8, or float in [0, 1]: use images.astype('uint8')")
    low, high = float(images.amin()), float(images.amax())
    if not (low >= 0 and high <= 1):  # written so that NaN fails as well
        raise ValueError(f"float images range from {low:g} to {high:g}; expected [0, 1]: divide by 255, or pass uint8")
    return (images * 255).round().to(torch.uint8)


def read_folder(path: str | Path, *, size: int | None, grayscale: bool, invert: bool) -> Folder:
    """Image files, one folder a class, at any depth: `path/class/*.png` or `path/group/class/*.png`.

    Folders and files are read in sorted order, so the result does not depend on the file system. `size`
    resizes every image to size x size (Lanczos); without it all must have one size. Raises FileNotFoundError
    or ValueError naming the folder or file, and the fix.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; expected one that holds one folder a class")
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise FileNotFoundError(f"no images in {path}: expected path/class/image with {', '.join(SUFFIXES)}")
    if files_at_top := [p.name for p in files if p.parent == path]:
        raise ValueError(f"{files_at_top[0]} lies directly in {path}: put each image in the folder of its class")
    folders = sorted({p.parent for p in files})
    images = [_read(p, size, grayscale, invert) for p in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            h, w = image.shape[-2:]
            raise ValueError(
                f"{file} is {w} x {h}, but {files[0].name} is {images[0].shape[-1]} x {images[0].shape[-2]}: "
                "give size=, e.g. size=28, to resize every image"
            )
    number = {folder: i for i, folder in enumerate(folders)}
    relative = [folder.relative_to(path) for folder in folders]
    return Folder(
        images=np.stack(images),
        labels=np.array([number[p.parent] for p in files]),
        names=[r.as_posix() for r in relative],
        groups=["" if r.parent == Path(".") else r.parent.as_posix() for r in relative],
    )


def _read(path: Path, size: int | None, grayscale: bool, invert: bool) -> np.ndarray:  # uint8 (H, W) or (3, H, W)
    try:
        with Image.open(path) as opened:
            if opened.mode[0] in "IF":
                raise ValueError(f"has {opened.mode} pixels; expected 8 bits a channel")
            image = opened.convert("L" if grayscale else "RGB")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): replace or remove it") from error
    if size is not None:
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    pixels = 255 - pixels if invert else pixels
    return pixels if grayscale else np.moveaxis(pixels, -1, 0)
