"""What a task distribution is, and how an evaluation goes through one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from metalib.episode import Episode


class Tasks(Protocol):
    """What the trainer and the evaluation need of a task distribution."""

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """Draw n tasks: an `Episode` whose tensors have a leading axis of length n."""
        ...


def one_by_one(tasks: Tasks, episodes: int, generator: torch.Generator) -> Iterator[Episode]:
    """The tasks of an evaluation, each a meta-batch of one: drawn one at a time, so that the first ones do not depend
    on how many follow; or, where tasks are fixed (they have `in_order`), the first ones of the list."""
    if hasattr(tasks, "in_order"):
        yield from (tasks.in_order(i, i + 1) for i in range(min(episodes, len(tasks))))
    else:
        yield from (tasks.sample(1, generator=generator) for _ in range(episodes))
