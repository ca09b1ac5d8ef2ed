"""Predictions that say how sure they are."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Normal(NamedTuple):
    """Independent normal distributions, one for each target: what `predict` may return instead of a tensor.

    Attributes:
        mean: (M, D).
        std: standard deviations, (M, D), positive, the noise of the targets included.
    """

    mean: Tensor
    std: Tensor

    def log_prob(self, y: Tensor) -> Tensor:
        """log p(y) of each target, (M, D): -(y - mean)^2 / 2 std^2 - log std - log(2 pi) / 2.

        Raises:
            ValueError: shapes that differ, which broadcasting would hide.
        """
        self._check(y)
        return -0.5 * ((y - self.mean) / self.std).square() - self.std.log() - 0.5 * math.log(2 * math.pi)

    def inside(self, y: Tensor, level: float = 0.9) -> Tensor:
        """Whether each target lies in the central interval that holds `level` of the probability, (M, D).

        Raises:
            ValueError: shapes that differ; a level that is no probability.
        """
        self._check(y)
        if not 0 <= level <= 1:
            raise ValueError(f"level={level}: expected a probability, 0.9 for 90 %")
        half = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
        return (y - self.mean).abs() <= half * self.std

    def _check(self, y: Tensor) -> None:
        if not self.mean.shape == self.std.shape == y.shape:
            raise ValueError(f"mean {tuple(self.mean.shape)}, std {tuple(self.std.shape)} and targets "
                             f"{tuple(y.shape)}: make the three shapes equal")


def mixed(parts: Normal) -> Normal:
    """The normal distribution with the mean and variance of an equal mixture: parts (L, M, D) -> (M, D)."""
    mean = parts.mean.mean(0)
    variance = parts.std.square().mean(0) + (parts.mean - mean).square().mean(0)
    return Normal(mean, variance.sqrt())
