"""What networks and tasks draw for themselves: from a stream of its own, so that a run can be resumed and repeated."""

import contextlib
import random
from collections.abc import Iterator

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
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Start the global generators from a seed: PyTorch's (of the CPU, and of `device`), and NumPy's and Python's, which
    an augmentation may use.

    Afterwards PyTorch's are as they were; around it stands `callers_randomness` for the others.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        yield
