"""vmap where it can go, one after another where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

Result = TypeVar("Result")
_LOOPS: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()  # what of whom vmap was tried for, and could not


def at_once_or_loop(what: str, module: nn.Module, map: str, at_once: Callable[[], Result],
                    loop: Callable[[], Result]) -> Result:
    """at_once() with map="vmap", loop() with map="loop"; with map="auto" at_once() if vmap can go there, else loop().

    vmap cannot go through dropout, in-place writes, `.item()`, an `if` on a tensor's value, LSTM and GRU: it raises a
    RuntimeError that means nothing to a reader. With "auto" the loop is run then, and a genuine error comes out of it
    as itself. What the loop could do and vmap could not is remembered as long as the module lives.

    Args:
        what: names the computation, in messages and in that memory.
        module: whom to remember it for.
        at_once: changes nothing but its result, because it may be given up half-way.

    Raises:
        RuntimeError: map="vmap" where vmap cannot go. Out of memory is passed on as it is, and never a reason to loop.
    """
    if map == "loop" or map == "auto" and what in _LOOPS.get(module, ()):
        return loop()
    try:
        return at_once()
    except RuntimeError as error:
        if _out_of_memory(error):
            raise
        if map == "vmap":
            raise RuntimeError(f"{what} of {type(module).__name__} with map='vmap': {error}\nSet map='loop' (and "
                               "compile=False), which anything goes through, or map='auto', which finds out") from error
    result = loop()  # outside of the except clause: an error of its own is not "during handling" of vmap's
    _LOOPS.setdefault(module, set()).add(what)
    return result


def draws(module: nn.Module) -> bool:
    """Whether a forward pass would drop out units, drawn from the one generator that all threads share."""
    return any(m.training and (isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0
                               or isinstance(m, (nn.RNNBase, nn.MultiheadAttention)) and m.dropout > 0)
               for m in module.modules())


def _out_of_memory(error: RuntimeError) -> bool:
    said = str(error).lower()  # a CPU's allocator raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError) or any(
        s in said for s in ("out of memory", "allocate memory", "enough memory"))
