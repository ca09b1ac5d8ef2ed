"""Small facts about where the code runs: devices, progress bars, and the comparison of published numbers."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import torch
from torch import nn
from tqdm.std import tqdm

from metalib.distributed import rank


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters; the CPU if it has none."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def progress(total: int, what: str, initial: int = 0) -> tqdm:
    """A progress bar for anything longer than a few seconds.

    It shows in a terminal and in a live notebook, and stays quiet when output goes to a file and while notebooks are
    executed to be stored or checked (METALIB_QUIET=1), because a widget in a stored notebook loads scripts from a CDN.
    Of several processes only rank 0 shows one.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    notebook = hasattr(shell, "kernel")  # a kernel that runs, not one that was merely imported, as pytest's plugin does
    quiet = bool(os.environ.get("METALIB_QUIET")) or not (notebook or sys.stderr.isatty()) or rank() != 0
    bar = tqdm  # text; in a live notebook a widget, where ipywidgets is installed (tqdm.auto warns where it is not)
    if notebook and not quiet and importlib.util.find_spec("ipywidgets"):
        from tqdm.notebook import tqdm as bar
    return bar(total=total, desc=what, initial=initial, disable=quiet, leave=False, delay=2)


def check(value: float, *, published: float, tol: float, what: str = "value") -> None:
    """Print the published value, and raise if today's measurement is further from it than `tol`.

    A number that float32 training made differs a little from one CPU to the next. Printing the published value keeps
    the page the same everywhere, and the comparison keeps it honest: it fails when the code no longer produces it.

    Raises:
        AssertionError: |value - published| > tol, or value is not finite.
    """
    if not abs(float(value) - published) <= tol:
        raise AssertionError(f"{what}: measured {float(value):.4g}, published {published:.4g}, further apart than "
                             f"{tol:g}; if a change in the code meant this, update published=")
    print(f"{what}: {published:g} (re-measured within {tol:g})")


def seeded(seed: int) -> torch.Generator:
    """A CPU generator with this seed: randomness is always explicit."""
    return torch.Generator().manual_seed(seed)


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


def keep_memory() -> None:
    """Ask the C library to keep freed memory for the next allocation instead of handing it back to the system.

    A Conv4 meta-step allocates and frees the same memory every time. Getting it as fresh, zeroed pages cost a fifteenth
    of its time on one thread of Linux (249 against 232 ms, the row "metalib, stock allocator" of
    results/bench-cpu.json). It holds for the whole process, so it is for scripts to call, once, at their start. Does
    nothing where the C library is not glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: blocks up to 1 GiB come from the heap
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD: the heap shrinks only beyond 2 GiB of slack
        libc.mallopt(-2, 64 << 20)  # M_TOP_PAD: nor do the heaps of other threads shrink, which never exceed 64 MiB
