"""Answers to chapter 0's code exercise beside the book's own: right ones in other styles, and plausible wrong ones."""

import torch
import torch.nn.functional as F

from metalib import PixelFloor


def right_nearest_numpy_loops(support, x):
    """NumPy, loops, a plain list."""
    images, queries = support.x.flatten(1).numpy(), x.flatten(1).numpy()
    labels = []
    for q in queries:
        cosine = [(a @ q) / ((a @ a) * (q @ q)) ** 0.5 for a in images]
        labels.append(int(support.y[cosine.index(max(cosine))]))
    return labels


def right_nearest_distance(support, x):
    """The nearest of unit vectors, in float64: |a - b|^2 = 2 - 2 cos."""
    a, b = (F.normalize(t.double().flatten(1), dim=-1) for t in (support.x, x))
    return support.y[torch.cdist(b, a).argmin(-1)]


def right_nearest_library(support, x):
    """The library's floor, labels as floats."""
    floor = PixelFloor()
    return floor.predict(floor.adapt(support), x).argmax(-1).float()


def right_nearest_support_only(support, x):
    """A query's own length changes no order."""
    return support.y[(x.flatten(1) @ F.normalize(support.x.flatten(1), dim=-1).T).argmax(-1)]


def wrong_nearest_row(support, x):
    """The row instead of its label: right only while the support happens to be in order."""
    a, b = (F.normalize(t.flatten(1), dim=-1) for t in (support.x, x))
    return (b @ a.T).argmax(-1)


def wrong_nearest_no_lengths(support, x):
    """No division by the length: the boldest drawing wins too often."""
    return support.y[(x.flatten(1) @ support.x.flatten(1).T).argmax(-1)]


def wrong_nearest_over_drawings(support, x):
    """Lengths taken over the drawings instead of over the pixels."""
    a, b = (F.normalize(t.flatten(1), dim=0) for t in (support.x, x))
    return support.y[(b @ a.T).argmax(-1)]


def wrong_nearest_query_only(support, x):
    """Only the query is divided by its length."""
    return support.y[(F.normalize(x.flatten(1), dim=-1) @ support.x.flatten(1).T).argmax(-1)]


def wrong_nearest_euclid(support, x):
    """The smallest distance of raw pixels."""
    return support.y[torch.cdist(x.flatten(1), support.x.flatten(1)).argmin(-1)]


def wrong_nearest_correlation(support, x):
    """Subtracts the mean first: the correlation, not the cosine."""
    a, b = (F.normalize(t.flatten(1) - t.flatten(1).mean(1, keepdim=True), dim=-1) for t in (support.x, x))
    return support.y[(b @ a.T).argmax(-1)]


def wrong_nearest_one_channel(support, x):
    """The first channel alone."""
    a, b = (F.normalize(t[:, :1].flatten(1), dim=-1) for t in (support.x, x))
    return support.y[(b @ a.T).argmax(-1)]


def wrong_nearest_argmin(support, x):
    """The least similar drawing."""
    a, b = (F.normalize(t.flatten(1), dim=-1) for t in (support.x, x))
    return support.y[(b @ a.T).argmin(-1)]


def wrong_nearest_constant(support, x):
    """Always the first drawing's label."""
    return support.y[:1].expand(len(x))


def wrong_nearest_first_query(support, x):
    """The first query's label for all."""
    a, b = (F.normalize(t.flatten(1), dim=-1) for t in (support.x, x))
    return support.y[(b[:1] @ a.T).argmax(-1)].expand(len(x))


def wrong_nearest_cosines(support, x):
    """The cosines themselves, (M, N)."""
    a, b = (F.normalize(t.flatten(1), dim=-1) for t in (support.x, x))
    return b @ a.T
