"""Randomness is data: numbers that a key decides, pure functions that vmap, a loop and a resumed run agree on."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

GOLDEN, FIRST, SECOND = (n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def key(seed: int) -> Tensor:
    """The key of a seed: one int64, as any key."""
    return _mixed(torch.tensor(seed % 2**63 + GOLDEN))


def fold(key: Tensor, i: int | Tensor) -> Tensor:
    """The key of the i-th child of a key; with a tensor of numbers, one child for each of them.

    Raises:
        TypeError: a float.
    """
    if isinstance(i, float) or isinstance(i, Tensor) and i.is_floating_point():
        raise TypeError(f"fold(key, {i}): expected whole numbers; fold in (share * 2**40).long() of a float64 share")
    return _mixed(key ^ _mixed(torch.as_tensor(i, dtype=torch.int64, device=key.device) * GOLDEN + FIRST))


def key_of(episode: Any) -> Tensor:
    """The key of a task that is a function of its data, whatever the order of its examples: one int64.

    So a draw belongs to the task: the same inside vmap, in a loop, in a resumed run and along finite differences. What
    should differ the next time the same data comes folds in something else as well, how far training is for example.

    Args:
        episode: one task, an `Episode` or any named tuple of tensors; floats count to float32's precision.
    """
    tensors = [t for t in tree_leaves(episode) if isinstance(t, Tensor)]
    parts = [fold(_hashes(t).sum(), i) for i, t in enumerate(tensors)]
    return _mixed(torch.stack(parts).sum())


def uniform(key: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """Independent numbers from (0, 1), a function of the key alone: the same inside vmap and outside, on every device.

    Args:
        key: one int64. One key, one use: `fold` makes another of it.
        shape: of the result.
        dtype: floating point; None means `torch.get_default_dtype()`.

    Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators" (SplitMix64), with a counter.
    """
    count = torch.arange(math.prod(shape), device=key.device)
    bits = _mixed(key + (count + 1) * GOLDEN)
    u = (_right(bits, 12).double() + 0.5) * 2.0**-52  # 52 bits, neither 0 nor 1
    dtype = dtype or torch.get_default_dtype()
    ends = torch.finfo(dtype)
    return u.reshape(shape).to(dtype).clamp(ends.tiny, 1 - ends.eps / 2)  # where rounding may have led to an end


def normal(key: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """Independent standard normal numbers, as `uniform`, which the inverse of their distribution function makes."""
    u = uniform(key, *shape, dtype=torch.float64)
    return (math.sqrt(2) * torch.erfinv(2 * u - 1)).to(dtype or torch.get_default_dtype())


def shuffle(x: Tensor, y: Tensor) -> Tensor:
    """A pseudo-random order (M,) of examples that is decided by the examples, not by the order in which they came.

    What reads its support in an order reads `x[order]`: no sampler's habit (classes one after another) reaches it, and
    as a function of the support it stays a function of a set.

    Args:
        x: inputs (M, ...), of which a float counts to float32's precision.
        y: targets (M,) or (M, D).
    """
    return _mixed(_hashes(x) + fold(_hashes(y), 1)).argsort(stable=True)


def _hashes(t: Tensor) -> Tensor:
    """One int64 for each row of t (M, ...): sums of integers, so that the order of a sum changes nothing."""
    rows = t.detach().flatten(1) if t.ndim > 1 else t.detach()[:, None]  # (M, D)
    bits = rows.float().contiguous().view(torch.int32).long() if rows.is_floating_point() else rows.long()
    places = (torch.arange(bits.shape[1], device=bits.device) + 1) * GOLDEN
    return _mixed(_mixed(bits ^ _mixed(places)).sum(1))


def _mixed(z: Tensor) -> Tensor:
    """SplitMix64's finaliser; int64 products wrap around."""
    z = (z ^ _right(z, 30)) * FIRST
    z = (z ^ _right(z, 27)) * SECOND
    return z ^ _right(z, 31)


def _right(z: Tensor, n: int) -> Tensor:
    """A shift to the right that fills with zeros."""
    return (z >> n) & (2**(64 - n) - 1)
