"""The state of a training run: the best weights so far, and a file that is written, recognised, and read again."""

import contextlib
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any
from warnings import warn

import torch

from metalib.functional import derived
from metalib.judging.evaluate import Score, meta_test
from metalib.judging.metrics import BETTER
from metalib.learner import Learner, device_of
from metalib.progress import say
from metalib.tasks import Tasks
from metalib.training import checkpoint
from metalib.training.config import History, TrainConfig, settings
from metalib.training.identity import describe, differences, moved, within
from metalib.training.log import Log
from metalib.training.surroundings import callers_randomness, own_randomness

VALIDATION = ("val_tasks", "TrainConfig.val_every", "TrainConfig.val_episodes", "TrainConfig.metric")


def begin(config: TrainConfig, parts: dict[str, Any], optimizer: torch.optim.Optimizer, generator: torch.Generator,
          log: Log) -> dict[str, Any]:
    """The state to start from: the checkpoint's if there is one, else the learner's, which is written there.

    It is written before the work, not after it, so that a folder that cannot be written to says so, and so that of two
    runs that begin at the same moment only one has the file.

    Args:
        parts: {"learner": ..., "tasks": ..., "val_tasks": ...}, what the run consists of besides its settings.
    """
    run = {"is": {}, "state": [], "stood": {}, "iterations": config.iterations}
    if config.checkpoint:
        run["is"] = describe({**parts, **{f"TrainConfig.{k}": v for k, v in settings(config).items()}})
    state = _state(run, parts["learner"], optimizer, generator, History(), None)
    if not config.checkpoint or not Path(config.checkpoint).exists():
        rehearse(parts["learner"], parts["val_tasks"], config)
        if config.checkpoint:
            with contextlib.suppress(FileExistsError):  # another process has begun its run there in this moment
                checkpoint.write(state, config.checkpoint, replace=False)
    if config.checkpoint:
        state = checkpoint.read(config.checkpoint)
        _recognise(state, run["is"], config)
        if len(state["history"]["losses"]) < config.iterations:
            _warn_of_state(state["run"], describe(parts, contents=False), config)
        state["run"] |= {"is": run["is"], "iterations": config.iterations}
    done = len(state["history"]["losses"])
    if done:
        say(f"meta-train: continues {config.checkpoint} after {done} of {config.iterations} meta-iterations")
    log.open(config.log_dir, done, state["history"]["seconds"])
    if not done:
        log.look(parts["tasks"], "train", config.meta_batch, derived(config.seed, "train"))
        log.look(parts["val_tasks"], "val", 1, derived(config.seed, "val"))
    return state


def keep(config: TrainConfig, run: dict[str, Any], parts: dict[str, Any], first: dict[str, Any],
         optimizer: torch.optim.Optimizer, generator: torch.Generator, history: History,
         best: dict[str, Any] | None) -> None:
    """Write the training state to `config.checkpoint`, if it is asked for.

    Args:
        run: what the state to start from says about the run.
        parts: see `begin`; first: their description when the work began.
    """
    if config.checkpoint:
        now = describe(parts, contents=False)
        state = sorted({*run["state"], *moved(first, now)})
        run = {**run, "state": state, "stood": within(now, state)}
        checkpoint.write(_state(run, parts["learner"], optimizer, generator, history, best), config.checkpoint)


def restore(state: dict[str, Any], config: TrainConfig, learner: Learner, optimizer: torch.optim.Optimizer,
            generator: torch.Generator) -> tuple[dict[str, Any] | None, History]:
    """Put everything back as it was when the state was taken."""
    try:
        learner.load_state_dict(state["weights"])
    except RuntimeError as error:
        raise ValueError(f"{config.checkpoint or 'rank 0'} holds another network: {error}") from error
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    return state["best"], History(**state["history"])


def _state(run: dict[str, Any], learner: Learner, optimizer: torch.optim.Optimizer, generator: torch.Generator,
           history: History, best: dict[str, Any] | None) -> dict[str, Any]:
    return {"format": checkpoint.FORMAT, "run": run, "weights": learner.state_dict(),
            "optimizer": optimizer.state_dict(), "generator": generator.get_state(), "history": asdict(history),
            "best": best}


def _recognise(state: dict[str, Any], now: dict[str, Any], config: TrainConfig) -> None:
    """ValueError unless the state is of the run that `now` describes and has not gone beyond its end."""
    path, anew = config.checkpoint, "or another checkpoint= to start anew"
    if not {"run", "weights", "optimizer", "history"} <= set(state):
        raise ValueError(f"{path} is not a training checkpoint (it holds {sorted(state)}): use another checkpoint=")
    if state.get("format", 1) != checkpoint.FORMAT:
        raise ValueError(f"{path} was written by another version of metalib (format {state.get('format', 1)}, this one "
                         f"has {checkpoint.FORMAT}): use the version that began the run, {anew}")
    run, done = state["run"], len(state["history"]["losses"])
    # What changed while the run went on (a counter of calls, say) is state, and none of its settings. And how a run is
    # validated can be chosen until it would have been for the first time: a mistake there must not cost the training.
    unused = not state["history"]["validations"] and (config.val_every == 0 or done <= config.val_every)
    if wrong := differences(run["is"], now, ignore=[*run["state"], *(VALIDATION if unused else ())]):
        more = f"; and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        network = " and holds another network" if any(re.match(r"learner\.\w+\.", line) for line in wrong) else ""
        raise ValueError(f"{path} belongs to another run{network}: {'; '.join(wrong[:6])}{more}. Use the learner, the "
                         f"tasks and the TrainConfig that began it to resume, {anew}")
    if done > config.iterations:
        raise ValueError(f"{path} has done {done} meta-iterations already, more than iterations={config.iterations}: "
                         f"raise iterations=, {anew}")
    if config.schedule == "cosine" and 0 < done < config.iterations and run["iterations"] != config.iterations:
        warn(f"{path}: the first {done} meta-iterations followed a cosine over {run['iterations']}, the rest follows "
             f"one over {config.iterations}: a run of that length from the start would be another", stacklevel=2)


def _warn_of_state(run: dict[str, Any], now: dict[str, Any], config: TrainConfig) -> None:
    """A warning where the objects given now stand elsewhere than those that were trained with, whose state no file has.
    """
    if "stood" in run and (wrong := differences(run["stood"], within(now, run["state"]))):
        warn(f"{config.checkpoint} has no state of your own objects, and they had changed: {'; '.join(wrong[:6])}. If "
             "it matters (a curriculum, a generator of their own), set it before meta_train", stacklevel=2)


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
