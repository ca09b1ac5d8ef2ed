"""Which weights are the best so far: validation tasks, scored now and then while a run goes on."""

import math
from typing import Any
from warnings import warn

from metalib.functional import derived
from metalib.judging.evaluate import Score, meta_test
from metalib.judging.metrics import BETTER
from metalib.learner import Learner, device_of
from metalib.tasks import Tasks
from metalib.training.config import History, TrainConfig
from metalib.training.log import Log
from metalib.training.surroundings import callers_randomness, own_randomness


def due(config: TrainConfig, val_tasks: Tasks | None, i: int) -> bool:
    """Whether the weights after i meta-iterations are to be validated."""
    every = config.val_every
    return val_tasks is not None and i > 0 and (i == config.iterations or (every > 0 and i % every == 0))


def rehearse(learner: Learner, val_tasks: Tasks | None, config: TrainConfig) -> None:
    """Score one validation task before the work: a metric, or tasks, that do not fit must not wait for the end."""
    if val_tasks is not None:
        with callers_randomness():
            _score(learner, val_tasks, config, 1, "rehearsal")


def validate(learner: Learner, val_tasks: Tasks, config: TrainConfig, history: History,
             best: dict[str, Any] | None, log: Log) -> dict[str, Any] | None:
    """Score the validation tasks (always the same episodes), and keep the weights if they are the best so far."""
    iteration = len(history.losses)
    score = _score(learner, val_tasks, config, config.val_episodes, f"validation {iteration}")
    history.validations.append((iteration, score.mean, score.ci95))
    log.validation(iteration, score)
    merit = BETTER[score.metric] * score.mean
    if not math.isfinite(merit):
        warn(f"the validation after meta-iteration {iteration} is {score.mean}: it cannot be the best", stacklevel=2)
    elif best is None or merit > best["merit"]:
        weights = {k: v.clone() for k, v in learner.state_dict().items()}
        return {"merit": merit, "iteration": iteration, "weights": weights}
    return best


def _score(learner: Learner, val_tasks: Tasks, config: TrainConfig, episodes: int, stream: str) -> Score:
    with own_randomness(derived(config.seed, stream), device_of(learner)):
        return meta_test(learner, val_tasks, episodes, seed=derived(config.seed, "val"), metric=config.metric,
                         map=config.map)
