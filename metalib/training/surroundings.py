"""What a run shares with the rest of its process: global generators of random numbers, and the wish to stop it."""

import contextlib
import random
import signal
import threading
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


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C, a polite kill (SIGTERM) or the end of the terminal (SIGHUP) wait for a safe point.

    Yields a function that says whether one came. A second one interrupts at once. One that is ignored stays so: `nohup`
    means it. Outside the main thread, where signals do not arrive, nothing changes.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]  # Windows has no SIGHUP
    before = {number: old for number in numbers if (old := signal.getsignal(number)) != signal.SIG_IGN}

    def handler(number: int, frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    for number in before:
        signal.signal(number, handler)
    try:
        yield pressed.is_set
    finally:
        for number, old in before.items():
            signal.signal(number, old or signal.SIG_DFL)  # None: a handler that Python did not install
