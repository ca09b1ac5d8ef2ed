"""Which run is this? Everything that decides one, written down by name, so that two runs can be told apart."""

import dataclasses
import functools
import hashlib
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metalib.arguments import plain, same, unkept
from metalib.fast.fallback import GENERATORS, state_of
from metalib.fast.twin import captured

MODES = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)  # what computes something else in eval mode


def describe(parts: dict[str, Any], *, contents: bool = True) -> dict[str, Any]:
    """One flat dict {dotted name: plain value} of objects, whoever wrote them; nothing is pickled and no code is run.

        {"learner": "MAML", "learner.inner_lr": 0.1, ..., "learner.net.layers.0.weight": "float32 (40, 1)", ...}

    Of an object: its class, its attributes (those that begin with `_` are its own business) and, if it records them,
    its constructor's arguments. Of a network also the name, shape and dtype of each parameter and buffer and whether it
    is frozen, but not its value. Of a bank of images its digest. Of tensors and arrays their shape, dtype and SHA-256.
    Of a function its name, code, defaults and what it closes over.

    Args:
        parts: name -> object.
        contents: False leaves out what must be read in full, the values of tensors and of banks.
    """
    return {name: value for part, x in parts.items() for name, value in _walk(x, part, contents, ())}


def differences(then: dict[str, Any], now: dict[str, Any], *, ignore: Iterable[str] = ()) -> list[str]:
    """What differs, in words: ["learner.inner_lr: 0.1 in the checkpoint, 0.4 now", ...]; of an object that is another
    one, or was not there, that alone.

    Args:
        then, now: two descriptions.
        ignore: names to pass over, with everything that they hold.
    """
    def show(side: dict[str, Any], name: str) -> str:
        return repr(side[name]) if name in side else "nothing"

    return [f"{k}: {show(then, k)} in the checkpoint, {show(now, k)} now" for k in _differing(then, now, ignore)]


def within(description: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The part of a description that is about these names, and about everything that they hold."""
    return {k: v for k, v in description.items() if any(k == n or k.startswith((f"{n}.", f"{n}[")) for n in names)}


def moved(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The attributes that differ between two descriptions of the same objects: their state, not their settings."""
    return {k.split("[")[0] for k in _differing(before, after)}


def _differing(then: dict[str, Any], now: dict[str, Any], ignore: Iterable[str] = ()) -> list[str]:
    """The names whose values differ, without those that a name which differs holds."""
    passed = within(then | now, ignore)
    wrong = {k: None for k in then | now
             if k not in passed and not ((k in then) == (k in now) and same(then.get(k), now.get(k)))}
    return [k for k in wrong if not any(k[:i] in wrong for i, c in enumerate(k) if c in ".[")]


def _walk(x: Any, name: str, contents: bool, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """(name, plain value) of x and of what it holds; `above` are the objects that hold x."""
    if id(x) in above:
        return
    above = (*above, id(x))
    if isinstance(x, (Tensor, np.ndarray)) and x.ndim:
        yield name, f"{_dtype(x)} {tuple(x.shape)}"
        if contents:
            yield f"{name}.sha256", _array(x)
    elif x is None or isinstance(x, (bool, int, float, str, np.generic, Tensor, np.ndarray)):
        yield name, _scalar(x)
    elif isinstance(x, (type, torch.dtype, torch.device, Path, range, slice, bytes, complex)):
        yield name, x.__name__ if isinstance(x, type) else str(x)
    elif isinstance(x, (list, tuple, set, frozenset, dict)):
        yield from _container(x, name, contents, above)
    elif isinstance(x, GENERATORS):
        yield name, f"{type(x).__name__} {_position(x)}"
    elif isinstance(x, functools.partial):
        yield from _container([x.func, x.args, x.keywords], name, contents, above)
    elif isinstance(x, (types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        yield from _function(x, name, contents, above)
    elif isinstance(x, nn.Module):
        yield from _module(x, name, contents, above)
    else:
        yield name, type(x).__name__
        if isinstance(getattr(x, "digest", None), types.MethodType) and not isinstance(x, type):  # a bank of images
            if contents:
                yield f"{name}.digest", str(x.digest())
        else:
            yield from _attributes(x, name, contents, above)


def _attributes(x: Any, name: str, contents: bool, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    held = dict(getattr(x, "__dict__", {}))
    if dataclasses.is_dataclass(x):  # which may have slots
        held |= {f.name: getattr(x, f.name, None) for f in dataclasses.fields(x)}
    for argument, value in unkept(x).items():  # what the constructor was given and did not keep under that name
        held[f"{argument}=" if argument in held else argument] = value
    for attribute, value in held.items():
        if not attribute.startswith("_") and not (isinstance(x, nn.Module) and attribute == "training"):
            yield from _walk(value, f"{name}.{attribute}", contents, above)


def _module(x: nn.Module, name: str, contents: bool, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    yield name, type(x).__name__
    if isinstance(x, MODES) and not x.training:
        yield f"{name}.mode", "eval"
    yield from _attributes(x, name, contents, above)
    for part, p in (*x.named_parameters(recurse=False), *x.named_buffers(recurse=False)):
        frozen = ", frozen" if isinstance(p, nn.Parameter) and not p.requires_grad else ""
        yield f"{name}.{part}", f"{_dtype(p)} {tuple(p.shape)}{frozen}"
    for part, child in x.named_children():
        yield from _walk(child, f"{name}.{part}", contents, above)


def _container(x: Any, name: str, contents: bool, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """The entries of a short one; of a long one, their number and a hash."""
    short, ordered = len(x) <= 16, sorted(x, key=repr) if isinstance(x, (set, frozenset)) else x
    items = () if not (short or contents) else x.items() if isinstance(x, dict) else enumerate(ordered)
    entries = [pair for k, v in items for pair in _walk(v, f"{name}[{k!r}]", contents, above)]
    if short:
        yield from (entries or [(name, f"empty {type(x).__name__}")])
    else:
        yield name, f"{len(x)} entries"
        if contents:
            yield f"{name}.sha256", _hash(repr(entries).encode())


def _function(x: Any, name: str, contents: bool, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    yield name, x.__name__
    if (code := getattr(x, "__code__", None)) is not None:
        yield f"{name}.code", _code(code)
        holds = {"self": getattr(x, "__self__", None), "defaults": x.__defaults__, "keywords": x.__kwdefaults__,
                 "closure": captured(x) or None}
        yield from _container({k: v for k, v in holds.items() if v is not None}, f"{name}.holds", contents, above)


def _code(code: types.CodeType) -> str:
    """A hash of what a function computes, wherever it stands in its file."""
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return _hash(repr((code.co_code, constants, code.co_names)).encode())


def _array(x: Tensor | np.ndarray) -> str:
    t = torch.as_tensor(x) if isinstance(x, Tensor) or x.dtype.kind in "biufc" else None
    data = repr(x.tolist()).encode() if t is None else t.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return _hash(data)


def _position(x: Any) -> str:
    """A hash of where a stream of random numbers stands."""
    state = state_of(x)
    return _hash(state.numpy() if isinstance(state, Tensor) else repr(state).encode())


def _scalar(x: Any) -> Any:
    value = x.item() if isinstance(x, (np.generic, Tensor, np.ndarray)) else x
    try:
        return plain(value, "")
    except TypeError:  # an enumeration's member, a complex number
        return str(value)


def _dtype(x: Any) -> str:
    return str(x.dtype).removeprefix("torch.")


def _hash(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
