"""What a meta-gradient costs: metalib beside other libraries and plain PyTorch, in one interleaved run (Linux).

    make bench                    installs the peers into .venv, then runs this; writes results/bench-here.json
    python -m bench --force       everything: about 11 minutes on 2 quiet processors; replaces results/bench-cpu.json
    python -m bench --rows "5-way 1-shot" --quick --output mine

Every implementation lives in its own process and is asked for one step in turn, in rotating order, so that whatever the
machine does meets all of them. First, each gradient is compared with the same float64 reference; one that is wrong ends
the run, and how exact it is in float32, the median over several seeds, stands in the tables (bench/float32.py has
more). Each peer gets the memory format and number of threads that were fastest for it, and the memory settings of the
C library that metalib asks for. A second pass gives everybody one thread, and measures peak memory.

Writes results/bench-cpu.json, from which chapter 6 draws its table and plot, and the README's table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.machine import CORES, Usage, disturbed
from bench.peers import COMPILED, PEERS, takes_part, version
from bench.report import compare, report, update
from bench.rows import ROWS, Row, flops
from bench.sampling import SAMPLERS
from bench.worker import EXACT, Worker
from recipes.record import ROOT, claim, options, write

STOCK = "metalib, stock allocator"

def main() -> None:
    args = parse()
    claim(args.output, args.force)
    versions = {name: version(name) for name in ("metalib", *PEERS)}
    with started(versions, args.rows) as (workers, missing), tempfile.TemporaryDirectory() as folder:
        pids = [w.process.pid for w in workers.values()]
        begin = Usage.now(pids)
        peaks, rows, settings = [], {}, {}  # settings: for each kind of row, everybody's number of threads
        for name in args.rows:
            before = Usage.now(pids)
            row, file = ROWS[name], Path(folder) / "row.pt"
            peaks.append(gflops(workers["matrix"]))
            asked = {n: w for n, w in workers.items() if n in versions and takes_part(n, row)}
            rows[name] = measure(row, asked, workers, file, settings.setdefault(row.kind, {}), args)
            rows[name]["machine"] = Usage.now(pids).since(before)
            print(f"{name}: metalib {rows[name]['results']['metalib']['ms']:.1f} ms", flush=True)
        sampling = {n: [one(workers[n], "sample", name=n, n=k, seconds=args.seconds)
                        for k in (4, 64)] for n in SAMPLERS if n not in missing}
        peaks.append(gflops(workers["matrix"]))
        machine = Usage.now(pids).since(begin)
    for result in rows.values():
        compare(result, max(peaks))
    report(rows, sampling, peaks, machine)
    record = {"cores": CORES, "rounds": args.rounds, "quick": args.quick, "disturbed": disturbed(machine),
              "machine": machine, "matrix_gflops": [round(p, 1) for p in peaks], "versions": versions,
              "missing": missing, "threads_used": settings, "rows": rows, "sampling": sampling}
    path = write(args.output, record)
    if args.output == "bench-cpu" and list(rows) == list(ROWS):
        update(ROOT / "README.md", json.loads(path.read_text(encoding="utf-8")))


# ---------------------------------------------------------------- one row

def measure(row: Row, asked: dict[str, Worker], workers: dict[str, Worker], file: Path, settings: dict[str, int],
            args: argparse.Namespace) -> dict[str, Any]:
    """Check, then time, every implementation on a row; all cores first, then one thread each."""
    what = {"row": row.settings(), "file": str(file)}
    answer = one(workers["matrix"], "solve", threads=CORES, **what)
    if answer["other_order"] is not None and answer["tolerance"] > answer["other_order"] / 2:
        raise RuntimeError(f"a tolerance of {answer['tolerance']:.2g} would pass a gradient of the other order "
                           f"({answer['other_order']:.2g} away): change the row's inner rate")
    results: dict[str, Any] = {}
    for name, worker in asked.items():
        setting = fastest_setting(worker, what, row, settings.get(name), 1 if args.quick else 2)
        settings.setdefault(name, setting["threads"])
        checked = one(worker, "check", threads=CORES, channels_last=setting["channels_last"], **what)
        results[name] = {"setting": setting, "exact": checked["exact"], "errors": checked["errors"]}
    layouts = {name: r["setting"]["channels_last"] for name, r in results.items()}
    main_row = row == ROWS["5-way 1-shot"]
    if main_row:
        asked = {**asked, STOCK: workers[STOCK]}
        results[STOCK], layouts[STOCK] = {"setting": results["metalib"]["setting"]}, False
    if row.kind == "sine":  # worth minutes of compiling only where a step is nothing but overhead
        asked = {**asked, COMPILED: workers[COMPILED]}
        results[COMPILED], layouts[COMPILED] = {"setting": {"channels_last": False, "threads": 1}}, False
    with opened(asked, what, layouts, {n: r["setting"]["threads"] for n, r in results.items()}) as firsts:
        for name, first in firsts.items():
            results[name] |= first
        keep(results, interleave(asked, args.rounds), "")
        if main_row:
            with spinning():
                keep(results, interleave(asked, min(args.rounds, 5)), "busy_")
    if asked.pop(COMPILED, None):  # has had its one thread already
        results[COMPILED] |= {f"one_thread_{k}": results[COMPILED][k] for k in ("ms", "ms_all", "cpu_ms", "peak_mb")}
    with opened(asked, what, layouts, dict.fromkeys(asked, 1)):
        keep(results, interleave(asked, min(args.rounds, 2)), "one_thread_")
    for name, r in results.items():
        if not (r["error"] <= answer["tolerance"] and r.get("exact", 0.0) <= EXACT):
            raise RuntimeError(f"{name}'s gradient is wrong: {r.get('exact', 0.0):.1e} off in float64 (at most "
                               f"{EXACT:.0e}), {r['error']:.1e} in float32 (at most {answer['tolerance']:.1e})")
    return {**row.settings(), "gflop": flops(row) / 1e9, "check": answer, "results": results}


def fastest_setting(worker: Worker, what: dict[str, Any], row: Row, threads: int | None,
                    steps: int) -> dict[str, Any]:
    """The memory format and number of threads in which this implementation is fastest, by a short trial on 2 tasks.

    With `threads` given, because it was found on an earlier row of the kind, only the memory format is tried.
    """
    trials, part = [], what if row.kind == "sine" else {**what, "tasks": 2}
    for channels_last in (False,) if row.kind == "sine" or worker.name == "metalib" else (False, True):
        with opened({"": worker}, part, {"": channels_last}, {"": CORES}):
            for n in (threads,) if threads else sorted({CORES, 1}, reverse=True):
                wall = [worker.ask("step", threads=n)["wall"] for _ in range(steps + 1)][1:]
                trials.append({"channels_last": channels_last, "threads": n, "ms": round(1e3 * min(wall), 2)})
    return {**min(trials, key=lambda t: t["ms"]), "trials": trials}


def interleave(asked: dict[str, Worker], rounds: int) -> dict[str, list[dict[str, float]]]:
    """`rounds` steps of each implementation, taking turns, a different one first each time."""
    order, answers = list(asked), {name: [] for name in asked}
    for _ in range(rounds):
        for name in order:
            answers[name].append(asked[name].ask("step"))
        order = order[1:] + order[:1]
    return answers


def keep(results: dict[str, Any], answers: dict[str, list[dict[str, float]]], prefix: str) -> None:
    """Store the median, the extremes, the processor time and the peak memory."""
    for name, steps in answers.items():
        wall = [round(1e3 * s["wall"], 3) for s in steps]
        results[name] |= {f"{prefix}ms": median(wall), f"{prefix}ms_all": wall,
                          f"{prefix}cpu_ms": round(1e3 * median(s["cpu"] for s in steps), 3),
                          f"{prefix}peak_mb": round(max(s["peak_mb"] for s in steps), 1)}


# ---------------------------------------------------------------- processes

@contextmanager
def started(versions: dict[str, str | None],
            rows: Iterable[str]) -> Iterator[tuple[dict[str, Worker], dict[str, str]]]:
    """A worker for each implementation, one that keeps no memory, and one for matrix products and references.

    Yields them, and the peers that are left out, each with the reason.
    """
    missing = {name: "not installed" for name, v in versions.items() if v is None}
    workers = {name: Worker(name) for name in (*versions, "matrix") if name not in missing}
    if any(ROWS[row] == ROWS["5-way 1-shot"] for row in rows):
        workers[STOCK] = Worker("metalib", keep_memory=False)
    if any(ROWS[row].kind == "sine" for row in rows):
        workers[COMPILED] = Worker(COMPILED)
    try:
        for name, worker in workers.items():
            if "failed" in (answer := worker.answer()):
                missing[name] = answer["failed"]
        for name, reason in missing.items():
            print(f"{name} is left out ({reason}); `make bench` installs what it can")
        yield {name: worker for name, worker in workers.items() if name not in missing}, missing
    finally:
        for worker in workers.values():
            worker.end()


@contextmanager
def opened(asked: dict[str, Worker], what: dict[str, Any], layouts: dict[str, bool],
           threads: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Networks and data made, first step taken; closed again at the end, with their memory."""
    yield {n: w.ask("open", channels_last=layouts[n], threads=threads[n], **what) for n, w in asked.items()}
    for worker in asked.values():
        worker.ask("close")


@contextmanager
def spinning() -> Iterator[None]:
    """One other busy process."""
    process = subprocess.Popen([sys.executable, "-m", "bench.machine", "spin"], cwd=ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def one(worker: Worker, do: str, **fields: Any) -> dict[str, Any]:
    """A single question, in a child that ends after it."""
    answer = worker.ask(do, **fields)
    worker.ask("close")
    return answer


def gflops(worker: Worker) -> float:
    return one(worker, "gflops", threads=CORES)["gflops"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=7, help="steps of each implementation, taking turns")
    parser.add_argument("--quick", action="store_true", help="one round: whether it runs, not how fast it is")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement of sampling")
    parser.add_argument("--output", default="bench-cpu", help="name of the file in results/")
    options(parser, resume=False)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds = 1, 0.2
    torch.set_num_threads(CORES)  # this process computes nothing; the record says how many there are
    return args


if __name__ == "__main__":
    main()
