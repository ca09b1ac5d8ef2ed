"""What a recipe writes down: the result, and everything needed to obtain it again. And how a long recipe is run:

    python recipes/NAME.py                      # refuses at once, naming the file, if what it writes is there already
    python recipes/NAME.py --force              # replaces it
    python recipes/NAME.py --resume runs/name   # keeps what is finished there; the same command again continues

Every file is written whole or not at all, and the files in results/ come last, so that an interrupted recipe leaves
none of them half new.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from metalib import Learner, Score, rank, save

ROOT = Path(__file__).resolve().parents[1]
COMMIT = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True,
                        encoding="utf-8").stdout.strip() or "unknown"  # when the recipe starts: the code that runs


class Stopwatch:
    """Wall and CPU time since it was made; the CPU time counts every thread, so it survives a busy machine."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"wall_seconds": round(time.perf_counter() - self.wall, 1),
                "cpu_seconds": round(time.process_time() - self.cpu, 1)}


# ---------------------------------------------------------------- before the work

def options(parser: argparse.ArgumentParser, *, resume: bool = True) -> None:
    """Add --force, and --resume."""
    parser.add_argument("--force", action="store_true", help="replace the files in results/ that this writes")
    if resume:
        parser.add_argument("--resume", type=Path, metavar="FILE", help="where finished parts and the training state "
                            "are kept until the recipe ends; if they are there, it continues from them")


def claim(name: str, force: bool, *others: Path) -> None:
    """End the program if results/NAME.json, or one of the other files that it will write, is there already.

    Raises:
        SystemExit: naming the files; not with `force`.
    """
    there = [shown(p) for p in (ROOT / "results" / f"{name}.json", *others) if p.exists()]
    if there and not force:
        raise SystemExit(f"{' and '.join(there)} exist{'s' if len(there) == 1 else ''}, and nothing has been computed "
                         f"yet: --force replaces {'it' if len(there) == 1 else 'them'} at the end")


