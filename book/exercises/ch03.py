"""Checks for the exercises of chapter 3. A check raises AssertionError with a hint, or prints nothing."""

import math

import torch

from metalib import Score, compare, seeded


def _scores(n=400):
    """Per-task accuracies of two methods that find the same tasks hard."""
    g = seeded(0)
    task = 0.75 + 0.1 * torch.randn(n, generator=g, dtype=torch.float64)
    return tuple((task + shift + 0.03 * torch.randn(n, generator=g, dtype=torch.float64)).clamp(0, 1)
                 for shift in (0.02, 0.0))


def check_paired(answer):
    """`answer(a, b)` -> (mean, half width) of the paired difference a - b, from two tensors of n task scores."""
    a, b = _scores()
    result = answer(a, b)
    assert len(result) == 2, "return two numbers: the mean of a - b, and half the width of its 95 % interval"
    mean, half = (float(v) for v in result)
    expected = compare(Score.of(a), Score.of(b))
    assert math.isclose(mean, expected.mean, abs_tol=1e-9), f"the mean of a - b is {expected.mean:.4f}, not {mean:.4f}"
    unpaired = math.hypot(Score.of(a).ci95, Score.of(b).ci95)
    assert not math.isclose(half, unpaired, rel_tol=1e-3), (
        "this is the interval of two independent samples; these are the same tasks, so take a - b task by task first")
    assert not math.isclose(half, expected.ci95 * math.sqrt(len(a)), rel_tol=1e-2), (
        "this is 1.96 standard deviations of one task; the mean of n tasks varies sqrt(n) times less")
    assert math.isclose(half, expected.ci95, rel_tol=1e-6), (
        f"expected {expected.ci95:.6f}, got {half:.6f}: 1.96 s / sqrt(n), s the sample standard deviation of a - b")


def solution_paired(a, b):
    d = a - b  # (n,), one difference a task
    return d.mean(), 1.96 * d.std(correction=1) / len(d) ** 0.5


def wrong_paired_1(a, b):
    """Two independent intervals, combined."""
    return a.mean() - b.mean(), 1.96 * ((a.var() + b.var()) / len(a)) ** 0.5


def wrong_paired_2(a, b):
    """The spread of tasks instead of the error of their mean."""
    d = a - b
    return d.mean(), 1.96 * d.std()


def wrong_paired_3(a, b):
    """Sorting first breaks the pairs."""
    d = a.sort().values - b.sort().values
    return d.mean(), 1.96 * d.std() / len(d) ** 0.5


def check_tasks_needed(answer):
    """`answer(values, half_width)` -> the smallest n whose 95 % interval is at most +- half_width."""
    values = _scores()[0]
    s = float(values.std())
    for half in (0.05, 0.01, 0.002):
        n = answer(values, half)
        exact = (1.96 * s / half) ** 2
        assert int(n) == n, f"a number of tasks is an integer, got {n}"
        assert not math.isclose(float(n), 1.96 * s / half, rel_tol=0.05, abs_tol=1), (
            "halving the interval needs four times the tasks, not twice: square the ratio")
        assert 1.96 * s / math.sqrt(n) <= half * (1 + 1e-9), (
            f"{int(n)} tasks give +- {1.96 * s / math.sqrt(n):.5f}, wider than {half}: round up")
        assert n <= exact + 1, f"{math.ceil(exact)} tasks are enough for +- {half}, you ask for {int(n)}"


def solution_tasks_needed(values, half_width):
    s = float(values.std(correction=1))  # from a pilot run
    return math.ceil((1.96 * s / half_width) ** 2)


def wrong_tasks_needed_1(values, half_width):
    """Forgets the square."""
    return math.ceil(1.96 * float(values.std()) / half_width)


def wrong_tasks_needed_2(values, half_width):
    """Rounds down."""
    return int((1.96 * float(values.std()) / half_width) ** 2)


def wrong_tasks_needed_3(values, half_width):
    """The variance of one coin toss, not of a task's accuracy."""
    p = float(values.mean())
    return math.ceil(1.96**2 * p * (1 - p) / half_width**2)
