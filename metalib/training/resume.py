"""The training state in a file: written, recognised as this run's, and put back."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any
from warnings import warn

import torch

from metalib.functional import derived
from metalib.judging.evaluate import meta_test
from metalib.learner import Learner, device_of
from metalib.tasks import Tasks
from metalib.training import checkpoint
from metalib.training.config import TrainConfig, settings
from metalib.training.history import History
from metalib.training.identity import describe, differences
from metalib.training.log import Log
from metalib.training.randomness import own_randomness


def begin(config: TrainConfig, parts: dict[str, Any], optimizer: torch.optim.Optimizer, generator: torch.Generator,
          log: Log) -> dict[str, Any]:
    """The state to start from: the checkpoint's if there is one, else the learner's, which is written there.

    Args:
        parts: {"learner": ..., "tasks": ..., "val_tasks": ...}, what the run consists of besides its settings.
    """
    _try_validation(config, parts["learner"], parts["val_tasks"])
    run = {"is": {}, "state": [], "iterations": config.iterations}
    if config.checkpoint:
        run["is"] = describe({**parts, **{f"TrainConfig.{k}": v for k, v in settings(config).items()}})
    state = _state(run, parts["learner"], optimizer, generator, History(), None)
    if config.checkpoint and Path(config.checkpoint).exists():
        state = checkpoint.read(config.checkpoint)
        _recognise(state, run["is"], config)
        state["run"]["iterations"] = config.iterations
    elif config.checkpoint:  # a folder that cannot be written to must say so before the work, not after it
        checkpoint.write(state, config.checkpoint)
    done = len(state["history"]["losses"])
    log.open(config.log_dir, done, state["history"]["seconds"])
    if not done:
        log.look(parts["tasks"], "train", config.meta_batch, derived(config.seed, "train"))
        log.look(parts["val_tasks"], "val", 1, derived(config.seed, "val"))
    return state


def _try_validation(config: TrainConfig, learner: Learner, val_tasks: Tasks | None) -> None:
    """Validate on one task: a metric or tasks that cannot be scored must say so before the work, not after it."""
    if val_tasks is not None:
        seed = derived(config.seed, "val")
        with own_randomness(seed, device_of(learner)):
            meta_test(learner, val_tasks, 1, seed=seed, metric=config.metric, map=config.map)


def keep(config: TrainConfig, run: dict[str, Any], learner: Learner, optimizer: torch.optim.Optimizer,
         generator: torch.Generator, history: History, best: dict[str, Any] | None) -> None:
    """Write the training state to `config.checkpoint`."""
    checkpoint.write(_state(run, learner, optimizer, generator, history, best), config.checkpoint)


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
    # What changed while the run went on (a counter of calls, say) is state, and none of its settings.
    if wrong := differences(run["is"], now, ignore=run["state"]):
        more = f"; and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        network = " and holds another network" if any(re.match(r"learner\.\w+\.", line) for line in wrong) else ""
        raise ValueError(f"{path} belongs to another run{network}: {'; '.join(wrong[:6])}{more}. Use the learner, the "
                         f"tasks and the TrainConfig that began it to resume, {anew}")
    if done > config.iterations:
        raise ValueError(f"{path} has done {done} meta-iterations already, more than iterations={config.iterations}: "
                         f"raise iterations=, {anew}")
    if config.schedule == "cosine" and 0 < done < config.iterations and run["iterations"] != config.iterations:
        warn(f"{path}: the first {done} meta-iterations followed a cosine over {run['iterations']}, the rest follows "
             f"one over {config.iterations}: this is not the run that {config.iterations} from the start would be",
             stacklevel=2)
