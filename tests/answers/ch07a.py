"""Answers to the code exercise on solved heads beside the book's own: right ones in other styles, and wrong ones."""

import torch


def right_ridge_head_large_system(Z, Y, strength):
    """The system of D unknowns."""
    return torch.linalg.solve(Z.T @ Z + strength * torch.eye(Z.shape[1], dtype=Z.dtype), Z.T @ Y)


def right_ridge_head_least_squares(Z, Y, strength):
    """Least squares with the penalty as further rows."""
    M, D = Z.shape
    rows = torch.cat([Z, strength**0.5 * torch.eye(D, dtype=Z.dtype)])
    return torch.linalg.lstsq(rows, torch.cat([Y, torch.zeros(D, Y.shape[1], dtype=Y.dtype)])).solution


def right_ridge_head_svd(Z, Y, strength):
    """By singular values, as an array."""
    U, S, V = torch.linalg.svd(Z, full_matrices=False)
    return (V.T @ ((S / (S**2 + strength))[:, None] * (U.T @ Y))).numpy()


def _small(Z, Y, added):
    return Z.T @ torch.linalg.solve(Z @ Z.T + added, Y)


def wrong_ridge_head_no_strength(Z, Y, strength):
    """No penalty: the pseudo-inverse."""
    return torch.linalg.pinv(Z) @ Y


def wrong_ridge_head_everywhere(Z, Y, strength):
    """Adds strength to every entry: the identity is missing (and almost nothing for stability)."""
    return _small(Z, Y, strength + 1e-3 * torch.eye(len(Z), dtype=Z.dtype))


def wrong_ridge_head_squared(Z, Y, strength):
    """strength^2: the same at strength = 1."""
    return _small(Z, Y, strength**2 * torch.eye(len(Z), dtype=Z.dtype))


def wrong_ridge_head_mean(Z, Y, strength):
    """The penalty of a mean squared error: strength times M."""
    return _small(Z, Y, strength * len(Z) * torch.eye(len(Z), dtype=Z.dtype))


def wrong_ridge_head_half(Z, Y, strength):
    """The penalty of strength / 2."""
    return _small(Z, Y, strength / 2 * torch.eye(len(Z), dtype=Z.dtype))


def wrong_ridge_head_constant(Z, Y, strength):
    """Ignores strength and takes 1."""
    return _small(Z, Y, torch.eye(len(Z), dtype=Z.dtype))


def wrong_ridge_head_first_column(Z, Y, strength):
    """Every column has the first one's targets."""
    return _small(Z, Y[:, :1].expand_as(Y), strength * torch.eye(len(Z), dtype=Z.dtype))


def wrong_ridge_head_tall_only(Z, Y, strength):
    """Puts strength into the small system only if examples are fewer than features."""
    return _small(Z, Y, (strength if len(Z) < Z.shape[1] else 1e-6) * torch.eye(len(Z), dtype=Z.dtype))
