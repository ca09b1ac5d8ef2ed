"""What one task's predictions are worth: a number, where that number means something, else an error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metalib.episode import Data
from metalib.learner import Learner

FIX = "metric='loss', or metric= a function (prediction, y) -> scalar"
Metric = Callable[[Tensor, Tensor], Tensor]  # (prediction, y) -> scalar, for the query of one task


def metric_name(metric: str | Metric | None, query: Data) -> str:
    """The name that a score carries: the metric's own; without one, "MSE" for float targets, else "accuracy".

    Raises:
        ValueError: an unknown name, or integer targets that do not say whether they are classes.
    """
    if metric is None:
        if not query.y.is_floating_point() and query.way is None:
            raise ValueError("integer targets without way=: for classes 0..N-1 build the data with Data(x, y, way=N), "
                             "for regression give float targets (y.float())")
        return "MSE" if query.y.is_floating_point() else "accuracy"
    if not callable(metric) and metric not in ("accuracy", "MSE", "loss"):
        raise ValueError(f"metric={metric!r}: expected 'accuracy', 'MSE', 'loss' or a function "
                         "(prediction, y) -> scalar")
    return metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)


def value(learner: Learner, metric: str | Metric | None, prediction: Tensor, query: Data) -> Tensor:
    """The metric of one task's predictions, a scalar: "loss" is the learner's own, `task_loss`.

    Raises:
        ValueError: shapes that the metric cannot compare, or a metric that returns no scalar.
    """
    name = metric_name(metric, query)
    if metric == "loss":
        metric = learner.task_loss
    if callable(metric):
        result = torch.as_tensor(metric(prediction, query.y), dtype=torch.float64)
        if result.ndim:
            raise ValueError(f"the metric {name} returned shape {tuple(result.shape)}, expected one number a task: "
                             "take its mean")
        return result
    if not isinstance(prediction, Tensor):
        raise ValueError(f"{type(learner).__name__} predicts a {type(prediction).__name__}, which {name} cannot "
                         f"compare with y: set {FIX}")
    return (accuracy if name == "accuracy" else mean_squared_error)(prediction, query)


def accuracy(prediction: Tensor, query: Data) -> Tensor:
    """The fraction of queries whose largest logit is the right one; NaN if any query has none.

    It has none where a logit is NaN, or where the largest are infinite and several: after an overflow `argmax` would
    take the first of them, and a network that says nothing would score 1/N.

    Args:
        prediction: logits (M, N). A class N or above, which no label has, counts as wrong where it wins.
        query: labels 0..way-1, (M,).
    """
    y, way = query.y, query.way
    if way is None or y.is_floating_point():
        raise ValueError("accuracy needs integer labels and way=: build the data with Data(x, y, way=N)")
    if prediction.ndim != y.ndim + 1 or prediction.shape[:-1] != y.shape or prediction.shape[-1] < way:
        raise ValueError(f"accuracy needs logits of shape {(*y.shape, way)}, one for each of {way} classes, to compare "
                         f"with labels {tuple(y.shape)}; the predictions have shape {tuple(prediction.shape)}. Set the "
                         f"network's output, or {FIX}")
    right = (prediction.argmax(-1) == y).double().mean()
    largest = prediction.amax(-1, keepdim=True)  # NaN if any is
    tied = ~largest.isfinite() & ((prediction == largest).sum(-1, keepdim=True) != 1)
    return torch.where(tied.any(), torch.nan, right)


def mean_squared_error(prediction: Tensor, query: Data) -> Tensor:
    """(1/M) sum (prediction - y)^2 for equal shapes (M, D); broadcasting would compare all with all."""
    if prediction.shape != query.y.shape or not query.y.is_floating_point():
        raise ValueError(f"MSE needs float targets of the predictions' shape: predictions {tuple(prediction.shape)}, "
                         f"targets {tuple(query.y.shape)} ({query.y.dtype}). Make them equal (y[:, None], or "
                         f"prediction.squeeze(-1)), or set {FIX}")
    return (prediction - query.y).pow(2).mean()
