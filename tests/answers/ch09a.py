"""Answers to the neural processes' code exercise beside the book's own: right ones in other styles, and wrong ones."""

import numpy as np


def right_mixture_moments(means, stds):
    """E y^2 - (E y)^2; a list of arrays."""
    mean = means.mean(0)
    return [mean.numpy(), np.sqrt(((means**2 + stds**2).mean(0) - mean**2).numpy())]


def right_mixture_var(means, stds):
    """PyTorch's own variance, without its correction."""
    return means.mean(0), (means.var(0, correction=0) + stds.square().mean(0)).sqrt()


def right_mixture_loop(means, stds):
    """One input at a time, in floats."""
    found = []
    for m, s in zip(means.T.tolist(), stds.T.tolist()):
        mean = sum(m) / len(m)
        found.append((mean, (sum(a**2 + (b - mean) ** 2 for a, b in zip(s, m)) / len(m)) ** 0.5))
    return tuple(zip(*found))


def wrong_mixture_mean_of_stds(means, stds):
    """The mean of the standard deviations: forgets that the draws disagree."""
    return means.mean(0), stds.mean(0)


def wrong_mixture_within_only(means, stds):
    """The mean variance alone."""
    return means.mean(0), stds.square().mean(0).sqrt()


def wrong_mixture_between_only(means, stds):
    """The spread of the means alone."""
    return means.mean(0), means.std(0, correction=0)


def wrong_mixture_variance(means, stds):
    """The variance, where the standard deviation was asked for."""
    return means.mean(0), stds.square().mean(0) + means.var(0, correction=0)


def wrong_mixture_corrected(means, stds):
    """Divides by L - 1, as for a sample."""
    return means.mean(0), (stds.square().mean(0) + means.var(0)).sqrt()


def wrong_mixture_adds_stds(means, stds):
    """Adds standard deviations."""
    return means.mean(0), stds.square().mean(0).sqrt() + means.std(0, correction=0)


def wrong_mixture_of_the_mean(means, stds):
    """The standard deviation of the average of L variables: divides by L once more."""
    return means.mean(0), (stds.square().sum(0)).sqrt() / len(stds)


def wrong_mixture_first_draw(means, stds):
    """One draw for all."""
    return means[0], stds[0]


def wrong_mixture_weighted(means, stds):
    """Weights by precision, which is for combining measurements."""
    w = stds**-2 / (stds**-2).sum(0)
    mean = (w * means).sum(0)
    return mean, (w * (stds**2 + (means - mean) ** 2)).sum(0).sqrt()
