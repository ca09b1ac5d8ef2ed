"""The rows of the benchmark: what is computed, how much arithmetic that is, on which data, and the right answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from metalib import Episode, FewShot, Sinusoids, conv4, glyphs, mlp, seeded

SIZE = 28  # pixels a side


@dataclass(frozen=True)
class Row:
    """One line of the table: T tasks of N-way K-shot with Q queries a class, J inner steps."""

    way: int = 5
    shot: int = 1
    query: int = 15
    tasks: int = 4
    steps: int = 1
    order: int = 2
    kind: str = "maml"  # "maml" or "protonet", both with Conv4, or "sine", MAML with an MLP 1-40-40-1
    inner_lr: float = 0.4

    def settings(self) -> dict[str, Any]:
        return asdict(self)


ROWS = {
    "5-way 1-shot": Row(),
    "5-way 5-shot": Row(shot=5),
    "5 inner steps": Row(steps=5),
    "16 tasks": Row(tasks=16),
    "20-way 1-shot": Row(way=20),
    "FOMAML": Row(order=1),
    "ProtoNet": Row(tasks=1, steps=0, kind="protonet"),
    "ProtoNet, 4 tasks": Row(steps=0, kind="protonet"),
    "sinusoid": Row(way=1, shot=10, query=10, tasks=25, steps=5, kind="sine", inner_lr=0.01),
}


def flops(row: Row, channels: int = 64, size: int = SIZE) -> int:
    """Floating-point operations of one step's convolutions, a multiply-add counting two; 0 for the sinusoids.

    One image costs c_1 in the first convolution and R in the other three. With respect to its filters a convolution's
    gradient costs as much as the convolution, and as much again with respect to its input, which the first one does not
    need:

        forward and backward        (c_1 + R) + (c_1 + 2 R)              = 2 c_1 + 3 R    a query image
        and differentiated again    + (c_1 + 2 R) + 2 R + (c_1 + 2 R)    = 4 c_1 + 9 R    a support image and step

    The last line is the derivative of the backward pass by the gradient that enters it (c_1 + 2 R) and by the inputs
    and the filters that it used (R each), then that of the forward pass. First order does without it.
    """
    if row.kind == "sine":
        return 0
    sides = [size // 2**i for i in range(4)]
    cost = [2 * 9 * side**2 * channels * (channels if i else 1) for i, side in enumerate(sides)]
    c1, R = cost[0], sum(cost[1:])
    once, twice = 2 * c1 + 3 * R, 4 * c1 + 9 * R
    support, query = row.way * row.shot, row.way * row.query
    if row.kind == "protonet":
        return row.tasks * (support + query) * once
    return row.tasks * (support * row.steps * (twice if row.order == 2 else once) + query * once)


def standard_net(row: Row, channels: int = 64, activation: type[nn.Module] = nn.ReLU,
                 pooling: type[nn.Module] = nn.MaxPool2d) -> nn.Module:
    """Conv4 of PyTorch's own layers, on batch statistics; or the sinusoids' multilayer perceptron."""
    if row.kind == "sine":
        return nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    blocks = [nn.Sequential(nn.Conv2d(channels if i else 1, channels, 3, padding=1, bias=False),
                            nn.BatchNorm2d(channels, track_running_stats=False), activation(), pooling(2))
              for i in range(4)]
    head = [] if row.kind == "protonet" else [nn.Linear(channels, row.way)]
    return nn.Sequential(*blocks, nn.Flatten(), *head)


def metalib_net(row: Row, channels: int = 64) -> nn.Module:
    """metalib's network for the row; its parameters come in the same order and shapes as the standard one's."""
    if row.kind == "sine":
        return mlp(1, [40, 40], 1)
    return conv4(None if row.kind == "protonet" else row.way, channels)


def draw(row: Row, seed: int = 0) -> Episode:
    """The row's episodes, float32: glyphs of the training scripts, or sine waves."""
    if row.kind == "sine":
        return Sinusoids(row.shot, row.query, dtype=torch.float32).sample(row.tasks, generator=seeded(seed))
    return FewShot(glyphs().split("train"), row.way, row.shot, row.query).sample(row.tasks, generator=seeded(seed))


def start(net: nn.Module, seed: int = 0) -> list[Tensor]:
    """The weights that every implementation begins with: PyTorch's, with norm scales and shifts off 1 and 0."""
    noise = seeded(seed)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 1:
                p += 0.1 * torch.randn(p.shape, generator=noise)
    return [p.detach().clone() for p in net.parameters()]


def reference(net: nn.Module, episodes: Episode, row: Row) -> list[Tensor]:
    """The mean gradient by plain autograd, task by task, with PyTorch's own layers: what everything must equal."""
    loss = F.mse_loss if row.kind == "sine" else F.cross_entropy
    total = [torch.zeros_like(p) for p in net.parameters()]
    for t in range(row.tasks):
        (sx, sy), (qx, qy) = ((d.x[t], d.y[t]) for d in episodes)
        theta = {k: p.detach().clone().requires_grad_() for k, p in net.named_parameters()}
        if row.kind == "protonet":
            z, member = functional_call(net, theta, (sx,)), F.one_hot(sy, row.way).to(sx.dtype)
            logits = -(functional_call(net, theta, (qx,))[:, None] - (member.T @ z) / row.shot).pow(2).sum(-1)
            query_loss = loss(logits, qy)
        else:
            phi = theta
            for _ in range(row.steps):
                g = torch.autograd.grad(loss(functional_call(net, phi, (sx,)), sy), list(phi.values()),
                                        create_graph=row.order == 2)
                phi = {k: p - row.inner_lr * g_k for (k, p), g_k in zip(phi.items(), g, strict=True)}
            query_loss = loss(functional_call(net, phi, (qx,)), qy)
        for s, g in zip(total, torch.autograd.grad(query_loss, list(theta.values())), strict=True):
            s += g / row.tasks
    return total


def error(grads: list[Tensor], right: list[Tensor]) -> float:
    """|grads - right| / |right| over all entries, in float64; not a number where it should be is infinitely wrong."""
    difference = sum((g.double() - r.double()).pow(2).sum() for g, r in zip(grads, right, strict=True))
    relative = float((difference / sum(r.double().pow(2).sum() for r in right)).sqrt())
    return relative if relative == relative else float("inf")
