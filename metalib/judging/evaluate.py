"""How good is it, and how sure are we: meta-test scores with their interval and their protocol."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

from metalib.arguments import check_whole
from metalib.episode import Data, Episode, check_episodes, count, joined, moved, one_task, task_axis, tensors
from metalib.fast.fallback import at_once_or_loop
from metalib.fast.parallel import over_tasks
from metalib.fast.private import private, read_only
from metalib.functional import seeded
from metalib.judging.metrics import Measure, chosen, value
from metalib.judging.overlap import update
from metalib.judging.score import Score, compare
from metalib.learner import Learner, TaskState, choose_map, device_of
from metalib.progress import progress
from metalib.tasks.protocol import Tasks, one_by_one

__all__ = ["Score", "compare", "meta_test", "meta_test_path", "predict_query"]


def meta_test(learner: Learner, tasks: Tasks, episodes: int = 600, seed: int = 0, steps: int | None = None,
              transductive: bool = True, metric: Measure | Sequence[Measure] | None = None, *,
              map: str = "auto") -> Score | list[Score]:
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
        metric: of tasks that are no support and query a name in the dict that the learner predicts ("return", which is
            the default, or "regret"), a `Metric`, or a function (prediction, task) -> scalar. Else
            "accuracy" (labels 0..way-1), "MSE" (float targets of the prediction's shape), "loss" (the learner's own
            `task_loss`), "NLL" (-log p of the targets: of a `Normal`, or of logits), "coverage" (the share of targets
            in the central 90 % interval of a `Normal`), a `Metric`, or a function (prediction, y) -> scalar, whose name
            the score carries. A list of them is measured in one pass.
        map: how to go over the tasks, and over the queries where they are predicted one by one: see `meta_gradient`.

    Returns:
        A `Score`, or a list of them for a list of metrics. A task whose prediction is NaN makes it NaN, and it says how
        many did.

    Raises:
        ValueError: steps= for a learner that has none; labels outside 0..way-1; predictions that the metric cannot
            compare with the targets.
        RuntimeError: map="vmap" for a learner that vmap cannot go through.
    """
    metrics = [*metric] if isinstance(metric, (list, tuple)) else [metric]
    if not metrics:
        raise ValueError("metric=[]: give one metric at least, or None")
    values, names, protocol = _each_episode(learner, tasks, episodes, seed, transductive, metrics, map,
                                            lambda learner, support: [_adapt(learner, support, steps)])
    scores = [Score.of(v, metric=name, steps=steps, **protocol) for v, name in zip(values.T, names, strict=True)]
    return scores if isinstance(metric, (list, tuple)) else scores[0]


def meta_test_path(learner: Learner, tasks: Tasks, steps: int, episodes: int = 600, seed: int = 0,
                   transductive: bool = True, metric: Measure | None = None, *, map: str = "auto") -> list[Score]:
    """`meta_test` after each of 0, 1, ..., `steps` inner steps, on the same episodes, in one pass.

    Raises:
        ValueError: the learner has no `path`, so no inner steps; or as `meta_test`.
    """
    if not hasattr(learner, "path"):
        raise ValueError(f"{type(learner).__name__} has no inner steps; meta_test_path needs a learner with path()")
    check_whole(0, steps=steps)
    values, (name,), protocol = _each_episode(learner, tasks, episodes, seed, transductive, [metric], map,
                                              lambda learner, support: learner.path(support, steps))
    return [Score.of(v, metric=name, steps=j, **protocol) for j, v in enumerate(values.T)]


def halves(episode: Any) -> tuple[Any, Any]:
    """(what is adapted to, what is predicted): support and query, or of any other task the task itself, twice."""
    return episode if isinstance(episode, Episode) else (episode, episode)


