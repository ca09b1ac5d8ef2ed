"""The two networks of the few-shot literature: a multilayer perceptron and Conv4.

Their names are lower case because they are used like functions: `MAML(conv4(out_dim=5))`. Both record
the arguments of their constructor (`Recorded`), which is how `metalib.save` stores a network.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metalib.arguments import Recorded, check_choice, check_network, check_whole
from metalib.fast.block import NORMS, ConvBlock


class mlp(Recorded, nn.Module):  # noqa: N801
    """A multilayer perceptron: x -> W_L s(... s(W_1 x + b_1) ...) + b_L.

    Args:
        in_dim: D of the input (M, D); images are flattened.
        hidden: widths of the hidden layers, for example (40, 40).
        out_dim: width of the output (M, out_dim).
        activation: "relu" or "tanh" (smooth: choose it where finite differences are to be trusted).

    Raises:
        ValueError: an input of another width or dtype.
    """

    def __init__(self, in_dim: int, hidden: Sequence[int], out_dim: int, *, activation: str = "relu") -> None:
        super().__init__()
        check_choice(activation, "activation", "relu", "tanh")
        if not isinstance(hidden, Sequence) or isinstance(hidden, str):
            raise TypeError(f"hidden={hidden!r}: expected the widths of the hidden layers, for example (40, 40)")
        self.in_dim, self.hidden, self.out_dim, self.activation = in_dim, list(hidden), out_dim, activation
        widths = [in_dim, *hidden, out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))

    def features(self, x: Tensor) -> Tensor:
        """What the last layer reads, (M, hidden[-1])."""
        if x.ndim < 2 or math.prod(x.shape[1:]) != self.in_dim:
            raise ValueError(f"mlp was built for inputs (M, {self.in_dim}), got {tuple(x.shape)}: set in_dim=, write "
                             "single numbers as x[:, None], and give one task, without the task axis")
        same_dtype(x, self.layers[0].weight)
        act = torch.tanh if self.activation == "tanh" else torch.relu
        h = x.flatten(1)  # (M, in_dim)
        for layer in self.layers[:-1]:
            h = act(layer(h))
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[-1](self.features(x))  # (M, out_dim)


class conv4(Recorded, nn.Module):  # noqa: N801
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
        ValueError: an unknown norm; an image too small for four poolings; a wrong input shape or dtype.
    """

    def __init__(self, out_dim: int | None = None, channels: int = 64, in_channels: int = 1,
                 norm: str | None = "batch", *, image_size: int = 28) -> None:
        super().__init__()
        check_choice(norm, "norm", *NORMS)
        if image_size < 16:
            raise ValueError(f"image_size={image_size}: four 2x2 poolings need at least 16 pixels; resize the images")
        self.out_dim, self.channels, self.in_channels = out_dim, channels, in_channels
        self.norm, self.image_size = norm, image_size
        self.embedding_dim = channels * (image_size // 16) ** 2
        self.blocks = nn.ModuleList(ConvBlock(in_channels if i == 0 else channels, channels, norm) for i in range(4))
        self.head = nn.Linear(self.embedding_dim, out_dim) if out_dim else None

    def features(self, x: Tensor) -> Tensor:
        """The embedding, (M, D), which is what the linear layer reads."""
        expected = (self.in_channels, self.image_size, self.image_size)
        if x.shape[1:] != expected:
            raise ValueError(f"conv4 was built for images {expected}, got {tuple(x.shape[1:])}: "
                             "set in_channels= and image_size=, or resize the images")
        same_dtype(x, self.blocks[0].weight)
        for block in self.blocks:
            x = block(x)  # (M, C, H/2, W/2)
        return x.flatten(1)  # (M, D)

    def forward(self, x: Tensor) -> Tensor:
        z = self.features(x)
        return z if self.head is None else self.head(z)


class WithContext(Recorded, nn.Module):
    """A network that reads C more numbers with every input: the context of the task, zeros before adaptation.

        f(x; c) = net([x, c]),        c = 0

    `MAML(WithContext(net, 5), adapts="context")` moves c alone, so a task is C numbers: CAVIA.

    Args:
        net: reads (M, D + C).
        dim: C.

    Raises:
        TypeError: `net` is no network.
        ValueError: dim below 1.

    Zintgraf et al. (2019), "Fast context adaptation via meta-learning", ICML.
    """

    def __init__(self, net: nn.Module, dim: int) -> None:
        super().__init__()
        check_network(net)
        check_whole(1, dim=dim)
        self.net, self.dim = net, dim
        self.context = nn.Parameter(torch.zeros(dim), requires_grad=False)  # each task starts from zero

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.net(torch.cat([x, self.context.to(x.dtype).expand(len(x), -1)], 1))


def same_dtype(x: Tensor, weight: Tensor) -> None:
    """Raise a ValueError unless inputs have the weights' dtype, or autocast will see to it."""
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"the inputs are {x.dtype}, the network's weights {weight.dtype}: draw tasks with dtype="
                         f"{weight.dtype} (FewShot and Sinusoids take it), or convert the network with .to({x.dtype})")
