"""A network's twin: the same weights in slots of its own, so that whoever holds the network sees nothing of the work.

Modules are made anew, which is cheap; parameters, buffers and everything else are shared with the original. A twin may
hold other tensors in the places of some parameters: so a network is called with a task's weights.
"""

import functools
import types
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

# A twin's own slots, and what no twin is asked for: hooks of state_dict(), the graph that torch.fx made forward() from.
APART = {"_parameters", "_buffers", "_modules", "_state_dict_hooks", "_state_dict_pre_hooks",
         "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_graph"}
STANDARD = frozenset(vars(nn.Module()))  # attributes that every module has
EMPTY = {dict, OrderedDict, list, tuple, set}
PLAIN = {type(None), bool, int, float, str, bytes, torch.dtype, torch.device}

Module = TypeVar("Module", bound=nn.Module)


def twin(module: Module, instead: Mapping[int, Tensor] | None = None) -> Module:
    """A new module of the same classes that shares every tensor and setting with this one.

    `instead`: id of a parameter -> the tensor that the twin has wherever the module has that parameter, in slots that
    share it and in attributes, lists and dicts beside them.

    Raises:
        ValueError: something that can neither come along nor see other tensors in the places of the parameters: a
            function that captured a layer or a parameter, an object that holds one, a view of a parameter that was made
            beforehand, a compiled or scripted module.
    """
    inside: set[int] = set()
    for m in module.modules():
        if isinstance(m, torch.jit.ScriptModule):
            raise ValueError(f"{m.original_name} is scripted, hence theta's: give the network that was scripted")
        inside.update((id(m), *map(id, m._parameters.values())))
    inside.discard(id(None))  # of a layer without bias
    return _made(module, inside, dict(instead or {}))


def _made(module: nn.Module, inside: set[int], made: dict[int, Any]) -> nn.Module:
    """The module's twin. `inside`: ids of the modules and parameters in it; `made`: what takes their places so far."""
    if id(module) not in made:
        new = made[id(module)] = object.__new__(type(module))
        state = vars(new)
        state.update({"_frozen": frozen_parts(module)} | vars(module), _is_twin=True, _buffers=module._buffers.copy(),
                     _parameters={k: made.get(id(p), p) for k, p in module._parameters.items()},
                     _modules={k: None if m is None else _made(m, inside, made) for k, m in module._modules.items()})
        for k, v in vars(module).items():
            if type(v) not in PLAIN and k not in APART and (type(v) not in EMPTY or v):
                state[k] = _rebuilt(v, inside, made)
    return made[id(module)]


def _rebuilt(v: Any, inside: set[int], made: dict[int, Any]) -> Any:
    """v itself unless it leads to something inside: then the same thing that leads to what takes its place."""
    if isinstance(v, Tensor):
        if id(v._base) in inside:
            raise ValueError(f"an attribute is a view {tuple(v.shape)} of a parameter, and stays one of theta while a "
                             "task has weights of its own: make the view in forward()")
        return made.get(id(v), v)
    if not _leads(v, inside):
        return v
    if isinstance(v, nn.Module):
        return _made(v, inside, made)
    if type(v) in (list, tuple, set):
        return type(v)(_rebuilt(e, inside, made) for e in v)
    if type(v) in (dict, OrderedDict):
        return type(v)((k, _rebuilt(e, inside, made)) for k, e in v.items())
    if isinstance(v, types.MethodType):
        return types.MethodType(v.__func__, _rebuilt(v.__self__, inside, made))
    if isinstance(v, functools.partial):
        func, args, keywords = (_rebuilt(e, inside, made) for e in (v.func, v.args, v.keywords))
        return functools.partial(func, *args, **keywords)
    what = getattr(v, "__qualname__", type(v).__name__)
    raise ValueError(f"{what} captured or holds a layer or a parameter, and would use theta's weights in every task: "
                     "let it read the parameter from its module; instead of torch.compile(net) give the net itself")


def is_twin(module: nn.Module) -> bool:
    """Whether `twin` made this module."""
    return vars(module).get("_is_twin", False)


def frozen_parts(module: nn.Module) -> frozenset[str]:
    """Names of the module's own parameters, not those of its children, that do not require a gradient."""
    return frozenset(k for k, p in module._parameters.items()
                     if p is not None and not p.requires_grad and isinstance(p, nn.Parameter))


def _leads(v: Any, inside: set[int], depth: int = 6) -> bool:
    """Whether v is, holds or captured one of the things with these ids."""
    if type(v) in PLAIN or isinstance(v, (type, types.ModuleType)):
        return False
    if id(v) in inside:
        return True
    if isinstance(v, (nn.Module, Tensor)) or not depth:
        return False
    held: Iterable[Any] = ()
    if isinstance(v, (list, tuple, set, dict)):
        held = v.values() if isinstance(v, dict) else v
        if PLAIN.issuperset(map(type, held)):  # a vocabulary, quickly
            return False
    elif isinstance(v, types.FunctionType):
        named = [g for k in v.__code__.co_names if isinstance(g := v.__globals__.get(k), nn.Module)]
        held = [*captured(v), *named, *(v.__defaults__ or ()), *(v.__kwdefaults__ or {}).values(), *vars(v).values()]
    elif isinstance(v, types.MethodType):
        held = [v.__self__, v.__func__]
    elif isinstance(v, functools.partial):
        held = [v.func, v.args, v.keywords]
    elif isinstance(v, weakref.ref):  # to a module; an LSTM keeps some to its weights, for CUDA's memory layout
        held = [v()] if isinstance(v(), nn.Module) else []
    elif hasattr(v, "__dict__"):
        held = vars(v).values()
    return any(_leads(e, inside, depth - 1) for e in held)


def captured(f: types.FunctionType) -> list[Any]:
    """What a function closes over, but for a name that has no value yet."""
    return [c.cell_contents for c in f.__closure__ or () if c != types.CellType()]
