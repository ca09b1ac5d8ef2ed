"""Chapter 3's figure: fifty tests at a press, each with its interval, and how many of the intervals miss the truth."""

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from metalib.figures.plot import COLOURS
from metalib.figures.widgets.widget import Widget, picture
from metalib.functional import seeded
from metalib.judging.score import T_QUANTILES

TRUTH, QUERIES, TESTS = 0.9, 75, 50  # the world's mean, the queries of a task, the tests of one press
AXES = {5: (24, 10), 10: (16, 5), 30: (9, 5), 100: (5, 2), 600: (2.2, 1)}  # tasks a test -> half the axis, its ticks
KINDS = ("normal", "student", "queries")


def population(mean: float = TRUTH, queries: int = QUERIES) -> Tensor:
    """How often a task of chapter 3's toy world has k = 0, ..., `queries` right answers: (queries + 1,).

    A task has its own probability of a right answer, p = u^((1 - mean) / mean) with u uniform. So p has the density
    a p^(a - 1) with a = mean / (1 - mean), and k is beta-binomial: P(k) is proportional to Gamma(k + a) / k!.
    """
    a = mean / (1 - mean)
    k = torch.arange(queries + 1, dtype=torch.float64)
    return (torch.lgamma(k + a) - torch.lgamma(k + 1)).softmax(0)


def draw(tests: int, n: int, generator: torch.Generator) -> Tensor:
    """Accuracies of `tests` tests of n tasks each, (tests, n)."""
    counts = torch.multinomial(population(), tests * n, replacement=True, generator=generator)
    return counts.reshape(tests, n).double() / QUERIES


def half(tests: Tensor, kind: str = "normal") -> Tensor:
    """Half the width of each test's 95 % interval, tests (tests, n) -> (tests,).

    "normal" is 1.96 s / sqrt(n); "student" is what `metalib.Score` has, with Student's quantile below 30 tasks;
    "queries" is 1.96 sqrt(m (1 - m) / (75 n)) with m the mean, as if every query had been drawn by itself.
    """
    n, mean = tests.shape[1], tests.mean(1)
    if kind == "queries":
        return 1.96 * (mean * (1 - mean) / (QUERIES * n)).sqrt()
    q = T_QUANTILES[n - 2] if kind == "student" and n < 30 else 1.96
    return q * tests.std(1) / n**0.5


def figure(tasks: int = 5, *, seed: int | None = None) -> Widget:
    """Guess how many of fifty intervals miss the truth, then draw them, again and again; change what a test is.

    The page draws from `population()` and computes the intervals as `half` does (tests/test_widget_intervals.py).

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
    alt = (f"Fifty 95 % intervals of the same model, each from a test of {tasks} tasks, and the true mean, which some "
           "of them miss. One can draw more, change the number of tasks and the kind of interval, and count.")
    return Widget("intervals.js", data, alt=alt, png=_png(tasks), parts=("slide.js",), colours=12)


def _png(tasks: int) -> bytes:
    """One press, with the interval that the figure begins with; as wide as a phone, so that its text stays legible."""
    tests = 100 * draw(TESTS, tasks, seeded(0))
    mean, width, truth = tests.mean(1), 100 * half(tests / 100), 100 * TRUTH
    miss = (mean - truth).abs() > width
    figure, axis = plt.subplots(figsize=(3.6, 4.6), facecolor="white", layout="constrained")
    rows = torch.arange(TESTS)
    for these, name, colour, mark, line in ((~miss, "contain the truth", COLOURS[0], "o", 1.2),
                                            (miss, "miss it", COLOURS[3], "x", 2.2)):
        axis.errorbar(mean[these], rows[these], xerr=width[these], fmt=mark, color=colour, elinewidth=line,
                      markersize=3 if mark == "o" else 5, markeredgewidth=2 if mark == "x" else 1,
                      label=f"{int(these.sum())} of {TESTS} {name}")
    axis.axvline(truth, color="black", linewidth=1)
    axis.set(xlabel=f"accuracy (%), {tasks} tasks a test", yticks=[], ylabel=f"{TESTS} tests of the same model",
             xlim=(truth - AXES[tasks][0], truth + AXES[tasks][0]), ylim=(TESTS, -1))
    axis.set_title("95 % intervals, mean ± 1.96 s / √n", fontsize=10)
    figure.legend(fontsize=9, loc="outside lower center", frameon=False)
    return picture(figure, 110)
