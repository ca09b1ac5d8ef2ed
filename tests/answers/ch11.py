"""Answers to chapter 11's code exercise beside the book's own: right ones in other styles, and plausible wrong ones."""

import numpy as np
import torch


def right_regret_so_far_numpy(optima, starts):
    """Running sums: the variance is the mean of squares minus the square of the mean."""
    b, n = optima.numpy(), np.arange(1, len(optima) + 1)
    best = 0.5 * (np.cumsum((b**2).sum(1)) - (np.cumsum(b, 0) ** 2).sum(1) / n)
    return np.cumsum(0.5 * ((starts.numpy() - b) ** 2).sum(1)) - best


def right_regret_so_far_loop(optima, starts):
    """One number at a time, Welford's update of the spread; a list."""
    mean, spread, played, result = torch.zeros_like(optima[0]), 0.0, 0.0, []
    for n, (b, start) in enumerate(zip(optima, starts), 1):
        away = b - mean
        mean = mean + away / n
        spread += float(away @ (b - mean))
        played += float((start - b) @ (start - b))
        result.append(0.5 * (played - spread))
    return result


def _losses(start, optima):
    return 0.5 * (start - optima).square().sum(1)


def wrong_regret_so_far_best_in_the_end(optima, starts):
    """One comparator for all rounds: the mean of the whole stream."""
    return (_losses(starts, optima) - _losses(optima.mean(0), optima)).cumsum(0)


def wrong_regret_so_far_dynamic(optima, starts):
    """Each task's own best start: the comparator moves."""
    return _losses(starts, optima).cumsum(0)


def _fixed(optima):
    return torch.stack([_losses(optima[:t].mean(0), optima[:t]).sum() for t in range(1, len(optima) + 1)])


def wrong_regret_so_far_no_half(optima, starts):
    """Squares without the half."""
    return 2 * (_losses(starts, optima).cumsum(0) - _fixed(optima))


def wrong_regret_so_far_a_round(optima, starts):
    """Divided by the number of rounds."""
    return (_losses(starts, optima).cumsum(0) - _fixed(optima)) / torch.arange(1, len(optima) + 1)


def wrong_regret_so_far_of_the_round(optima, starts):
    """The loss of the last round alone, minus the total of the best start."""
    return _losses(starts, optima) - _fixed(optima)


def wrong_regret_so_far_cumulated_means(optima, starts):
    """Each round against the mean so far, summed: the comparator learns along."""
    mean = optima.cumsum(0) / torch.arange(1, len(optima) + 1)[:, None]
    return (_losses(starts, optima) - _losses(mean, optima)).cumsum(0)


def wrong_regret_so_far_best_start_played(optima, starts):
    """The best of the starts that were played, not of all."""
    result = []
    for t in range(1, len(optima) + 1):
        seen = optima[:t]
        result.append(_losses(starts[:t], seen).sum() - min(_losses(s, seen).sum() for s in starts[:t]))
    return torch.stack(result)


def wrong_regret_so_far_first_column(optima, starts):
    """One dimension of several."""
    return right_regret_so_far_numpy(optima[:, :1], starts[:, :1])


def wrong_regret_so_far_sign(optima, starts):
    """What the best start loses beyond what was played."""
    return _fixed(optima) - _losses(starts, optima).cumsum(0)
