"""What an update without an inner loop learns on tasks that conflict, against MAML at equal compute, over five seeds.

    OMP_NUM_THREADS=1 python recipes/joint.py --force    # replaces what is there; --resume runs/joint continues

Needs no network and about four CPU-minutes. Writes results/joint.json, which chapter 4 shows.

A network 1-40-40-1 with tanh, float64, one thread, sine waves with 10 support and 10 query points. The unit of
compute is one point forward and backward (cost.py). Joint training (the update theta - beta * grad L_Q(theta), which is
MAML with J = 0) takes 10 a task; MAML with J = 1 takes 40 (support, query, and twice the support for the Hessian-vector
product). Joint training gets four times as many updates. The outer rate of each is the one of a grid that does best on
validation tasks with seed 0, all with the same effort; the inner rate with which it adapts is chosen on them for every
seed. A winner at the edge of a grid would mean a wider grid.
"""

from __future__ import annotations

import argparse

import torch
from cost import passes
from record import Work, options, score_fields, settings

from metalib import MAML, Sinusoids, TrainConfig, meta_test, meta_test_path, meta_train, mlp

RATIO = passes(10, 10, steps=1) // passes(10, 10, steps=0)  # 4
RATES = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1)  # inner
OUTER = (1e-3, 3e-3, 1e-2, 3e-2)
SHOWN = (0, 1, 5, 10)  # inner steps


def train(J: int, iterations: int, lr: float, seed: int) -> MAML:
    """MAML with J inner steps from the seed's weights, or joint training if J = 0."""
    torch.manual_seed(seed)
    learner = MAML(mlp(1, (40, 40), 1, activation="tanh").double(), inner_lr=0.02, steps=J)
    meta_train(learner, Sinusoids(shot=10, query=10),
               TrainConfig(iterations=iterations, meta_batch=10, lr=lr, schedule="cosine", seed=seed))
    return learner


def tune(learner: MAML) -> float:
    """Set the inner rate that is best after 5 steps on validation tasks, and return the error there."""
    def error(alpha: float) -> float:
        learner.inner_lr = alpha
        return meta_test(learner, Sinusoids(shot=10, query=100), episodes=200, seed=1, steps=5).mean

    errors = {alpha: error(alpha) for alpha in RATES}
    learner.inner_lr = min(errors, key=errors.__getitem__)
    return errors[learner.inner_lr]


def run(J: int, updates: int, lr: float, seed: int) -> dict[str, object]:
    """Train, tune, test."""
    learner = train(J, updates, lr, seed)
    validation = tune(learner)
    scores = meta_test_path(learner, Sinusoids(shot=10, query=100), max(SHOWN), episodes=600, seed=0)
    return {"alpha": learner.inner_lr, "validation": round(validation, 4),
            "scores": {str(j): score_fields(scores[j]) for j in SHOWN}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=1000, help="meta-iterations of MAML; joint training: 4 times")
    options(parser)
    args = parser.parse_args()

    torch.set_num_threads(1)
    runs, outer, work = [], {}, Work("joint", args)

    def part(name: str, J: int, updates: int, lr: float, seed: int) -> dict[str, object]:
        found = work.part(f"{name} {lr:g} {seed}", lambda: run(J, updates, lr, seed))
        texts = (f"{j}: {s['text']}" for j, s in found["scores"].items())
        print(name, lr, seed, found["alpha"], found["validation"], *texts, sep="  ", flush=True)
        return found

    for name, J, updates in (("joint", 0, RATIO * args.iterations), ("maml", 1, args.iterations)):
        tried = {lr: part(name, J, updates, lr, 0)["validation"] for lr in OUTER}
        lr = min(tried, key=tried.__getitem__)
        outer[name] = {"chosen": lr, "validation": {f"{lr:g}": error for lr, error in tried.items()}}
        runs += [{"name": name, "seed": seed, "updates": updates, "passes": updates * 10 * passes(10, 10, steps=J),
                  **part(name, J, updates, lr, seed)} for seed in range(args.seeds)]
    work.write({"network": "mlp(1, (40, 40), 1, activation='tanh'), float64", "shot": 10, "query": 10,
                "meta_batch": 10, "rates": RATES, "outer": outer, "config": settings(args), **work.spent(),
                "runs": runs})


if __name__ == "__main__":
    main()
