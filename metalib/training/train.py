"""Meta-training: draw tasks, take the mean meta-gradient, step the slow weights; nothing finished is ever lost."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from metalib.judging.evaluate import meta_test
from metalib.learner import Learner, device_of, meta_gradient
from metalib.progress import progress
from metalib.tasks import Tasks
from metalib.training import checkpoint
from metalib.training.distributed import average, on_rank_zero, share, tasks_each
from metalib.training.log import Log
from metalib.training.signals import deferred_interrupt


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, besides the learner and the tasks."""

    iterations: int = 1000
    """Meta-iterations, the steps of the outer optimiser."""
    meta_batch: int = 4
    """T, tasks per meta-iteration, of all processes together."""
    lr: float = 1e-3
    """The outer learning rate (beta) of Adam."""
    schedule: str = "constant"
    """"constant", or "cosine" from lr down to 0 over `iterations`."""
    clip: float | None = None
    """Largest norm of the meta-gradient; None does not clip."""
    seed: int = 0
    """Of the training episodes (not of the weights, which exist before training starts)."""
    map: str = "auto"
    """How `meta_gradient` and the validation go over the tasks."""
    chunk: int | None = None
    """With map="vmap", at most this many tasks at once, to bound the memory."""
    precision: str = "float32"
    """Of the products in the meta-gradient: "float32", "tf32" or "bf16"; see `meta_gradient` before lowering it."""
    compile: bool | str = False
    """Compile the whole meta-step; see `meta_gradient`."""
    val_every: int = 0
    """Meta-iterations between validations on `val_tasks`; 0 validates once, at the end."""
    val_episodes: int = 200
    """Tasks per validation."""
    metric: str | None = None
    """Of the validation: "accuracy" (more is better), "MSE", "loss" (the learner's own); see `meta_test`."""
    checkpoint: str | Path | None = None
    """File for the training state. If it exists, training resumes from it, bit for bit."""
    checkpoint_every: int = 500
    """Meta-iterations between two writes of that file."""
    log_dir: str | Path | None = None
    """Folder for a TensorBoard log of curves, pictures of the first episodes and the audit; None writes nothing."""


@dataclass
class History:
    """What happened during training.

    Attributes:
        losses: the mean meta-loss of every meta-iteration.
        validations: (iteration, mean, ci95) of every validation, in the unit of the metric.
        best_iteration: after how many meta-iterations the returned weights were reached.
        chosen: "best on validation tasks" or "last": why these weights were returned.
        seconds: wall time of the training loop.
    """

    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float, float]] = field(default_factory=list)
    best_iteration: int = 0
    chosen: str = "last"
    seconds: float = 0.0

    def __str__(self) -> str:
        tail = self.losses[-100:]
        return (f"{len(self.losses)} meta-iterations, mean meta-loss of the last {len(tail)}: "
                f"{sum(tail) / max(len(tail), 1):.3f}; returned weights: "
                f"{self.chosen} (iteration {self.best_iteration})")


def meta_train(learner: Learner, tasks: Tasks, config: TrainConfig = TrainConfig(),
               val_tasks: Tasks | None = None) -> History:
    """Minimise the expected meta-loss over `tasks` with Adam, in place.

        theta <- Adam(theta, (1/T) sum_t dL_t/dtheta)

    The learner ends with the weights that did best on `val_tasks` if they are given, else with the last ones;
    `History.chosen` says which. Test classes play no part.

    Inside `process_group()` every process calls it and takes its share of each meta-batch: the same run as one process
    computes, up to the order of a sum, so it may be resumed by another number of processes. Weights and checkpoint come
    from rank 0, which alone validates and writes; all end with the same weights and the same History.

    Raises:
        ValueError: a setting out of range, or a checkpoint of another run.
        FloatingPointError: the meta-loss or its gradient is not finite. The learner keeps the weights from before.
        KeyboardInterrupt: (also for SIGTERM) passed on after the training state was written.
    """
    _check(config)
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=config.lr)
    generator, log = torch.Generator().manual_seed(config.seed), Log()
    state = on_rank_zero(_begin, config, learner, optimizer, generator, tasks, val_tasks, log)
    best, history = _restore(state, config, learner, optimizer, generator)

    device, began, stop = device_of(learner), time.perf_counter() - history.seconds, False
    with (contextlib.closing(log), deferred_interrupt() as interrupted,
          progress(config.iterations, "meta-train", len(history.losses)) as bar):
        while (i := len(history.losses)) < config.iterations and not stop:
            episodes = share(tasks.sample(config.meta_batch, generator=generator)).to(device)
            loss = float(meta_gradient(learner, episodes, config.map, chunk=config.chunk, precision=config.precision,
                                       compile=config.compile))
            loss, stop = average(learner.parameters(), loss, interrupted())
            norm = _step(learner, optimizer, config, loss, i)
            history.losses.append(loss)
            history.seconds, i = time.perf_counter() - began, i + 1
            log.step(i, loss, norm, optimizer.param_groups[0]["lr"], history.seconds)
            if val_tasks is not None and (i == config.iterations or (config.val_every and i % config.val_every == 0)):
                best = on_rank_zero(_validate, learner, val_tasks, config, history, best, log)
            if config.checkpoint and (i % config.checkpoint_every == 0 or i == config.iterations or stop):
                log.flush()
                state = _state(config, learner, optimizer, generator, history, best)
                on_rank_zero(checkpoint.write, state, config.checkpoint)
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update()
    if stop and len(history.losses) < config.iterations:
        where = f"; call meta_train again to continue from {config.checkpoint}" if config.checkpoint else ""
        raise KeyboardInterrupt(f"stopped after meta-iteration {len(history.losses)}, "
                                f"whose weights the learner has{where}")
    if best is not None:
        history.best_iteration, history.chosen = best["iteration"], "best on validation tasks"
    else:
        history.best_iteration = len(history.losses)
    weights = best["weights"] if best is not None else learner.state_dict()
    final = on_rank_zero(dict, {"weights": weights, "history": asdict(history)})
    learner.load_state_dict(final["weights"])
    return History(**final["history"])


