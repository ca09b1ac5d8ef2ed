"""The check of chapter 5's code exercise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metalib.judging.checks import toys
from metalib.judging.checks.asking import ask, close, demand, describe, distance, given, off, percent
from metalib.learners.maml import MAML


def check_multi_step_loss(answer: Callable[..., Any]) -> None:
    """`answer(learner, episode, weights)` -> the weighted sum of the query losses after 1, ..., J inner steps.

    It is linear in the weights: sum_j w_j times the meta-loss of a learner that takes j steps.
    """
    for rate, weights in ((0.05, (0.0, 0.0, 1.0)), (0.05, (1.0, 0.0, 0.0)), (0.1, (0.2, 0.3, 0.5)), (0.05, (0.5,)),
                          (0.1, (2.0, 0.5, 1.0)), (0.02, [1.0, 3.0]), (0.05, (1.0, 0.25, 0.5, 2.0, 1.5)),
                          (0.05, (3.0, -1.0, -2.0))):
        J = len(weights)
        learner, episode = toys.learner(3, rate, J), toys.task(J)
        right = sum(w * MAML(learner.net, rate, j)(episode) for j, w in enumerate(weights, 1))
        with given(f"weights = {weights}, so J = {J}, and a MAML learner with inner_lr = {rate} and steps = 3"):
            got = ask(answer, learner, episode, weights)
            demand(isinstance(got, Tensor) and got.ndim == 0,
                   f"the loss should be a scalar tensor; you returned {describe(got)}")
            demand(got.requires_grad, "the loss has no gradient: something was detached, or turned into a float")
            value, wanted = float(got.detach()), float(right.detach())
            demand(close(value, wanted, 1e-5), (
                f"your loss {value:.6g} {off(value, wanted)}. Does weight j meet the query loss after j inner steps, "
                "from the first step on, for as many steps as there are weights, and as it stands?"))
            names, theta = zip(*learner.named_parameters())
            yours = torch.autograd.grad(got, theta, allow_unused=True)
            for k, a, b in zip(names, yours, torch.autograd.grad(right, theta)):
                error = distance(torch.zeros_like(b) if a is None else a, b)
                demand(error <= 1e-5, (
                    f"the loss is right, and its gradient for {k!r} is {percent(error)} off: something was detached "
                    "on the way"))
