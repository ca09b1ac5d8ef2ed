"""Answers to chapter 15's code exercise beside the book's own: right ones in other styles, and wrong ones."""

import math

import numpy as np
import torch


def right_false_accepts_search(inside, outside, keep):
    """Tries every inside score as the threshold, from the top; a float."""
    for t in sorted(inside.tolist(), reverse=True):
        if sum(s >= t for s in inside.tolist()) >= keep * len(inside) - 1e-9:
            return sum(s >= t for s in outside.tolist()) / len(outside)


def right_false_accepts_numpy(inside, outside, keep):
    """NumPy, with the quantile that takes the lower of two scores."""
    a = np.sort(inside.numpy())
    t = a[math.floor((1 - keep) * len(a) + 1e-9)]
    return np.mean(outside.numpy() >= t)


def right_false_accepts_kthvalue(inside, outside, keep):
    """The k-th smallest; a tensor of one entry."""
    need = math.ceil(round(keep * len(inside), 9))
    return (outside >= inside.kthvalue(len(inside) - need + 1).values).float().mean()[None]


def _share(inside, outside, need, strict=False):
    t = inside.sort(descending=True).values[min(max(need, 1), len(inside)) - 1]
    return (outside > t if strict else outside >= t).double().mean()


def wrong_false_accepts_ignores_keep(inside, outside, keep):
    """95 %, whatever is asked."""
    return _share(inside, outside, math.ceil(0.95 * len(inside) - 1e-9))


def wrong_false_accepts_lets_few_in(inside, outside, keep):
    """The other end: keeps a share 1 - keep."""
    return _share(inside, outside, math.ceil((1 - keep) * len(inside)))


def wrong_false_accepts_rounds_down(inside, outside, keep):
    """One request too few is kept where the number is not whole."""
    return _share(inside, outside, math.floor(keep * len(inside) + 1e-9))


def wrong_false_accepts_strictly_above(inside, outside, keep):
    """A score equal to the threshold is turned away."""
    return _share(inside, outside, math.ceil(keep * len(inside) - 1e-9), strict=True)


def wrong_false_accepts_outside_threshold(inside, outside, keep):
    """The threshold is read off the outside scores."""
    return _share(outside, outside, math.ceil(keep * len(outside) - 1e-9))


def wrong_false_accepts_rejects(inside, outside, keep):
    """The share that is turned away."""
    return 1 - _share(inside, outside, math.ceil(keep * len(inside) - 1e-9))


def wrong_false_accepts_interpolates(inside, outside, keep):
    """A quantile between two scores."""
    return (outside >= torch.quantile(inside, 1 - keep)).double().mean()


def wrong_false_accepts_rounds_to_the_nearest(inside, outside, keep):
    """The number to keep is rounded to the nearest whole one."""
    return _share(inside, outside, round(keep * len(inside)))


def wrong_false_accepts_nearest_quantile(inside, outside, keep):
    """The quantile that takes the nearer of two scores."""
    return (outside >= torch.quantile(inside, 1 - keep, interpolation="nearest")).double().mean()


def wrong_false_accepts_unguarded(inside, outside, keep):
    """(1 - 0.8) * 50 is 9.999999999999998, and int() makes 9 of it."""
    return (outside >= inside.sort().values[int((1 - keep) * len(inside))]).double().mean()


def wrong_false_accepts_counts(inside, outside, keep):
    """A number of requests, not a share."""
    return _share(inside, outside, math.ceil(keep * len(inside) - 1e-9)) * len(outside)


def wrong_false_accepts_unsorted(inside, outside, keep):
    """Takes the scores to come in order."""
    need = math.ceil(keep * len(inside) - 1e-9)
    return (outside >= inside[need - 1]).double().mean()


def wrong_false_accepts_least(inside, outside, keep):
    """The smallest threshold keeps everything."""
    return (outside >= inside.min()).double().mean()
