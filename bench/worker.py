"""One implementation in a process of its own: `Worker` starts and asks it, the rest of the file is what runs there.

A worker imports what its implementation needs, once. For every row it then forks: the child makes the network and the
data, answers, and ends, so that each row starts from the same memory. Commands and answers are lines of JSON.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench import peers
from bench.machine import KEEP_MEMORY, PeakMemory, matrix_gflops
from bench.peers import Step
from bench.rows import Row, draw, error, reference, standard_net, start
from bench.sampling import episodes_per_second
from metalib import Data, Episode
from metalib.fast.memory import keep_memory
from recipes.record import ROOT

EXACT = 1e-9  # float64: what every implementation must reach on the row's first task
FLOAT32 = 0.05  # float32, least tolerance: what rules out another gradient. How exact each is, its `errors` say
SEEDS = range(5)  # networks and tasks over which the float32 errors are taken


class Worker:
    """A running process for one implementation; ask() waits for its answer."""

    def __init__(self, name: str, keep_memory: bool = True) -> None:
        self.name, self.log = name, tempfile.TemporaryFile("w+")
        keep = KEEP_MEMORY if keep_memory else {}
        stock = {k: v for k, v in os.environ.items() if k not in KEEP_MEMORY and k != "OMP_NUM_THREADS"}
        self.process = subprocess.Popen([sys.executable, "-m", "bench.worker", name], cwd=ROOT, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log, encoding="utf-8", env=stock | keep)

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        if "failed" in answer:
            self.log.seek(0)
            raise RuntimeError(f"{self.name} {fields}: {answer['failed']}\n{self.log.read()[-2000:]}")
        return answer

    def answer(self) -> dict[str, Any]:
        """The next line of its answers; the first one says whether its implementation could be imported."""
        return json.loads(self.process.stdout.readline() or '{"failed": "the process has ended"}')

    def end(self) -> None:
        """End the process, and the child that it may be waiting for: both stop when their input ends."""
        self.process.stdin.close()
        self.process.wait(60)


# ---------------------------------------------------------------- in the worker's process

def main(name: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    torch.set_num_threads(1)  # no pool of threads in the parent: a fork would lose it

    def say(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    try:
        peers.prepare(name)
    except Exception as problem:
        return say(failed=f"{type(problem).__name__}: {problem}")
    say(ready=True)
    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                serve(name, command, say)
            except Exception:
                say(failed=traceback.format_exc())
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status:
            say(failed=f"the child ended with status {status}")


def serve(name: str, command: dict[str, Any], say: Callable[..., None]) -> None:
    """What the child does: answer commands, the first of which has been read, until "close"."""
    while command["do"] != "close":
        if "threads" in command:
            torch.set_num_threads(command["threads"])
        if command["do"] == "solve":
            say(**solve(Row(**command["row"]), Path(command["file"])))
        elif command["do"] == "open":
            step, memory, answer = begin(name, Row(**command["row"]), Path(command["file"]), command["channels_last"],
                                         command.get("tasks"))
            say(**answer)
        elif command["do"] == "check":
            say(**check(name, Row(**command["row"]), Path(command["file"]), command["channels_last"]))
        elif command["do"] == "step":
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            say(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, peak_mb=memory.read())
        elif command["do"] == "gflops":
            say(gflops=matrix_gflops())
        elif command["do"] == "sample":
            say(**episodes_per_second(name, command["n"], command["seconds"]))
        command = json.loads(sys.stdin.readline() or '{"do": "close"}')
    say(closed=True)


def solve(row: Row, file: Path) -> dict[str, Any]:
    """Draw the row's data and weights, and save them with the float64 gradients; say what float32 does to them.

    Beside the row's own meta-batch, one task for each of `SEEDS`, with weights of its own: the errors' median counts,
    because a single one jumps where a ReLU or a maximum is so close to its kink that rounding decides it.
    """
    torch.manual_seed(0)
    net, episodes = standard_net(row), draw(row)
    weights = start(net)
    right = reference(copy.deepcopy(net).double(), episodes.to(torch.float64), row)
    singles, one = [], replace(row, tasks=1)
    for seed in SEEDS:
        torch.manual_seed(seed)
        single, task = standard_net(row), draw(one, seed)
        w = start(single, seed)
        singles.append({"weights": w, "episodes": tuple(map(tuple, task)),
                        "right": reference(single.double(), task.to(torch.float64), one)})
    torch.save({"weights": weights, "episodes": tuple(map(tuple, episodes)), "right": right, "singles": singles}, file)
    plain = error(reference(net, episodes, row), right)
    if row.kind != "sine":
        plain = max(plain, error(reference(net.to(memory_format=torch.channels_last), episodes, row), right))
    other = error(reference(net, episodes, replace(row, order=3 - row.order)), right) if row.steps else None
    return {"float32": plain, "tolerance": max(FLOAT32, 3 * plain), "other_order": other}


def check(name: str, row: Row, file: Path, channels_last: bool) -> dict[str, Any]:
    """The errors of this implementation's gradient on one task: in float64, and in float32 for each of `SEEDS`."""
    singles = torch.load(file, weights_only=True)["singles"]

    def off(single: dict[str, Any], dtype: torch.dtype) -> float:
        weights = [w.to(dtype) for w in single["weights"]]
        net, step = peers.build(name, replace(row, tasks=1), weights, episodes_of(single["episodes"]).to(dtype),
                                channels_last=channels_last)
        step()
        return error([p.grad for p in net.parameters()], single["right"])

    return {"exact": off(singles[0], torch.float64), "errors": [off(single, torch.float32) for single in singles]}


def begin(name: str, row: Row, file: Path, channels_last: bool,
          tasks: int | None) -> tuple[Step, PeakMemory, dict[str, Any]]:
    """Make the network and its step, take the first one, and check its gradient (not for only some of the tasks)."""
    if name in ("metalib", peers.COMPILED) and KEEP_MEMORY.items() <= os.environ.items():
        keep_memory()  # as metalib's recipes do; not in the worker that measures what that is worth
    saved = torch.load(file, weights_only=True)
    episodes = episodes_of(saved["episodes"])
    if tasks and tasks < row.tasks:
        row, episodes = replace(row, tasks=tasks), episodes.split(tasks)[0]
    if name != peers.COMPILED:  # a narrow network would be compiled for nothing
        warm_up(name, row, episodes, channels_last)
    net, step = peers.build(name, row, saved["weights"], episodes, channels_last=channels_last)
    memory = PeakMemory()
    step()
    return step, memory, {"error": None if tasks else error([p.grad for p in net.parameters()], saved["right"])}


def warm_up(name: str, row: Row, episodes: Episode, channels_last: bool) -> None:
    """A step of a narrow network on one task: what is loaded on first use does not count as the step's memory."""
    narrow = [p.detach() for p in standard_net(row, 8).parameters()]
    peers.build(name, replace(row, tasks=1), narrow, episodes.split(1)[0], channels=8, channels_last=channels_last)[1]()


def episodes_of(saved: tuple[Any, Any]) -> Episode:
    return Episode(*(Data(*d) for d in saved))


if __name__ == "__main__":
    main(sys.argv[1])
