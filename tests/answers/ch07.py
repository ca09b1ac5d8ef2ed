"""Answers to chapter 7's code exercises beside the book's own: right ones in other styles, and plausible wrong ones."""

import torch


def _means(z, y, way):
    return torch.stack([z[y == n].mean(0) for n in range(way)])


def right_linear_classifier_matrix(z, y, way):
    """Means by an indicator matrix, the norms by einsum."""
    member = (y[:, None] == torch.arange(way)).to(z.dtype)
    c = (member / member.sum(0)).T @ z
    return 2 * c, -torch.einsum("nd,nd->n", c, c)


def right_linear_classifier_lists(z, y, way):
    """Plain lists; and one vector and one number subtracted from all, which moves no difference."""
    W, b = [], []
    for n in range(way):
        rows = [row for row, label in zip(z.tolist(), y.tolist()) if label == n]
        c = [sum(column) / len(rows) for column in zip(*rows)]
        W.append([2 * v - 1 for v in c])
        b.append(-sum(v * v for v in c) + 7)
    return W, b


def wrong_linear_classifier_no_two(z, y, way):
    """w_n = c_n: the factor 2 of the cross term is lost, so the bias weighs twice as much as it should."""
    c = _means(z, y, way)
    return c, -c.pow(2).sum(1)


def wrong_linear_classifier_no_bias(z, y, way):
    """No bias: right only where all means have the same length."""
    c = _means(z, y, way)
    return 2 * c, torch.zeros(way, dtype=z.dtype)


def wrong_linear_classifier_plus(z, y, way):
    """The bias with the wrong sign."""
    c = _means(z, y, way)
    return 2 * c, c.pow(2).sum(1)


def wrong_linear_classifier_length(z, y, way):
    """The length of c_n instead of its square."""
    c = _means(z, y, way)
    return 2 * c, -c.norm(dim=1)


def wrong_linear_classifier_sorted(z, y, way):
    """Takes the support for ordered by class, K each: right at one shot in order only."""
    K = max(len(z) // way, 1)
    c = torch.stack([z[n * K:(n + 1) * K].mean(0) for n in range(way)])
    return 2 * c, -c.pow(2).sum(1)


def wrong_linear_classifier_sum(z, y, way):
    """Adds a class's examples up: the same at one shot."""
    c = torch.stack([z[y == n].sum(0) for n in range(way)])
    return 2 * c, -c.pow(2).sum(1)


def wrong_linear_classifier_mean_of_squares(z, y, way):
    """The mean of |z_i|^2 for |mean|^2: the same at one shot."""
    b = -torch.stack([z[y == n].pow(2).sum(1).mean() for n in range(way)])
    return 2 * _means(z, y, way), b


def wrong_linear_classifier_first(z, y, way):
    """Two classes are right, the others are copies of the second."""
    c = _means(z, y, way)[[0] + [1] * (way - 1)]
    return 2 * c, -c.pow(2).sum(1)


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
