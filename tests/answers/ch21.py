"""Answers to chapter 21's code exercise beside the book's own: right ones in other styles, and plausible wrong ones."""

import math
import statistics

import torch


def right_beside_floats(values, printed, n):
    """Plain Python, the quantile that 1.96 stands for, a list."""
    v, z = values.tolist(), statistics.NormalDist().inv_cdf(0.975)
    s = statistics.stdev(v)
    h = z * math.hypot(s / math.sqrt(len(v)), s / math.sqrt(n), 0.001 / math.sqrt(12))
    return [100 * statistics.fmean(v) - printed, 100 * h]


def right_beside_float32(values, printed, n):
    """Half-widths first, in float32; one tensor."""
    points = 100 * values.float()
    m, s = points.mean(), points.std()
    ours, theirs = 1.96 * s / len(points) ** 0.5, 1.96 * s / n**0.5
    return torch.stack([m - printed, (ours**2 + theirs**2 + 1.96**2 * 0.01 / 12).sqrt()])


def _beside(values, printed, n, ours=1.0, theirs=1.0, rounding=0.1**2 / 12):
    points = 100 * values
    variance = points.var(correction=1)
    return points.mean() - printed, 1.96 * (ours * variance / len(points) + theirs * variance / n + rounding) ** 0.5


def wrong_beside_exact(values, printed, n):
    """Their number as if it were exact."""
    return _beside(values, printed, n, theirs=0.0, rounding=0.0)


def wrong_beside_rounding_alone(values, printed, n):
    """Their number as if only its rounding mattered."""
    return _beside(values, printed, n, theirs=0.0)


def wrong_beside_half_widths(values, printed, n):
    """Adds half-widths."""
    points = 100 * values
    return points.mean() - printed, 1.96 * points.std() * (1 / len(points) ** 0.5 + 1 / n**0.5)


def wrong_beside_no_rounding(values, printed, n):
    """Forgets that the printed number is rounded."""
    return _beside(values, printed, n, rounding=0.0)


def wrong_beside_not_ours(values, printed, n):
    """Forgets that our own mean varies."""
    return _beside(values, printed, n, ours=0.0)


def wrong_beside_queries(values, printed, n):
    """Counts queries as if they were independent."""
    p = float(values.mean())
    h = 1.96 * (p * (1 - p) * (1 / (75 * len(values)) + 1 / (75 * n)) + 0.001**2 / 12) ** 0.5
    return 100 * p - printed, 100 * h


def wrong_beside_ignores_n(values, printed, n):
    """Their number of tasks is taken to be ours."""
    return _beside(values, printed, len(values))


def wrong_beside_ignores_ours(values, printed, n):
    """Our number of tasks is taken to be theirs."""
    points = 100 * values
    return points.mean() - printed, 1.96 * (2 * points.var() / n + 0.1**2 / 12) ** 0.5


def wrong_beside_fraction(values, printed, n):
    """Both in [0, 1]."""
    D, h = _beside(values, printed, n)
    return D / 100, h / 100


def wrong_beside_unit(values, printed, n):
    """The rounding in [0, 1], everything else in points."""
    return _beside(values, printed, n, rounding=0.001**2 / 12)


def wrong_beside_half_step(values, printed, n):
    """Half a step of rounding as a standard deviation."""
    return _beside(values, printed, n, rounding=0.05**2)


def wrong_beside_theirs_minus_ours(values, printed, n):
    """The other sign."""
    D, h = _beside(values, printed, n)
    return -D, h


def wrong_beside_absolute(values, printed, n):
    """The distance, without its sign."""
    D, h = _beside(values, printed, n)
    return abs(D), h


def wrong_beside_biased(values, printed, n):
    """The variance with n in the denominator."""
    points = 100 * values
    variance = points.var(correction=0)
    return points.mean() - printed, 1.96 * (variance / len(points) + variance / n + 0.1**2 / 12) ** 0.5


def wrong_beside_ends(values, printed, n):
    """The two ends of the interval."""
    D, h = _beside(values, printed, n)
    return D - h, D + h


def wrong_beside_standard_error(values, printed, n):
    """Without the quantile."""
    D, h = _beside(values, printed, n)
    return D, h / 1.96
