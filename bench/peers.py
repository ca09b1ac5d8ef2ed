"""The same meta-gradient by other libraries and by plain PyTorch, each written the way its documentation shows.

Every implementation is a function (net, tasks, row) -> step; step() leaves the mean gradient in `p.grad`. All of them
use the standard network of `standard_net`, on batch statistics, except metalib, which uses its own conv4 with the same
weights. Where a library's example keeps the graphs of all tasks until one backward pass, the backward pass here follows
each task, as its other examples do: the same arithmetic, and less memory for that library.

    higher        facebookresearch/higher, examples/maml-omniglot.py
    TorchOpt      metaopt/torchopt, examples/few-shot/maml_omniglot.py
    learn2learn   learnables/learn2learn, the docstring of learn2learn.algorithms.MAML
    torch.func    functional_call and grad_and_value, one task after another
    vmap          vmap(grad_and_value), all tasks at once
    PyTorch       ProtoNet by autograd: support and query embedded one after the other
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, vmap

from bench.rows import Row, metalib_net, standard_net
from metalib import MAML, Episode, ProtoNet, meta_gradient

COMPILED = "metalib, compiled"
Step = Callable[[], None]
Task = tuple[Tensor, Tensor, Tensor, Tensor]  # support x, y, query x, y
LIBRARIES = ("higher", "TorchOpt", "learn2learn")  # the peers that are meta-learning libraries
PACKAGES = {name: name.lower() for name in LIBRARIES}


def split(episodes: Episode) -> list[Task]:
    """One (support x, y, query x, y) a task."""
    (sx, sy, _), (qx, qy, _) = episodes
    return [(sx[t], sy[t], qx[t], qy[t]) for t in range(len(sx))]


def loss_of(row: Row) -> Callable[[Tensor, Tensor], Tensor]:
    return F.mse_loss if row.kind == "sine" else F.cross_entropy


def metalib(net: nn.Module, episodes: Episode, row: Row, compile: bool = False) -> Step:
    """The implementation under test; `threads=None` and `map="auto"` are its defaults."""
    learner = ProtoNet(net) if row.kind == "protonet" else MAML(net, row.inner_lr, row.steps, row.order)
    return lambda: meta_gradient(learner, episodes, compile=compile)


def by_higher(net: nn.Module, tasks: list[Task], row: Row) -> Step:
    import higher

    loss, inner = loss_of(row), torch.optim.SGD(net.parameters(), row.inner_lr)
    second = row.order == 2

    def step() -> None:
        net.zero_grad()
        for sx, sy, qx, qy in tasks:
            with higher.innerloop_ctx(net, inner, copy_initial_weights=False, track_higher_grads=second) as (f, opt):
                for _ in range(row.steps):
                    opt.step(loss(f(sx), sy))
                query = loss(f(qx), qy) / len(tasks)
                if second:
                    query.backward()
                else:  # higher has no first-order mode: the gradient at the adapted weights is taken by hand
                    add(net, torch.autograd.grad(query, list(f.parameters())))

    return step


def by_torchopt(net: nn.Module, tasks: list[Task], row: Row) -> Step:
    import torchopt

    loss, inner = loss_of(row), torchopt.MetaSGD(net, lr=row.inner_lr)

    def step() -> None:
        net.zero_grad()
        start = torchopt.extract_state_dict(net, by="reference", detach_buffers=True)
        start_opt = torchopt.extract_state_dict(inner, by="reference")
        for sx, sy, qx, qy in tasks:
            for _ in range(row.steps):
                inner.step(loss(net(sx), sy))
            (loss(net(qx), qy) / len(tasks)).backward()
            torchopt.recover_state_dict(net, start)
            torchopt.recover_state_dict(inner, start_opt)

    return step


def by_learn2learn(net: nn.Module, tasks: list[Task], row: Row) -> Step:
    from learn2learn.algorithms import MAML as Theirs

    loss, maml = loss_of(row), Theirs(net, lr=row.inner_lr, first_order=row.order == 1)

    def step() -> None:
        net.zero_grad()
        for sx, sy, qx, qy in tasks:
            learner = maml.clone()
            for _ in range(row.steps):
                learner.adapt(loss(learner(sx), sy))
            (loss(learner(qx), qy) / len(tasks)).backward()

    return step


def task_loss(net: nn.Module, row: Row) -> Callable[..., Tensor]:
    """(theta, support x, y, query x, y) -> the meta-loss of one task, by torch.func."""
    loss = loss_of(row)

    def f(theta: dict[str, Tensor], sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
        phi = theta
        for _ in range(row.steps):
            g = grad(lambda p: loss(functional_call(net, p, (sx,)), sy))(phi)
            phi = {k: p - row.inner_lr * (g[k] if row.order == 2 else g[k].detach()) for k, p in phi.items()}
        return loss(functional_call(net, phi, (qx,)), qy)

    return f


def by_torch_func(net: nn.Module, tasks: list[Task], row: Row) -> Step:
    gradient, theta = grad_and_value(task_loss(net, row)), {k: p.detach() for k, p in net.named_parameters()}

    def step() -> None:
        net.zero_grad()
        for task in tasks:
            add(net, [g / len(tasks) for g in gradient(theta, *task)[0].values()])

    return step


def by_vmap(net: nn.Module, tasks: list[Task], row: Row) -> Step:
    gradient = vmap(grad_and_value(task_loss(net, row)), in_dims=(None, 0, 0, 0, 0))
    theta, batch = {k: p.detach() for k, p in net.named_parameters()}, [torch.stack(part) for part in zip(*tasks)]

    def step() -> None:
        net.zero_grad()
        add(net, [g.mean(0) for g in gradient(theta, *batch)[0].values()])

    return step


def protonet(net: nn.Module, tasks: list[Task], row: Row) -> Step:
    def step() -> None:
        net.zero_grad()
        for sx, _, qx, qy in tasks:
            c = net(sx).unflatten(0, (row.way, row.shot)).mean(1)  # (N, D); FewShot orders the support by class
            logits = -(net(qx)[:, None] - c).pow(2).sum(-1)
            (F.cross_entropy(logits, qy) / len(tasks)).backward()

    return step


def add(net: nn.Module, grads: Any) -> None:
    """p.grad += g for each parameter, in order."""
    for p, g in zip(net.parameters(), grads, strict=True):
        p.grad = g if p.grad is None else p.grad.add_(g)


PEERS = {"higher": by_higher, "TorchOpt": by_torchopt, "learn2learn": by_learn2learn, "torch.func": by_torch_func,
         "vmap": by_vmap, "PyTorch": protonet}


def takes_part(name: str, row: Row) -> bool:
    """Whether this implementation has this row: ProtoNet is plain PyTorch's; TorchOpt has no first-order mode."""
    if name == "metalib":
        return True
    return (name == "PyTorch") == (row.kind == "protonet") and not (name == "TorchOpt" and row.order == 1)


