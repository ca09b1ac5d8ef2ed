"""What a network draws for itself (dropout): from a stream of its own, so that a run can be resumed and repeated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch


@contextlib.contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[Callable[[], bool]]:
    """Start PyTorch's global generators (of the CPU, and of `device`) from a seed for the length of a `with` block.

    Afterwards the caller's generators are as they were. Yields a function that says whether anything was drawn from
    the CPU's.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        start = torch.get_rng_state()
        yield lambda: not torch.equal(torch.get_rng_state(), start)
