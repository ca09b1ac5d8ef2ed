"""What the machine does: its matrix peak, a step's peak memory, and who else is using the processors (Linux).

    python -m bench.machine spin        # a busy process: one thread, one matrix product after another
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
# Freed memory is kept for the next step, for every implementation alike: what metalib.fast.memory.keep_memory does.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
               "MALLOC_TOP_PAD_": str(64 << 20)}
BUSY = 0.05  # from this share of the machine taken by others, or stolen by the host, its times are called disturbed


def matrix_gflops(sizes: tuple[int, ...] = (1024, 2048), repeats: int = 4) -> float:
    """The best rate of a float32 matrix product with the current threads, over sizes and repeats, in GFLOP/s."""
    best = 0.0
    for n in sizes:
        a, b = torch.randn(n, n), torch.randn(n, n)
        out = a @ b
        for _ in range(repeats):
            begin = time.perf_counter()
            torch.matmul(a, b, out=out)
            best = max(best, 2 * n**3 / (time.perf_counter() - begin) / 1e9)
    return best


class PeakMemory:
    """Megabytes by which this process's resident memory rose above where it stood when this was made."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the mark starts again from here
        except OSError:
            pass  # not allowed: the mark then counts from the start of the process, which was lower
        self.before = resident()[0]

    def read(self) -> float:
        return (resident()[1] - self.before) / 1e3


def resident() -> tuple[int, int]:
    """(resident memory now, its high-water mark) of this process, in kB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return int(lines["VmRSS"].split()[0]), int(lines["VmHWM"].split()[0])


@dataclass(frozen=True)
class Usage:
    """Processor seconds since the machine started, of all processors together."""

    wall: float
    busy: float
    stolen: float
    own: float

    @staticmethod
    def now(processes: Iterable[int]) -> Usage:
        """The machine's counters, and what this process and `processes`, with their ended children, have used."""
        user, nice, system, _, _, irq, soft, steal = (
            int(v) / TICK for v in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9])
        own = sum(processor_seconds(pid) for pid in (os.getpid(), *processes))
        return Usage(time.perf_counter(), user + nice + system + irq + soft, steal, own)

    def since(self, before: Usage) -> dict[str, float]:
        """Shares of the machine's processor time between two moments: ours, others', and stolen by the host."""
        available = (self.wall - before.wall) * CORES
        own = self.own - before.own
        return {"seconds": round(self.wall - before.wall, 1), "own": round(own / available, 3),
                "others": round(max(self.busy - before.busy - own, 0.0) / available, 3),
                "stolen": round((self.stolen - before.stolen) / available, 3),
                "load": round(os.getloadavg()[0], 2)}


def processor_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return sum(int(v) for v in fields[11:15]) / TICK


def disturbed(share: dict[str, float]) -> bool:
    """Whether others, or the host, took more of the machine than its times can be trusted with."""
    return share["others"] > BUSY or share["stolen"] > BUSY


def spin() -> None:
    """Keep one processor busy until killed."""
    torch.set_num_threads(1)
    a = torch.randn(1024, 1024)
    while True:
        a @ a


if __name__ == "__main__" and sys.argv[1:] == ["spin"]:
    spin()
