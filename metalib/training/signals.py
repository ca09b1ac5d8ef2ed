"""Ctrl-C, a polite kill and a closed terminal, made to wait for a safe point."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


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
