"""What a task distribution is, and how an evaluation goes through one."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
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
        who = type(tasks).__name__
        yield from (check_drawn(tasks.sample(1, generator=generator), 1, who) for _ in range(episodes))


def check_request(n: int, generator: torch.Generator) -> None:
    """Refuse what is no number of tasks, and to draw them from PyTorch's own generator, which no seed here fixes."""
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise ValueError(f"sample({n!r}): expected a whole number of tasks, at least 1")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator={generator!r}: expected a torch.Generator; generator=seeded(0) makes one")


def check_drawn(drawn: Episode, n: int, who: str) -> Episode:
    """What `who.sample` returned for n tasks, or an error: with another number of them every count that follows (the
    tasks of a score and its interval, the tasks of a meta-batch) would be wrong in silence."""
    if not isinstance(drawn, Episode):
        raise TypeError(f"{who}.sample returned a {type(drawn).__name__}; expected Episode(Data(x, y, way), "
                        "Data(x, y, way)), its tensors with a leading task axis")
    support, query = drawn.support.x.shape, drawn.query.x.shape
    if support[:1] != (n,) or query[:1] != (n,):
        raise ValueError(f"{who}.sample was asked for {n} task{'s' if n > 1 else ''} and returned support.x of shape "
                         f"{tuple(support)} and query.x of shape {tuple(query)}: expected (T, M, ...) with T = {n}. "
                         "Draw as many tasks as asked for; of a single one add the task axis with x[None]")
    return drawn
