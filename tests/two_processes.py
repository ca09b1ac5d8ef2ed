"""What tests/test_distributed.py runs under torchrun, in every process: `two_processes.py NAME FOLDER`.

Each function leaves what its rank saw in FOLDER. The tests import the learners, tasks and settings from here as well,
so that one process can be compared with two.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from families import CONFIG, EVERY, made
from metalib import (
    MAML,
    ClassImages,
    Episode,
    FewShot,
    Learner,
    Sinusoids,
    TrainConfig,
    conv4,
    meta_gradient,
    meta_train,
    mlp,
    process_group,
    rank,
    seeded,
)
from metalib.training.distributed import average, on_rank_zero, share, world_size


def sine_learner(seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    return MAML(mlp(1, (16, 16), 1, activation="tanh").double(), inner_lr=0.05)


def image_learner(seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    return MAML(conv4(5, channels=8, image_size=16).double(), inner_lr=0.4)


def image_tasks() -> FewShot:
    images = torch.rand(8, 6, 16, 16, generator=seeded(0)).flatten(0, 1)
    return FewShot(ClassImages.from_arrays(images, torch.arange(8).repeat_interleave(6)), query=3, dtype=torch.float64)


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"iterations": 12, "meta_batch": 4, "lr": 1e-2, "seed": 3, "schedule": "cosine", "clip": 1.0,
                          "val_every": 4, "val_episodes": 5, "checkpoint_every": 5, **changes})


class Acting(Sinusoids):
    """Sinusoids that do something when the n-th meta-batch is drawn."""

    def __init__(self, at: int = 0, act: Callable[[], object] = lambda: None) -> None:
        super().__init__(5, 5)
        self._at, self._act, self.drawn = at, act, 0  # when and what is no setting of the tasks

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        self.drawn += 1
        if self.drawn == self._at:
            self._act()
        return super().sample(n, generator=generator)


def everything(folder: Path) -> None:
    """All that needs two processes and no kill, in one go: starting them costs more than the work."""
    with process_group() as device:
        r, seen = rank(), {}
        mine = folder / f"rank{r}"  # each rank is given paths of its own: rank 1's must stay empty
        mine.mkdir()
        seen["place"] = (r, world_size(), str(device))

        for name, learner, tasks in (("sine", sine_learner(), Sinusoids(5, 5)),
                                     ("image", image_learner(), image_tasks())):
            own = float(meta_gradient(learner, share(tasks.sample(4, generator=seeded(7)))))
            frozen = nn.Parameter(torch.ones(3), requires_grad=False)  # has no gradient, and stays without
            loss, stop = average([frozen, *learner.parameters()], own)
            seen[name] = {"loss": loss, "own loss": own, "stop": stop, "frozen": frozen.grad,
                          "grads": {k: p.grad for k, p in learner.named_parameters()}}

        for name, learner, tasks, val in (("sine", sine_learner(10 * r), Sinusoids(5, 5), Sinusoids(5, 5)),
                                          ("image", image_learner(10 * r), image_tasks(), None)):
            history = meta_train(learner, tasks, config(checkpoint=mine / f"{name}.pt", log_dir=mine / name), val)
            seen[name] |= {"weights": learner.state_dict(), "history": vars(history)}

        def message(name: str, learner: Learner, tasks: Sinusoids, val: Sinusoids | None = Sinusoids(5, 5),  # noqa: B008
                    **changes: Any) -> None:
            try:
                meta_train(learner, tasks, config(**changes), val)
            except BaseException as error:  # KeyboardInterrupt too
                seen[name] = f"{type(error).__name__}: {error}"

        message("indivisible", sine_learner(), Acting(), meta_batch=3, checkpoint=mine / "indivisible.pt")
        message("folder", sine_learner(), Acting(), checkpoint=mine / "missing" / "run.pt")
        message("another seed", sine_learner(), Acting(), seed=3 + r)
        message("no validation", sine_learner(), Acting(), None if r else Sinusoids(5, 5))
        history = meta_train(sine_learner(), Acting(), config(checkpoint=None if r else mine / "own.pt"))
        seen["own checkpoint"] = len(history.losses)
        broken = sine_learner()
        nan = Acting(3, lambda: broken.net.layers[0].bias.data.fill_(torch.nan))
        message("not finite", broken, nan if r == 1 else Acting())
        for name, number in (("ctrl-c", signal.SIGINT), ("kill", signal.SIGTERM)):
            press = Acting(7, lambda: signal.raise_signal(number))  # noqa: B023 (used in this turn)
            message(name, sine_learner(), press if r == 1 else Acting(), checkpoint=mine / f"{name}.pt")

        learner = sine_learner(99)  # rank 0 alone has the file of a run that one process began
        history = meta_train(learner, Acting(), config(checkpoint=(folder if r == 0 else mine) / "began.pt"),
                             Sinusoids(5, 5))
        seen["taken over"] = {"weights": learner.state_dict(), "history": vars(history)}
        on_rank_zero(seen.__setitem__, "ran here", True)
    seen["after"] = (rank(), torch.distributed.is_initialized())
    torch.save(seen, folder / f"rank{r}-saw.pt")


def killed(folder: Path) -> None:
    """The same sine run, in which rank 1 is killed in the 8th of 12 meta-iterations; torchrun starts both again."""
    restarts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])

    def die() -> None:
        if rank() == 1 and restarts == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with process_group():
        learner, tasks = sine_learner(10 * rank()), Acting(8, die)
        history = meta_train(learner, tasks, config(checkpoint=folder / "run.pt"), Sinusoids(5, 5))
        if rank() == 0:
            torch.save({"weights": learner.state_dict(), "history": vars(history), "drawn": tasks.drawn,
                        "restarts": restarts}, folder / "saw.pt")


def families(folder: Path) -> None:
    """Every learner of the library; rank 1 begins with other weights."""
    seen = {}
    with process_group():
        for name, (_, tasks) in EVERY.items():
            learner = made(name, 10 * rank())
            history = meta_train(learner, tasks, CONFIG)
            seen[name] = {"weights": learner.state_dict(), "losses": history.losses}
        on_rank_zero(torch.save, seen, folder / "saw.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"everything": everything, "killed": killed, "families": families}[sys.argv[1]](Path(sys.argv[2]))
