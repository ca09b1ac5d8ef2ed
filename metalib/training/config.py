"""The settings of a training run, and what happened during it."""

import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from metalib.arguments import check_choice, check_positive, check_whole, plain
from metalib.judging.metrics import BETTER
from metalib.training.distributed import tasks_each

HOW = ("checkpoint", "checkpoint_every", "map", "chunk", "compile", "log_dir")  # not what is computed, only how
# The whole numbers, and the least that each can be.
LEAST = {"seed": -2**63, "val_every": 0} | dict.fromkeys(
    ("iterations", "meta_batch", "chunk", "val_episodes", "checkpoint_every"), 1)


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
    """Of the training and validation episodes: two streams derived from it, neither of them the one that `meta_test`
    draws from with the same seed. (The weights exist before training starts.)"""
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
    """Of the validation: "accuracy", "MSE", "loss" (the learner's own) or "NLL"; see `meta_test`."""
    checkpoint: str | Path | None = None
    """File for the training state. If it exists, training resumes from it, bit for bit."""
    checkpoint_every: int = 500
    """Meta-iterations between two writes of that file."""
    log_dir: str | Path | None = None
    """Folder for a TensorBoard log of curves, pictures of the first episodes and the audit; None writes nothing."""

    def __post_init__(self) -> None:
        """NumPy's and PyTorch's numbers become Python's, whole numbers whole: a file keeps them as they are.

        Raises:
            TypeError: a setting that is no plain value.
            ValueError: a number out of range, a part of a meta-iteration or of a task, or an empty path.
        """
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if name in ("checkpoint", "log_dir"):
                if value is not None and (not isinstance(value, (str, os.PathLike)) or not str(value)):
                    raise ValueError(f"{name}={value!r}: expected a path, or None to write nothing")
                continue
            value = plain(value, f"TrainConfig({name}=)")
            if name in LEAST and not (name == "chunk" and value is None):
                value = int(value) if isinstance(value, float) and value.is_integer() else value
                check_whole(LEAST[name], **{name: value})
            object.__setattr__(self, name, value)  # the class is frozen for everybody else
        check_positive(lr=self.lr, clip=1.0 if self.clip is None else self.clip)
        check_choice(self.schedule, "schedule", "constant", "cosine")
        known = [name for name, better in BETTER.items() if better]  # a coverage has no better end
        if self.metric is not None and self.metric not in known:
            raise ValueError(f"metric={self.metric!r}: expected one of {known}, or None to suit the tasks")


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


def settings(config: TrainConfig) -> dict[str, Any]:
    """What a resumed run must share with the interrupted one: all but how it is computed and how long it goes on."""
    return {k: v for k, v in asdict(config).items() if k not in (*HOW, "iterations")}


def check(config: TrainConfig) -> None:
    """Raise a TypeError for what is no `TrainConfig`, or a ValueError for a meta-batch that cannot be shared."""
    if not isinstance(config, TrainConfig):
        raise TypeError(f"the third argument of meta_train is a {type(config).__name__}: expected a TrainConfig. "
                        "Validation tasks are the fourth, val_tasks=")
    tasks_each(config.meta_batch)
