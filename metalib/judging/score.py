"""A number with its interval, its protocol and its unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

# 97.5 % quantiles of Student's t for 1, 2, ..., 28 degrees of freedom
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
               2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048)


@dataclass(frozen=True)
class Score:
    """A mean over tasks with its 95 % interval, and everything needed to draw the same episodes again.

        ci95 = q s / sqrt(n),    s the sample standard deviation of the per-task values

    q = 1.96, or below 30 tasks the quantile of Student's t with n - 1 degrees of freedom; one task has an infinite
    interval. The interval is over tasks, for this trained model and these classes. It says nothing about another
    training seed or other classes: report those spreads separately.

    A task whose prediction held a NaN has the value NaN, and so has the mean: it is neither right nor wrong.

    Raises:
        ValueError: `values` is not one number a task.

    Attributes:
        mean: the mean of `values`.
        ci95: half the width of the 95 % interval.
        n: the number of tasks.
        values: one value per task, (n,), float64.
        metric: "accuracy", "MSE", the name of another, or the difference of two ("accuracy difference").
        seed: of the episodes.
        transductive: whether a query was predicted together with the other queries of its task; None for the
            difference of a score where it was and one where it was not, "" where a task has no queries.
        steps: inner steps asked for, or None for the learner's own number.
        digest: a fingerprint of the episodes; equal digests mean the same episodes.
    """

    mean: float
    ci95: float
    n: int
    values: Tensor = field(repr=False, compare=False)
    metric: str = "accuracy"
    seed: int | None = None
    transductive: bool | str | None = True
    steps: int | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or len(self.values) == 0:
            raise ValueError(f"values have shape {tuple(self.values.shape)}; expected (n,), one number a task: take "
                             "the mean over the queries of each task first")

    @classmethod
    def of(cls, values: Tensor | Sequence[float], **protocol: str | int | bool | None) -> Score:
        """The score of per-task values (n,)."""
        values = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
        n = len(values)
        q = 1.96 if n >= 30 else T_QUANTILES[n - 2]
        ci95 = q * float(values.std(correction=1)) / math.sqrt(n) if n > 1 else math.inf
        return cls(float(values.mean()), ci95, n, values, **protocol)

    def __str__(self) -> str:
        protocols = {True: ", transductive", False: ", non-transductive", None: ", of two protocols", "": ""}
        how = f"({self.n} task{'s' if self.n != 1 else ''}{protocols[self.transductive]})"
        if lost := int((~self.values.isfinite()).sum()):
            return f"{self.metric} {self.mean}: {lost} of {self.n} values are not finite {how}"
        if self.metric == "accuracy":
            return f"{100 * self.mean:.1f} +- {100 * self.ci95:.1f} % {how}"
        if self.metric == "accuracy difference":
            return f"{100 * self.mean:+.1f} +- {100 * self.ci95:.1f} points {how}"
        return f"{self.metric} {_number(self.mean)} +- {_number(self.ci95)} {how}"


def compare(a: Score, b: Score) -> Score:
    """The paired difference a - b, task by task: far narrower than two separate intervals suggest.

    Raises:
        TypeError: what is compared is no `Score`.
        ValueError: the two scores are not of the same episodes, or do not say which ones they are of; or their metric
            is a lambda, whose name does not say whether it is one metric.
    """
    for score in (a, b):
        if not isinstance(score, Score):
            raise TypeError(f"compare() was given a {type(score).__name__}; expected two scores, of meta_test")
        if score.metric == "<lambda>":
            raise ValueError("a lambda's score does not say which metric it is of: give the metric a name, with def")
    if not a.digest or a.digest != b.digest or a.n != b.n or a.metric != b.metric:
        raise ValueError(f"the scores are of different episodes, or do not say which ({a.metric} {a.n}, {a.digest!r} "
                         f"and {b.metric} {b.n}, {b.digest!r}): call meta_test on the same tasks with the same "
                         "episodes= and seed=; values of your own get a name for their tasks, Score.of(digest=)")
    return Score.of(a.values - b.values, metric=f"{a.metric} difference", seed=a.seed,
                    transductive=a.transductive if a.transductive == b.transductive else None, digest=a.digest)


def _number(value: float) -> str:
    """Three decimals, or two significant digits where three decimals would print zero for what is not."""
    text = f"{value:.3f}"
    return text if value == 0 or float(text) != 0 else f"{value:.2g}"
