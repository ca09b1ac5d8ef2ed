"""One meta-gradient, five ways: a plain loop, the fast block in a loop, in threads, under vmap, and compiled (Linux).

    python -m bench.ways --force               # about 4 minutes on 2 quiet processors, most of it compiling
    python -m bench.ways --force --problems sinusoid --rounds 3

Two of the benchmark's rows (bench/rows.py): MAML with a small perceptron on sine waves, and with Conv4 on
glyphs. Each way runs in a process of its own, which checks its gradient against plain autograd in float64 and measures
its first step, the steps after it, and its peak memory. Beside them stands what the machine can do: float32 matrix
products, and copies. (On a GPU: bench/gpu.py.)

Writes results/ways.json, from which chapter 6 draws the figure that one remembers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

import torch

from bench.machine import CORES, PeakMemory, Usage, disturbed, matrix_gflops
from bench.rows import ROWS, draw, error, flops, metalib_net, reference, standard_net, start
from metalib import MAML, meta_gradient
from metalib.fast.memory import keep_memory
from recipes.record import ROOT, claim, options, write

PROBLEMS = {"sinusoid": "sinusoid", "Conv4": "5-way 1-shot"}  # name -> row of the benchmark
WAYS = {  # name -> (threads, options of meta_gradient); None is PyTorch's own layers and plain autograd
    "plain loop": (1, None),
    "loop": (1, {"map": "loop", "threads": 1}),
    "loop, threads": (CORES, {"map": "loop"}),
    "vmap": (1, {"map": "vmap"}),
    "vmap, compiled": (1, {"map": "vmap", "compile": True}),
}
SLOWEST = 900  # seconds that one way may take
FRESH = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}  # what compiling costs the first time


def main() -> None:
    args = parse()
    if args.one:
        print(json.dumps(one(*args.one, args.rounds)))
        return
    claim("ways", args.force)
    begin, results = Usage.now([]), {}
    for problem in args.problems:
        row = ROWS[PROBLEMS[problem]]
        results[problem] = {**row.settings(), "gflop": flops(row) / 1e9, "ways": {}}
        for way in WAYS:
            results[problem]["ways"][way] = answer = ask(problem, way, args.rounds)
            print(f"{problem}, {way}: {answer}", flush=True)
    machine = Usage.now([]).since(begin)
    write("ways", {"cores": CORES, "rounds": args.rounds, "machine": machine, "disturbed": disturbed(machine),
                   "limits": {str(n): limits(n) for n in sorted({1, CORES})}, "problems": results})


def ask(problem: str, way: str, rounds: int) -> dict[str, Any]:
    """One way in a process of its own; what fails (no compiler, say) is recorded as failed."""
    command = [sys.executable, "-m", "bench.ways", "--one", problem, way, "--rounds", str(rounds)]
    try:
        done = subprocess.run(command, env=os.environ | FRESH, cwd=ROOT, capture_output=True, encoding="utf-8",
                              timeout=SLOWEST)
    except subprocess.TimeoutExpired:
        return {"failed": f"longer than {SLOWEST} s"}
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or [f"exit {done.returncode}"]
    return json.loads(lines[-1]) if done.returncode == 0 else {"failed": lines[-1][:200]}


def one(problem: str, way: str, rounds: int) -> dict[str, Any]:
    """What runs in that process."""
    threads, options = WAYS[way]
    torch.set_num_threads(threads)
    keep_memory()
    row = ROWS[PROBLEMS[problem]]
    torch.manual_seed(0)
    net, episodes = standard_net(row), draw(row)
    weights = start(net)
    learner = MAML(metalib_net(row), row.inner_lr, row.steps)
    with torch.no_grad():
        for p, w in zip(learner.parameters(), weights, strict=True):
            p.copy_(w)

    def step() -> list[torch.Tensor]:
        if options is None:
            return reference(net, episodes, row)
        meta_gradient(learner, episodes, **options)
        return [p.grad for p in learner.parameters()]

    narrow = MAML(metalib_net(row, 8), row.inner_lr)
    reference(standard_net(row, 8), draw(row), row)  # what is loaded on first use is not the step's memory
    meta_gradient(narrow, draw(row).split(1)[0], "vmap")
    memory, (first, grads), times = PeakMemory(), timed(step), []
    for _ in range(rounds):
        times.append(round(1e3 * timed(step)[0], 3))
    peak = memory.read()
    right = reference(net.double(), episodes.to(torch.float64), row)
    return {"threads": threads, "first_seconds": round(first, 2), "ms": median(times), "ms_all": times,
            "peak_mb": round(peak, 1), "error": error(grads, right)}


def timed(step: Any) -> tuple[float, list[torch.Tensor]]:
    begin = time.perf_counter()
    grads = step()
    return time.perf_counter() - begin, grads


def limits(threads: int, megabytes: int = 256, repeats: int = 5) -> dict[str, float]:
    """The machine with so many threads: GFLOP/s of a float32 matrix product, GB/s read and written by a copy."""
    torch.set_num_threads(threads)
    a, best = torch.ones(megabytes * 2**18), 0.0
    b = torch.empty_like(a)
    for _ in range(repeats):
        begin = time.perf_counter()
        b.copy_(a)
        best = max(best, 2 * a.nbytes / (time.perf_counter() - begin) / 1e9)
    return {"gflops": round(matrix_gflops(), 1), "gb_per_second": round(best, 2)}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options(parser, resume=False)
    return parser.parse_args()


if __name__ == "__main__":
    main()
