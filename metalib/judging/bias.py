"""Does what is drawn predict its label? How far an audit's episodes are from "not at all", in standard errors."""

import torch
from torch import Tensor

from metalib.functional import seeded


def example_bias(ids: Tensor, y: Tensor, way: int) -> float | None:
    """Does an example predict its label? Standard errors above what relabelling each task at random would give.

    The statistic is the number of pairs of episodes in which an example carries one label twice. Examples of one class
    share their labels, so its distribution under "not at all" is not that of a table: 100 relabellings measure it.
    Where pairs are few, one of them is many standard errors; so it may not exceed what a Poisson number would say.
    """
    def pairs(labels: Tensor) -> Tensor:  # (T, M)
        count = torch.bincount((ids * way + labels).flatten()).double()
        return (count * (count - 1)).sum() / 2

    g = seeded(0)
    new = [torch.rand(len(y), way, generator=g).argsort(1).gather(1, y) for _ in range(100)]
    null = torch.stack([pairs(labels) for labels in new])
    if null.std() == 0:  # no example comes again, or there is one label
        return None
    normal, poisson = (pairs(y) - null.mean()) / null.std(), 2 * (pairs(y).sqrt() - null.mean().sqrt())
    return max(0.0, float(min(normal, poisson)))


def label_bias(classes: Tensor, n_classes: int) -> float:
    """Does a class predict its label? The larger of two distances from "not at all", in standard errors.

    The mean label over tenths of the classes sees labels that drift with the class index (sorted classes). The sum
    over classes of chi-squared statistics sees labels that stick to a class; with m draws of a class its mean is
    N - 1 and its variance 2 (N - 1) (m - 1) / m, for every m.
    """
    T, N = classes.shape
    if N == 1:
        return 0.0
    label = torch.arange(N, dtype=torch.float64).expand(T, N)
    tenth = (classes * min(10, n_classes)) // n_classes
    mean, std = (N - 1) / 2, ((N * N - 1) / 12) ** 0.5
    z = [(label[tenth == d].mean() - mean).abs() * (tenth == d).sum().sqrt() / std for d in tenth.unique()]
    counts = torch.zeros(n_classes, N, dtype=torch.float64)  # how often class c carried label n
    counts.index_put_((classes, label.long()), torch.ones(T, N, dtype=torch.float64), accumulate=True)
    m = counts.sum(1)
    counts, m = counts[m > 1], m[m > 1]  # one draw of a class says nothing
    if len(m):
        excess = ((counts - m[:, None] / N).pow(2).sum(1) / (m / N) - (N - 1)).sum()
        z.append(excess.clamp(min=0) / (2 * (N - 1) * (m - 1) / m).sum().sqrt())
    return float(torch.stack(z).max())
