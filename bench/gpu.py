"""What a second-order meta-step costs on an accelerator, and which map, precision and compilation it should use.

    python -m bench.gpu                        # the first CUDA device; compiling takes most of the time
    python -m bench.gpu --device cpu --tiny    # the same code on small sizes, as the tests run it

MAML with Conv4 of two widths, 5-way 1-shot with 15 queries a class: T tasks and J inner steps, by a loop over tasks, by
vmap, and by vmap compiled; in float32, TF32 and bfloat16. Each gradient is compared with plain autograd in float64
first: one that points elsewhere (its cosine is below --cosine) is recorded as dropped, with its error, and not timed.
What fails, for want of memory or of a compiler, is recorded as failed. The others take turns; each one's peak memory is
that of its first step, which includes compiling.

Writes results/gpu-DEVICE.json with the suggested rule for map="auto" (`metalib.learner.choose_map`).
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import subprocess
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from bench.rows import Row, draw, error, metalib_net, reference, standard_net, start
from metalib import MAML, meta_gradient
from recipes.record import claim, device_name, options, write

MAPS = ("loop", "vmap", "compiled")
PRECISIONS = ("float32", "tf32", "bf16")


def main() -> None:
    args = parse()
    name = device_name(args.device)
    slug = f"gpu-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"
    claim(slug, args.force)
    # PyTorch lets cuDNN round convolutions to TF32 unless told otherwise: here float32 means float32.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    cells = [measure(Row(query=args.query, tasks=T, steps=J), C, args)
             for C in args.channels for J in args.steps for T in args.tasks]
    rule = suggest(cells)
    print("\n" + rule["text"])
    write(slug, {"device": name, "channels": args.channels, "rounds": args.rounds, "backend": args.backend,
                 "tiny": args.tiny, "least_cosine": args.cosine, "cuda": torch.version.cuda, "driver": driver(),
                 "cudnn": torch.backends.cudnn.version(), "suggestion": rule, "cells": cells})


def driver() -> str | None:
    """The version of NVIDIA's driver, which PyTorch does not know; None where there is none to ask."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(ask, capture_output=True, encoding="utf-8", check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def measure(row: Row, channels: int, args: argparse.Namespace) -> dict[str, Any]:
    """Time, memory and error of every variant at one width, T and J."""
    torch.manual_seed(0)
    net, episodes = standard_net(row, channels), draw(row).to(args.device)
    weights = [w.to(args.device) for w in start(net)]
    right = reference(net.to(args.device, torch.float64), episodes.to(torch.float64), row)
    learner = MAML(metalib_net(row, channels).to(args.device), row.inner_lr, row.steps)
    with torch.no_grad():
        for p, w in zip(learner.parameters(), weights, strict=True):
            p.copy_(w)
    variants = {}
    for how, precision in itertools.product(args.maps, args.precisions):
        def step(how: str = how, precision: str = precision) -> None:
            compile = args.backend if how == "compiled" else False
            meta_gradient(learner, episodes, "loop" if how == "loop" else "vmap", precision=precision, compile=compile)

        variants[f"{how} {precision}"] = step
    results = {name: first(step, learner, right, args.device) for name, step in variants.items()}
    for r in results.values():
        if "failed" not in r and not r["cosine"] >= args.cosine:  # not >=: nan is wrong too
            r["dropped"] = f"cosine below {args.cosine}"
    times: dict[str, list[float]] = {name: [] for name, r in results.items() if not r.keys() & {"failed", "dropped"}}
    for _ in range(args.rounds):
        for name, taken in times.items():
            taken.append(timed(variants[name], args.device))
    for name, taken in times.items():
        results[name] |= {"ms": round(1e3 * median(taken), 3), "ms_all": [round(1e3 * t, 3) for t in taken]}
    print(f"\n{channels} channels, T={row.tasks} J={row.steps}")
    for name, r in results.items():
        took = f"{r['ms']:10.2f} ms" if "ms" in r else f"{'dropped':>13}"
        print(f"  {name:18}" + (r["failed"] if "failed" in r else
              f"{took}   error {r['error']:.1e}  cosine {r['cosine']:.4f}   {r['peak_mb']} MB"), flush=True)
    return {"channels": channels, "tasks": row.tasks, "steps": row.steps, "results": results}


def first(step: Callable[[], None], learner: MAML, right: list[torch.Tensor], device: str) -> dict[str, Any]:
    """The first step (which compiles): its time, peak memory and the error of its gradient; or why there is none."""
    cuda = torch.device(device).type == "cuda"
    try:
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if cuda else 0
        seconds = timed(step, device)
        peak = round((torch.cuda.max_memory_allocated() - before) / 1e6, 1) if cuda else None
        grads = [p.grad for p in learner.parameters()]
        return {"first_seconds": round(seconds, 2), "peak_mb": peak, "error": error(grads, right),
                "cosine": cosine(grads, right)}
    except Exception as problem:  # a variant that cannot run here must not cost the others their measurement
        return {"failed": f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"[:200]}


def cosine(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """<a, b> / (|a| |b|) over all entries: whether the two point the same way."""
    a, b = (torch.cat([t.double().flatten() for t in part]) for part in (a, b))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def timed(step: Callable[[], None], device: str) -> float:
    """Seconds for one step, from an idle device to an idle device."""
    def wait() -> None:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()

    wait()
    begin = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - begin


def suggest(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The rule for map="auto" that these times support: the faster of loop and vmap in float32, without compiling."""
    fastest, chunks = {}, {}
    for cell in cells:
        ms = {how: cell["results"].get(f"{how} float32", {}).get("ms") for how in ("loop", "vmap")}
        ran = {how: t for how, t in ms.items() if t is not None}
        if ran:
            fastest[f"C={cell['channels']} T={cell['tasks']} J={cell['steps']}"] = min(ran, key=ran.get)
        if ms["vmap"] is not None:  # at each width and J, the T whose tasks were cheapest
            at = f"C={cell['channels']} J={cell['steps']}"
            chunks[at] = min(chunks.get(at, (math.inf, 0)), (ms["vmap"] / cell["tasks"], cell["tasks"]))
    choices = set(fastest.values())
    if not choices:
        text = "nothing ran in float32: no rule"
    elif len(choices) == 1:
        text = f'map="auto" should be "{choices.pop()}" for convolutions on this device'
    else:
        text = 'map="auto" should depend on the sizes: ' + ", ".join(f"{k}: {v}" for k, v in fastest.items())
    return {"text": text, "fastest": fastest, "chunk": {at: T for at, (_, T) in chunks.items()}}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tasks", type=int, nargs="+", default=[4, 16, 32, 64], help="T")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 5], help="J")
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128], help="widths of Conv4")
    parser.add_argument("--maps", nargs="+", choices=MAPS, default=list(MAPS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cosine", type=float, default=0.99, help="a gradient further from float64's is not timed")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--tiny", action="store_true", help="small sizes, compiled to nothing faster")
    options(parser, resume=False)
    args = parser.parse_args(arguments)
    if torch.device(args.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu --tiny runs the same code on small sizes")
    args.query = 2 if args.tiny else 15
    if args.tiny:
        args.channels, args.tasks, args.steps, args.rounds, args.backend = [8], [2], [1], 1, "eager"
    return args


if __name__ == "__main__":
    main()
