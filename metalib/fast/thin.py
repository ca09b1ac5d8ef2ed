"""A convolution of few input channels: its moments before it is computed, and its pooled output without the rest.

The first block of Conv4 has the largest activations of the net, made from the least: an image of one channel. Here they
are neither kept nor, where they would not fit into a cache, ever all there at once.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metalib.functional import transformed

THIN = 32  # numbers in a patch, at most, for `patch_moments`: images of up to three channels
IN_CACHE = 2**19  # numbers that a core's own cache can be expected to hold: 2 MiB of float32


def patch_moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The moments of z = conv(x, weight) for few input channels, without z.

    Each z is a filter's inner product with a patch p of D = 9 C_in pixels, so with mu (D) and S (D, D) the mean and
    the covariance of the patches,

        z = <w, p>,        mean z = <w, mu>,        var z = <w, S w>.

    S is a sum over M H W patches, and <w, S w> is small beside |S| for a filter that takes differences. A float32
    product that sums 235,000 rows keeps three digits of it, so both are computed in float64, which costs little: D is
    at most 32. Where there is no float64 (Apple's GPUs), S is at least summed image by image.

    Returns:
        the patches (M, H * W, D), and the mean and the variance of z (C,).
    """
    patches = F.unfold(x, 3, padding=1).transpose(1, 2).contiguous()  # (M, H W, D)
    exact = torch.float32 if x.device.type == "mps" else torch.float64
    p, w = patches.to(exact), weight.flatten(1).to(exact)  # (M, H W, D), (C, D)
    mu = p.mean((0, 1))
    centred = p - mu
    S = (centred.transpose(1, 2) @ centred).mean(0) / p.shape[1]
    return patches, (w @ mu).to(x.dtype), ((w @ S) * w).sum(1).to(x.dtype)


def pooled_products(patches: Tensor, filters: Tensor, size: tuple[int, int]) -> Tensor:
    """max_pool(z) with z = patches @ filters^T, for patches (M, H * W, D), filters (C, D), size (H, W).

    On a CPU z is made some images at a time where all of it would not fit into a core's cache: see `PooledProducts`.
    One product an image, everywhere: the derivative by the filters then sums over one image's rows at a time.
    """
    M, C = len(patches), len(filters)
    at_once = max(1, IN_CACHE // (size[0] * size[1] * C))
    traced = transformed() or torch.compiler.is_compiling() or torch.jit.is_tracing()  # an export to ONNX, say
    if M > at_once and patches.device.type == "cpu" and not (patches.requires_grad or traced):
        return PooledProducts.apply(patches, filters, size, at_once)
    z = torch.bmm(patches, filters.T.expand(M, -1, -1)).view(M, *size, C)  # channels innermost in memory
    return F.max_pool2d(z.movedim(3, 1), 2)


class PooledProducts(torch.autograd.Function):
    """y = max_pool(patches @ filters^T), `at_once` images at a time, so that z never leaves the cache.

    z is the largest activation of the net. All that is kept of it is which of four neighbours each maximum
    was: i(q, c), for the pooled position q and channel c. The derivative needs no more:

        dL/dw_c = sum_q g_qc p_i(q,c).
    """

    @staticmethod
    def forward(ctx: Any, patches: Tensor, filters: Tensor, size: tuple[int, int], at_once: int) -> Tensor:
        (H, W), M, C = size, len(patches), len(filters)
        y, index = (torch.empty((M, C, H // 2, W // 2), dtype=dtype, memory_format=torch.channels_last)
                    for dtype in (patches.dtype, torch.long))
        z = torch.empty((at_once, H, W, C), dtype=patches.dtype)
        for i in range(0, M, at_once):
            part, few = slice(i, i + at_once), z[:M - i]
            torch.mm(patches[part].flatten(0, 1), filters.T, out=few.view(-1, C))
            torch.ops.aten.max_pool2d_with_indices.out(few.movedim(3, 1), [2, 2], out=y[part], indices=index[part])
        ctx.save_for_backward(patches, index)
        ctx.size, ctx.at_once = size, at_once
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor, None, None]:
        return None, PooledProductsBackward.apply(g, *ctx.saved_tensors, ctx.size, ctx.at_once), None, None


class PooledProductsBackward(torch.autograd.Function):
    """The backward of `PooledProducts` as a function of its own: linear in g, and independent of the filters.

    Summed image by image, in the order (D, C): as (C, D) the same product takes six times as long here.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, patches: Tensor, index: Tensor, size: tuple[int, int], at_once: int) -> Tensor:
        (H, W), (M, _, D), C = size, patches.shape, g.shape[1]
        sums, d_z = g.new_zeros(at_once, D, C), g.new_empty(at_once, H, W, C)
        for i in range(0, M, at_once):
            part, few = slice(i, i + at_once), d_z[:M - i]
            torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
                g[part], few.movedim(3, 1), [2, 2], [2, 2], [0, 0], [1, 1], False, index[part],
                grad_input=few.movedim(3, 1))
            sums[:M - i].baddbmm_(patches[part].mT, few.flatten(1, 2))
        ctx.save_for_backward(patches, index)
        return sums.sum(0).T

    @staticmethod
    def backward(ctx: Any, d_filters: Tensor) -> tuple[Tensor, None, None, None, None]:
        patches, index = ctx.saved_tensors
        d_z = (patches @ d_filters.T).mT  # (M, C, H W)
        return d_z.gather(2, index.flatten(2)).view(index.shape), None, None, None, None
