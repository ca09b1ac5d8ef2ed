"""Checks of chapter 1's exercises."""

import torch


def _tasks(tau, sigma, shot, seed, n=4000, m=3.0):
    """n support sets (n, K) of the chapter's toy, with a fixed generator."""
    g = torch.Generator().manual_seed(seed)
    mu = m + tau * torch.randn(n, 1, generator=g, dtype=torch.float64)
    return mu + sigma * torch.randn(n, shot, generator=g, dtype=torch.float64)


def check_empirical_bayes(answer):
    """Raise AssertionError with a helpful message unless `answer` is right; else return None, print nothing."""
    result = answer(_tasks(1.0, 2.0, 5, seed=0), 2.0)
    assert isinstance(result, tuple) and len(result) == 2, "return two numbers: (m, w)"
    for tau, sigma, shot, seed in ((1.0, 2.0, 5, 1), (0.5, 1.0, 1, 2), (3.0, 1.0, 10, 3)):
        m, w = (float(v) for v in answer(_tasks(tau, sigma, shot, seed), sigma))
        expected = tau**2 / (tau**2 + sigma**2 / shot)
        assert abs(m - 3.0) < 0.2, f"the prior mean is 3, you estimated {m:.2f}: average the tasks' means"
        assert abs(w - expected) < 0.05, (
            f"with tau={tau}, sigma={sigma}, K={shot} the best shrinkage is {expected:.2f}, you estimated {w:.2f}: the "
            "means of the support sets vary by tau^2 + sigma^2/K, so subtract the noise before you call the rest tau^2")
    few = torch.tensor([[0.0, 2.0], [2.1, 0.1], [-0.1, 2.0]], dtype=torch.float64)
    m, w = (float(v) for v in answer(few, 2.0))
    assert 0 <= w <= 1, (f"three tasks whose means hardly differ gave w={w:.2f}: a variance cannot be negative, so "
                         "do not let your estimate of tau^2 fall below 0")


def solution_empirical_bayes(support_y, sigma):
    """(m, w) of the toy from support sets (T, K) and the known noise sigma."""
    noise = sigma**2 / support_y.shape[1]  # sigma^2 / K
    means = support_y.mean(1)  # (T,)
    tau2 = (means.var() - noise).clamp(min=0)
    return means.mean(), tau2 / (tau2 + noise)


def wrong_empirical_bayes_1(support_y, sigma):
    """Takes the spread of the means for tau^2, noise included."""
    noise = sigma**2 / support_y.shape[1]
    means = support_y.mean(1)
    return means.mean(), means.var() / (means.var() + noise)


def wrong_empirical_bayes_2(support_y, sigma):
    """Right on average, but a small sample can give a negative variance."""
    noise = sigma**2 / support_y.shape[1]
    means = support_y.mean(1)
    tau2 = means.var() - noise
    return means.mean(), tau2 / (tau2 + noise)


def wrong_empirical_bayes_3(support_y, sigma):
    """Forgets that K observations are averaged."""
    means = support_y.mean(1)
    tau2 = (means.var() - sigma**2).clamp(min=0)
    return means.mean(), tau2 / (tau2 + sigma**2)
