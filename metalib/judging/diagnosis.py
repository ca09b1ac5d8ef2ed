"""What a hospital asks of a classifier: balanced accuracy, AUROC, calibration. Each is a `metric=` of `meta_test`."""

import torch
from torch import Tensor

from metalib.arguments import check_whole
from metalib.judging.metrics import Metric


def _balanced(logits: Tensor, y: Tensor) -> Tensor:
    member = (y[:, None] == torch.arange(logits.shape[-1], device=y.device)).double()  # (M, N)
    right = (logits.argmax(-1) == y).double()
    recall = (member * right[:, None]).sum(0) / member.sum(0).clamp(min=1)
    return _seen(recall.sum() / (member.sum(0) > 0).sum(), logits)


def _auroc(logits: Tensor, y: Tensor) -> Tensor:
    N = logits.shape[-1]
    others = torch.eye(N, dtype=torch.bool, device=y.device)
    odds = logits - logits[:, None, :].masked_fill(others, -torch.inf).logsumexp(-1)  # log p_n / (1 - p_n), (M, N)
    member = (y[:, None] == torch.arange(N, device=y.device)).double()
    ahead = (odds[:, None] > odds[None]).double() + (odds[:, None] == odds[None]).double() / 2  # (M, M, N)
    pairs = member[:, None] * (1 - member[None])
    return _seen(((ahead * pairs).sum((0, 1)) / pairs.sum((0, 1))).mean(), logits)


balanced_accuracy = Metric("balanced accuracy", _balanced, better=1)
"""The mean, over the classes that the query holds, of the share of each that is recognised: chance is 1/N at any
prevalence, and a rule that always says "healthy" scores 1/N."""

auroc = Metric("AUROC", _auroc, better=1)
"""The probability that an example of class n has larger odds p_n / (1 - p_n) than one of another class, ties counting
half; the mean over classes. Of two classes the usual area under the curve. NaN where the query lacks a class."""


def calibration_error(bins: int = 10) -> Metric:
    """Expected calibration error of the largest probability: sum_b |sum_{i in b} (right_i - p_i)| / M, `bins` of equal
    width. Of few queries it is far above 0 even where p is right: pool the queries of many tasks, or compare like with
    like. (Guo et al. 2017, "On calibration of modern neural networks", ICML.)"""
    check_whole(1, bins=bins)

    def error(logits: Tensor, y: Tensor) -> Tensor:
        p, best = logits.double().softmax(-1).max(-1)  # (M,)
        bin_of = (p * bins).ceil().clamp(1, bins) - 1
        inside = (bin_of[:, None] == torch.arange(bins, device=y.device)).double()  # (M, bins)
        return _seen((inside * ((best == y).double() - p)[:, None]).sum(0).abs().sum() / len(y), logits)

    return Metric("calibration error", error)


def _seen(value: Tensor, logits: Tensor) -> Tensor:
    return torch.where(logits.isnan().any(), torch.nan, value)  # what says nothing is not wrong, but no number
