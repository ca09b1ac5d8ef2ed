"""Freed memory, kept for the next step."""

import contextlib
import ctypes


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
