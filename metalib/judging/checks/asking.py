"""What every check shares: call the reader's function, and turn whatever comes back into numbers or into a sentence.

A check demands properties. What it says names the property and the input, and never the value that was wanted.
"""

from __future__ import annotations

import linecache
import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def demand(holds: bool | Tensor, sentence: str) -> None:
    """Raise AssertionError(sentence) unless it holds; a statement that `python -O` does not remove, as it does assert.

    Write a comparison so that NaN fails it: `demand(error <= tol, ...)`.
    """
    if not bool(holds):
        raise AssertionError(sentence)


@contextmanager
def given(words: str) -> Iterator[None]:
    """Within it, every sentence ends with the input in words."""
    try:
        yield
    except AssertionError as error:
        sentence = str(error)
        raise AssertionError(f"{sentence}{'' if sentence.endswith('?') else '.'} This was with {words}.") from None


def ask(answer: Callable[..., Any], *args: Any) -> Any:
    """answer(*args), or an AssertionError with a sentence: no function, the stub, an exception, a changed argument.

    Tensors and modules among the arguments may not change; a generator does.
    """
    if not callable(answer):
        raise AssertionError(f"a check wants your function itself, as in check_f(f); it was given {describe(answer)}")
    name = getattr(answer, "__name__", type(answer).__name__)
    before = [t.detach().clone() for t in _tensors(args)]
    try:
        value = answer(*args)
    except Exception as error:  # whatever the reader's code raises
        what = " ".join(str(error).split())[:200]
        raise AssertionError(f"{name} raised {type(error).__name__} ({what}){_where(answer, error)}") from None
    if value is None or value is Ellipsis:
        raise AssertionError(f"{name} returned {value}: it is still the empty stub, or a return is missing")
    after = [t.detach() for t in _tensors(args)]
    demand(len(after) == len(before) and all(map(torch.equal, after, before)),
           f"{name} changed what it was given: work on copies, another caller needs the originals")
    return value


def tensor(value: Any, what: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """`value` as float64 on the CPU, detached: from a tensor, an array, a number, or lists and tuples of them.

    Args:
        value: what the reader returned.
        what: its name, for the sentence.
        shape: demanded, if given.
    """
    try:
        t = _stacked(value)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"{what} should be numbers in a tensor, an array or a list of equal rows; "
                             f"you returned {describe(value)}") from None
    demand(shape is None or tuple(t.shape) == shape, f"{what} should have the shape {shape}, not {tuple(t.shape)}")
    return t


def whole(value: Any, what: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """`tensor` of whole numbers, as int64; 3.0 is one."""
    t = tensor(value, what, shape)
    i = t.long()
    if not torch.equal(i.double(), t):  # nor is NaN
        raise AssertionError(f"{what} should be whole numbers; yours begin {t.flatten()[:6].tolist()}")
    return i


def number(value: Any, what: str) -> float:
    """One number, as a float: from a float, an int, a NumPy scalar or a tensor with one entry."""
    t = tensor(value, what)
    demand(t.numel() == 1, f"{what} should be one number; you returned {describe(value)}")
    return float(t)


def pair(value: Any, what: str) -> tuple[Any, Any]:
    """Two things in a tuple, a list, a tensor or an array."""
    sized = isinstance(value, tuple | list) or isinstance(value, Tensor | np.ndarray) and value.ndim > 0
    demand(sized and len(value) == 2, f"{what} should be two things, a pair; you returned {describe(value)}")
    return value[0], value[1]


def named(value: Any, like: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """A dict with the names and shapes of `like`, each entry as `tensor` gives it."""
    demand(isinstance(value, Mapping), f"{what} should be a dict, name -> tensor; you returned {describe(value)}")
    demand(set(value) == set(like), f"{what} should have the names {sorted(like)}; yours has {sorted(map(str, value))}")
    return {k: tensor(value[k], f"{what}[{k!r}]", tuple(like[k].shape)) for k in like}


def close(got: float, right: float, tol: float) -> bool:
    """Whether |got - right| <= tol |right|; never for NaN."""
    return abs(got - right) <= tol * abs(right)


def off(got: float, right: float) -> str:
    """How far `got` is from `right`, which is not 0, without saying what that is: "is 2.3 % too large"."""
    if not math.isfinite(got) or got == 0:
        return f"is {got:g}"
    ratio = got / right
    if ratio < 0:
        return "has the wrong sign"
    if not 0.5 < ratio < 2:
        return f"is {ratio:.3g} times too large" if ratio > 1 else f"is {1 / ratio:.3g} times too small"
    return f"is {percent(abs(ratio - 1))} too {'large' if ratio > 1 else 'small'}"


def percent(share: float) -> str:
    """0.5 as "50 %", 0.00012 as "0.012 %"."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def apart(a: float, b: float) -> tuple[str, str]:
    """Two numbers with as few digits, four at least, as show that they differ."""
    pairs = [(f"{a:.{d}g}", f"{b:.{d}g}") for d in range(4, 18)]
    return next((p for p in pairs if p[0] != p[1]), pairs[0])


def distance(got: Tensor, right: Tensor) -> float:
    """|got - right| / |right| over all entries."""
    return float((got - right).norm() / right.norm())


def describe(value: Any) -> str:
    """What something is, in a few words."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list | dict | set):
        return f"a {type(value).__name__} of {len(value)}"
    if value is None or isinstance(value, bool | int | float | complex | str):
        return f"{type(value).__name__} {value!r}"[:60]
    return f"an object of type {type(value).__name__}"


def _stacked(value: Any) -> Tensor:
    if isinstance(value, Real):  # bool, int, float, NumPy's scalars, fractions
        return torch.tensor(float(value), dtype=torch.float64)
    if isinstance(value, list | tuple | range):
        return torch.stack([_stacked(v) for v in value])
    if not isinstance(value, Tensor) and hasattr(value, "__array__"):
        value = torch.as_tensor(np.array(value))
    if not isinstance(value, Tensor) or value.is_complex():
        raise TypeError
    return value.detach().to("cpu", torch.float64)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in arguments: alone, in a module, in a tuple or in a list."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.state_dict(keep_vars=True).values()
    elif isinstance(value, tuple | list):
        for v in value:
            yield from _tensors(v)


def _where(answer: Callable[..., Any], error: Exception) -> str:
    """The line of the reader's own code that an exception came from, quoted, where it can be found."""
    code = getattr(answer, "__code__", None)
    lines = [number for frame, number in traceback.walk_tb(error.__traceback__) if frame.f_code is code]
    text = linecache.getline(code.co_filename, lines[-1]).strip() if lines else ""
    return f" at `{text}`" if text else ""