class Work:
    """One run of a recipe: what it will write is claimed, and its finished parts survive an interruption.

        work = Work("honest", args, checkpoint("honest-protonet"))
        row = work.part("protonet, seed 3", lambda: {...})    # computed once, however often the run is started
        TrainConfig(..., checkpoint=work.state("protonet"))   # where a training keeps its state; None without --resume
        work.write({**work.spent(), ...}, {checkpoint("honest-protonet"): learner})

    With `--resume FILE` the one training, or `state("")`, is in FILE and everything else in the folder FILE.parts; both
    are deleted once the record is written. Without it nothing is kept.

    Raises:
        SystemExit: a file is in the way (see `claim`), or FILE holds parts of a run with other settings.
    """

    def __init__(self, name: str, args: argparse.Namespace, *others: Path) -> None:
        claim(name, args.force, *others)
        self.name, self.force, self.file, self.watch = name, args.force, args.resume, Stopwatch()
        self.kept: dict[str, Any] = {"settings": json.loads(json.dumps(settings(args))), "parts": {}, "commits": [],
                                     "spent": {}}
        if self.file:
            if self.file.is_dir():
                raise SystemExit(f"--resume {self.file} is a folder: name a file, {self.file / name}.ckpt for example")
            self.parts = self.file.with_name(self.file.name + ".parts")
            self.parts.mkdir(parents=True, exist_ok=True)
            self.notes = self.parts / "parts.json"
            if self.notes.exists():
                self._continue(json.loads(self.notes.read_text(encoding="utf-8")))
            atexit.register(self._leave)
        self.earlier = self.kept["spent"]
        self.kept["commits"].append(COMMIT)
        self._keep()

    def _continue(self, kept: dict[str, Any]) -> None:
        now, then = self.kept["settings"], kept["settings"]
        other = [f"{k}: {then.get(k)}, now {now.get(k)}" for k in sorted({*now, *then}) if now.get(k) != then.get(k)]
        if other:
            raise SystemExit(f"{self.file} holds a run with other settings ({'; '.join(other)}): use the same to "
                             f"continue, another --resume to start anew, or delete {self.parts}")
        self.kept = kept

    def part(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, as JSON gives it back (keys are strings, tuples lists); computed once per run."""
        if key not in self.kept["parts"]:
            self.kept["parts"][key] = json.loads(json.dumps(make()))
            self._keep()
        return self.kept["parts"][key]

    def state(self, key: str = "") -> Path | None:
        """A file for the state of one training, `TrainConfig.checkpoint`."""
        return self.parts / f"{key}.ckpt" if self.file and key else self.file

    def spent(self) -> dict[str, float]:
        """Wall and CPU seconds so far, earlier starts included (one that was killed outright: to its last part)."""
        return {key: round(self.earlier.get(key, 0.0) + value, 1) for key, value in self.watch.read().items()}

    def write(self, fields: dict[str, Any], learners: dict[Path, Learner] | None = None) -> Path:
        """Save the learners, write results/NAME.json, forget the parts. `starts`: commits, if there were several.

        What another run has written meanwhile is left alone: then the files have this process's number in their names.
        """
        files = [ROOT / "results" / f"{self.name}.json", *(learners or {})]
        late = f"-{os.getpid()}" if not self.force and any(p.exists() for p in files) else ""
        if late:
            print(f"{' and '.join(shown(p) for p in files if p.exists())} came while this ran: its names end in {late}")
        for path, learner in (learners or {}).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            save(learner, path.with_stem(path.stem + late))
        starts = {"starts": self.kept["commits"]} if len(self.kept["commits"]) > 1 else {}
        path = write(self.name + late, {**starts, **fields})
        if self.file:
            self.file.unlink(missing_ok=True)
            shutil.rmtree(self.parts)
        return path

    def _leave(self) -> None:
        if self.parts.is_dir():  # not after `write`
            self._keep()

    def _keep(self) -> None:
        if self.file and rank() == 0:
            self.kept["spent"] = self.spent()
            write_whole(self.notes, json.dumps(self.kept))


# ---------------------------------------------------------------- after it

def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments that decide the result, as plain values: not whether it replaces or continues something."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("force", "resume")}


def score_fields(score: Score) -> dict[str, Any]:
    """A score as JSON: numbers, protocol, fingerprint of the episodes, and the text as printed."""
    return {"mean": round(score.mean, 5), "ci95": round(score.ci95, 5), "n": score.n, "metric": score.metric,
            "transductive": score.transductive, "steps": score.steps, "seed": score.seed, "digest": score.digest,
            "text": str(score)}


def over_seeds(values: Any) -> dict[str, Any]:
    """Of scores (seeds, tasks) on the same tasks: the mean, its 95 % interval over tasks, and the mean of each seed."""
    table = torch.as_tensor(values, dtype=torch.float64)
    score = Score.of(table.mean(0))
    return {"mean": float(f"{score.mean:.5g}"), "ci95": float(f"{score.ci95:.3g}"), "n": score.n,
            "seeds": [float(f"{v:.5g}") for v in table.mean(1)]}


def minus(a: Any, b: Any) -> dict[str, Any]:
    """`over_seeds` of a - b, task by task and seed by seed; one b for all seeds, or of other seeds their mean."""
    a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
    return over_seeds(a - (b if len(a) == len(b) else b.mean(0)))


def write(name: str, fields: dict[str, Any]) -> Path:
    """Write results/NAME.json with the command, commit, date, device and threads of this process added.

    It replaces what is there: `claim` the name before the work.
    """
    path = ROOT / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps({**stamp(), **fields}, indent=1) + "\n")
    print(f"wrote {shown(path)}")
    return path


def stamp() -> dict[str, Any]:
    """Command (without --resume FILE, a place on this machine), commit, date, device and threads of this process."""
    script = Path(sys.argv[0]).resolve().relative_to(ROOT)
    module = ".".join(script.with_suffix("").parts).removesuffix(".__main__")  # bench is a package: python -m bench
    run = [script.as_posix()] if script.parts[0] == "recipes" else ["-m", module]
    arguments = [word for before, word in zip(sys.argv, sys.argv[1:])
                 if before != "--resume" and not word.startswith("--resume")]
    return {"command": shlex.join(["python", *run, *arguments]), "commit": COMMIT, "date": date.today().isoformat(),
            "device": device_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole: a process killed at any moment leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def checkpoint(name: str) -> Path:
    """results/checkpoints/NAME.pt"""
    return ROOT / "results" / "checkpoints" / f"{name}.pt"


def shown(path: Path) -> str:
    """A path as it is printed: from the root of the project."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def device_name(device: str | torch.device = "cpu") -> str:
    """What the numbers were measured on."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name()
    if torch.device(device).type != "cpu":
        return f"{device} of {platform.machine()}"
    return f"CPU {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
