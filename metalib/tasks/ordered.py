"""Tasks in an order: a benchmark's own trials, and streams, whose round t draws from a distribution that may move."""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metalib.arguments import check_choice, check_number, check_whole
from metalib.episode import Episode, check_episodes, each, joined, one_task, rows
from metalib.tasks.protocol import Tasks, check_drawn, check_request


class FixedEpisodes:
    """A list of episodes, in order: what a benchmark publishes so that everybody is tested on the same trials.

    `meta_test` goes through them from the first to the last, whatever its seed, and never further than the list goes:
    meta_test(learner, fixed, episodes=len(fixed)) is the whole of it. Training draws from them with replacement.

    Args:
        episodes: a meta-batch (T, M, ...), or a list of single tasks (M, ...), all of one shape; they are copied.

    Raises:
        ValueError: no episode, unlike shapes, or labels that `check_episodes` refuses.
    """

    def __init__(self, episodes: Episode | Sequence[Episode]) -> None:
        self.episodes = each(Tensor.clone, episodes) if isinstance(episodes, Episode) else stacked(list(episodes))
        check_episodes(self.episodes)
        self.way = self.episodes.support.way

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """n of the episodes, drawn with replacement."""
        check_request(n, generator)
        return rows(self.episodes, torch.randint(len(self), (n,), generator=generator))

    def in_order(self, start: int, stop: int) -> Episode:
        """Episodes start .. stop - 1."""
        return rows(self.episodes, torch.arange(start, min(stop, len(self))))

    def digest(self) -> str:
        """12 hexadecimal digits of SHA-256 over shapes, dtypes, bytes and way: the same on every machine."""
        sha = hashlib.sha256(repr(self.way).encode())
        for tensor in (*self.episodes.support[:2], *self.episodes.query[:2]):
            sha.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
            sha.update(tensor.cpu().contiguous().view(torch.uint8).numpy())
        return sha.hexdigest()[:12]

    def __len__(self) -> int:
        return self.episodes.tasks

    def __repr__(self) -> str:
        return f"FixedEpisodes({len(self)} episodes, way={self.way}, digest {self.digest()})"


def stacked(tasks: list[Episode]) -> Episode:
    """Single tasks (M, ...), all of one shape, as one meta-batch (T, M, ...)."""
    if not tasks:
        raise ValueError("no episodes: give at least one")
    for i, task in enumerate(tasks):
        if not isinstance(task, Episode):
            raise TypeError(f"entry {i} is a {type(task).__name__}; expected Episode(Data(x, y, way), Data(x, y, way))")
    return joined([each(lambda tensor: tensor[None], task) for task in tasks])


class Stream:
    """A sequence of tasks whose distribution is a function of time.

        task t ~ at(t),    t = 0, 1, 2, ...

    It has no `sample`, because no draw of it stands for the others: what is trained on it and scored on it is a matter
    of order (`meta_online`).

    Args:
        at: round t -> the tasks of that time. For sine waves whose phases drift by 0.02 radians a round:
            lambda t: Sinusoids(5, 5, phase=(0.02 * t, 0.02 * t + 1)), or with `moved` for 0.02 * t.

    Raises:
        TypeError: `at` is no function, or returns something else than tasks.
    """

    def __init__(self, at: Callable[[int], Tasks]) -> None:
        if not callable(at):
            raise TypeError(f"at={at!r}: expected a function of the round, such as lambda t: Sinusoids(phase=(t, t+1))")
        self.at = at

    def rounds(self, n: int, *, generator: torch.Generator) -> Episode:
        """The first n tasks, on the CPU: the task axis is time. They are drawn one by one, so that the first ones do
        not depend on how many follow."""
        check_request(n, generator)
        tasks = []
        for t in range(n):
            now = self.at(t)
            if not hasattr(now, "sample"):
                raise TypeError(f"at({t}) returned a {type(now).__name__}: expected tasks, which have sample")
            tasks.append(one_task(check_drawn(now.sample(1, generator=generator), 1, f"at({t})"), 0))
        return stacked(tasks)


def moved(t: int, motion: str, speed: float, every: int = 50) -> float:
    """How far a distribution has moved by round t.

        still: 0      drift: speed t      jump: speed every floor(t / every), as far as drift, in leaps
        recur: speed every (floor(t / every) mod 2), to and fro between two places

    Args:
        t: the round.
        motion: one of the four.
        speed: distance a round, in the unit of what moves.
        every: rounds between two leaps.

    Raises:
        ValueError: another motion, a speed that is no finite number, or every below 1.
    """
    check_choice(motion, "motion", "still", "drift", "jump", "recur")
    check_number(abs(speed) if isinstance(speed, (int, float)) else speed, "speed")
    check_whole(1, every=every)
    leap = speed * every
    return {"still": 0.0, "drift": speed * t, "jump": leap * (t // every), "recur": leap * (t // every % 2)}[motion]
