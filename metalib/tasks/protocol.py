"""What a task distribution is, and how an evaluation goes through one."""

from collections.abc import Iterator
from numbers import Integral
from typing import Any, Protocol

import torch

from metalib.episode import Episode, is_tasks, tensors


class Tasks(Protocol):
    """What the trainer and the evaluation need of a task distribution."""

    def sample(self, n: int, *, generator: torch.Generator) -> Any:
        """Draw n tasks: an `Episode`, or any named tuple of tensors, whose tensors have a leading axis of length n."""
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


def check_drawn(drawn: Any, n: int, who: str) -> Any:
    """What `who.sample` returned for n tasks, or an error: with another number of them every count that follows (the
    tasks of a score and its interval, the tasks of a meta-batch) would be wrong in silence."""
    if not is_tasks(drawn):
        raise TypeError(f"{who}.sample returned a {type(drawn).__name__}; expected Episode(Data(x, y, way), "
                        "Data(x, y, way)) or another named tuple, its tensors with a leading task axis")
    if any(t.shape[:1] != (n,) for t in tensors(drawn)):
        raise ValueError(f"{who}.sample was asked for {n} task{'s' if n > 1 else ''} and returned tensors of shapes "
                         f"{[tuple(t.shape) for t in tensors(drawn)][:6]}: expected a leading task axis of {n} in all. "
                         "Draw as many tasks as asked for; of a single one add the task axis with x[None]")
    return drawn
