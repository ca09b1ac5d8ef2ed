"""How precisely the products of a meta-step are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


@contextlib.contextmanager
def arithmetic(precision: str, device: str) -> Iterator[None]:
    """Run the body in "float32", "tf32" (which differs on CUDA only) or "bf16" (autocast); restored afterwards.

    On CUDA "float32" means it: PyTorch by itself lets cuDNN round the factors of a convolution to TF32.

    Raises:
        ValueError: another precision.
    """
    if precision not in ("float32", "tf32", "bf16"):
        raise ValueError(f"precision={precision!r}: expected 'float32', 'tf32' or 'bf16'")
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn) if device == "cuda" else ()
    before = [flag.allow_tf32 for flag in flags]
    # A cast of a weight that autocast kept would outlive the transform that made it.
    bf16 = torch.autocast(device, torch.bfloat16, cache_enabled=False)
    try:
        for flag in flags:
            flag.allow_tf32 = precision == "tf32"
        with bf16 if precision == "bf16" else contextlib.nullcontext():
            yield
    finally:
        for flag, allowed in zip(flags, before):
            flag.allow_tf32 = allowed


class Rounded(TorchDispatchMode):
    """Round the factors of every product (convolutions, matrix products, their derivatives) to a number of bits.

        with Rounded(10): meta_gradient(learner, episodes, threads=1)        # TF32's arithmetic, on any machine

    Everything else stays as it is, so that what is measured is the rounding of the factors. It is an emulation: tensor
    cores may cut bits off where this rounds, and they add in float32. In the calling thread only.

    Args:
        bits: kept after the leading one: 7 is bfloat16, 10 TF32, 23 float32.
    """

    PRODUCTS = ("aten.convolution", "aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm")  # and convolution_backward

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def __torch_dispatch__(self, operator: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        if str(operator).startswith(self.PRODUCTS):
            # What an operator writes to, in place, is no factor: a rounded copy would receive the result instead.
            written = str(operator).split(".")[1].endswith("_")
            args = (*args[:1], *tree_map(self.rounded, args[1:])) if written else tree_map(self.rounded, args)
        return operator(*args, **(kwargs or {}))

    def rounded(self, t: Any) -> Any:
        """t if it is no tensor of floats, else its numbers with `bits` bits after the leading one, ties to even."""
        if not (isinstance(t, torch.Tensor) and t.is_floating_point()):
            return t
        m, exponent = torch.frexp(t)  # t = m 2^exponent with 1/2 <= |m| < 1
        return torch.ldexp((m * 2.0 ** (self.bits + 1)).round() / 2.0 ** (self.bits + 1), exponent)
