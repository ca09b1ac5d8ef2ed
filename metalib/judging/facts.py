"""What a fact alone predicts: patient, smear, file order, script. A leak is what needs no look at the example."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metalib.data import ClassData
from metalib.functional import seeded
from metalib.judging.score import Score

LEAK = 5  # standard errors above chance
SHUFFLES = 30  # of a fact over the examples, which say what those errors are


@dataclass(frozen=True)
class Fact:
    """What one fact of a bank (`about`) gives away in the audited episodes.

    The rule that is scored sees nothing but the fact: a query gets the label that is commonest among the support
    examples with its value, of numbers with the nearest value; where labels tie, or no example has the value, each of
    them counts by its share. Facts that have nothing to do with the classes score 1/N.

    Attributes:
        name: of the fact.
        shared: how many query examples have their value in common with a support example of their episode.
        queries: out of how many.
        score: accuracy of the rule.
        chance: 1/N.
        excess: how far the accuracy is above chance, in standard errors. They are the larger of that over episodes and
            that over 30 banks whose examples were given the fact's values in random order: in a small bank the values
            are, by chance, not the same in all classes, however often it is drawn from.
    """

    name: str
    shared: int
    queries: int
    score: Score
    chance: float
    excess: float

    @property
    def leaks(self) -> bool:
        """Whether the accuracy is more than 5 standard errors above chance."""
        return self.excess > LEAK

    def __str__(self) -> str:
        return (f"{self.name} alone predicts {100 * self.score.mean:.1f} +- {100 * self.score.ci95:.1f} %, chance "
                f"{100 * self.chance:.1f} %: {'LEAKS' if self.leaks else 'no leak seen'}\n"
                f"  ({self.excess:+.1f} standard errors; {self.shared} of {self.queries} queries share it with "
                "their support)")


def facts(tasks: Any, episodes: int, seed: int) -> Iterator[Fact]:
    """Each fact of the bank that the tasks are drawn from, by name.

    `tasks.images` is that bank; `tasks.sample_rows(n, generator=)` says which of its rows an episode is made of:
    (support (T, M), labels, query (T, Q), labels).
    """
    bank: ClassData = tasks.images
    if not bank.about:  # nothing to look for, so nothing is drawn
        return
    support, y, query, target = tasks.sample_rows(episodes, generator=seeded(seed))
    for name in sorted(bank.about):
        values, g = bank.about[name], seeded(seed)
        number = values.dtype.kind != "U"
        value = torch.from_numpy(values.astype(float) if number else np.unique(values, return_inverse=True)[1])
        right = by_fact(value[support], y, value[query], target, tasks.way, number)
        score, excess = Score.of(right), 0.0
        if score.mean > 1 / tasks.way + 1e-9:
            mixed = [value[torch.randperm(len(value), generator=g)] for _ in range(SHUFFLES)]
            null = torch.stack([by_fact(v[support], y, v[query], target, tasks.way, number).mean() for v in mixed])
            error = max(float((null - 1 / tasks.way).square().mean().sqrt()), float(right.std()) / episodes**0.5)
            excess = (score.mean - 1 / tasks.way) / max(error, 1e-9)
        shared = (value[query][:, :, None] == value[support][:, None, :]).any(2)
        yield Fact(name, int(shared.sum()), shared.numel(), score, 1 / tasks.way, excess)


def by_fact(support: Tensor, y: Tensor, query: Tensor, target: Tensor, way: int, number: bool) -> Tensor:
    """Accuracy in each episode (T,) of the rule that knows values (T, M) with labels y, and of queries (T, Q)."""
    gap = (query[:, :, None] - support[:, None, :]).abs()  # (T, Q, M)
    nearest = gap == (gap.amin(2, keepdim=True) if number else 0)
    votes = nearest.double() @ F.one_hot(y, way).double()  # (T, Q, N)
    best = (votes == votes.amax(2, keepdim=True)).double()
    return (best.gather(2, target[..., None])[..., 0] / best.sum(2)).mean(1)


def both_sides(tasks: Any, trained_on: ClassData) -> tuple[str, ...]:
    """What the bank of the tasks shares with that of training: groups by name, values of facts by number.

    Raises:
        TypeError: one of the two is no bank.
    """
    bank = getattr(tasks, "images", None)
    if not isinstance(bank, ClassData) or not isinstance(trained_on, ClassData):
        raise TypeError(f"trained_on= compares two banks, that of {type(tasks).__name__}.images and that of "
                        f"training; these are a {type(bank).__name__} and a {type(trained_on).__name__}")
    facts = {name: (set(bank.fact(name)), set(trained_on.fact(name))) for name in bank.about
             if name in trained_on.about and bank.fact(name).dtype.kind == "U"}
    return (*sorted(set(bank.groups) & set(trained_on.groups) - {""}),
            *(f"{len(a & b)} of {len(a)} values of {name}" for name, (a, b) in facts.items() if a & b))
