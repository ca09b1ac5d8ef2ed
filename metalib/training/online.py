"""Tasks that come one after another: score each, then learn from it; and regret, the price of not knowing them before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from metalib.arguments import check_number, check_whole
from metalib.episode import Episode, check_episodes, rows
from metalib.functional import derived
from metalib.judging.evaluate import meta_test
from metalib.judging.metrics import Measure
from metalib.learner import Learner
from metalib.progress import progress
from metalib.tasks.ordered import FixedEpisodes
from metalib.tasks.protocol import check_request
from metalib.training.config import TrainConfig, check
from metalib.training.train import meta_train

Fit = Callable[[Learner, "Past", TrainConfig], Any]


class Past:
    """Tasks that were seen, each drawn as often as its weight says: what is trained on in a round.

    Args:
        episodes: the tasks, oldest first, (S, M, ...).
        weights: of the tasks (S,), not negative; they sum to 1 here, whatever they summed to.
    """

    def __init__(self, episodes: Episode, weights: Tensor) -> None:
        self.episodes, self.weights = episodes, weights / weights.sum()

    @classmethod
    def seen(cls, stream: Episode, t: int, window: int | None = None, forgetting: float = 1.0) -> Past:
        """Tasks 0 .. t of a stream: the last `window` of them, weighted by forgetting^age; task t has age 0."""
        start = 0 if window is None else max(0, t + 1 - window)
        age = torch.arange(t - start, -1, -1, dtype=torch.float64)
        return cls(rows(stream, slice(start, t + 1)), torch.full_like(age, forgetting) ** age)  # 0^0 = 1

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """n of the tasks, drawn with replacement in proportion to their weights."""
        check_request(n, generator)
        return rows(self.episodes, torch.multinomial(self.weights, n, replacement=True, generator=generator))


def meta_online(learner: Learner, stream: Episode, config: TrainConfig | None, *, window: int | None = None,
                forgetting: float = 1.0, first: int = 0, metric: Measure | None = None,
                fit: Fit = meta_train) -> Tensor:
    """Play a stream: in each round adapt to the task's support, be scored on its query, and only then train.

        loss_t = L_t(theta_t),    L_t(theta) = loss of f_phi on query t,  phi = A_theta(support t)
        theta_{t+1} = fit from theta_t:    min over theta of  sum_{s <= t, t - s < window} forgetting^(t-s) L_s(theta)

    With window=None and forgetting=1 this is follow the meta-leader: all tasks seen count alike. A window keeps the
    last ones, forgetting lets old ones fade (0 keeps the last one alone). config=None never trains: a frozen learner.

    All there is to remember is the learner's weights and the number of rounds played, so a run can be cut anywhere:
    meta_online(learner, stream up to t, ...), `save`, `load`, and meta_online(learner, stream, ..., first=t) give the
    losses and the weights of one run, bit for bit. An error or Ctrl-C leaves the learner as this call found it.

    Args:
        learner: any; trained in place.
        stream: tasks in the order of time, (T, M, ...): `Stream.rounds` draws some, `FixedEpisodes` stacks others.
        config: of the training in one round, `iterations` meta-iterations of a fresh Adam; its seed and t decide what
            is drawn. None: no training.
        window: tasks that are remembered, the last one included; None: all.
        forgetting: what a task's weight is multiplied by in each round, 0 to 1.
        first: rounds that were played before; they are trained on, and not scored again.
        metric: one of those of `meta_test`; None suits the targets (accuracy, which is no loss, or MSE).
        fit: (learner, `Past`, config) that trains in place; `meta_train`, or the exact solution where there is one.

    Returns:
        What the metric says of each round, (T - first,), float64.

    Raises:
        ValueError: an empty stream or one with numbers that are not finite; window below 1; forgetting outside 0 to 1;
            first outside 0 to T; a config that asks for a checkpoint, a log or validations.
        FloatingPointError: a round's score is not finite.

    Finn, Rajeswaran, Kakade and Levine (2019), "Online meta-learning", ICML, for the leader; the window and forgetting
    are the usual ones of adaptive filters.
    """
    _check(stream, config, window, forgetting, first)
    before, scores = {k: v.detach().clone() for k, v in learner.state_dict().items()}, []
    try:
        with progress(stream.tasks, "meta-online", first) as bar:
            for t in range(first, stream.tasks):
                task = FixedEpisodes(rows(stream, slice(t, t + 1)))
                scores.append(meta_test(learner, task, 1, metric=metric).values)
                if not bool(scores[-1].isfinite().all()):
                    raise FloatingPointError(f"the score of round {t} is {float(scores[-1])}: lower lr or the inner "
                                             "rate, or set TrainConfig(clip=10)")
                if config is not None:
                    past = Past.seen(stream, t, window, forgetting)
                    fit(learner, past, replace(config, seed=derived(config.seed, f"round {t}")))
                bar.update()
    except BaseException:  # Ctrl-C as well: half a round could not be continued
        learner.load_state_dict(before)
        raise
    return torch.cat(scores) if scores else torch.empty(0, dtype=torch.float64)


def hindsight(learner: Learner, stream: Episode, config: TrainConfig, *, metric: Measure | None = None,
              fit: Fit = meta_train) -> Tensor:
    """What each round would have cost with one start for all, trained on all of them at once: (T,), float64.

    With an exact `fit` this is the best fixed start in hindsight. With `meta_train` it is the one that training found:
    the best may be better, so that `regret` against it is a lower bound (on the regret of the meta-loss that was
    trained on): train until it stops improving, or everybody looks good. It is fitted to the queries it is scored on,
    as a comparator in hindsight may be. The learner is trained in place: give a fresh one.

    Raises:
        ValueError: as `meta_online`.
    """
    _check(stream, config)
    fit(learner, Past(stream, torch.ones(stream.tasks, dtype=torch.float64)), config)
    return meta_test(learner, FixedEpisodes(stream), stream.tasks, metric=metric).values


def regret(losses: Tensor, best: Tensor) -> Tensor:
    """How much more was lost than by a comparator, after each round: R_t = sum_{s <= t} (losses_s - best_s), (T,).

    Static regret takes the losses of one start for all rounds (`hindsight`). Dynamic regret takes a comparator that
    moves with the tasks. A static regret of zero says nothing about how good the fixed start was.

    Raises:
        ValueError: they are not both (T,).
    """
    if losses.ndim != 1 or losses.shape != best.shape:
        raise ValueError(f"losses {tuple(losses.shape)}, comparator's {tuple(best.shape)}: expected one number a round")
    return (losses - best).cumsum(0)


def _check(stream: Episode, config: TrainConfig | None, window: int | None = None, forgetting: float = 1.0,
           first: int = 0) -> None:
    if not isinstance(stream, Episode):
        raise TypeError(f"the stream is a {type(stream).__name__}: expected an Episode whose task axis is time, as "
                        "Stream(at).rounds(n, generator=g) draws it")
    check_episodes(stream)
    if config is not None:
        check(config)
    for part, data in zip(("support", "query"), stream):
        for what, values in zip("xy", data):
            if not bool((good := values.flatten(1).isfinite().all(1)).all()):
                t = int((~good).nonzero()[0, 0])
                raise ValueError(f"{part}.{what} of round {t} is not finite: leave that task out, or mend it")
    if config is not None and (config.checkpoint or config.log_dir or config.val_every):
        raise ValueError("leave out checkpoint=, log_dir= and val_every=: cut a stream with first= and save(learner)")
    check_whole(1, window=1 if window is None else window)
    check_whole(0, first=first)
    check_number(forgetting, "forgetting")
    if forgetting > 1:
        raise ValueError(f"forgetting={forgetting}: expected a number from 0 (the last task alone) to 1 (all alike)")
    if first > stream.tasks:
        raise ValueError(f"first={first}: expected 0 .. {stream.tasks}, the rounds of this stream that were played")
