"""Answers to chapter 9's code exercises beside the book's own: right ones in other styles, and plausible wrong ones."""

import numpy as np
import torch


def right_posterior_predictive_kernel(x, y, query, noise, prior):
    """As a Gaussian process: a system of K unknowns; a list of lists."""
    k = prior**2 * x @ x.T + noise**2 * torch.eye(len(x), dtype=x.dtype)
    cross = prior**2 * query @ x.T  # (M, K)
    mean = cross @ torch.linalg.solve(k, y[:, None])[:, 0]
    known = (cross * torch.linalg.solve(k, cross.T).T).sum(1)
    return [mean.tolist(), (prior**2 * query.square().sum(1) - known + noise**2).tolist()]


def right_posterior_predictive_one_by_one(x, y, query, noise, prior):
    """Pair after pair, each a rank-one update; NumPy arrays."""
    mean, cov = np.zeros(x.shape[1]), prior**2 * np.eye(x.shape[1])
    for xi, yi in zip(x.numpy(), y.numpy()):
        gain = cov @ xi / (xi @ cov @ xi + noise**2)
        mean, cov = mean + gain * (yi - xi @ mean), cov - np.outer(gain, xi @ cov)
    q = query.numpy()
    return q @ mean, np.einsum("md,de,me->m", q, cov, q) + noise**2


def _bayes(x, y, query, noise, prior, strength=None, scale=None):
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    strength = noise**2 / prior**2 if strength is None else strength
    A = x.T @ x + strength * eye
    mean = query @ torch.linalg.solve(A, x.T @ y)
    spread = (noise**2 if scale is None else scale) * (query * torch.linalg.solve(A, query.T).T).sum(1)
    return mean, spread


def wrong_posterior_predictive_no_noise(x, y, query, noise, prior):
    """The variance of w . x, without the target's own noise."""
    return _bayes(x, y, query, noise, prior)


def wrong_posterior_predictive_noise_not_squared(x, y, query, noise, prior):
    """A penalty of noise, not of its square."""
    mean, spread = _bayes(x, y, query, noise, prior, strength=noise / prior)
    return mean, spread + noise**2


def wrong_posterior_predictive_ignores_prior(x, y, query, noise, prior):
    """As if the prior's deviation were 1."""
    mean, spread = _bayes(x, y, query, noise, 1.0)
    return mean, spread + noise**2


def wrong_posterior_predictive_mean_of_squares(x, y, query, noise, prior):
    """A penalty for a mean of squares."""
    mean, spread = _bayes(x, y, query, noise, prior, strength=max(len(x), 1) * noise**2 / prior**2)
    return mean, spread + noise**2


def wrong_posterior_predictive_prior_upside_down(x, y, query, noise, prior):
    """noise^2 times prior^2."""
    mean, spread = _bayes(x, y, query, noise, prior, strength=noise**2 * prior**2)
    return mean, spread + noise**2


def wrong_posterior_predictive_deviation(x, y, query, noise, prior):
    """The standard deviation."""
    mean, spread = _bayes(x, y, query, noise, prior)
    return mean, (spread + noise**2).sqrt()


def wrong_posterior_predictive_constant_variance(x, y, query, noise, prior):
    """The noise alone, as if w were known."""
    mean, _ = _bayes(x, y, query, noise, prior)
    return mean, torch.full_like(mean, noise**2)


def wrong_posterior_predictive_unscaled(x, y, query, noise, prior):
    """The inverse without the noise in front."""
    mean, spread = _bayes(x, y, query, noise, prior, scale=1.0)
    return mean, spread + noise**2


def right_step_two_products(x, y, f, query, g, rate, penalty):
    """Scores first, as attention does; a tuple of NumPy arrays."""
    r = 2 * rate * (y - f) / len(y)
    shrink = 2 * rate * penalty
    return (f - shrink * f + (x @ x.T) @ r).numpy(), (g - shrink * g + (query @ x.T) @ r).numpy()


def right_step_loop(x, y, f, query, g, rate, penalty):
    """Pair by pair, in lists."""
    def after(at, old):
        total = (1 - 2 * rate * penalty) * float(old)
        for xi, yi, fi in zip(x, y, f):
            total += 2 * rate / len(x) * float(yi - fi) * float(xi @ at)
        return total
    return [after(xi, fi) for xi, fi in zip(x, f)], [after(q, gi) for q, gi in zip(query, g)]


def _step(x, y, f, query, g, factor, keep, sign=1.0):
    value = sign * factor * (y - f)
    return keep * f + x @ (x.T @ value), keep * g + query @ (x.T @ value)


def wrong_step_no_two(x, y, f, query, g, rate, penalty):
    """Forgets the 2 of the square."""
    return _step(x, y, f, query, g, rate / len(x), 1 - rate * penalty)


def wrong_step_sum(x, y, f, query, g, rate, penalty):
    """A sum in the place of a mean."""
    return _step(x, y, f, query, g, 2 * rate, 1 - 2 * rate * penalty)


def wrong_step_no_penalty(x, y, f, query, g, rate, penalty):
    """Ignores the penalty."""
    return _step(x, y, f, query, g, 2 * rate / len(x), 1.0)


def wrong_step_uphill(x, y, f, query, g, rate, penalty):
    """The sign of the residual."""
    return _step(x, y, f, query, g, 2 * rate / len(x), 1 - 2 * rate * penalty, -1.0)


def wrong_step_from_zero(x, y, f, query, g, rate, penalty):
    """The residuals of w = 0: the targets themselves."""
    value = 2 * rate / len(x) * y
    keep = 1 - 2 * rate * penalty
    return keep * f + x @ (x.T @ value), keep * g + query @ (x.T @ value)


def wrong_step_queries_stay(x, y, f, query, g, rate, penalty):
    """Only the pairs move."""
    return _step(x, y, f, query, g, 2 * rate / len(x), 1 - 2 * rate * penalty)[0], g


def wrong_step_shrinks_after(x, y, f, query, g, rate, penalty):
    """Shrinks what attention added as well."""
    f1, g1 = _step(x, y, f, query, g, 2 * rate / len(x), 1.0)
    keep = 1 - 2 * rate * penalty
    return keep * f1, keep * g1


def wrong_step_softmax(x, y, f, query, g, rate, penalty):
    """With a softmax over the pairs."""
    value, keep = 2 * rate * (y - f), 1 - 2 * rate * penalty
    return keep * f + (x @ x.T).softmax(1) @ value, keep * g + (query @ x.T).softmax(1) @ value
