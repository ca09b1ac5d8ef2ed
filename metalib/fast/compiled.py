"""The whole meta-step as one compiled function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten

_COMPILED: WeakKeyDictionary[Any, dict[Any, Callable[..., Any]]] = WeakKeyDictionary()


def compiled(f: Callable[..., Any], learner: torch.nn.Module, *args: Any,
             backend: bool | str = True) -> Callable[..., Any]:
    """`torch.compile`'s version of f(learner, *args), made at the first call for these shapes and settings.

    `torch.compile(net)` has no double backward, so the gradient itself must be what is compiled: f is run once on
    tracing tensors, which leaves a list of elementary operations with every inner and outer derivative written out,
    and that list is compiled. Nothing in it may depend on values, and no learner's does.

    Args:
        f: (learner, *args) -> tensors.
        learner: settings such as `inner_lr` are compiled in; changing one makes another version.
        args: tensors, and anything plain, in any nesting.
        backend: of `torch.compile`; True means its default, which needs a C++ compiler on a CPU.
    """
    leaves, form = tree_flatten(args)
    tensors = [a for a in leaves if isinstance(a, torch.Tensor)]
    settings = {k: v for k, v in vars(learner).items() if isinstance(v, (bool, int, float, str))}
    key = (f, str(backend), str(form), torch.is_autocast_enabled(tensors[0].device.type), repr(settings),
           *((t.shape, t.stride(), t.dtype, t.device) if isinstance(t, torch.Tensor) else t for t in leaves))
    versions = _COMPILED.setdefault(learner, {})
    if key not in versions:
        result: list[Any] = [None]  # the form of what f returns

        def flat(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            rest = iter(given)
            whole = tree_unflatten([next(rest) if isinstance(a, torch.Tensor) else a for a in leaves], form)
            outputs, result[0] = tree_flatten(f(learner, *whole))
            return tuple(outputs)

        graph = make_fx(flat)(*tensors)
        fast = torch.compile(graph, **({} if backend is True else {"backend": backend}))
        versions[key] = lambda given: tree_unflatten(list(fast(*given)), result[0])  # no learner, or it would never go

    def call(_: torch.nn.Module, *given: Any) -> Any:
        with torch.no_grad():  # the graph has every derivative written out
            return versions[key]([a for a in tree_flatten(given)[0] if isinstance(a, torch.Tensor)])

    return call
