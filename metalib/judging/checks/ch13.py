"""The checks of chapter 13's code exercises: what a finding is worth, and agreement that forgives near misses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metalib.functional import seeded
from metalib.judging.checks.asking import apart, ask, close, demand, given, number, off, pair


def check_predictive(answer: Callable[..., Any]) -> None:
    """`answer(sensitivity, specificity, prevalence)` -> (PPV, NPV)."""
    for sick, well, share in ((0.9, 0.8, 0.1), (0.7, 0.95, 0.5), (0.6, 0.75, 0.02), (0.99, 0.4, 0.8), (0.5, 0.5, 0.3)):
        with given(f"sensitivity {sick}, specificity {well} and prevalence {share}"):
            ppv, npv = (number(v, what) for v, what in zip(pair(ask(answer, sick, well, share), "the answer"),
                                                           ("the PPV", "the NPV")))
            n, names = 1_000_000, ("PPV", "NPV")  # counted in a crowd
            ill = share * n
            found, missed, alarmed = sick * ill, (1 - sick) * ill, (1 - well) * (n - ill)
            counts = (found / (found + alarmed), (n - ill - alarmed) / (n - ill - alarmed + missed))
            for name, value, right in zip(names, (ppv, npv), counts):
                demand(0 <= value <= 1, f"the {name} is a share of those with that finding; yours is {value:.4g}")
                demand(close(value, right, 1e-6), (
                    f"the {name} {off(value, right)}, counted in a crowd of a million. Of those with this finding, how "
                    "many have the disease and how many have not?"))


def check_kappa(answer: Callable[..., Any]) -> None:
    """`answer(table)` -> quadratically weighted kappa of a table of counts (N, N), truth by rows."""
    for seed, N in ((0, 3), (1, 5), (2, 4), (3, 2), (4, 7)):
        g = seeded(seed)
        table = torch.randint(1, 30, (N, N), generator=g).double() + 40 * torch.eye(N).double()
        with given(f"a table of {N} grades whose margins differ"):
            value = number(ask(answer, table.clone()), "kappa")
            demand(-1 <= value <= 1, f"kappa lies between -1 and 1; yours is {value:.4g}")
            for name, other in (("transposed", table.T.contiguous()), ("with ten times the counts", 10 * table),
                                ("with its grades in reverse order", table.flip(0, 1))):
                again = number(ask(answer, other), "kappa")
                a, b = apart(value, again)
                demand(close(again, value, 1e-6), (
                    f"kappa of the table {name} is the same by definition; yours goes from {a} to {b}"))
            rater = torch.repeat_interleave(torch.cartesian_prod(torch.arange(N), torch.arange(N)),
                                            table.long().flatten(), 0).double()  # one row a patient
            x, y = rater.T
            chance = ((x - x.mean()).square().mean() + (y - y.mean()).square().mean()
                      + (x.mean() - y.mean()).square())  # the mean squared difference of two who do not know each other
            right = float(1 - (x - y).square().mean() / chance)
            demand(close(value, right, 1e-6), (
                f"kappa {off(value, right)}. A miss by two grades costs four times a miss by one; and what two raters "
                "with these margins would disagree by, if neither saw the patients, is the unit."))
    with given("a table with counts on its diagonal alone, 3 grades"):
        value = number(ask(answer, torch.diag(torch.tensor([5.0, 2.0, 9.0])).double()), "kappa")
        demand(close(value, 1.0, 1e-9), f"full agreement has kappa one; yours is {value:.4g}")
    with given("a table whose truth and prediction are independent, 3 grades"):
        value = number(ask(answer, torch.outer(torch.tensor([2.0, 3.0, 5.0]), torch.tensor([4.0, 1.0, 2.0])).double()),
                       "kappa")
        demand(abs(value) <= 1e-9, f"agreement by chance alone has kappa zero; yours is {value:.4g}")
