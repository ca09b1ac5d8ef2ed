"""The weights of chapter 1's figure: one random start, and what joint training and MAML make of it.

    OMP_NUM_THREADS=1 python recipes/sine.py

Needs no network and about two CPU-minutes. Writes metalib/figures/widgets/sine.json (weights) and results/sine.json.

A network 1-40-40-1 with tanh, float64, one thread, sine waves with 5 support points. "Equal compute" counts
passes of one example through the network, forward and backward together. Per task, MAML with J inner steps takes
J K of them to adapt, 2 J K for the Hessian-vector products that carry its gradient back through those steps, and
Q on the query: 3 * 5 * 5 + 10 = 85. Joint training is the same learner with J = 0. It gets 85 query points, as
many tasks and as many updates. The weights are rounded to float32, and scored as rounded.
"""

from __future__ import annotations

import argparse
import json

import torch
from record import ROOT, Stopwatch, score_fields, write

from metalib import MAML, Sinusoids, TrainConfig, meta_test_path, meta_train
from metalib.figures.widgets import sine

K, Q, J, ALPHA = 5, 10, 5, 0.01
PASSES = 3 * J * K + Q  # per task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the training tasks")
    parser.add_argument("--iterations", type=int, default=4000, help="meta-iterations of either training")
    parser.add_argument("--meta-batch", type=int, default=25, help="T, tasks per meta-iteration")
    parser.add_argument("--lr", type=float, default=3e-3, help="outer rate of Adam, brought down to 0 by a cosine")
    args = parser.parse_args()

    torch.set_num_threads(1)
    config = TrainConfig(iterations=args.iterations, meta_batch=args.meta_batch, lr=args.lr, schedule="cosine",
                         clip=10.0, seed=args.seed)
    test, starts, results = Sinusoids(shot=K, query=100), {}, {}
    for name, steps, query in (("scratch", 0, Q), ("joint", 0, PASSES), ("maml", J, Q)):
        torch.manual_seed(args.seed)  # all three begin with the same weights
        learner, watch = MAML(sine.network(), inner_lr=ALPHA, steps=steps), Stopwatch()
        if name != "scratch":
            print(name, meta_train(learner, Sinusoids(shot=K, query=query), config))
        starts[name] = sine.encode(learner.net)
        results[name] = {"passes_per_task": 0 if name == "scratch" else PASSES, **watch.read()}
        scores = meta_test_path(MAML(sine.decode(starts[name]), ALPHA), test, 10, seed=1)
        print(name, *(f"{j} steps: {scores[j]}" for j in (0, 1, 5, 10)), sep="\n  ")
        results[name]["scores"] = [score_fields(s) for s in scores]
    path = write("sine", {"network": "mlp(1, (40, 40), 1, activation='tanh'), float64", "shot": K, "query": Q,
                          "steps": J, "alpha": ALPHA, "config": vars(args), "starts": results})
    run = json.loads(path.read_text(encoding="utf-8"))
    made = {key: run[key] for key in ("command", "commit", "date", "device", "config")}
    made["cpu_seconds"] = round(sum(result["cpu_seconds"] for result in results.values()))
    weights = {"made": made, "shot": K, "query": Q, "steps": J, "alpha": ALPHA, "starts": starts}
    file = ROOT / "metalib" / "figures" / "widgets" / "sine.json"
    file.write_text(json.dumps(weights, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
