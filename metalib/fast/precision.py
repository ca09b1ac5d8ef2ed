"""How precisely the products of a meta-step are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch


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


def inherited_autocast() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """The calling thread's autocast, to be entered in another: autocast belongs to a thread, a result must not."""
    found = [(d, torch.get_autocast_dtype(d), torch.is_autocast_enabled(d)) for d in ("cpu", "cuda")]

    @contextlib.contextmanager
    def again() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for device, dtype, enabled in found:
                if enabled:
                    stack.enter_context(torch.autocast(device, dtype, cache_enabled=False))
            yield

    return again
