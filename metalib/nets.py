"""The two networks of the few-shot literature: a multilayer perceptron and Conv4.

Their names are lower case because they are used like functions: `MAML(conv4(out_dim=5))`. Every constructor argument
is kept as an attribute of the same name, which is how `metalib.save` records a network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMS = ("batch", "layer", "instance", "group", None)


class mlp(nn.Module):  # noqa: N801
    """A multilayer perceptron: x -> W_L s(... s(W_1 x + b_1) ...) + b_L.

    Args:
        in_dim: D of the input (M, D); images are flattened.
        hidden: widths of the hidden layers, for example (40, 40).
        out_dim: width of the output (M, out_dim).
        activation: "relu" or "tanh" (smooth: choose it where finite differences are to be trusted).
    """

    def __init__(self, in_dim: int, hidden: Sequence[int], out_dim: int, *, activation: str = "relu") -> None:
        super().__init__()
        if activation not in ("relu", "tanh"):
            raise ValueError(f"activation={activation!r}: expected 'relu' or 'tanh'")
        self.in_dim, self.hidden, self.out_dim, self.activation = in_dim, list(hidden), out_dim, activation
        widths = [in_dim, *hidden, out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        act = torch.tanh if self.activation == "tanh" else F.relu
        h = x.flatten(1)  # (M, in_dim)
        for layer in self.layers[:-1]:
            h = act(layer(h))
        return self.layers[-1](h)  # (M, out_dim)


class conv4(nn.Module):  # noqa: N801
    """Four blocks of [3x3 convolution, normalisation, ReLU, 2x2 max-pool], then a linear layer if out_dim is given.

    The backbone of Vinyals et al. (2016), Snell et al. (2017) and Finn et al. (2017). Normalisation always uses the
    statistics of the batch at hand and nothing is remembered between calls, so a task cannot leak into the next one.

    Args:
        out_dim: number of logits; None returns the embedding (M, D), D = `embedding_dim`.
        channels: C of every block.
        in_channels: C of the input (M, C, H, W).
        norm: "batch", "layer", "instance", "group" (8 groups) or None.
        image_size: H = W of the input, at least 16.

    Raises:
        ValueError: an unknown norm; an image too small for four poolings; a wrong input shape.
    """

    def __init__(self, out_dim: int | None = None, channels: int = 64, in_channels: int = 1,
                 norm: str | None = "batch", *, image_size: int = 28) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm={norm!r}: expected one of {NORMS}")
        if image_size < 16:
            raise ValueError(f"image_size={image_size}: four 2x2 poolings need at least 16 pixels; resize the images")
        self.out_dim, self.channels, self.in_channels = out_dim, channels, in_channels
        self.norm, self.image_size = norm, image_size
        self.embedding_dim = channels * (image_size // 16) ** 2
        self.blocks = nn.ModuleList(ConvBlock(in_channels if i == 0 else channels, channels, norm) for i in range(4))
        self.head = nn.Linear(self.embedding_dim, out_dim) if out_dim else None

    def forward(self, x: Tensor) -> Tensor:
        expected = (self.in_channels, self.image_size, self.image_size)
        if x.shape[1:] != expected:
            raise ValueError(f"conv4 was built for images {expected}, got {tuple(x.shape[1:])}: "
                             "set in_channels= and image_size=, or resize the images")
        for block in self.blocks:
            x = block(x)  # (M, C, H/2, W/2)
        z = x.flatten(1)  # (M, D)
        return z if self.head is None else self.head(z)


class ConvBlock(nn.Module):
    """conv -> norm -> ReLU -> max-pool, computed with the pooling first.

    With z the convolution's output and g, b the norm's scale and shift,

        max_pool(relu(g * (z - mean) / std + b)) = relu(|g| * (max_pool(s * z) - s * mean) / std + b),   s = sign(g),

    because an increasing function commutes with the maximum. The statistics still use every value of z, but the
    normalisation and the ReLU then touch a quarter of them. Multiplying z by s = +-1 is done on the filters, for free.
    A convolution's bias before a norm has no effect, so it exists only with norm=None.
    """

    def __init__(self, in_channels: int, channels: int, norm: str | None) -> None:
        super().__init__()
        self.norm, self.groups = norm, {"layer": 1, "instance": channels, "group": min(8, channels)}.get(norm)
        if norm == "group" and channels % self.groups:
            raise ValueError(f"norm='group' splits the channels into {self.groups} groups: make {channels} a multiple")
        self.weight = nn.Parameter(torch.empty(channels, in_channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.scale = nn.Parameter(torch.ones(channels)) if norm else None
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is None:
            return F.relu(F.max_pool2d(F.conv2d(x, self.weight, self.bias, padding=1), 2))
        sign = torch.where(self.scale < 0, -1.0, 1.0).to(x.dtype)  # (C,)
        z = F.conv2d(x, self.weight * sign[:, None, None, None], padding=1)  # (M, C, H, W)
        mean, var = self.statistics(z)
        gain = (self.scale * sign)[:, None, None] * (var + 1e-5).rsqrt()
        return F.relu((F.max_pool2d(z, 2) - mean) * gain + self.bias[:, None, None])

    def statistics(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance, broadcastable to z: over (M, H, W) for batch norm, per image and group else.

        A group's channels may differ in sign(g), which layer and group norm must not see, so there the flipped
        channels are flipped back before the statistics, and their mean is flipped again after.
        """
        if self.norm == "batch":
            var, mean = torch.var_mean(z, dim=(0, 2, 3), keepdim=True, correction=0)
            return mean, var  # (1, C, 1, 1)
        sign = torch.where(self.scale < 0, -1.0, 1.0).to(z.dtype)[:, None, None]
        M, C, H, W = z.shape
        grouped = (z * sign).reshape(M, self.groups, -1)  # (M, G, C/G*H*W)
        var, mean = torch.var_mean(grouped, dim=2, correction=0)  # (M, G)
        mean, var = (s[:, :, None].expand(-1, -1, C // self.groups).reshape(M, C, 1, 1) for s in (mean, var))
        return mean * sign, var
