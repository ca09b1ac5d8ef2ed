"""The whole meta-step as one compiled function."""

import functools
import types
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.weak import WeakIdRef

from metalib.fast.private import private
from metalib.fast.twin import captured

_COMPILED: WeakKeyDictionary[Any, dict[Any, Callable[..., Any]]] = WeakKeyDictionary()


def compiled(f: Callable[..., Any], learner: torch.nn.Module, *args: Any,
             backend: bool | str = True) -> Callable[..., Any]:
    """`torch.compile`'s version of f(learner, *args), made at the first call for these shapes and settings.

    `torch.compile(net)` has no double backward, so the gradient itself must be what is compiled: f is run once on
    tracing tensors, which leaves a list of elementary operations with every inner and outer derivative written out,
    and that list is compiled. Nothing in it may depend on values, and no learner's does.

    Frozen parameters and buffers are inputs of the compiled function, so they may change or be replaced. Whatever else
    the learner holds is compiled in: a loss, the attributes of its modules, their training mode. Another value makes
    another version. What it does not hold (a global variable, a method replaced on its class) is not seen.

    Args:
        f: (learner, *args) -> tensors.
        learner: as above; those of its parameters that require a gradient are taken from the args.
        args: tensors, and anything plain, in any nesting.
        backend: of `torch.compile`; True means its default, which needs a C++ compiler on a CPU.

    Raises:
        RuntimeError: the learner changes what it holds (appends to a list, say) when it is called: a compiled step
            would not. (An attribute that it sets on itself is gone after the call, compiled or not.)
    """
    state, inputs = fixed(learner), {id(t) for t in (*learner.parameters(), *learner.buffers())}
    leaves, form = tree_flatten((state, args))
    tensors = [a for a in leaves if isinstance(a, torch.Tensor)]
    kind = tensors[0].device.type
    settings = held(learner, inputs)
    key = (f, str(backend), str(form), settings, torch.get_default_dtype(),
           torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind),
           *((t.shape, t.stride(), t.dtype, t.device) if isinstance(t, torch.Tensor) else t for t in leaves))
    versions = _COMPILED.setdefault(learner, {})
    if key not in versions:
        result: list[Any] = [None]  # the form of what f returns

        def flat(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            rest = iter(given)
            state, whole = tree_unflatten([next(rest) if isinstance(a, torch.Tensor) else a for a in leaves], form)
            state = {f"learner.{k}": t for k, t in state.items()}
            outputs, result[0] = tree_flatten(functional_call(_Call(f, mine), state, whole))
            return tuple(outputs)

        mine = private(learner)  # nobody else sees tracing tensors in the learner
        before = held(mine, inputs)
        graph = make_fx(flat)(*tensors)
        if held(mine, inputs) != before:
            raise RuntimeError(f"{type(learner).__name__} changes what it holds in a call: set compile=False")
        fast = torch.compile(graph, **({} if backend is True else {"backend": backend}))
        versions[key] = lambda given: tree_unflatten(list(fast(*given)), result[0])  # no learner, or it would never go

    def call(learner: torch.nn.Module, *given: Any) -> Any:
        with torch.no_grad():  # the graph has every derivative written out
            return versions[key]([a for a in tree_flatten((fixed(learner), given))[0] if isinstance(a, torch.Tensor)])

    return call


def fixed(learner: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The frozen parameters and the buffers, name -> tensor."""
    frozen = {k: p.detach() for k, p in learner.named_parameters() if not p.requires_grad}
    return {**frozen, **dict(learner.named_buffers())}


def check_backend(backend: bool | str, map: str) -> None:
    """Refuse what `compile=` cannot mean.

    Raises:
        ValueError: a backend that `torch.compile` does not have, or a task loop, which is not compiled.
    """
    if isinstance(backend, str) and backend not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise ValueError(f"compile={backend!r}: expected True, False or one of {known}")
    if backend and map == "loop":
        raise ValueError(f"compile={backend!r} with map='loop': only the step over all tasks at once is compiled; set "
                         "map='vmap' or compile=False")


class _Call(torch.nn.Module):
    """f(learner, *args) as a module, so that `functional_call` can put tracing tensors into the learner."""

    def __init__(self, f: Callable[..., Any], learner: torch.nn.Module) -> None:
        super().__init__()
        self.f, self.learner = f, learner

    def forward(self, *args: Any) -> Any:
        return self.f(self.learner, *args)


def held(value: Any, inputs: set[int], path: tuple[int, ...] = ()) -> Any:
    """Everything that `value` holds, as something to compare: equal before and after, or it has changed.

    Containers, functions with what they close over, and objects with attributes are taken apart. What cannot be is
    compared by identity, through a weak reference where there is one: nothing here keeps a learner alive.

    Args:
        inputs: ids of the tensors that are inputs of the compiled function, and may change.
        path: ids of what `value` is within: a cycle ends there.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, torch.device)):
        return type(value), repr(value)  # repr, because nan is not equal to itself
    if id(value) in path:
        return "cycle", path.index(id(value))
    path = (*path, id(value))
    if isinstance(value, torch.Tensor):
        return "input" if id(value) in inputs else (_identity(value), value._version)
    if isinstance(value, dict):
        return type(value), tuple((held(k, inputs, path), held(v, inputs, path)) for k, v in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value), tuple(held(v, inputs, path) for v in value)
    if isinstance(value, types.FunctionType):
        return value.__code__, held((captured(value), value.__defaults__, value.__kwdefaults__), inputs, path)
    if isinstance(value, types.MethodType):
        return "method", held((value.__func__, value.__self__), inputs, path)
    if isinstance(value, functools.partial):
        return "partial", held((value.func, value.args, value.keywords), inputs, path)
    if hasattr(value, "tobytes"):  # a NumPy array or number
        return type(value), str(value.dtype), value.shape, value.tobytes()
    attributes = None if isinstance(value, type) else object.__getstate__(value)  # of __dict__ and of __slots__
    return (type(value), held(attributes, inputs, path)) if attributes is not None else _identity(value)


def _identity(value: Any) -> Any:
    """Equal to what this returns of the very same object while that lives, and to nothing that is made afterwards."""
    try:
        return id(value), WeakIdRef(value)
    except TypeError:  # no weak reference to it, as to a built-in function
        return id(value), repr(value)
