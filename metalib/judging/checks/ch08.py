"""The checks of chapter 8's code exercises: finite differences of the meta-loss, and conjugate gradient's property."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from metalib.functional import seeded
from metalib.judging.checks import toys
from metalib.judging.checks.asking import ask, demand, distance, given, named, percent, tensor
from metalib.learners.rates import MetaSGD


def check_rate_slopes(answer: Callable[..., Any]) -> None:
    """`answer(learner, episode)` -> name -> the gradient of one task's meta-loss by the rates' logarithms, J = 1."""
    for seed, rate in ((0, 0.1), (1, 0.2), (2, 0.05)):
        learner, episode = MetaSGD(toys.learner(1, rate, seed).net, rate), toys.task(seed)
        with torch.no_grad():
            for i, rho in enumerate(learner.log_rates):
                rho.add_(0.4 * torch.randn(rho.shape, generator=seeded(10 * seed + i), dtype=rho.dtype))
        right = {k: _slope(learner, episode, f"log_rates.{i}") for i, k in enumerate(learner.names)}
        with given(f"a MetaSGD learner with J = 1 and rates around {rate}, and a task of 5 + 9 points"):
            got = named(ask(answer, learner, episode), right, "the gradient")
            for k in right:
                error = distance(got[k], right[k])
                demand(error <= 1e-5, (
                    f"the entry {k!r} is {percent(error)} off (the length of the difference, relative). By what is it "
                    "the derivative, with which rates is phi_1 reached, and of which loss is each gradient?"))


def check_conjugate(answer: Callable[..., Any]) -> None:
    """`answer(product, g, steps)` -> x, near A^{-1} g after at most so many products v -> A v."""
    for seed, D, steps in ((0, 6, 1), (1, 6, 2), (2, 9, 4), (3, 5, 5), (4, 12, 3)):
        A, g = _positive(D, seed), 3 * torch.randn(D, generator=seeded(seed + 50), dtype=torch.float64)
        words = f"a matrix of {D} x {D}, a vector g of length {float(g.norm()):.2f} and steps = {steps}"
        with given(words):
            x = _asked(answer, A, g, steps)
            K = torch.linalg.qr(torch.stack([torch.linalg.matrix_power(A, i) @ g for i in range(steps)], 1))[0]
            outside = distance(K @ (K.T @ x), x)
            demand(outside <= 1e-6, "x is not a sum of multiples of g, Ag, ..., A^(steps-1) g: what are the directions "
                                    "that you add, and from where do you start?")
            left = float((K.T @ (g - A @ x)).norm() / g.norm())
            demand(left <= 1e-6, (
                f"the residual g - Ax is not orthogonal to g, Ag, ..., A^(steps-1) g: {percent(left)} of |g| is left "
                "there. How long is a step, and how much of the old direction belongs to the new one?"))
    for words, A, g in (("A = 3 I, which is solved after one product, and steps = 4", 3 * torch.eye(4), torch.ones(4)),
                        ("g = 0 and steps = 3", _positive(4, 9), torch.zeros(4))):
        with given(words):
            A, g = A.double(), g.double()
            x = _asked(answer, A, g, 4 if g.any() else 3)
            demand(bool(torch.isfinite(x).all()), "x is not finite: what do you divide by once the residual is zero?")
            left = float((A @ x - g).norm())
            demand(left <= 1e-9, f"|Ax - g| is {left:.3g}, though the system can be solved to rounding here")


def _asked(answer: Callable[..., Any], A: Tensor, g: Tensor, steps: int) -> Tensor:
    """The answer's x, and a sentence if it took too many products."""
    calls = []

    def product(v: Any) -> Tensor:
        v = tensor(v, "what product was given", tuple(g.shape))
        calls.append(v)
        return A @ v

    x = tensor(ask(answer, product, g, steps), "x", tuple(g.shape))
    demand(len(calls) <= steps, f"product was called {len(calls)} times, and steps = {steps} is how often it may be")
    return x


def _positive(D: int, seed: int) -> Tensor:
    """A symmetric matrix with eigenvalues from 1 to 5 or so."""
    root = torch.randn(D, D, generator=seeded(seed + 100), dtype=torch.float64)
    return torch.eye(D, dtype=torch.float64) + root @ root.T / D


def _slope(learner: MetaSGD, episode: Any, name: str, h: float = 1e-4) -> Tensor:
    """The slope of the meta-loss along every entry of one parameter, by central differences."""
    p = learner.get_parameter(name).detach()
    steps = h * torch.eye(p.numel(), dtype=p.dtype).reshape(-1, *p.shape)
    up, down = (torch.stack([functional_call(learner, {name: p + e}, (episode,)).detach() for e in sign * steps])
                for sign in (1, -1))
    return ((up - down) / (2 * h)).view_as(p)
