"""How precisely the products of a meta-step are computed."""

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
    # A cast of a weight that autocast kept would outlive the transform that made it.
    bf16 = torch.autocast(device, torch.bfloat16, cache_enabled=False) if precision == "bf16" else None
    switches = _switches() if device == "cuda" else []
    before = [getattr(part, name) for part, name, *_ in switches]
    try:
        for part, name, exact, rounded in switches:
            setattr(part, name, rounded if precision == "tf32" else exact)
        with bf16 or contextlib.nullcontext():
            yield
    finally:
        for (part, name, *_), value in zip(switches, before):
            setattr(part, name, value)


def _switches() -> list[tuple[object, str, bool | str, bool | str]]:
    """(where, name, value for exact factors, value for TF32): PyTorch's, of which 2.9 has other ones.

    The old ones cannot be read once a script has used the new, but the new ones can after the old.
    """
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(torch.backends, "fp32_precision"):
        return [(part, "fp32_precision", "ieee", "tf32") for part in (cuda, cudnn.conv, cudnn.rnn)]
    return [(part, "allow_tf32", False, True) for part in (cuda, cudnn)]


def inherited_autocast() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """The calling thread's autocast, to be entered in another: autocast belongs to a thread, a result must not."""
    found = [(d, torch.get_autocast_dtype(d)) for d in ("cpu", "cuda") if torch.is_autocast_enabled(d)]

    def entered() -> contextlib.ExitStack:
        stack = contextlib.ExitStack()
        for device, dtype in found:
            stack.enter_context(torch.autocast(device, dtype, cache_enabled=False))
        return stack

    return entered
