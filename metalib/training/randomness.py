"""What networks and tasks draw for themselves: from a stream of its own, so that a run can be resumed and repeated."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch


@contextlib.contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[Callable[[], bool]]:
    """Start the global generators from a seed for the length of a `with` block: PyTorch's (of the CPU, and of
    `device`), NumPy's and Python's, which an augmentation may use.

    Afterwards the caller's generators are as they were. Yields a function that says whether anything was drawn on the
    CPU.
    """
    cuda = [device] if device.type == "cuda" else []
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002 (theirs, not ours)
    try:
        with torch.random.fork_rng(cuda):
            torch.default_generator.manual_seed(seed)
            if cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            start = _cpu_states()
            yield lambda: _cpu_states() != start
    finally:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002


def _cpu_states() -> tuple[object, ...]:
    _, key, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), key.tobytes(), *rest
