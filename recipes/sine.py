"""The weights of chapter 1's figure: one random start, and what joint training and MAML make of it.

    OMP_NUM_THREADS=1 python recipes/sine.py --force    # replaces what is there; --resume runs/sine continues

Needs no network and about two CPU-minutes. Writes metalib/figures/widgets/sine.json (weights) and results/sine.json.

A network 1-40-40-1 with tanh, float64, one thread, sine waves with 5 support points. "Equal compute" counts
passes of one example through the network, forward and backward together (cost.py). Per task, MAML with J inner steps
takes J K of them to adapt, 2 J K for the Hessian-vector products that carry its gradient back through those steps, and
Q on the query: 3 * 5 * 5 + 10 = 85. Joint training is the same learner with J = 0. It gets 85 query points, as
many tasks and as many updates. The weights are rounded to float32, and scored as rounded.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from cost import passes
from record import ROOT, Stopwatch, Work, options, score_fields, settings, stamp, write_whole

from metalib import MAML, Sinusoids, TrainConfig, meta_test_path, meta_train
from metalib.figures.widgets import sine

WEIGHTS = ROOT / "metalib" / "figures" / "widgets" / "sine.json"
K, Q, J, ALPHA = 5, 10, 5, 0.01
PASSES = passes(K, Q, steps=J)  # per task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the training tasks")
    parser.add_argument("--iterations", type=int, default=4000, help="meta-iterations of either training")
    parser.add_argument("--meta-batch", type=int, default=25, help="T, tasks per meta-iteration")
    parser.add_argument("--lr", type=float, default=3e-3, help="outer rate of Adam, brought down to 0 by a cosine")
    options(parser)
    args = parser.parse_args()

    work = Work("sine", args, WEIGHTS)
    torch.set_num_threads(1)
    starts, results = {}, {}
    for name, steps, query in (("scratch", 0, Q), ("joint", 0, PASSES), ("maml", J, Q)):
        starts[name], results[name] = work.part(name, lambda: run(name, steps, query, args))  # noqa: B023 (used at once)
        shown = (f"{j} steps: {results[name]['scores'][j]['text']}" for j in (0, 1, 5, 10))
        print(name, *shown, sep="\n  ", flush=True)
    made = {key: value for key, value in stamp().items() if key in ("command", "commit", "date", "device")}
    made |= {"config": settings(args), "cpu_seconds": round(sum(r["cpu_seconds"] for r in results.values()))}
    weights = {"made": made, "shot": K, "query": Q, "steps": J, "alpha": ALPHA, "starts": starts}
    write_whole(WEIGHTS, json.dumps(weights, indent=1) + "\n")
    work.write({"network": "mlp(1, (40, 40), 1, activation='tanh'), float64", "shot": K, "query": Q,
                "steps": J, "alpha": ALPHA, "config": settings(args), "starts": results})


def run(name: str, steps: int, query: int, args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """(weights as text, what they took and how well they adapt) of one start."""
    torch.manual_seed(args.seed)  # all three begin with the same weights
    learner, watch = MAML(sine.network(), inner_lr=ALPHA, steps=steps), Stopwatch()
    if name != "scratch":
        print(name, meta_train(learner, Sinusoids(shot=K, query=query), TrainConfig(
            iterations=args.iterations, meta_batch=args.meta_batch, lr=args.lr, schedule="cosine", clip=10.0,
            seed=args.seed)))
    result = {"passes_per_task": 0 if name == "scratch" else PASSES, **watch.read()}
    start = sine.encode(learner.net)
    scores = meta_test_path(MAML(sine.decode(start), ALPHA), Sinusoids(shot=K, query=100), 10, seed=1)
    return start, {**result, "scores": [score_fields(s) for s in scores]}


if __name__ == "__main__":
    main()
