"""Constructor arguments as they were given, and values as plain Python: what a file can keep and `==` can compare."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Recorded:
    """A base that remembers the arguments of its subclass's constructor, whatever the constructor does with them.

    So `metalib.save` can write an argument that is not kept as an attribute, and `meta_train` can tell two runs apart
    that differ in nothing else. `arguments` reads them.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recording(self: Any, *args: Any, **options: Any) -> None:
        outermost = "_given" not in vars(self)  # a constructor that calls its parent's was the one that was called
        vars(self).setdefault("_given", {})
        init(self, *args, **options)
        if outermost:
            bound = signature.bind(self, *args, **options)
            bound.apply_defaults()
            for name, value in list(bound.arguments.items())[1:]:
                now = getattr(self, name, None)
                vars(self)["_given"][name] = _Kept if same(now, value) else (value, now)

    return recording


class _Kept:
    """Stands for an argument that is an attribute of the same name: what that attribute is now is what counts."""


def arguments(x: Recorded) -> dict[str, Any]:
    """The constructor's arguments that would build x as it is now.

    An argument that became the attribute of its name is read from there, because `learner.steps = 5` is a change of
    settings like any other. Another is what was given.

    Raises:
        ValueError: an attribute that the constructor computed from the argument of its name was changed afterwards.
    """
    result = {}
    for name, given in vars(x).get("_given", {}).items():
        if given is _Kept:
            result[name] = getattr(x, name)
            continue
        result[name], then = given
        if not same(getattr(x, name, None), then):
            raise ValueError(f"{type(x).__name__}.{name} was changed after construction: build a new one with {name}=")
    return result


def unkept(x: Any) -> dict[str, Any]:
    """The recorded arguments that did not become the attribute of their name, as they were given."""
    given = vars(x).get("_given", {}) if isinstance(x, Recorded) else {}
    return {name: pair[0] for name, pair in given.items() if pair is not _Kept}


def same(a: Any, b: Any) -> bool:
    """Whether two values are one object, or equal plain values (a list and a tuple are)."""
    if a is b:
        return True
    try:
        return _comparable(plain(a, "")) == _comparable(plain(b, ""))
    except TypeError:
        return False


def _comparable(value: Any) -> Any:
    """A plain value with lists for tuples, and text for what `==` does not answer with one bool, or not with True."""
    if isinstance(value, (list, tuple)):
        return [_comparable(v) for v in value]
    if isinstance(value, dict):
        return {k: _comparable(v) for k, v in value.items()}
    if isinstance(value, Tensor):
        return value.dtype, repr(value.tolist())
    return value if value == value else "nan"


def plain(value: Any, what: str) -> Any:
    """The same value as a file keeps it: NumPy's and PyTorch's scalars become Python's, containers are copied.

    Args:
        value: a number, text, None, dtype, device, tensor, or lists, tuples and dicts of them.
        what: its name, for the error.

    Raises:
        TypeError: anything else, which could be written but not read again without running code from the file.
    """
    if isinstance(value, np.generic):
        return plain(value.item(), what) if not isinstance(value.item(), np.generic) else _refuse(value, what)
    if type(value) is Tensor and not value.requires_grad:
        return plain(value.item(), what) if value.ndim == 0 else value.detach().cpu().clone()
    if value is None or type(value) in (bool, int, float, str, torch.dtype, torch.device, torch.Size):
        return tuple(value) if type(value) is torch.Size else value
    if type(value) in (list, tuple):
        return type(value)(plain(v, f"{what}[{i}]") for i, v in enumerate(value))
    if type(value) is dict and all(type(k) in (str, int) for k in value):
        return {k: plain(v, f"{what}[{k!r}]") for k, v in value.items()}
    return _refuse(value, what)


def check_network(net: Any) -> None:
    """Raise a TypeError unless it is a network that has been built."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"a learner is made of a network, an nn.Module such as conv4(out_dim=5), not of {net!r:.60}")


def check_choice(value: Any, what: str, *choices: str) -> None:
    """Raise a ValueError unless the value is one of these, two or more."""
    if value not in choices:
        raise ValueError(f"{what}={value!r}: expected {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")


def check_whole(least: int, **numbers: Any) -> None:
    """Raise a ValueError unless each is a whole number, at least `least`: check_whole(1, way=way, shot=shot)."""
    for what, value in numbers.items():
        check_number(value, what, whole=True, least=least)


def check_number(value: Any, what: str, *, whole: bool = False, least: int = 0) -> None:
    """Raise a ValueError unless the value is a finite number, `least` or more (Python's, NumPy's or a tensor of one).
    """
    try:
        number = plain(value.detach() if isinstance(value, Tensor) else value, what)  # a learnt rate is a parameter
    except TypeError:
        number = None
    if type(number) not in ((int,) if whole else (int, float)) or not least <= number < math.inf:
        raise ValueError(f"{what}={value!r}: expected a {'whole' if whole else 'finite'} number, at least {least}")


def check_positive(**numbers: Any) -> None:
    """Raise a ValueError unless each is a finite number above 0: check_positive(lr=lr, std=std)."""
    for what, value in numbers.items():
        check_number(value, what)
        if not value > 0:
            raise ValueError(f"{what}={value!r}: expected a number above 0")


def _refuse(value: Any, what: str) -> Any:
    kind = "a parameter" if isinstance(value, nn.Parameter) else f"of type {type(value).__name__}"
    raise TypeError(f"{what} is {kind}, which a file cannot keep: expected a number, text, None, a tensor without "
                    "gradient, or a list, tuple or dict of them. Nothing was written")
