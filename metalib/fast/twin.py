"""A network's twin: the same weights in slots of its own, so that whoever holds the network sees nothing of the work.

`functional_call` puts other tensors into a module's slots while it runs, a layer with running statistics writes its
buffers, and `eval()` switches modes. Done to the network itself, each of these is visible to another thread and, after
an error, to everybody. So the library works on a twin (`private`): modules are made anew, cheaply; parameters, buffers
and everything else are shared with the original. In a twin one rule holds for buffers and modes:

    A layer with running statistics (batch norm, instance norm) uses the statistics of the batch at hand, in training
    and at test alike, unless it was frozen (`.eval()` on the layer or on the network): then it uses its stored ones.
    Buffers are read, never written (`read_only`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

STATISTICS = (_BatchNorm, _InstanceNorm)  # layers whose eval() means stored statistics, not the absence of noise
# A twin's own slots, and hooks of state_dict(), which no twin is asked for.
APART = {"_parameters", "_buffers", "_modules", "_state_dict_hooks", "_state_dict_pre_hooks",
         "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"}
PLAIN = {type(None), bool, int, float, str, bytes, torch.dtype, torch.device}

Module = TypeVar("Module", bound=nn.Module)


class Tied(Exception):
    """Something in a module leads back to the module itself, where a twin cannot follow."""


@contextlib.contextmanager
def private(module: Module, *, evaluating: bool = False) -> Iterator[Module]:
    """A twin of the module for the body, or the module itself if it is one. With `evaluating`, dropout is off in it.

    (In the body `_frozen` says of every module which parameters do not require a gradient, whatever takes their place.)

    Where no twin can be made (`twin` says when), the body gets the module itself. It has then the module to itself
    among all bodies of this function, and modes and statistics are as before when it ends; but whoever calls such a
    module from another thread without this function may see the work.

    Raises:
        ValueError: a SyncBatchNorm that is not frozen.
    """
    if _is_twin(module) and not evaluating:
        yield module
    elif (mine := twin(module)) is not None:
        _settle(mine, evaluating)
        yield mine
    else:
        with _in_place:
            before = [(m, m.training, getattr(m, "track_running_stats", None), m._buffers.copy())
                      for m in module.modules()]
            marked = [m for m in module.modules() if "_frozen" not in vars(m)]
            try:
                for m in marked:
                    vars(m)["_frozen"] = _frozen(m)
                _settle(module, evaluating)
                yield module
            finally:
                for m in marked:
                    del vars(m)["_frozen"]
                for m, training, tracks, buffers in before:
                    m.training = training
                    if isinstance(m, STATISTICS):
                        m.track_running_stats = tracks
                        m._buffers.update(buffers)


def call(module: nn.Module, params: dict[str, Tensor], *args: Any) -> Any:
    """module(*args) with `params` in place of those of its parameters; the module itself is never touched.

    Every call that a learner makes to a network goes through here. Raises what `private` and `read_only` raise.
    """
    with private(module) as mine, contextlib.nullcontext() if _is_twin(module) else read_only(mine):
        return functional_call(mine, _every_slot(mine, params), args, tie_weights=False) if params else mine(*args)


def is_frozen(module: nn.Module, name: str) -> bool:
    """Whether a parameter of the module does not require a gradient, whatever stands in its place meanwhile."""
    owner = module.get_submodule(name.rpartition(".")[0])
    return name.rpartition(".")[2] in vars(owner).get("_frozen", _frozen(owner))


def own_parameters(module: nn.Module) -> dict[str, Tensor]:
    """dict(module.named_parameters()), read while no other thread has put other tensors in their place."""
    with contextlib.nullcontext() if _is_twin(module) else _in_place:
        return dict(module.named_parameters())


@contextlib.contextmanager
def read_only(module: nn.Module) -> Iterator[None]:
    """Refuse what the body wrote into the module's buffers.

    Tasks run in any order, several at once, or all in one batch: what one of them leaves behind in a buffer would reach
    an arbitrary other one. (A plain attribute that carries something from call to call cannot be seen from here.)

    Raises:
        ValueError: a buffer was written, replaced, added or removed. The buffer keeps what was written into it.
    """
    with disable_proxy_modes_tracing():  # not a part of what `compiled` traces
        before = {k: (b, b.clone(), _version(b)) for k, b in module.named_buffers()}
    yield
    with disable_proxy_modes_tracing():
        after = dict(module.named_buffers())
        written = [k for k in {**before, **after}
                   if k not in before or k not in after or _written(*before[k], after[k])]
    if not written:
        return
    owner = module.get_submodule(written[0].rpartition(".")[0])
    raise ValueError(f"{type(owner).__name__} wrote its buffer {written[0]!r}, but a learner's buffers are read, never "
                     "written: what one task leaves behind would reach another. Freeze that layer with .eval() if it "
                     "stops writing then, build it without the buffer, or carry the value in what adapt returns (phi)")


def twin(module: Module) -> Module | None:
    """A new module of the same classes that shares every tensor and setting with this one.

    None if code that does not come along leads back to the original, whose weights it would use: a function that
    captured a layer, an object that holds one, a compiled or scripted module.
    """
    if any(isinstance(m, torch.jit.ScriptModule) for m in module.modules()):
        return None
    inside, made = {id(m) for m in module.modules()} | {id(p) for p in module.parameters()}, {}

    def of(m: nn.Module) -> nn.Module:
        if id(m) not in made:
            new = made[id(m)] = object.__new__(type(m))
            state = new.__dict__
            state.update({"_frozen": _frozen(m)} | vars(m), _is_twin=True,
                         _parameters=m._parameters.copy(), _buffers=m._buffers.copy(),
                         _modules={k: None if v is None else of(v) for k, v in m._modules.items()})
            for k, v in vars(m).items():
                if type(v) not in PLAIN and k not in APART and (type(v) not in (dict, OrderedDict) or v):
                    state[k] = rebuilt(v)
        return made[id(m)]

    def rebuilt(v: Any) -> Any:
        """v itself unless it leads to a module inside: then the same thing that leads to its twin."""
        if not _leads(v, inside):
            return v
        if isinstance(v, nn.Module):
            return of(v)
        if isinstance(v, Tensor):
            return v
        if type(v) in (list, tuple, set):
            return type(v)(rebuilt(e) for e in v)
        if type(v) in (dict, OrderedDict):
            return type(v)((k, rebuilt(e)) for k, e in v.items())
        if isinstance(v, types.MethodType):
            return types.MethodType(v.__func__, rebuilt(v.__self__))
        if isinstance(v, functools.partial):
            return functools.partial(rebuilt(v.func), *map(rebuilt, v.args), **rebuilt(v.keywords))
        raise Tied

    try:
        return of(module)
    except Tied:
        return None


def _every_slot(module: nn.Module, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """`params` under the names of all slots that hold the same parameters, each slot once.

    A layer that stands in two places has two names and one slot. `functional_call` by itself fills that slot twice, and
    leaves in it, for good, what it put there first (torch 2.13).
    """
    slots = {f"{prefix}.{k}" if prefix else k: p for prefix, m in module.named_modules()
             for k, p in m._parameters.items() if p is not None}
    given = {id(slots[k]): v for k, v in params.items() if k in slots}
    rest = {k: v for k, v in params.items() if k not in slots}
    return {k: given[id(p)] for k, p in slots.items() if id(p) in given} | rest


def _is_twin(module: nn.Module) -> bool:
    return vars(module).get("_is_twin", False)


def _frozen(module: nn.Module) -> frozenset[str]:
    return frozenset(k for k, p in module._parameters.items() if isinstance(p, nn.Parameter) and not p.requires_grad)


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
        captured = [c.cell_contents for c in v.__closure__ or () if _filled(c)]
        named = [g for k in v.__code__.co_names if isinstance(g := v.__globals__.get(k), nn.Module)]
        held = [*captured, *named, *(v.__defaults__ or ()), *(v.__kwdefaults__ or {}).values(), *vars(v).values()]
    elif isinstance(v, types.MethodType):
        held = [v.__self__, v.__func__]
    elif isinstance(v, functools.partial):
        held = [v.func, v.args, v.keywords]
    elif isinstance(v, weakref.ref):  # to a module; an LSTM keeps some to its weights, for CUDA's memory layout
        held = [v()] if isinstance(v(), nn.Module) else []
    elif hasattr(v, "__dict__"):
        held = vars(v).values()
    return any(_leads(e, inside, depth - 1) for e in held)


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a name that has no value yet
        return False


def _settle(module: nn.Module, evaluating: bool) -> None:
    """Put the rule for statistics and modes into effect."""
    for name, m in module.named_modules():
        if isinstance(m, STATISTICS) and m.training:
            if isinstance(m, nn.SyncBatchNorm):
                raise ValueError(f"{name} is a SyncBatchNorm, which mixes the statistics of tasks in different "
                                 "processes: use nn.BatchNorm2d, or freeze it with .eval()")
            m.track_running_stats = False  # batch norm leaves its buffers alone then; instance norm if it has none
            if isinstance(m, _InstanceNorm):
                m._buffers.update(running_mean=None, running_var=None)
        elif evaluating:
            m.training = False


def _version(buffer: Tensor) -> int:
    return 0 if buffer.is_inference() else buffer._version


def _written(buffer: Tensor, value: Tensor, version: int, now: Tensor) -> bool:
    """Whether another tensor stands in the buffer's place, or its value was written (`.data` leaves no trace else)."""
    if now is not buffer or _version(now) != version:
        return True
    return not torch.equal(now, value) and not torch.equal(now.nan_to_num(), value.nan_to_num())


_in_place = threading.RLock()


def _after_fork() -> None:
    global _in_place  # another thread may have held it, and that thread does not exist here
    _in_place = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
