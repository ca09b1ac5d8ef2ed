"""Thirty numbers of an image: what a learner with features has to beat."""

import torch
from torch import Tensor, nn


class Statistics(nn.Module):
    """An encoder without weights: ten numbers of each channel, whatever the size of the image.

    The mean, the standard deviation, the quantiles 5, 25, 50, 75 and 95 %, the mean step to the pixel below and to the
    right, and the standard deviation of the difference between a pixel and the mean of its four neighbours. Colour,
    brightness, contrast and coarseness, and nothing about where things are: (M, C, H, W) -> (M, 10 C).
    """

    def forward(self, x: Tensor) -> Tensor:
        ranked = x.flatten(2).sort(2).values  # (M, C, H W); torch.quantile does not go through vmap
        quantiles = torch.stack([ranked[..., int(q * ranked.shape[2])] for q in (0.05, 0.25, 0.5, 0.75, 0.95)], -1)
        steps = [x.diff(dim=d).abs().mean((2, 3)) for d in (2, 3)]
        around = (x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]) / 4
        edges = (x[..., 1:-1, 1:-1] - around).flatten(2).std(2)
        return torch.cat([x.mean((2, 3)), x.flatten(2).std(2), quantiles.flatten(1), *steps, edges], 1)