def _step(learner: Learner, optimizer: torch.optim.Optimizer, config: TrainConfig, loss: float, i: int) -> float:
    """One step of the outer optimiser, refused if the gradient is not finite; the gradient's norm before clipping."""
    for group in optimizer.param_groups:
        cosine = 0.5 * (1 + math.cos(math.pi * i / config.iterations))
        group["lr"] = config.lr * (cosine if config.schedule == "cosine" else 1.0)
    norm = float(torch.nn.utils.clip_grad_norm_(learner.parameters(), config.clip or math.inf))
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise FloatingPointError(f"meta-loss {loss:g} with gradient norm {norm:g} at meta-iteration {i + 1}: "
                                 "the learner keeps the weights from before. Lower inner_lr or lr, or set clip=10")
    optimizer.step()
    return norm


def _validate(learner: Learner, val_tasks: Tasks, config: TrainConfig, history: History,
              best: dict[str, Any] | None, log: Log) -> dict[str, Any]:
    """Score the validation tasks (always the same episodes), and keep the weights if they are the best so far."""
    score = meta_test(learner, val_tasks, config.val_episodes, seed=config.seed, metric=config.metric, map=config.map)
    iteration = len(history.losses)
    history.validations.append((iteration, score.mean, score.ci95))
    log.validation(iteration, score)
    merit = score.mean if score.metric == "accuracy" else -score.mean
    if best is not None and merit <= best["merit"]:
        return best
    return {"merit": merit, "iteration": iteration, "weights": {k: v.clone() for k, v in learner.state_dict().items()}}


def _begin(config: TrainConfig, learner: Learner, optimizer: torch.optim.Optimizer, generator: torch.Generator,
           tasks: Tasks, val_tasks: Tasks | None, log: Log) -> dict[str, Any]:
    """The state to start from: the checkpoint's if there is one, else the learner's, which is written there."""
    state = _state(config, learner, optimizer, generator, History(), None)
    if config.checkpoint and Path(config.checkpoint).exists():
        state = checkpoint.read(config.checkpoint)
        if state.get("run") != _identity(config):
            raise ValueError(f"{config.checkpoint} belongs to another run "
                             f"({state.get('run')}, now {_identity(config)}): use "
                             "the same TrainConfig to resume, or another checkpoint= to start anew")
    elif config.checkpoint:  # a folder that cannot be written to must say so before the work, not after it
        checkpoint.write(state, config.checkpoint)
    done = len(state["history"]["losses"])
    log.open(config.log_dir, done, state["history"]["seconds"])
    if not done:
        log.look(tasks, "train", config.meta_batch, config.seed)
        log.look(val_tasks, "val", 1, config.seed)
    return state


def _state(config: TrainConfig, learner: Learner, optimizer: torch.optim.Optimizer, generator: torch.Generator,
           history: History, best: dict[str, Any] | None) -> dict[str, Any]:
    return {"run": _identity(config), "weights": learner.state_dict(), "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(), "history": asdict(history), "best": best}


def _restore(state: dict[str, Any], config: TrainConfig, learner: Learner, optimizer: torch.optim.Optimizer,
             generator: torch.Generator) -> tuple[dict[str, Any] | None, History]:
    """Put everything back as it was when the state was taken."""
    try:
        learner.load_state_dict(state["weights"])
    except RuntimeError as error:
        raise ValueError(f"{config.checkpoint or 'rank 0'} holds another network: {error}") from error
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    return state["best"], History(**state["history"])


HOW = ("checkpoint", "checkpoint_every", "map", "chunk", "compile", "log_dir")  # not what is computed, only how


def _identity(config: TrainConfig) -> dict[str, Any]:
    """The settings that a resumed run must share with the interrupted one."""
    return {k: v for k, v in asdict(config).items() if k not in HOW}


def _check(config: TrainConfig) -> None:
    if config.schedule not in ("constant", "cosine"):
        raise ValueError(f"schedule={config.schedule!r}: expected 'constant' or 'cosine'")
    for name in ("iterations", "meta_batch", "lr", "checkpoint_every", "val_episodes"):
        if getattr(config, name) <= 0:
            raise ValueError(f"{name}={getattr(config, name)}: must be positive")
    tasks_each(config.meta_batch)
    if config.clip is not None and not config.clip > 0:
        raise ValueError(f"clip={config.clip}: must be positive, or None not to clip")
