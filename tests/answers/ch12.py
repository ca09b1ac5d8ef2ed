"""Answers to chapter 12's code exercises beside the book's own: right ones in other styles, and wrong ones."""

import torch


def _box(x):
    return (x - x.detach()).exp()


# --- second_order ------------------------------------------------------------------------------------------------

def right_second_order_ratios(log_prob, advantage):
    """Differences of ratios B_t - B_{t-1}."""
    B = _box(log_prob.cumsum(0))
    before = torch.cat([torch.ones_like(B[:1]), B[:-1]])
    return ((B - before) * advantage).sum() / log_prob.shape[1]


def right_second_order_loop(log_prob, advantage):
    """One episode and one step after another; a value that is not 0."""
    total = 7.0
    for k in range(log_prob.shape[1]):
        past = 0.0
        for t in range(log_prob.shape[0]):
            l = log_prob[t, k]  # noqa: E741
            total = total + (_box(past + l) - (_box(past) if t else 1.0)) * advantage[t, k] / log_prob.shape[1]
            past = past + l
    return total


def right_second_order_polynomial(log_prob, advantage):
    """Up to second order by hand: l + l^2 / 2 of what moves, and the product with what came before."""
    moved = log_prob - log_prob.detach()
    before = moved.cumsum(0) - moved
    return ((moved + moved.square() / 2 + before * moved) * advantage).sum(0).mean()


def wrong_second_order_naive(log_prob, advantage):
    """The score-function surrogate: right gradient only."""
    return (log_prob * advantage).sum(0).mean()


def wrong_second_order_lvc(log_prob, advantage):
    """Forgets products of different steps."""
    return (_box(log_prob) * advantage).sum(0).mean()


def wrong_second_order_whole(log_prob, advantage):
    """The ratio of the whole episode on the advantage of the first step."""
    return (_box(log_prob.sum(0)) * advantage[0]).mean()


def wrong_second_order_includes_now(log_prob, advantage):
    """The factor up to and with t on the bracket."""
    return (_box(log_prob.cumsum(0)) * (_box(log_prob) - 1) * advantage).sum(0).mean()


def wrong_second_order_dice_of_advantages(log_prob, advantage):
    """DiCE's form for rewards, given advantages: each counts for all steps before it."""
    return (_box(log_prob.cumsum(0)) * advantage).sum(0).mean()


def wrong_second_order_sum(log_prob, advantage):
    """A sum over episodes, not a mean."""
    return (_box(log_prob.cumsum(0) - log_prob) * (_box(log_prob) - 1) * advantage).sum()


def wrong_second_order_mean_steps(log_prob, advantage):
    """A mean over steps as well."""
    return (_box(log_prob.cumsum(0) - log_prob) * (_box(log_prob) - 1) * advantage).mean()


def wrong_second_order_detached_past(log_prob, advantage):
    """The factor of the past is a constant."""
    return (_box(log_prob.cumsum(0) - log_prob).detach() * (_box(log_prob) - 1) * advantage).sum(0).mean()


def wrong_second_order_sign(log_prob, advantage):
    """A loss, where the return was asked for."""
    return -right_second_order_ratios(log_prob, advantage)


# --- two_pull_index ----------------------------------------------------------------------------------------------

def right_two_pull_index_fractions(wins, losses):
    """Exact numbers."""
    from fractions import Fraction
    mean, up = Fraction(wins + 1, wins + losses + 2), Fraction(wins + 2, wins + losses + 3)
    return mean * (1 + up) / (1 + mean)


def right_two_pull_index_bisection(wins, losses):
    """By a search after all; a tensor."""
    n = wins + losses
    mean, low, high = (wins + 1) / (n + 2), 0.0, 1.0
    for _ in range(60):
        pay = (low + high) / 2
        pull = mean + mean * max(pay, (wins + 2) / (n + 3)) + (1 - mean) * max(pay, (wins + 1) / (n + 3))
        low, high = (pay, high) if pull > 2 * pay else (low, pay)
    return torch.tensor([low])


def wrong_two_pull_index_mean(wins, losses):
    """One pull to go: the mean."""
    return (wins + 1) / (wins + losses + 2)


def wrong_two_pull_index_constant(wins, losses):
    """The page's number, whatever was seen."""
    return 5 / 9


def wrong_two_pull_index_no_prior(wins, losses):
    """w / n for the mean, and the prior only where there is none."""
    n = wins + losses
    mean = wins / n if n else 0.5
    up = (wins + 1) / (n + 1)
    return mean * (1 + up) / (1 + mean) if 0 < mean < 1 else 0.99 * mean + 0.005


def wrong_two_pull_index_after_win(wins, losses):
    """The mean after a win."""
    return (wins + 2) / (wins + losses + 3)


def wrong_two_pull_index_two_total(wins, losses):
    """What both pulls bring, not divided."""
    n = wins + losses
    mean, up = (wins + 1) / (n + 2), (wins + 2) / (n + 3)
    return mean * (1 + up)


def wrong_two_pull_index_average(wins, losses):
    """Half way between the mean and the mean after a win."""
    n = wins + losses
    return ((wins + 1) / (n + 2) + (wins + 2) / (n + 3)) / 2


def wrong_two_pull_index_swapped(wins, losses):
    """Wins and losses exchanged."""
    return float(right_two_pull_index_fractions(losses, wins))


def wrong_two_pull_index_never_returns(wins, losses):
    """Takes the second pull from the unknown arm even after a loss, against one known pull."""
    n = wins + losses
    mean, up, down = (wins + 1) / (n + 2), (wins + 2) / (n + 3), (wins + 1) / (n + 3)
    return (mean + mean * up + (1 - mean) * down) / 2
