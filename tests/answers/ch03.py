"""Answers to chapter 3's code exercises beside the book's own: right ones in other styles, and plausible wrong ones."""

import math
import statistics

import numpy as np


def right_paired_exact_quantile(a, b):
    """The quantile that 1.96 stands for; a list of floats."""
    d = (a - b).tolist()
    return [statistics.fmean(d), statistics.NormalDist().inv_cdf(0.975) * statistics.stdev(d) / math.sqrt(len(d))]


def right_paired_student(a, b):
    """Student's t from a table of quantiles, NumPy scalars."""
    d = (a - b).numpy()
    t = {399: 1.965927, 89: 1.986979, 159: 1.974996}[len(d) - 1]
    return d.mean(), t * d.std(ddof=1) / np.sqrt(len(d))


def right_paired_float32(a, b):
    """float32 and another order of the sums; one tensor."""
    d = a.float() - b.float()
    m = d.mean()
    h = 1.96 * ((d * d).sum() - len(d) * m * m).div(len(d) - 1).sqrt() / len(d) ** 0.5
    return m.new_tensor([m, h])


def wrong_paired_unpaired(a, b):
    """Two independent intervals, combined."""
    return a.mean() - b.mean(), 1.96 * ((a.var() + b.var()) / len(a)) ** 0.5


def wrong_paired_spread(a, b):
    """The spread of tasks instead of the error of their mean."""
    d = a - b
    return d.mean(), 1.96 * d.std()


def wrong_paired_sorted(a, b):
    """Sorting first breaks the pairs."""
    d = a.sort().values - b.sort().values
    return d.mean(), 1.96 * d.std() / len(d) ** 0.5


def wrong_paired_biased(a, b):
    """The variance with n in the denominator."""
    d = a - b
    return d.mean(), 1.96 * d.std(correction=0) / len(d) ** 0.5


def wrong_paired_standard_error(a, b):
    """The standard error, without the quantile."""
    d = a - b
    return d.mean(), d.std() / len(d) ** 0.5


def wrong_paired_full_width(a, b):
    """The whole width of the interval."""
    d = a - b
    return d.mean(), 2 * 1.96 * d.std() / len(d) ** 0.5


def wrong_paired_b_minus_a(a, b):
    """The other sign."""
    d = b - a
    return d.mean(), 1.96 * d.std() / len(d) ** 0.5


def wrong_paired_fixed_n(a, b):
    """The 400 tasks of the chapter, hard-wired."""
    d = a - b
    return d.mean(), 1.96 * d.std() / 20


def wrong_paired_first_alone(a, b):
    """The interval of a alone."""
    return (a - b).mean(), 1.96 * a.std() / len(a) ** 0.5


def wrong_paired_90(a, b):
    """The quantile of a 90 % interval."""
    d = a - b
    return d.mean(), 1.645 * d.std() / len(d) ** 0.5


def wrong_paired_median(a, b):
    """The median for the mean."""
    d = a - b
    return d.median(), 1.96 * d.std() / len(d) ** 0.5


def wrong_paired_ends(a, b):
    """The two ends of the interval."""
    d = a - b
    h = 1.96 * d.std() / len(d) ** 0.5
    return d.mean() - h, d.mean() + h


def right_tasks_needed_exact_quantile(values, half_width):
    """The quantile that 1.96 stands for; a NumPy integer."""
    z = statistics.NormalDist().inv_cdf(0.975)
    return np.int64(np.ceil(values.numpy().var(ddof=1) * (z / half_width) ** 2))


def right_tasks_needed_search(values, half_width):
    """Counts up (by doubling, then bisection) until it is narrow enough; a tensor, in float32."""
    s, low, high = float(values.float().std()), 0, 1
    while 1.96 * s / high**0.5 > half_width:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if 1.96 * s / middle**0.5 > half_width else (low, middle)
    return values.new_tensor(high)


def wrong_tasks_needed_no_square(values, half_width):
    """Forgets the square."""
    return math.ceil(1.96 * float(values.std()) / half_width)


def wrong_tasks_needed_down(values, half_width):
    """Rounds down."""
    return int((1.96 * float(values.std()) / half_width) ** 2)


def wrong_tasks_needed_nearest(values, half_width):
    """Rounds to the nearest."""
    return round((1.96 * float(values.std()) / half_width) ** 2)


def wrong_tasks_needed_fraction(values, half_width):
    """Does not round."""
    return (1.96 * float(values.std()) / half_width) ** 2


def wrong_tasks_needed_one_more(values, half_width):
    """One more than enough."""
    return math.ceil((1.96 * float(values.std()) / half_width) ** 2) + 1


def wrong_tasks_needed_coin(values, half_width):
    """The variance of one coin toss, not of a task's accuracy."""
    p = float(values.mean())
    return math.ceil(1.96**2 * p * (1 - p) / half_width**2)


def wrong_tasks_needed_scaled(values, half_width):
    """As if the pilot's interval shrank with 1/n."""
    return math.ceil(1.96 * float(values.std()) * len(values) ** 0.5 / half_width)


def wrong_tasks_needed_full_width(values, half_width):
    """Takes half_width for the whole width."""
    return math.ceil((2 * 1.96 * float(values.std()) / half_width) ** 2)


def wrong_tasks_needed_no_quantile(values, half_width):
    """The standard error, without the quantile."""
    return math.ceil((float(values.std()) / half_width) ** 2)


def wrong_tasks_needed_biased(values, half_width):
    """The variance with n in the denominator, NumPy's default."""
    return math.ceil((1.96 * values.numpy().std() / half_width) ** 2)


def wrong_tasks_needed_worst_case(values, half_width):
    """Ignores the pilot: the largest variance that there is."""
    return math.ceil(1.96**2 * 0.25 / half_width**2)


def wrong_tasks_needed_customary(values, half_width):
    """600, as everybody does."""
    return 600
