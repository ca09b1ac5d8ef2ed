"""What a reader brings: arrays and labels, checked, in the form that a bank keeps."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Facts = Mapping[str, np.ndarray]  # name -> numbers or strings, one an example


def as_uint8(images: Any) -> Tensor:
    """(M, H, W) or (M, C, H, W); uint8, float in [0, 1] or bool -> uint8 (M, C, H, W), or an error."""
    try:
        images = torch.as_tensor(_array(images) if isinstance(images, np.ndarray) else images).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"images cannot be made one tensor ({error}): resize them, or use from_folder()") from error
    if images.ndim == 3:
        images = images[:, None]
    shape = tuple(images.shape)
    if images.ndim != 4 or 0 in shape:
        raise ValueError(f"images have shape {shape}; expected (M, H, W) or (M, C, H, W), none of them 0")
    if shape[-1] in (1, 2, 3, 4) and shape[1] not in (1, 2, 3, 4):
        raise ValueError(f"images {shape} look channels-last; expected (M, C, H, W): use np.moveaxis(images, -1, 1)")
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if images.is_complex():
        raise TypeError(f"images are {images.dtype}; expected uint8, float in [0, 1], or bool")
    if images.is_floating_point():
        low, high = float(images.amin()), float(images.amax())
        if not (low >= 0 and high <= 1):  # written so that NaN fails as well
            raise ValueError(f"images from {low:.9g} to {high:.9g}; expected [0, 1]: divide by 255, or .clip(0, 1)")
        if 0 < high < 1.5 / 255:  # nothing would be left but 0 and 1 of 255
            raise ValueError(f"float images reach {high:.3g}: were they divided by 255 twice? Multiply them by 255")
        return (images * 255).round().to(torch.uint8)
    low, high = (int(m) for m in images.to(images.dtype if images.dtype == torch.uint8 else torch.int64).aminmax())
    if high == 1 and low == 0:
        raise ValueError(f"{images.dtype} images hold 0 and 1 only: use images.astype(bool), or images * 255")
    if images.dtype == torch.uint8:
        return images
    fix = "astype('uint8')" if 0 <= low and high <= 255 else f"astype('float32') / {high}"
    raise TypeError(f"images are {images.dtype} from {low} to {high}; expected uint8: use images.{fix}")


def as_examples(x: Any) -> Tensor:
    """Numbers (M, ...) of any kind -> a dense tensor: floats and booleans as they are, integers signed; or an error."""
    if not isinstance(x, Tensor):
        try:
            array = _array(x)
        except ValueError as error:
            raise ValueError(f"the examples differ in length ({error}): pad them, and mask the padding") from error
        if array.dtype.kind not in "biuf":
            raise TypeError(f"the examples are {array.dtype}; expected numbers: encode texts as token ids or features, "
                            "categories as codes, and make sparse matrices dense with .toarray()")
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            array = array.astype(np.float64)
        x = torch.as_tensor(array)
    if x.layout != torch.strided or x.is_quantized or x.is_complex():
        raise TypeError(f"the examples are {x.layout} {x.dtype}: x.to_dense(), x.dequantize() or torch.view_as_real(x)")
    if x.ndim == 0 or 0 in x.shape:
        raise ValueError(f"the examples have shape {tuple(x.shape)}; expected (M, ...), none of them 0")
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):  # of which PyTorch can do little
        x = _signed(x, "the examples")
    if x.is_floating_point() and not bool((finite := torch.isfinite(x)).all()):
        bad = int(torch.nonzero(~finite)[0, 0])
        raise ValueError(f"example {bad} holds NaN or infinity: fill in or drop what is missing")
    return x.detach()


def as_classes(labels: Any, n: int, what: str) -> tuple[Tensor, list[int] | list[str]]:
    """(class of each of n examples, numbered 0 .. in ascending order, and the distinct labels), or an error."""
    strings = None
    if not isinstance(labels, Tensor):
        array = _array(labels)
        if isinstance(labels, (list, tuple)) or array.dtype == object:  # NumPy turns ["a", None] or ["a", nan] to text
            kinds = {type(v) for v in np.asarray(labels, dtype=object).ravel()}
            if not all(issubclass(k, (str, bytes)) for k in kinds) and any(
                    issubclass(k, (str, bytes)) or k is type(None) for k in kinds):
                raise TypeError(f"labels mix {', '.join(sorted(k.__name__ for k in kinds))}: one kind, none missing")
            array = np.array(array.tolist()) if array.dtype == object else array
        if array.dtype.kind in "SUT":
            strings = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array.astype(str)
        elif array.dtype.kind not in "biufc":
            raise TypeError(f"labels are {array.dtype}; expected integers or strings, one class an example")
        labels = torch.zeros(array.shape, dtype=torch.int64) if strings is not None else torch.as_tensor(array)
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"labels are {labels.dtype}; expected integers or strings: .astype('int64') of whole numbers")
    if tuple(labels.shape) != (n,):
        raise ValueError(f"{n} {what} but labels of shape {tuple(labels.shape)}: one label each, argmax(-1) of one-hot")
    if strings is not None:
        values, inverse = np.unique(strings, return_inverse=True)
        return torch.as_tensor(inverse), values.tolist()
    values, inverse = torch.unique(_signed(labels, "labels"), return_inverse=True)
    return inverse, values.tolist()


def as_facts(about: Mapping[str, Any] | None, n: int) -> dict[str, np.ndarray]:
    """{name: numbers or strings, (n,)} from any arrays or lists (booleans are categories), or an error."""
    facts = {}
    for name, given in (about or {}).items():
        array = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
        array = np.array(array.tolist()) if array.dtype == object else array
        array = array.astype(str) if array.dtype.kind in "bSUT" else array
        if array.shape != (n,) or array.dtype.kind not in "iufU" or array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"about={{{name!r}: ...}} is {array.dtype} of shape {array.shape}; expected numbers or "
                             f"strings, ({n},), one an example and none missing: say 'unknown' where it is")
        facts[str(name)] = array
    return facts


def as_indices(classes: Iterable[int], what: str) -> list[int]:
    """Class indices, Python's, NumPy's or PyTorch's integers; a mask or a fraction would name other classes."""
    classes = classes.tolist() if isinstance(classes, (np.ndarray, Tensor)) else list(classes)
    classes = [c.item() if isinstance(c, (np.generic, Tensor)) else c for c in classes]
    for c in classes:
        if isinstance(c, bool) or not isinstance(c, int):
            fix = "np.flatnonzero(mask)" if isinstance(c, bool) else "names.index(name) gives the index of a name"
            raise TypeError(f"{what} has {c!r}; expected class indices, integers: {fix}")
    return classes


def _array(x: Any) -> np.ndarray:
    """As PyTorch takes an array: no foreign byte order, no negative strides (a flip), writable; nothing masked."""
    if np.ma.is_masked(x):
        raise TypeError("some entries are masked: fill them, with .filled(value), or drop what has them")
    array = np.asarray(x)
    return np.require(array, array.dtype.newbyteorder("="), ["C", "W"])


def _signed(x: Tensor, what: str) -> Tensor:
    signed = x.long()
    if x.dtype == torch.uint64 and bool((signed < 0).any()):  # wrapped around
        raise ValueError(f"{what} hold integers of 2^63 and more: number them, np.unique(x, return_inverse=True)[1]")
    return signed
