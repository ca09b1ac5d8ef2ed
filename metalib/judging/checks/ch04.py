"""The checks of chapter 4's code exercises. The reference is finite differences of the meta-loss in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from metalib.episode import Episode
from metalib.judging.checks import toys
from metalib.judging.checks.asking import ask, close, demand, distance, given, named, number, off, percent
from metalib.learners.maml import FOMAML, MAML


def check_one_step(answer: Callable[..., Any]) -> None:
    """`answer(learner, episode)` -> name -> the meta-gradient of one task for J = 1."""
    for seed, rate in ((0, 0.1), (1, 0.25), (2, 0.04)):
        learner, episode = toys.learner(1, rate, seed), toys.task(seed)
        right = {k: _slope(learner, episode, f"net.{k}") for k, _ in learner.net.named_parameters()}
        first = torch.autograd.grad(FOMAML(learner.net, rate)(episode), list(learner.net.parameters()))
        with given(f"a MAML learner with J = 1 and inner_lr = {rate}, and a task of 5 + 9 points"):
            got = named(ask(answer, learner, episode), right, "the meta-gradient")
            demand(any(not distance(got[k], g) <= 1e-6 for k, g in zip(right, first)),
                   "this is the gradient of L_Q at phi_1 (FOMAML): the term with the Hessian is missing")
            for k in right:
                error = distance(got[k], right[k])
                demand(error <= 1e-5, (
                    f"the entry {k!r} is {percent(error)} off (the length of the difference, relative). At which "
                    "point is each gradient and the Hessian taken, of which loss, and with which factor?"))


def check_rate_gradient(answer: Callable[..., Any]) -> None:
    """`answer(learner, episode)` -> the derivative of the meta-loss with respect to the inner rate, through J steps."""
    for J, rate in ((1, 0.1), (2, 0.05), (4, 0.1), (3, 0.15)):
        learner, episode = toys.learner(J, rate, J), toys.task(J)
        h = 1e-5
        up, down = (float(MAML(learner.net, rate + e, J)(episode).detach()) for e in (h, -h))
        right = (up - down) / (2 * h)
        with given(f"a MAML learner with J = {J} and inner_lr = {rate}, and a task of 5 + 9 points"):
            got = number(ask(answer, learner, episode), "the derivative")
            demand(close(got, right, 1e-5), (
                f"your derivative {got:.6g} {off(got, right)}. Which steps does a change of the rate enter, and how "
                "does what it does in step j reach phi_J?"))


def _slope(learner: MAML, episode: Episode, name: str, h: float = 1e-5) -> Tensor:
    """The slope of the meta-loss along every entry of one parameter, by central differences."""
    p = learner.get_parameter(name).detach()
    steps = h * torch.eye(p.numel(), dtype=p.dtype).reshape(-1, *p.shape)
    up, down = (torch.stack([functional_call(learner, {name: p + e}, (episode,)).detach() for e in sign * steps])
                for sign in (1, -1))
    return ((up - down) / (2 * h)).view_as(p)
