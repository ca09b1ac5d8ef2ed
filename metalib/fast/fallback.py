"""vmap where it can go, one after another where it cannot."""

import contextlib
import pickle
import random
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

Result = TypeVar("Result")
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
# What of whom vmap was tried for, and could not; "draws" of whom threads were tried for, and may not; "asked" of whom
# it is known that NumPy's and Python's generators are not drawn from.
_LOOPS: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()


def at_once_or_loop(what: str, module: nn.Module, map: str, at_once: Callable[[], Result],
                    loop: Callable[[], Result]) -> Result:
    """at_once() with map="vmap", loop() with map="loop"; with map="auto" at_once() if vmap can go there, else loop().

    vmap cannot go through dropout, in-place writes, `.item()`, an `if` on a tensor's value, LSTM and GRU: it raises a
    RuntimeError that means nothing to a reader. With "auto" the loop is run then, and a genuine error comes out of it
    as itself. What the loop could do and vmap could not is remembered as long as the module lives. Where NumPy's or
    Python's generators are drawn from, which vmap would do once for all tasks, it cannot go either.

    Args:
        what: names the computation, in messages and in that memory.
        module: whom to remember it for.
        at_once: changes nothing but its result, because it may be given up half-way.

    Raises:
        RuntimeError: map="vmap" where vmap cannot go. Out of memory is passed on as it is, and never a reason to loop.
    """
    if map == "loop" or map == "auto" and what in _LOOPS.get(module, ()):
        with explained():
            return loop()
    try:
        result, drawn = watched(module, at_once, pytorch=False)
        if drawn:
            raise RuntimeError("the network draws from NumPy's or Python's generator, once for all tasks")
        return result
    except RuntimeError as error:
        if _out_of_memory(error):
            raise
        if map == "vmap":
            raise RuntimeError(f"{what} of {type(module).__name__} with map='vmap': {error}\nSet map='loop' (and "
                               "compile=False), which more goes through, or map='auto', which finds out") from error
    with explained():  # outside of the except clause: an error of its own is not "during handling" of vmap's
        result = loop()
    _LOOPS.setdefault(module, set()).add(what)
    return result


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Add the way out to the error of an operator whose derivative cannot be differentiated again."""
    try:
        yield
    except RuntimeError as error:
        if re.search(r"derivative for .* is not implemented|support double backward", str(error)) is None:
            raise
        raise RuntimeError(f"{error}\nA second-order meta-gradient needs that derivative. For attention: with "
                           "torch.nn.attention.sdpa_kernel(SDPBackend.MATH) around the call; for torch.compile(net): "
                           "give the net itself; else use another operator, or order=1 (FOMAML)") from error


def draws(module: nn.Module) -> bool:
    """Whether a forward pass would draw from a generator that all threads share, as far as is known."""
    return "draws" in _LOOPS.get(module, ()) or bool(_own_generators(module))


def remember_draws(module: nn.Module) -> None:
    """Layers do not say that they draw; this one did."""
    _LOOPS.setdefault(module, set()).add("draws")


def watched(module: nn.Module, f: Callable[[], Result], *, pytorch: bool = True) -> tuple[Result, bool]:
    """(f(), whether it drew at random); if it did, or failed, all generators have their states from before.

    NumPy's and Python's, which are slow to read, and those that the module holds are asked until one call for this
    module drew from none of them. Without `pytorch`, what PyTorch's own drew does not count.
    """
    known = _LOOPS.setdefault(module, set())
    beside = [] if "asked" in known else [random, np.random, *_own_generators(module)]
    generators = [torch.default_generator, *beside]
    before = [state_of(g) for g in generators]
    drawn = True
    try:
        result = f()
        drawn = pickle.dumps([state_of(g) for g in generators][not pytorch:]) != pickle.dumps(before[not pytorch:])
    finally:
        for g, state in zip(generators, before) if drawn else ():
            _set_state(g, state)
    if not drawn:
        known.add("asked")
    return result, drawn


def _own_generators(module: nn.Module) -> list[Any]:
    return [v for m in module.modules() for v in vars(m).values()
            if isinstance(v, GENERATORS) and not isinstance(v, random.SystemRandom)]  # that one has no state


def state_of(g: Any) -> Any:
    """The state of a generator: of Python's (which says getstate), PyTorch's or NumPy's."""
    if isinstance(g, np.random.Generator):
        return g.bit_generator.state
    return (g.getstate if hasattr(g, "getstate") else g.get_state)()


def _set_state(g: Any, state: Any) -> None:
    if isinstance(g, np.random.Generator):
        g.bit_generator.state = state
    else:
        (g.setstate if hasattr(g, "setstate") else g.set_state)(state)


def _out_of_memory(error: RuntimeError) -> bool:
    said = str(error).lower()  # a CPU's allocator raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError) or any(
        s in said for s in ("out of memory", "allocate memory", "enough memory"))
