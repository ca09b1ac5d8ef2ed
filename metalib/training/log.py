"""The TensorBoard log of a training run: curves, a look at the first episodes, and the audit.

    meta_train(learner, tasks, TrainConfig(log_dir="runs/maml"))        # then: tensorboard --logdir runs
"""

import importlib.util
from pathlib import Path
from typing import Any
from warnings import warn

import torch
from torch import Tensor

from metalib.data.images import ClassImages, class_rows
from metalib.episode import Episode
from metalib.functional import seeded
from metalib.judging.audit import audit
from metalib.judging.evaluate import Score
from metalib.tasks import FewShot, Tasks


class Log:
    """What `meta_train` writes down while it runs; until it is opened, every method does nothing.

    Scalars, at the number of finished meta-iterations:

        train/meta_loss    train/gradient_norm (before clipping)    train/lr    train/meta_iterations_per_second
        val/accuracy or val/MSE    val/ci95

    and once, at step 0, for few-shot tasks: texts `audit/train` and `audit/val` and, of images, pictures
    `episodes/train` and `episodes/val`.

    A log that cannot be written any more (a full disk) is given up with a warning: training goes on without it.
    """

    def __init__(self) -> None:
        self.writer, self.folder, self.seconds = None, "", 0.0

    def _write(self, what: str, *args: Any) -> None:
        """A method of TensorBoard's writer: an OSError, also one of its own thread, ends the log and nothing else."""
        try:
            if self.writer is not None:
                getattr(self.writer, what)(*args)
        except OSError as error:
            self.writer = None
            warn(f"the log in {self.folder} cannot be written ({error}): training goes on without it", stacklevel=3)

    def open(self, folder: str | Path | None, done: int = 0, seconds: float = 0.0) -> None:
        """Write to `folder` from now on, if it is not None, as the run that has finished `done` meta-iterations.

        TensorBoard forgets what an earlier process wrote after them (`purge_step`), so a resumed run continues its
        curves and a step never appears twice.

        Raises:
            ModuleNotFoundError: tensorboard is not installed.
            OSError: the folder cannot be written to; said before the work, not after it.
        """
        if folder is None:
            return
        if importlib.util.find_spec("tensorboard") is None:
            raise ModuleNotFoundError(f"log_dir={str(folder)!r} needs tensorboard: pip install tensorboard")
        from torch.utils.tensorboard import SummaryWriter  # a second to import, and optional

        self.writer = SummaryWriter(str(folder), purge_step=done + 1 if done else 0)
        self.folder, self.seconds = folder, seconds

    def look(self, tasks: Tasks | None, part: str, episodes: int, seed: int) -> None:
        """Pictures of the first of `episodes` tasks drawn with this seed, and the audit, if the tasks are few-shot."""
        if self.writer is None or not isinstance(tasks, FewShot):
            return
        text = str(audit(tasks, seed=seed)).splitlines()
        if isinstance(tasks.images, ClassImages):
            first = tasks.sample(episodes, generator=seeded(seed))
            sheets = torch.stack([_sheet(first.task(t)) for t in range(min(3, episodes))])
            self._write("add_images", f"episodes/{part}", sheets, 0)
        self._write("add_text", f"audit/{part}", "\n".join(f"    {line}" for line in text), 0)  # indented: as it is

    def step(self, i: int, loss: float, norm: float, lr: float, seconds: float) -> None:
        """The end of meta-iteration i, `seconds` after the start of the run."""
        for name, value in (("meta_loss", loss), ("gradient_norm", norm), ("lr", lr),
                            ("meta_iterations_per_second", 1 / max(seconds - self.seconds, 1e-9))):
            self._write("add_scalar", f"train/{name}", value, i)
        self.seconds = seconds

    def validation(self, i: int, score: Score) -> None:
        """A score on the validation tasks after meta-iteration i."""
        self._write("add_scalar", f"val/{score.metric}", score.mean, i)
        self._write("add_scalar", "val/ci95", score.ci95, i)

    def flush(self) -> None:
        """Everything so far goes to disk: before a checkpoint that a resumed run will continue from."""
        self._write("flush")

    def close(self) -> None:
        """Flush, and stop the thread that writes."""
        self._write("close")
        self.writer = None


def _sheet(task: Episode) -> Tensor:
    """One picture of a task (3, H', W'): a row a class, its support, a white gap, some of its queries; ink dark."""
    rows = class_rows(task, 5)
    gap = torch.ones_like(rows[0][0][0, ..., :2])
    return torch.cat([torch.cat([*support, gap, *query], -1) for support, query in rows], -2)
