"""Work on a network in private: nobody who holds it sees other weights, other modes or written buffers.

Putting a task's weights into a module's slots, a layer with running statistics that writes its buffers, `eval()` that
switches modes: done to the network itself, each of these is visible to another thread and, after an error, to
everybody. So the library works on twins (`metalib.fast.twin`), in which one rule holds:

    A layer with running statistics (batch norm, instance norm) uses the statistics of the batch at hand, in training
    and at test alike, unless it was frozen (`.eval()` on the layer or on the network): then it uses its stored ones.
    Buffers are read, never written (`read_only`).
"""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin

from metalib.fast.twin import STANDARD, frozen_parts, is_twin, twin
from metalib.fast.weight_norm import differentiable_weight_norm

STATISTICS = (_BatchNorm, _InstanceNorm)  # layers whose eval() means stored statistics, not the absence of noise

Module = TypeVar("Module", bound=nn.Module)


def private(module: Module, *, evaluating: bool = False) -> Module:
    """A twin of the module, or the module itself if it is one. With `evaluating`, dropout is off in it.

    (In a twin `_frozen` says of every module which parameters do not require a gradient, whatever takes their place.)

    Raises:
        ValueError: a layer that no rule could make right: a SyncBatchNorm that is not frozen, an embedding with
            max_norm, a lazy layer without weights; and what `twin` raises.
    """
    if is_twin(module) and not evaluating:
        return module
    mine = twin(module)
    _settle(mine, evaluating)
    return mine


def call(module: nn.Module, params: dict[str, Tensor], *args: Any, method: str = "__call__") -> Any:
    """module(*args) with `params` in place of those of its parameters; the module itself is never touched.

    With `method`, module.method(*args) is called instead.

    Every call that a learner makes to a network goes through here. A call with params has a twin to itself, which keeps
    them: activation checkpointing runs parts of it again in the backward pass, and must find them there. What the
    network notes on itself meanwhile (a hidden state, a cache) is gone with the twin, and reaches no other task.

    Raises:
        ValueError: a parameter that the module does not have; and what `private`, `read_only` and `twin` raise.
    """
    if not is_twin(module):
        with read_only(mine := private(module)):
            return call(mine, params, *args, method=method)
    if not params:
        return getattr(module, method)(*args)
    slots = dict(module.named_parameters(remove_duplicate=False))
    if unknown := params.keys() - slots:
        raise ValueError(f"{type(module).__name__} has no parameter {min(unknown)!r}: it has {[*slots][:4]}..., and "
                         "phi must come from adapt of the same learner")
    own = twin(module, {id(slots[k]): p for k, p in params.items()})
    result = getattr(own, method)(*args)
    before, after = dict(module.named_buffers()), dict(own.named_buffers())
    for k in {**before, **after}:
        if before.get(k) is not after.get(k):
            raise _wrote(module, k)
    return result


def is_frozen(module: nn.Module, name: str) -> bool:
    """Whether a parameter of the module does not require a gradient, whatever stands in its place meanwhile."""
    owner = module.get_submodule(name.rpartition(".")[0])
    return name.rpartition(".")[2] in vars(owner).get("_frozen", frozen_parts(owner))


@contextlib.contextmanager
def read_only(module: nn.Module, *, weights: bool = False) -> Iterator[None]:
    """Refuse what the body wrote into the module's buffers and tensors and, with `weights`, into its parameters.

    Tasks run in any order, several at once, or all in one batch: what one of them leaves behind would reach an
    arbitrary other one.

    Raises:
        ValueError: a buffer was written, replaced, added or removed; a tensor that is no buffer was written in place;
            a parameter was. Buffers and tensors have their values back; parameters keep what was written into them.
    """
    with disable_proxy_modes_tracing():  # not a part of what `compiled` traces
        before = {k: (b, b.clone()) for k, b in module.named_buffers()}
        beside = [(k, (t, t.detach().clone())) for k, t in _tensors_beside(module)]
        theta = {k: (p, p.detach().clone()) for k, p in module.named_parameters()} if weights else {}

    def undone() -> list[str]:
        """Give the buffers that were written their values back, and say which they are."""
        with disable_proxy_modes_tracing():
            after = dict(module.named_buffers())
            written = [k for k in {**before, **after} if k not in before or k not in after
                       or after[k] is not before[k][0] or not _equal(*before[k])]  # replaced, or written in place
            changed = [(k, b) for k, b in beside if not _equal(*b)]  # another in its place goes with the twin
            for b, value in [*(before[k] for k in written if k in before), *(b for _, b in changed)]:
                if not b.is_inference():
                    b.data.copy_(value)
        return [*written, *(k for k, _ in changed)]

    try:
        yield
    except BaseException:
        undone()
        raise
    if written := undone():
        raise _wrote(module, written[0])
    for k, (p, value) in theta.items():
        if not _equal(p, value):
            owner = module.get_submodule(k.rpartition(".")[0])
            raise ValueError(f"{type(owner).__name__}'s parameter {k!r} was written in place, but theta is the same "
                             "for every task: let adapt return new tensors (metalib.functional.descend makes them) and "
                             "leave the parameters alone; while another thread trains them, use a copy.deepcopy")


def _wrote(module: nn.Module, name: str) -> ValueError:
    owner = module.get_submodule(name.rpartition(".")[0])
    kind = "tensor" if name.rpartition(".")[2] in vars(owner) else "buffer"
    return ValueError(f"{type(owner).__name__} wrote its {kind} {name!r}, but a learner's {kind}s are read, never "
                      "written: what one task leaves behind would reach another. Freeze that layer with .eval() if it "
                      f"stops writing then, build it without that {kind}, or put it in what adapt returns: phi")


def _tensors_beside(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The tensors that the module's parts hold as plain attributes, or in a list or dict that is one."""
    for prefix, m in module.named_modules():
        for k, v in vars(m).items():
            if k not in STANDARD and not isinstance(v, (nn.Module, nn.Parameter)):
                held = list(v.values()) if isinstance(v, dict) else v if isinstance(v, (list, tuple)) else [v]
                if held and isinstance(held[0], Tensor):  # a vocabulary holds none
                    yield from ((f"{prefix}.{k}" if prefix else k, t) for t in held if isinstance(t, Tensor))


def _settle(module: nn.Module, evaluating: bool) -> None:
    """Put the rule for statistics and modes into effect; refuse layers that no rule could make right."""
    for name, m in module.named_modules():
        if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.max_norm is not None:
            raise ValueError(f"{name} is an {type(m).__name__} with max_norm={m.max_norm}, which rewrites its weights "
                             "in every forward pass: set max_norm=None and bound the norms in your forward()")
        if isinstance(m, LazyModuleMixin) and m.has_uninitialized_params():
            raise ValueError(f"{name} is a {type(m).__name__} without weights yet: call the network once on an example")
        differentiable_weight_norm(m)
        if isinstance(m, STATISTICS) and m.training:
            if isinstance(m, nn.SyncBatchNorm):
                raise ValueError(f"{name} is a SyncBatchNorm, which mixes the statistics of tasks in different "
                                 "processes: use nn.BatchNorm2d, or freeze it with .eval()")
            m.track_running_stats = False  # batch norm leaves its buffers alone then; instance norm if it has none
            if isinstance(m, _InstanceNorm):
                m._buffers.update(running_mean=None, running_var=None)
        elif evaluating:
            m.training = False


def _equal(now: Tensor, value: Tensor) -> bool:
    return torch.equal(now, value) or torch.equal(now.nan_to_num(), value.nan_to_num())

