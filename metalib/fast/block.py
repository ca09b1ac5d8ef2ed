"""One block of Conv4, arranged so that its second-order gradient is cheap.

In the plain block the convolutions are the smaller part of the time on a CPU: other libraries' steps reach a fifth of
the machine's matrix peak (results/bench-cpu.json). Normalisation, ReLU, pooling and above all their second derivatives
walk over activations that no cache holds. Four rearrangements remove many of those walks; chapter 6 counts them:

1. The pooling comes first (`ConvBlock`): normalisation and ReLU then touch a quarter of the values.
2. The moments have an analytic backward and double backward (`Moments`).
3. Where the input has few channels, the moments are known before the convolution, whose filters then carry the
   normalisation, and the largest activations of the net never leave a cache (`metalib.fast.thin`).
4. Filters and activations keep their channels innermost in memory, as CPU convolutions want them.

They change no formula: tests/test_gradients.py compares them with the plain block in float64, to 1e-10. They do change
the order of sums, and a float64 test is blind to how a float32 sum over 235,000 values is taken. So
tests/test_float32.py compares float32 gradients with float64 ones, beside PyTorch's own layers (results/float32.json).
After one inner step they are as exact as those in PyTorch's most exact layout, NCHW: about 1e-6 in the median, and 1e-5
to 1e-3 for a network now and then. After five inner steps with 20 images they are not: 2e-4 against 1e-5 in the median,
where PyTorch's layers with channels innermost are 0.7 off. Why was not separated; a convolution with its channels
innermost is 3e-7 off where one in NCHW is 1e-7, and rounding can decide a ReLU or a maximum.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._functorch.utils import unwrap_dead_wrappers

from metalib.fast.thin import THIN, patch_moments, pooled_products
from metalib.functional import transformed

NORMS = ("batch", "layer", "instance", "group", None)


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
        weight = nn.init.kaiming_uniform_(torch.empty(channels, in_channels, 3, 3), a=5**0.5)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.scale = nn.Parameter(torch.ones(channels)) if norm else None
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(M, C_in, H, W) -> (M, C, H/2, W/2)."""
        if self.norm is None:
            return F.relu(F.max_pool2d(F.conv2d(x, self.weight, self.bias, padding=1), 2))
        sign = torch.where(self.scale < 0, -1.0, 1.0).to(x.dtype)  # (C,)
        weight = self.weight * sign.reshape(-1, 1, 1, 1)
        if self.norm == "batch" and weight[0].numel() <= THIN:
            patches, mean, var = patch_moments(x, weight)
            gain, shift = self.gain_and_shift(mean, var, sign)
            filters = weight.flatten(1) * gain[:, None]  # max_pool(z) * gain = max_pool(z * gain), because gain >= 0
            return F.relu_(pooled_products(patches, filters, x.shape[2:]) + shift.reshape(-1, 1, 1))
        z = F.conv2d(x, weight, padding=1)
        gain, shift = self.gain_and_shift(*self.statistics(z, sign), sign)
        shape = (*gain.shape, 1, 1)
        return F.relu_(torch.addcmul(shift.reshape(shape), F.max_pool2d(z, 2), gain.reshape(shape)))

    def gain_and_shift(self, mean: Tensor, var: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
        """|g| / std and b - mean |g| / std, in the shape of mean and var."""
        gain = self.scale * sign * (var + 1e-5).rsqrt()
        return gain, torch.addcmul(self.bias, mean, gain, value=-1)

    def statistics(self, z: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance: over (M, H, W) for batch norm, (C,), and per image and group else, (M, C).

        A group's channels may differ in sign(g), which layer and group norm must not see, so there the flipped
        channels are flipped back before the statistics, and their mean is flipped again after. Never in less than
        float32, which autocast leaves z in.
        """
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        if self.norm == "batch":
            return applied(Moments, z)
        M, C, _, _ = z.shape
        z = (z * sign.reshape(-1, 1, 1)).reshape(M, self.groups, -1)
        var, mean = torch.var_mean(z, dim=2, correction=0)  # (M, G)
        mean, var = (s[:, :, None].expand(-1, -1, C // self.groups).reshape(M, C) for s in (mean, var))
        return mean * sign, var


class Moments(torch.autograd.Function):
    """Mean and biased variance of each channel of z (M, C, H, W): two tensors (C,).

        d mean / d z = 1 / n,        d var / d z = (2 / n) (z - mean),        n = M H W

    Two passes, because `mean` and `sum` add up in a tree, in any memory layout: both moments are right to 2e-7 in
    float32. With channels innermost on a CPU, `torch.batch_norm_update_stats` reads z once, in half the time, but is
    ever further off as n grows (2e-5 at n = 58,800), and `torch.var_mean` takes twenty times as long.
    """

    @staticmethod
    def forward(z: Tensor) -> tuple[Tensor, Tensor]:
        mean = z.mean((0, 2, 3))
        return mean, (z - mean.view(-1, 1, 1)).square_().mean((0, 2, 3))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, output[0])

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor, grad_var: Tensor) -> Tensor:
        return applied(MomentsBackward, *ctx.saved_tensors, grad_mean, grad_var)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], z: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        z = z.movedim(in_dims[0], 1)  # (M, T, C, H, W): T C channels, each with moments of its own
        mean, var = (s.unflatten(0, z.shape[1:3]) for s in Moments.apply(z.flatten(1, 2)))  # (T, C)
        return (mean, var), (0, 0)


class MomentsBackward(torch.autograd.Function):
    """The backward of `Moments` as a function of its own, so that it has an analytic derivative too.

        grad_z = a z + b,        a = (2 / n) grad_var,        b = grad_mean / n - a mean
    """

    @staticmethod
    def forward(z: Tensor, mean: Tensor, grad_mean: Tensor, grad_var: Tensor) -> Tensor:
        n = z.numel() // z.shape[1]
        a = grad_var * (2 / n)
        return torch.addcmul((grad_mean / n - a * mean).view(-1, 1, 1), z, a.view(-1, 1, 1))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor], output: Tensor) -> None:
        z, mean, _, grad_var = inputs
        ctx.save_for_backward(z, mean, grad_var)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z, mean, grad_var = ctx.saved_tensors
        n = z.numel() // z.shape[1]
        a, total = grad_var * (2 / n), g.sum((0, 2, 3))
        return g * a.view(-1, 1, 1), -a * total, total / n, ((g * z).sum((0, 2, 3)) - mean * total) * (2 / n)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        z, mean, grad_mean, grad_var = (
            t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0) for t, d in zip(inputs, in_dims))
        n = z[0].numel() // z.shape[2]
        a = grad_var * (2 / n)
        return z * a[:, None, :, None, None] + (grad_mean / n - a * mean)[:, None, :, None, None], 0


def applied(function: type[torch.autograd.Function], *args: Tensor) -> Any:
    """function.apply(*args) with less Python, which one task thread executes while the others wait for it.

    Outside torch.func's transforms `apply` looks for default arguments, of which there are none. And where gradients
    are disabled, as in a backward pass that nobody differentiates, `forward` is all there is to do.
    """
    if transformed():
        return function.apply(*args)
    args = unwrap_dead_wrappers(args)  # as `apply` does: of a transform that has ended, whose pullback this is
    return super(torch.autograd.Function, function).apply(*args) if torch.is_grad_enabled() else function.forward(*args)
