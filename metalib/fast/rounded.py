"""The rounding of low-precision products, emulated on any machine."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class Rounded(TorchDispatchMode):
    """Round the factors of every product (convolutions, matrix products, their derivatives) to a number of bits.

        with Rounded(10): meta_gradient(learner, episodes, threads=1)        # TF32's arithmetic, on any machine

    Everything else stays as it is, so that what is measured is the rounding of the factors: sums are float32's, and
    what the library computes in float64 on purpose is left alone, as hardware of few bits leaves it. So the learner and
    its tasks must be in float32. It is an emulation: tensor cores may cut bits off where this rounds. In the calling
    thread only.

    Args:
        bits: kept after the leading one: 7 is bfloat16, 10 TF32, 23 float32.

    Raises:
        RuntimeError: at the end of the block, if no float32 product was computed in it.
    """

    PRODUCTS = ("aten.convolution", "aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm")  # and convolution_backward

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits, self.used = bits, False

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        super().__exit__(kind, value, traceback)
        if kind is None and not self.used:
            raise RuntimeError(f"Rounded({self.bits}) has rounded nothing, because no float32 product was computed in "
                               "this thread: use learner.float(), episodes.to(torch.float32) and threads=1")

    def __torch_dispatch__(self, operator: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        if str(operator).startswith(self.PRODUCTS):
            # What an operator writes to, in place, is no factor: a rounded copy would receive the result instead.
            written = str(operator).split(".")[1].endswith("_")
            args = (*args[:1], *tree_map(self.rounded, args[1:])) if written else tree_map(self.rounded, args)
        return operator(*args, **(kwargs or {}))

    def rounded(self, t: Any) -> Any:
        """t if it is no float32 tensor, else its numbers with `bits` bits after the leading one, ties to even."""
        if not (isinstance(t, torch.Tensor) and t.dtype == torch.float32):
            return t
        self.used = True
        m, exponent = torch.frexp(t)  # t = m 2^exponent with 1/2 <= |m| < 1
        return torch.ldexp((m * 2.0 ** (self.bits + 1)).round() / 2.0 ** (self.bits + 1), exponent)
