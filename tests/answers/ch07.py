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
