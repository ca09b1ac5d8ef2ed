"""Chapter 3's figure: fifty tests at a press, each with its interval, and how many of the intervals miss the truth."""

from metalib.figures.widgets.widget import Widget, words
from metalib.judging.score import T_QUANTILES

TRUTH, QUERIES, TESTS = 0.9, 75, 50  # the world's mean, the queries of a task, the tests of one press
AXES = {5: (24, 10), 10: (16, 5), 30: (9, 5), 100: (5, 2), 600: (2.2, 1)}  # tasks a test -> half the axis, its ticks


def figure(tasks: int = 5, *, seed: int | None = None) -> Widget:
    """Guess how many of fifty intervals miss the truth, then draw them, again and again; change what a test is.

    The page draws and computes as `population` and `half` of tools/pictures.py (tests/test_widget_intervals.py).

    Args:
        tasks: the tasks of a test at the beginning, one of `AXES`.
        seed: of the page's draws; without one, every visit has tests of its own.

    Raises:
        ValueError: another number of tasks.
    """
    if tasks not in AXES:
        raise ValueError(f"tasks={tasks}: expected one of {', '.join(map(str, AXES))}")
    data = {"truth": TRUTH, "queries": QUERIES, "tests": TESTS, "tasks": tasks, "seed": seed, "t": T_QUANTILES,
            "axes": [[n, *axis] for n, axis in AXES.items()]}
    return Widget("intervals.js", data, **words("intervals", tasks=tasks), parts=("slide.js",), colours=12)
