"""Answers to chapter 1's code exercise beside the book's own: right ones in other styles, and plausible wrong ones."""

import numpy as np
import torch


def right_empirical_bayes_list(support_y, sigma):
    """Plain Python, a list of floats, the other denominator of the variance."""
    means = [float(sum(row)) / len(row) for row in support_y.tolist()]
    m, noise = sum(means) / len(means), sigma**2 / support_y.shape[1]
    spread = sum((v - m) ** 2 for v in means) / len(means)
    return [m, max(1 - noise / spread, 0.0) if spread > 0 else 0.0]


def right_empirical_bayes_numpy(support_y, sigma):
    """NumPy in float32, an array."""
    y = support_y.numpy().astype(np.float32)
    noise = np.float32(sigma**2 / y.shape[1])
    tau2 = max(y.mean(1).var(ddof=1) - noise, np.float32(0)) if len(y) > 1 else np.float32(0)
    return np.array([y.mean(), tau2 / (tau2 + noise)])


def right_empirical_bayes_all_numbers(support_y, sigma):
    """The spread of all numbers is tau^2 + sigma^2: another sound estimate of tau^2."""
    tau2 = (support_y.var(correction=0) - sigma**2).clamp(min=0)
    return torch.stack([support_y.mean(), tau2 / (tau2 + sigma**2 / support_y.shape[1])])


def _estimate(support_y, sigma):
    noise, means = sigma**2 / support_y.shape[1], support_y.mean(1)
    spread = means.var(correction=0)
    return means.mean(), spread, noise, (spread - noise).clamp(min=0)


def wrong_empirical_bayes_with_noise(support_y, sigma):
    """Takes the spread of the means for tau^2, noise included."""
    m, spread, noise, _ = _estimate(support_y, sigma)
    return m, spread / (spread + noise)


def wrong_empirical_bayes_negative(support_y, sigma):
    """Right on average, but a small sample can give a negative variance."""
    m, spread, noise, _ = _estimate(support_y, sigma)
    return m, (spread - noise) / spread


def wrong_empirical_bayes_abs(support_y, sigma):
    """abs() instead of clamp: positive, and not the nearest variance."""
    m, spread, noise, _ = _estimate(support_y, sigma)
    tau2 = (spread - noise).abs()
    return m, tau2 / (tau2 + noise)


def wrong_empirical_bayes_no_shot(support_y, sigma):
    """Forgets that K observations are averaged."""
    m, spread, _, _ = _estimate(support_y, sigma)
    tau2 = (spread - sigma**2).clamp(min=0)
    return m, tau2 / (tau2 + sigma**2)


def wrong_empirical_bayes_fixed_mean(support_y, sigma):
    """The mean of the chapter's toy, 3, hard-wired."""
    _, _, noise, tau2 = _estimate(support_y, sigma)
    return 3.0, tau2 / (tau2 + noise)


def wrong_empirical_bayes_nan(support_y, sigma):
    """The sample variance of a single task is nan."""
    noise, means = sigma**2 / support_y.shape[1], support_y.mean(1)
    tau2 = (means.var() - noise).clamp(min=0)
    return means.mean(), tau2 / (tau2 + noise)


def wrong_empirical_bayes_complement(support_y, sigma):
    """How much of a mean is noise: 1 - w."""
    m, _, noise, tau2 = _estimate(support_y, sigma)
    return m, noise / (tau2 + noise)


def wrong_empirical_bayes_sigma(support_y, sigma):
    """Ignores the given sigma and takes it to be 1."""
    m, _, noise, tau2 = _estimate(support_y, 1.0)
    return m, tau2 / (tau2 + noise)


def wrong_empirical_bayes_roots(support_y, sigma):
    """Standard deviations where variances belong."""
    m, _, noise, tau2 = _estimate(support_y, sigma)
    return m, tau2.sqrt() / (tau2.sqrt() + noise**0.5)


def wrong_empirical_bayes_first_task(support_y, sigma):
    """The first task's mean for the mean of all."""
    _, _, noise, tau2 = _estimate(support_y, sigma)
    return support_y[0].mean(), tau2 / (tau2 + noise)


def wrong_empirical_bayes_swapped(support_y, sigma):
    """(w, m)."""
    m, _, noise, tau2 = _estimate(support_y, sigma)
    return tau2 / (tau2 + noise), m
