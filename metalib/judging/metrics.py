"""What one task's predictions are worth: a number, where that number means something, else an error."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metalib.distributions import Normal
from metalib.episode import Data
from metalib.learner import Learner

FIX = "metric='loss', or metric= a function (prediction, y) -> scalar"


@dataclass(frozen=True)
class Metric:
    """A number that one task's predictions are worth, its name, and which way is better.

    Attributes:
        name: what a score carries; `compare` compares scores of one name.
        f: (prediction, y) -> scalar, for the query of one task; the prediction is what the learner's `predict` returns.
        better: +1 if more is better, -1 if less is, 0 if neither (a coverage).
    """

    name: str
    f: Callable[[Any, Tensor], Any]
    better: int = -1

    def __post_init__(self) -> None:
        """Raises a TypeError for what is no name and function, in this order."""
        if not isinstance(self.name, str) or not callable(self.f):
            raise TypeError(f"Metric({self.name!r}, {self.f!r}): expected a name and a function of (prediction, y)")


def coverage(level: float = 0.9) -> Metric:
    """The share of targets inside the predictions' central interval of this probability: right if it is `level`."""
    if not isinstance(level, (int, float)) or not 0 < level < 1:
        raise ValueError(f"level={level!r}: expected a probability between 0 and 1, 0.9 for 90 %")

    def inside(prediction: Normal, y: Tensor) -> Tensor:
        share = _normal(prediction, name).inside(y, level).double().mean()
        fine = torch.stack([t.isfinite().all() for t in (*prediction, y, prediction.std.log())]).all()
        return torch.where(fine, share, torch.nan)  # NaN is neither inside nor outside; infinity is no interval

    name = f"coverage of {100 * level:g} %"
    return Metric(name, inside, better=0)


def negative_log_likelihood(prediction: Normal | Tensor, y: Tensor, way: int | None = None) -> Tensor:
    """-log p(y), the mean over targets: of a `Normal`, or of logits for integer labels, of `way` classes; in nats."""
    if not y.is_floating_point():
        return torch.nn.functional.cross_entropy(_logits(prediction, y, way or 1, "NLL"), y)
    return -_normal(prediction, "NLL").log_prob(y).mean()


Measure = str | Metric | Callable[[Any, Tensor], Any]  # what metric= may be; None picks one to suit the tasks
BETTER = {"accuracy": 1, "MSE": -1, "loss": -1, "NLL": -1, "coverage": 0, "return": 1, "regret": -1}


def chosen(metric: Measure | None, learner: Learner, query: Data) -> Metric:
    """The metric that is meant: a `Metric`, a name, a function, or for None accuracy or MSE, to suit the targets.

    Raises:
        ValueError: an unknown name, or integer targets that do not say whether they are classes.
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric) and not isinstance(metric, type):
        return Metric(getattr(metric, "__name__", type(metric).__name__), metric)
    if not isinstance(query, Data):
        return _named("return" if metric is None else metric, learner)
    if metric is None:
        if not query.y.is_floating_point() and query.way is None:
            raise ValueError("integer targets without way=: for classes Data(x, y, way=N), for regression y.float()")
        metric = "MSE" if query.y.is_floating_point() else "accuracy"
    if not isinstance(metric, str) or metric not in BETTER:
        raise ValueError(f"metric={metric!r}: expected one of {[*BETTER]}, a Metric, a function, or a list of them")
    if metric == "coverage":
        return coverage()
    f = {"accuracy": lambda p, y: accuracy(p, query._replace(y=y)), "loss": learner.task_loss,
         "MSE": lambda p, y: mean_squared_error(p, query._replace(y=y)),
         "NLL": lambda p, y: negative_log_likelihood(p, y, query.way)}[metric]
    return Metric(metric, f, BETTER[metric])


def _named(name: Any, learner: Learner) -> Metric:
    """What a prediction in an environment holds under this name."""
    def entry(prediction: Any, task: Any) -> Any:
        if not isinstance(prediction, dict) or name not in prediction:
            has = sorted(prediction) if isinstance(prediction, dict) else f"a {type(prediction).__name__}"
            raise ValueError(f"metric={name!r}: {type(learner).__name__} predicts {has}: one of these, or a function")
        return prediction[name]

    return Metric(name, learner.task_loss if name == "loss" else entry, BETTER.get(name, 0))


def value(learner: Learner, metric: Measure | None, prediction: Any, query: Data) -> Tensor:
    """The metric of one task's predictions, a scalar: "loss" is the learner's own, `task_loss`.

    Raises:
        ValueError: shapes that the metric cannot compare, or a metric that returns no scalar.
    """
    metric = chosen(metric, learner, query)
    if isinstance(query, Data) and metric.name in ("accuracy", "MSE") and not isinstance(prediction, (Tensor, Normal)):
        what = f"{type(learner).__name__} predicts a {type(prediction).__name__}"
        raise ValueError(f"{what}, which {metric.name} cannot compare with y: set {FIX}")
    result = torch.as_tensor(metric.f(prediction, query.y if isinstance(query, Data) else query))
    if result.ndim:
        raise ValueError(f"{metric.name} returned shape {tuple(result.shape)}, not one number a task: take its mean")
    return result.double()


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
    right = (_logits(prediction, y, way, "accuracy").argmax(-1) == y).double().mean()
    largest = prediction.amax(-1, keepdim=True)  # NaN if any is
    tied = ~largest.isfinite() & ((prediction == largest).sum(-1, keepdim=True) != 1)
    return torch.where(tied.any(), torch.nan, right)


def mean_squared_error(prediction: Tensor | Normal, query: Data) -> Tensor:
    """(1/M) sum (prediction - y)^2 for equal shapes (M, D); broadcasting would compare all with all. Of a `Normal`, its
    mean."""
    prediction = prediction.mean if isinstance(prediction, Normal) else prediction
    if prediction.shape != query.y.shape or not query.y.is_floating_point():
        raise ValueError(f"MSE needs float targets of the predictions' shape: predictions {tuple(prediction.shape)}, "
                         f"targets {tuple(query.y.shape)} ({query.y.dtype}). Make them equal (y[:, None], or "
                         f"prediction.squeeze(-1)), or set {FIX}")
    return (prediction - query.y).pow(2).mean()


def _logits(prediction: Any, y: Tensor, way: int, name: str) -> Tensor:
    if not isinstance(prediction, Tensor):
        raise ValueError(f"{name} needs logits, and the predictions are a {type(prediction).__name__}: set {FIX}")
    if prediction.ndim != y.ndim + 1 or prediction.shape[:-1] != y.shape or prediction.shape[-1] < way:
        raise ValueError(f"{name} needs logits of shape {(*y.shape, way)}, one for each of {way} classes; the "
                         f"predictions have shape {tuple(prediction.shape)}. Set the network's output, or {FIX}")
    return prediction


def _normal(prediction: Any, name: str) -> Normal:
    if not isinstance(prediction, Normal):
        raise ValueError(f"{name} needs predictions that say how sure they are, a metalib.Normal(mean, std) or for NLL "
                         f"logits, and got a {type(prediction).__name__}: choose another metric")
    return prediction