def predict_query(learner: Learner, phi: TaskState, episode: Any, transductive: bool, map: str = "auto") -> Any:
    """Predictions for the query of one task, (N*Q, ...), under either protocol (see `meta_test`)."""
    if transductive not in (True, False):
        raise ValueError(f"transductive={transductive!r}: expected True or False")
    if not isinstance(episode, Episode):
        if not transductive:
            raise ValueError(f"transductive=False: a {type(episode).__name__} has no queries that could be predicted "
                             "one by one; leave it out")
        return learner.predict(phi, episode)
    x = episode.query.x
    if transductive:
        return learner.predict(phi, x)

    def alone(x_q: Tensor) -> Tensor:
        return tree_map(lambda rows: rows[-1], learner.predict(phi, torch.cat([episode.support.x, x_q[None]])))

    return at_once_or_loop("prediction of queries one by one", learner, map,
                           lambda: vmap(alone, chunk_size=128)(x),
                           lambda: tree_map(lambda *rows: torch.stack(rows), *[alone(x_q) for x_q in x]))


def _adapt(learner: Learner, support: Data, steps: int | None) -> TaskState:
    if steps is None:
        return learner.adapt(support)
    if "steps" not in inspect.signature(learner.adapt).parameters:
        raise ValueError(f"{type(learner).__name__} has no inner steps: leave steps=None")
    check_whole(0, steps=steps)
    return learner.adapt(support, steps)


def _each_episode(learner: Learner, tasks: Tasks, episodes: int, seed: int, transductive: bool,
                  metrics: list[Measure | None], map: str, states: Callable[[Learner, Data], Sequence[TaskState]],
                  ) -> tuple[Tensor, list[str], dict[str, str | int]]:
    """(each metric of each state phi of each episode (n, J), the metrics' names, what identifies the episodes).

    Episodes are drawn one by one: chunks do not matter.
    """
    def measure(learner: Learner, episode: Episode) -> Tensor:
        (support, query), values = halves(episode), []
        for phi in states(learner, support):
            prediction = predict_query(learner, phi, episode, transductive, map)
            values += [value(learner, one, prediction, query) for one in metrics]
        return torch.stack(values)

    check_whole(1, episodes=episodes)
    stream, digest = one_by_one(tasks, episodes, seeded(seed)), hashlib.sha256()
    way = "loop" if choose_map(learner, map) == "loop" else map
    device, values, mine = device_of(learner), [], private(learner, evaluating=True)
    with torch.inference_mode(False), torch.no_grad(), progress(episodes, "meta-test") as bar:
        while drawn := list(islice(stream, 16 if way == "loop" else 64)):
            _refuse_one_task(tasks, drawn)
            for episode in drawn:
                update(digest, episode)
            batch = moved(joined(drawn), device)
            check_episodes(batch)
            names = [chosen(m, mine, halves(batch)[1]).name for m in metrics]  # what is refused is before the work
            values.append(_measured(measure, learner, mine, batch, way))
            bar.update(len(drawn))
    together = transductive if isinstance(batch, Episode) else ""  # where nothing is predicted together
    return torch.cat(values), names, {"transductive": together, "seed": int(seed), "digest": digest.hexdigest()[:12]}


def _measured(measure: Callable[[Learner, Episode], Tensor], learner: Learner, mine: Learner, batch: Episode,
              map: str) -> Tensor:
    """measure(mine, task) of each task of a batch (T, J); without gradients, unless the learner asks for its own."""
    def guarded(mine: Learner, episode: Episode) -> Tensor:
        with read_only(mine):
            return measure(mine, episode)

    def one(mine: Learner, t: int) -> Tensor:
        try:
            with torch.no_grad():
                return guarded(mine, one_task(batch, t))
        except RuntimeError as error:  # what torch.autograd.grad says where nothing was recorded
            if "does not require grad" not in str(error):
                raise
        with torch.enable_grad():
            return guarded(mine, one_task(batch, t)).detach()

    with read_only(mine, weights=True):
        return at_once_or_loop("meta-test", learner, map,
                               lambda: vmap(lambda episode: guarded(mine, episode), (task_axis(batch),))(batch),
                               lambda: torch.stack(list(over_tasks(one, mine, range(count(batch))))))


def _refuse_one_task(tasks: Tasks, drawn: list[Episode]) -> None:
    """A sampler that starts its own generator anew in every call makes one task look like n, and the interval zero."""
    first = drawn[0]
    if len(drawn) >= 8 and all(torch.equal(a, b) for e in drawn[1:] for a, b in zip(tensors(first), tensors(e))):
        raise ValueError(f"{len(drawn)} draws of {type(tasks).__name__}.sample are one and the same task: draw all "
                         "randomness from generator=, or test the one task with episodes=1")