def version(name: str) -> str | None:
    """The installed version of a peer, PyTorch's where it is no package of its own, None where it is missing."""
    package = PACKAGES.get(name, name if name == "metalib" else "torch")
    return importlib.metadata.version(package) if importlib.util.find_spec(package) else None


def prepare(name: str) -> None:
    """Import what an implementation needs, so that its memory is counted from there."""
    if name == "learn2learn":
        from metalib.data import import_torchvision

        import_torchvision()  # learn2learn imports it, also where its operators do not fit the installed torch
    if name in PACKAGES:
        importlib.import_module(PACKAGES[name])


def build(name: str, row: Row, weights: list[Tensor], episodes: Episode, *, channels: int = 64,
          channels_last: bool = False) -> tuple[nn.Module, Step]:
    """The network of an implementation with these weights, and its step on these episodes.

    Args:
        name: "metalib", `COMPILED` or one of `PEERS`.
        row: what is computed.
        weights: in the order of `standard_net(row).parameters()`; their dtype is the network's.
        episodes: in the same dtype.
        channels: of Conv4.
        channels_last: PyTorch's memory format for convolutions; metalib arranges its own.
    """
    net = (metalib_net if name in ("metalib", COMPILED) else standard_net)(row, channels).to(weights[0].dtype)
    with torch.no_grad():
        for p, w in zip(net.parameters(), weights, strict=True):
            p.copy_(w)
    if name in ("metalib", COMPILED):
        return net, metalib(net, episodes, row, name == COMPILED)
    tasks = split(episodes)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        tasks = [tuple(t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t for t in task)
                 for task in tasks]
    return net, PEERS[name](net, tasks, row)
