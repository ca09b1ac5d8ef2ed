"""Answers to page 12a's code exercise beside the book's own: right ones in other styles, and wrong ones."""

import numpy as np
import torch


def right_first_share_numpy(scores, draws):
    """NumPy, a list out; what is nearly equal is equal."""
    means = scores.numpy()[:, draws.numpy()].mean(-1)
    best = np.isclose(means, means.max(0), atol=1e-12)
    return list((best / best.sum(0)).mean(1))


def right_first_share_loop(scores, draws):
    """One redrawn set after another."""
    share = [0.0] * len(scores)
    for draw in draws:
        means = [sum(float(row[t]) for t in draw) / len(draw) for row in scores]
        first = [i for i, m in enumerate(means) if m > max(means) - 1e-12]
        for i in first:
            share[i] += 1 / len(first) / len(draws)
    return tuple(share)


def right_first_share_counts(scores, draws):
    """How often a task was drawn, as weights."""
    weights = torch.stack([torch.bincount(d, minlength=scores.shape[1]) for d in draws]).double()
    means = weights @ scores.T
    best = means >= means.amax(1, keepdim=True) - 1e-9
    return (best.double() / best.sum(1, keepdim=True)).mean(0)


def _share(means):
    best = (means >= means.amax(0) - 1e-12).double()
    return (best / best.sum(0)).mean(1)


def wrong_first_share_of_single_tasks(scores, draws):
    """Who is first in each task, not in the mean over a set."""
    return _share(scores[:, draws].flatten(1))


def wrong_first_share_ignores_draws(scores, draws):
    """The one league that was played."""
    return _share(scores.mean(1, keepdim=True))


def wrong_first_share_first_draw_alone(scores, draws):
    """One redrawn set instead of all."""
    return _share(scores[:, draws[:1]].mean(-1))


def wrong_first_share_ties_to_the_first(scores, draws):
    """Equal ones do not share."""
    winner = scores[:, draws].mean(-1).argmax(0)
    return torch.bincount(winner, minlength=len(scores)).double() / len(draws)


def wrong_first_share_ties_to_all(scores, draws):
    """Equal ones are each given a whole first place."""
    means = scores[:, draws].mean(-1)
    return (means >= means.amax(0) - 1e-12).double().mean(1)


def wrong_first_share_counts_not_shares(scores, draws):
    """How many, not which share."""
    return _share(scores[:, draws].mean(-1)) * len(draws)


def wrong_first_share_own_tasks_for_each(scores, draws):
    """Another redrawn set for each method: what they share is not removed."""
    means = torch.stack([row[draws.roll(i, 0)].mean(-1) for i, row in enumerate(scores)])
    return _share(means)


def wrong_first_share_distinct_tasks(scores, draws):
    """A task that was drawn twice is counted once."""
    return _share(torch.stack([scores[:, d.unique()].mean(1) for d in draws], 1))
