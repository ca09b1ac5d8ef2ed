"""What a recipe writes down: the result, and everything needed to obtain it again."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from metalib import Score

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


def score_fields(score: Score) -> dict[str, Any]:
    """A score as JSON: numbers, protocol, fingerprint of the episodes, and the text as printed."""
    return {"mean": round(score.mean, 5), "ci95": round(score.ci95, 5), "n": score.n, "metric": score.metric,
            "transductive": score.transductive, "steps": score.steps, "seed": score.seed, "digest": score.digest,
            "text": str(score)}


def write(name: str, fields: dict[str, Any]) -> Path:
    """Write results/NAME.json with the command, commit, date, device and threads of this process added."""
    path = ROOT / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    script = Path(sys.argv[0]).resolve().relative_to(ROOT)
    module = ".".join(script.with_suffix("").parts).removesuffix(".__main__")  # bench is a package: python -m bench
    run = [script.as_posix()] if script.parts[0] == "recipes" else ["-m", module]
    content = {"command": shlex.join(["python", *run, *sys.argv[1:]]),
               "commit": COMMIT, "date": date.today().isoformat(), "device": device_name(),
               "threads": torch.get_num_threads(), "torch": torch.__version__, **fields}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}")
    return path


def device_name(device: str | torch.device = "cpu") -> str:
    """What the numbers were measured on."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
