"""The check of chapter 6's code exercise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metalib.functional import Params
from metalib.judging.checks import toys
from metalib.judging.checks.asking import ask, close, demand, distance, given, named, number, off, pair, percent
from metalib.learners.maml import MAML


def check_in_chunks(answer: Callable[..., Any]) -> None:
    """`answer(learner, episodes, size)` -> (name -> mean gradient, mean loss), at most `size` tasks at once."""
    for T, size, steps in ((7, 3, 2), (7, 7, 1), (7, 2, 2), (7, 1, 2), (5, 4, 1), (4, 2, 3), (3, 10, 2)):
        plain, episodes = toys.learner(steps, 0.05, T), toys.episodes(T, size)
        learner, together = _watched(plain)
        losses = [learner(episodes.task(t)) for t in range(T)]  # one by one, by plain autograd
        names, theta = zip(*learner.named_parameters())
        right = dict(zip(names, torch.autograd.grad(sum(losses) / T, theta)))
        mean = float(sum(losses).detach()) / T
        with given(f"{T} tasks, size = {size}"):
            grads, loss = pair(ask(answer, learner, episodes, size), "(gradients, mean loss)")
            grads, loss = named(grads, right, "the gradients"), number(loss, "the mean loss")
            most = max(together, default=size)
            demand(most <= size, f"{most} tasks were computed at once: `size` is to bound that number")
            demand(most > 1 or min(size, T) == 1, "tasks were computed one at a time, although `size` allows more")
            for k in right:
                error = distance(grads[k], right[k])
                demand(error <= 1e-6, (
                    f"the gradient for {k!r} is {percent(error)} off. Note that meta_gradient overwrites "
                    "p.grad. And the last chunk may be smaller than the others: how much should it count?"))
            demand(close(loss, mean, 1e-6), f"the gradient is right, and the mean loss {loss:.6g} {off(loss, mean)}")


def _watched(plain: MAML) -> tuple[MAML, list[int]]:
    """A learner that is `plain` in all but its class, and the list of how many tasks vmap gave it at once, so far."""
    together: list[int] = []

    class Count(torch.autograd.Function):
        """x -> x; PyTorch tells `vmap` how many there are."""

        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return g

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None], x: Tensor) -> tuple[Tensor, int | None]:
            together.append(info.batch_size)
            return Count.apply(x), in_dims[0]

    class Watched(MAML):
        def predict(self, phi: Params, x: Tensor) -> Tensor:
            return super().predict(phi, Count.apply(x))

    return Watched(plain.net, plain.inner_lr, plain.steps), together
