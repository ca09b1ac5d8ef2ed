"""Ctrl-C and a polite kill, made to wait for a safe point."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C, or a polite kill (SIGTERM), wait for a safe point: yields a function that says whether one came.

    A second one interrupts at once. Outside the main thread, where signals do not arrive, nothing changes.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

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
