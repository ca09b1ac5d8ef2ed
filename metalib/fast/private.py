"""Work on a network in private: nobody who holds it sees other weights, other modes or written buffers.

`functional_call` puts other tensors into a module's slots while it runs, a layer with running statistics writes its
buffers, and `eval()` switches modes. Done to the network itself, each of these is visible to another thread and, after
an error, to everybody. So the library works on a twin (`metalib.fast.twin`), in which one rule holds:

    A layer with running statistics (batch norm, instance norm) uses the statistics of the batch at hand, in training
    and at test alike, unless it was frozen (`.eval()` on the layer or on the network): then it uses its stored ones.
    Buffers are read, never written (`read_only`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from metalib.fast.twin import frozen_parts, is_twin, twin

STATISTICS = (_BatchNorm, _InstanceNorm)  # layers whose eval() means stored statistics, not the absence of noise

Module = TypeVar("Module", bound=nn.Module)


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
    if is_twin(module) and not evaluating:
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
                    vars(m)["_frozen"] = frozen_parts(m)
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
    with private(module) as mine, contextlib.nullcontext() if is_twin(module) else read_only(mine):
        return functional_call(mine, _every_slot(mine, params), args, tie_weights=False) if params else mine(*args)


def is_frozen(module: nn.Module, name: str) -> bool:
    """Whether a parameter of the module does not require a gradient, whatever stands in its place meanwhile."""
    owner = module.get_submodule(name.rpartition(".")[0])
    return name.rpartition(".")[2] in vars(owner).get("_frozen", frozen_parts(owner))


def own_parameters(module: nn.Module) -> dict[str, Tensor]:
    """dict(module.named_parameters()), read while no other thread has put other tensors in their place."""
    with contextlib.nullcontext() if is_twin(module) else _in_place:
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
