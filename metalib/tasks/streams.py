"""Tasks in an order: round t draws one task from a distribution that may move."""

from collections.abc import Callable

import torch

from metalib.arguments import check_choice, check_number, check_whole
from metalib.episode import Episode, one_task
from metalib.tasks.fixed import stacked
from metalib.tasks.protocol import Tasks, check_drawn, check_request


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
