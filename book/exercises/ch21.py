"""Checks for the exercises of chapter 21. A check raises AssertionError with a hint, or prints nothing."""

import math

import torch

from metalib import Score, seeded


def _scores(n=400):
    """Task accuracies near 98 %, out of 75 queries each."""
    p = torch.rand(n, generator=seeded(0), dtype=torch.float64) ** 0.02
    return torch.binomial(torch.full_like(p, 75), p, generator=seeded(1)) / 75


def check_beside(answer):
    """`answer(values, printed, n)` -> (D, h) in points, beside a printed mean of n tasks without an interval."""
    values = _scores()
    ours = Score.of(values)
    for printed, n in ((98.8, 1000), (97.9, 100), (98.0, 10_000_000)):
        result = answer(values, printed, n)
        assert result is not None and len(result) == 2, "return two numbers, D and h"
        D, h = (float(v) for v in result)
        assert not math.isclose(D, printed - 100 * ours.mean, abs_tol=1e-9), "D is ours minus theirs"
        assert math.isclose(D, 100 * ours.mean - printed, abs_tol=1e-9), (
            f"D should be {100 * ours.mean - printed:.3f} points, not {D:.3f}: `printed` is in %, `values` in [0, 1]")
        theirs = 100 * ours.ci95 * math.sqrt(len(values) / n)
        rounding = 1.96 * 0.1 / math.sqrt(12)
        expected = math.sqrt((100 * ours.ci95) ** 2 + theirs**2 + rounding**2)
        assert not math.isclose(h, 100 * ours.ci95, rel_tol=1e-6), "their number has an interval too, even if unprinted"
        assert not math.isclose(h, 100 * ours.ci95 + theirs, rel_tol=1e-4), (
            "variances add, not half-widths: the square root of the sum of squares")
        assert not math.isclose(h, math.hypot(100 * ours.ci95, theirs), rel_tol=1e-6), (
            "the printed number is rounded: add the variance of a uniform variable on 0.1 points, 0.1**2 / 12")
        assert math.isclose(h, expected, rel_tol=1e-6), (
            f"h should be {expected:.4f}, not {h:.4f}: 1.96 sqrt(s^2/len(values) + s^2/n + 0.1^2/12), all in points")


def solution_beside(values, printed, n):
    points = 100 * values
    variance = points.var(correction=1)  # of one task's score, ours and by assumption theirs
    return points.mean() - printed, 1.96 * (variance / len(points) + variance / n + 0.1**2 / 12) ** 0.5


def wrong_beside_1(values, printed, n):
    """Their number as if it were exact."""
    points = 100 * values
    return points.mean() - printed, 1.96 * (points.var() / len(points)) ** 0.5


def wrong_beside_2(values, printed, n):
    """Adds half-widths."""
    points = 100 * values
    return points.mean() - printed, 1.96 * points.std() * (1 / len(points) ** 0.5 + 1 / n**0.5)


def wrong_beside_3(values, printed, n):
    """Forgets that the printed number is rounded."""
    points = 100 * values
    return points.mean() - printed, 1.96 * (points.var() * (1 / len(points) + 1 / n)) ** 0.5


def wrong_beside_4(values, printed, n):
    """Counts queries as if they were independent."""
    p = float(values.mean())
    h = 1.96 * (p * (1 - p) * (1 / (75 * len(values)) + 1 / (75 * n)) + 0.001**2 / 12) ** 0.5
    return 100 * p - printed, 100 * h
