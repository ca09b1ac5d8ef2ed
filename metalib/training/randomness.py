"""What networks and tasks draw for themselves: from a stream of its own, so that a run can be resumed and repeated."""

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch


@contextlib.contextmanager
def callers_randomness() -> Iterator[None]:
    """Leave NumPy's and Python's global generators as they were, whatever a `with` block seeds.

    Once around many `own_randomness`, because their states are slow to read: 0.1 ms, where a small step takes 3.
    """
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002 (the caller's, not ours)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002


@contextlib.contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[Callable[[], bool]]:
    """Start the global generators from a seed: PyTorch's (of the CPU, and of `device`), and NumPy's and Python's, which
    an augmentation may use.

    Afterwards PyTorch's are as they were; around it stands `callers_randomness` for the others. Yields a function that
    says, at the end of the block, whether anything was drawn on the CPU.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        _seed(seed)
        start, first = torch.get_rng_state(), _next()
        _seed(seed)
        yield lambda: not torch.equal(torch.get_rng_state(), start) or _next() != first


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


def _next() -> tuple[int, int]:
    return random.getrandbits(32), np.random.get_bit_generator().random_raw()
