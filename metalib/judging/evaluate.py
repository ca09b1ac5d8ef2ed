"""How good is it, and how sure are we: meta-test scores with their interval and their protocol."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.func import vmap

from metalib.episode import TASK_AXIS, Data, Episode
from metalib.fast.parallel import over_tasks
from metalib.fast.private import private, read_only
from metalib.learner import Learner, TaskState, choose_map, device_of
from metalib.progress import progress
from metalib.tasks import Tasks


@dataclass(frozen=True)
class Score:
    """A mean over tasks with its 95 % interval, and everything needed to draw the same episodes again.

        ci95 = 1.96 s / sqrt(n),    s the sample standard deviation of the per-task values

    The interval is over tasks, for this trained model and these classes. It says nothing about another training seed
    or other classes: report those spreads separately.

    Attributes:
        mean: the mean of `values`.
        ci95: half the width of the 95 % interval.
        n: the number of tasks.
        values: one value per task, (n,), float64.
        metric: "accuracy", "MSE", or the difference of two ("accuracy difference").
        seed: of the episodes.
        transductive: whether a query was predicted together with the other queries of its task.
        steps: inner steps asked for, or None for the learner's own number.
        digest: a fingerprint of the episodes; equal digests mean the same episodes.
    """

    mean: float
    ci95: float
    n: int
    values: Tensor = field(repr=False, compare=False)
    metric: str = "accuracy"
    seed: int | None = None
    transductive: bool = True
    steps: int | None = None
    digest: str = ""

    @classmethod
    def of(cls, values: Tensor, **protocol: str | int | bool | None) -> Score:
        """The score of per-task values (n,)."""
        values = values.detach().double().cpu()
        n = len(values)
        ci95 = 1.96 * float(values.std(correction=1)) / math.sqrt(n) if n > 1 else math.inf
        return cls(float(values.mean()), ci95, n, values, **protocol)

    def __str__(self) -> str:
        how = f"({self.n} tasks, {'' if self.transductive else 'non-'}transductive)"
        if self.metric == "accuracy":
            return f"{100 * self.mean:.1f} +- {100 * self.ci95:.1f} % {how}"
        if self.metric == "accuracy difference":
            return f"{100 * self.mean:+.1f} +- {100 * self.ci95:.1f} points {how}"
        return f"{self.metric} {self.mean:.3f} +- {self.ci95:.3f} {how}"


def meta_test(learner: Learner, tasks: Tasks, episodes: int = 600, seed: int = 0, steps: int | None = None,
              transductive: bool = True) -> Score:
    """Adapt to each of `episodes` tasks and score its query: accuracy for integer targets, MSE for float targets.

    Args:
        learner: evaluated as it is, with dropout and the like off. Neither weights, buffers nor modes change; a batch
            norm uses the batch at hand unless you froze it (`metalib.fast.private` has the rule).
        tasks: where the episodes come from.
        episodes: n, the number of tasks.
        seed: of a CPU generator; the same seed gives the same episodes on every device.
        steps: inner steps, if not the learner's own number.
        transductive: True predicts a task's queries together, so batch statistics may use them all. False predicts
            each one as the last row of predict(phi, [support.x; x_q]), which no other query can influence.

    Raises:
        ValueError: steps= for a learner that has none.
    """
    def measure(learner: Learner, episode: Episode) -> Tensor:
        phi = _adapt(learner, episode.support, steps)
        return _value(predict_query(learner, phi, episode, transductive), episode.query.y)[None]

    values, protocol = _each_episode(learner, tasks, episodes, seed, measure)
    return Score.of(values[:, 0], transductive=transductive, steps=steps, **protocol)


def meta_test_path(learner: Learner, tasks: Tasks, steps: int, episodes: int = 600, seed: int = 0,
                   transductive: bool = True) -> list[Score]:
    """`meta_test` after each of 0, 1, ..., `steps` inner steps, on the same episodes, in one pass.

    Raises:
        ValueError: the learner has no `path`, so no inner steps.
    """
    if not hasattr(learner, "path"):
        raise ValueError(f"{type(learner).__name__} has no inner steps; meta_test_path needs a learner with path()")

    def measure(learner: Learner, episode: Episode) -> Tensor:
        return torch.stack([_value(predict_query(learner, phi, episode, transductive), episode.query.y)
                            for phi in learner.path(episode.support, steps)])

    values, protocol = _each_episode(learner, tasks, episodes, seed, measure)
    return [Score.of(v, transductive=transductive, steps=j, **protocol) for j, v in enumerate(values.T)]


def compare(a: Score, b: Score) -> Score:
    """The paired difference a - b, task by task: far narrower than two separate intervals suggest.

    Raises:
        ValueError: the two scores are not of the same episodes.
    """
    if a.digest != b.digest or a.n != b.n or a.metric != b.metric:
        raise ValueError(f"the scores are of different episodes ({a.metric} {a.n}, {a.digest} and {b.metric} {b.n}, "
                         f"{b.digest}): call meta_test on the same tasks with the same episodes= and seed=")
    return Score.of(a.values - b.values, metric=f"{a.metric} difference", seed=a.seed,
                    transductive=a.transductive and b.transductive, digest=a.digest)


def predict_query(learner: Learner, phi: TaskState, episode: Episode, transductive: bool) -> Tensor:
    """Predictions for the query of one task, (N*Q, ...), under either protocol (see `meta_test`)."""
    x = episode.query.x
    if transductive:
        return learner.predict(phi, x)
    return vmap(lambda x_q: learner.predict(phi, torch.cat([episode.support.x, x_q[None]]))[-1], chunk_size=128)(x)


def _adapt(learner: Learner, support: Data, steps: int | None) -> TaskState:
    if steps is None:
        return learner.adapt(support)
    if "steps" not in inspect.signature(learner.adapt).parameters:
        raise ValueError(f"{type(learner).__name__} has no inner steps: leave steps=None")
    return learner.adapt(support, steps)


def _value(prediction: Tensor, y: Tensor) -> Tensor:
    if y.is_floating_point():
        return (prediction - y).pow(2).mean()
    return (prediction.argmax(-1) == y).double().mean()


def _each_episode(learner: Learner, tasks: Tasks, episodes: int, seed: int,
                  measure: Callable[[Learner, Episode], Tensor]) -> tuple[Tensor, dict[str, str | int]]:
    """(measure of each episode (n, J), what identifies them). Episodes are drawn one by one: chunks do not matter."""
    if episodes < 1:
        raise ValueError(f"episodes={episodes}: at least 1 is needed, 600 is the custom")
    generator, digest = torch.Generator().manual_seed(seed), hashlib.sha256()
    loop = choose_map(learner, "auto") == "loop"

    def guarded(mine: Learner, episode: Episode) -> Tensor:
        with read_only(mine):
            return measure(mine, episode)

    device, values = device_of(learner), []
    with private(learner, evaluating=True) as learner:
        with torch.inference_mode(False), torch.no_grad(), progress(episodes, "meta-test") as bar:
            while (done := sum(len(v) for v in values)) < episodes:
                drawn = [tasks.sample(1, generator=generator) for _ in range(min(16 if loop else 64, episodes - done))]
                for episode in drawn:
                    _update(digest, episode)
                batch = _cat(drawn).to(device)
                if loop:
                    quietly = torch.no_grad()(lambda copy, t: guarded(copy, batch.task(t)))  # noqa: B023 (used here)
                    values.append(torch.stack(list(over_tasks(quietly, learner, range(batch.tasks)))))
                else:
                    values.append(vmap(lambda episode: guarded(learner, episode), (TASK_AXIS,))(batch))
                bar.update(len(drawn))
    metric = "MSE" if batch.query.y.is_floating_point() else "accuracy"
    return torch.cat(values), {"metric": metric, "seed": seed, "digest": digest.hexdigest()[:12]}


def _cat(episodes: list[Episode]) -> Episode:
    support, query = ([getattr(e, part) for e in episodes] for part in ("support", "query"))
    return Episode(*(Data(torch.cat([d.x for d in part]), torch.cat([d.y for d in part]), part[0].way)
                     for part in (support, query)))


def _update(digest: hashlib._Hash, episode: Episode) -> None:
    """Add an episode to a fingerprint. Floats are rounded to 1e-6, because sin() may differ in the last bit by CPU."""
    for tensor in (*episode.support[:2], *episode.query[:2]):
        if tensor.is_floating_point():
            tensor = (tensor * 1e6).round().to(torch.int64 if tensor.dtype == torch.float64 else torch.int32)
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
