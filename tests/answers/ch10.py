"""Answers to chapter 10's code exercise beside the book's own: right ones in other styles, and wrong ones."""

import numpy as np
import torch


def right_update_precision(mean, covariance, z, y, noise):
    """In precisions: they add."""
    before = torch.linalg.inv(covariance)
    after = torch.linalg.inv(before + torch.outer(z, z) / noise**2)
    return after @ (before @ mean + z * y / noise**2), after


def right_update_numpy(mean, covariance, z, y, noise):
    """NumPy, with the stable form of the covariance; a list."""
    m, C, z = mean.numpy(), covariance.numpy(), z.numpy()
    gain = C @ z / (z @ C @ z + noise**2)
    rest = np.eye(len(m)) - np.outer(gain, z)
    return [m + gain * (y - z @ m), rest @ C @ rest.T + noise**2 * np.outer(gain, gain)]


def right_update_columns(mean, covariance, z, y, noise):
    """As matrices of one row and one column, and floats out."""
    Z = z[None]
    V = Z @ covariance @ Z.T + noise**2
    G = covariance @ Z.T / V
    return (mean + (G * (y - Z @ mean))[:, 0]).tolist(), (covariance - G @ Z @ covariance).tolist()


def _step(mean, covariance, z, y, variance):
    gain = covariance @ z / (z @ covariance @ z + variance)
    return mean + gain * (y - z @ mean), covariance - torch.outer(gain, z @ covariance)


def wrong_update_std_for_variance(mean, covariance, z, y, noise):
    """The noise's std where its variance belongs."""
    return _step(mean, covariance, z, y, noise)


def wrong_update_no_noise(mean, covariance, z, y, noise):
    """As if y were exact."""
    return _step(mean, covariance, z, y, 0.0)


def wrong_update_mean_alone(mean, covariance, z, y, noise):
    """The covariance stays."""
    return _step(mean, covariance, z, y, noise**2)[0], covariance


def wrong_update_covariance_alone(mean, covariance, z, y, noise):
    """The mean stays."""
    return mean, _step(mean, covariance, z, y, noise**2)[1]


def wrong_update_forgets_what_was_expected(mean, covariance, z, y, noise):
    """The whole of y is a surprise, as for a prior around zero."""
    gain = covariance @ z / (z @ covariance @ z + noise**2)
    return mean + gain * y, _step(mean, covariance, z, y, noise**2)[1]


def wrong_update_from_zero(mean, covariance, z, y, noise):
    """The prior mean is dropped altogether."""
    return _step(0 * mean, covariance, z, y, noise**2)


def wrong_update_diagonal(mean, covariance, z, y, noise):
    """Treats the weights as independent."""
    return _step(mean, covariance.diagonal().diag(), z, y, noise**2)


def wrong_update_adds(mean, covariance, z, y, noise):
    """The covariance grows."""
    m, after = _step(mean, covariance, z, y, noise**2)
    return m, 2 * covariance - after


def wrong_update_keeps_diagonal(mean, covariance, z, y, noise):
    """The right variances, no covariances."""
    m, after = _step(mean, covariance, z, y, noise**2)
    return m, after.diagonal().diag()


def wrong_update_precision_out(mean, covariance, z, y, noise):
    """Returns the precision."""
    m, after = _step(mean, covariance, z, y, noise**2)
    return m, torch.linalg.inv(after)


def wrong_update_gain_of_the_posterior(mean, covariance, z, y, noise):
    """The gain from the covariance after, with the surprise's variance before."""
    _, after = _step(mean, covariance, z, y, noise**2)
    return mean + after @ z / (z @ covariance @ z + noise**2) * (y - z @ mean), after


def wrong_update_first_weight(mean, covariance, z, y, noise):
    """Moves the first weight only."""
    m, after = _step(mean, covariance, z, y, noise**2)
    return torch.cat([m[:1], mean[1:] + 0.5 * (m - mean)[1:]]), after
