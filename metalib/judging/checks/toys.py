"""A small learner and small tasks in float64, the same everywhere: what the checks of chapters 4 to 6 ask with."""

from __future__ import annotations

import torch

from metalib.episode import Data, Episode
from metalib.functional import seeded
from metalib.learners.maml import MAML
from metalib.nets import mlp


def learner(steps: int, inner_lr: float, seed: int) -> MAML:
    """MAML with a smooth perceptron 1-6-1 of given weights: 19 parameters. PyTorch's own seed stays as it is."""
    with torch.random.fork_rng(devices=()):  # a layer draws weights when it is made; they are replaced here
        net = mlp(1, (6,), 1, activation="tanh").double()
    g = seeded(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64))
    return MAML(net, inner_lr=inner_lr, steps=steps)


def episodes(n: int, seed: int) -> Episode:
    """n regression tasks y = A sin(2 x + b), support (n, 5, 1) and query (n, 9, 1)."""
    g = seeded(seed)
    x = 4 * torch.rand(n, 14, 1, generator=g, dtype=torch.float64) - 2
    A, b = (1 + torch.rand(2, n, 1, 1, generator=g, dtype=torch.float64)).unbind(0)
    y = A * torch.sin(2 * x + 3 * b)
    return Episode(Data(x[:, :5], y[:, :5]), Data(x[:, 5:], y[:, 5:]))


def task(seed: int) -> Episode:
    """One of them, without the task axis."""
    return episodes(1, seed).task(0)
