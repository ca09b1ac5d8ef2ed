r"""Policies that learned to explore, beside the rules, on bandits; and MAML with a policy gradient. Three seeds each.

    OMP_NUM_THREADS=1 python recipes/policies.py --force    # replaces what is there; --resume runs/policies continues
    OMP_NUM_THREADS=1 python recipes/policies.py --force --only arms --iterations 1200 --meta-batch 256 \
        --rates 0.02 0.04 0.08
    OMP_NUM_THREADS=1 python recipes/policies.py --force --only recurrent --iterations 1800 --rates 0.005 0.01 0.02

Needs no network and about 30 CPU-minutes; a longer training of one policy, the other commands, 20 each. Writes
results/policies.json, policies-arms.json and policies-recurrent.json. Bandits of 5 arms with uniform chances and 50
pulls; regret counts the arms' mean rewards. All are tested on the same 1,000 tasks with the same luck, in pairs.

    recurrent    `RL2`: one LSTM that reads all pulls, dim 64, entropy 0.03
    arms         `RL2(core="arms")`: an LSTM for each arm, with shared weights, dim 24
    counts       `RL2(core="counts")`: a perceptron on each arm's pulls and wins, shared, dim 32
    rules        random, Thompson, UCB (its c chosen on validation tasks), greedy, Gittins

The outer rate of each policy is the best of whole runs of seed 0 on 500 validation tasks; a winner at the edge of the
grid widens it. (Chosen in runs of a third of the length, rates were too large: at 0.04 one of three policies on arms
fell apart late, to a regret of 6.9.) Every training keeps the weights that did best on 500 validation tasks, looked at
in each tenth. The learning curve (regret in each tenth of training) says whether it had flattened.

    navigation   `PolicyMAML`, 20 steps, 20 episodes, 20 tasks, one step of rate 0.03, for each of the three surrogates:
                 return before and after the step on 300 goals never seen

Expected (regret): Gittins 3.5, counts 3.9, arms 4.2, UCB 4.5, greedy 4.7, recurrent 5.9, Thompson 6.2, random 16.7;
trained longer, arms 4.1 and recurrent 4.6;
navigation gains more than 3.5 with every surrogate.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from record import Stopwatch, Work, minus, options, over_seeds, settings

from metalib import (
    RL2,
    BanditRule,
    Bandits,
    Navigations,
    PolicyMAML,
    TrainConfig,
    meta_test,
    meta_test_path,
    meta_train,
    mlp,
)

TASKS, WALKS = Bandits(5, 50), Navigations()
# core: (options, share of the iterations, the rates that are tried first). A shared core needs fewer.
CORES: dict[str, tuple[dict[str, Any], float, tuple[float, ...]]] = {
    "counts": ({"dim": 32}, 0.25, (5e-3, 1e-2, 2e-2)), "arms": ({"dim": 24}, 0.75, (5e-3, 1e-2, 2e-2)),
    "recurrent": ({"dim": 64, "entropy": 0.03}, 1.0, (2.5e-3, 5e-3, 1e-2))}
WIDTHS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)  # UCB's c
SURROGATES = ("dice", "lvc", "naive")
VALIDATION, TEST = 2, 1  # seeds


def trained(core: str, seed: int, lr: float, iterations: int, meta_batch: int) -> tuple[RL2, list[float]]:
    """(the policy, its regret on the training tasks in each tenth of training: 41.7 is the mean of H max p)."""
    torch.manual_seed(seed)
    learner = RL2(5, core=core, **CORES[core][0])
    history = meta_train(learner, TASKS, TrainConfig(
        iterations=iterations, meta_batch=meta_batch, lr=lr, schedule="cosine", clip=1.0, seed=seed, metric="regret",
        val_every=max(iterations // 10, 1), val_episodes=500), val_tasks=TASKS)
    tenths = torch.tensor(history.losses[:iterations // 10 * 10]).reshape(10, -1).mean(1)
    return learner, [round(float(50 * 5 / 6 + v), 2) for v in tenths]


def regrets(learner: Any, n: int, seed: int) -> list[float]:
    return [float(f"{v:.5g}") for v in meta_test(learner, TASKS, n, seed, metric="regret").values]


def tuned(work: Work, core: str, iterations: int, args: argparse.Namespace) -> tuple[float, list[list[float]]]:
    """The outer rate that is best on validation tasks, and all that were tried."""
    found: dict[float, float] = {}

    def tried(lr: float) -> None:
        def regret() -> float:
            values = regrets(trained(core, 0, lr, iterations, args.meta_batch)[0], 500, VALIDATION)
            return sum(values) / len(values)
        found[lr] = work.part(f"tune {core} {lr:g}", regret)

    for lr in args.rates or CORES[core][2]:
        tried(lr)
    for _ in range(3):  # at most three times wider
        best = min(found, key=found.__getitem__)
        if best not in (min(found), max(found)):
            break
        tried(best / 2 if best == min(found) else best * 2)
    return min(found, key=found.__getitem__), sorted([lr, round(v, 3)] for lr, v in found.items())


def run(core: str, seed: int, lr: float, iterations: int, args: argparse.Namespace) -> dict[str, Any]:
    watch = Stopwatch()
    learner, curve = trained(core, seed, lr, iterations, args.meta_batch)
    spent = watch.read()["cpu_seconds"]
    first = meta_test(learner, TASKS, 10, TEST, metric=lambda play, task: play["entropy"][0]).mean
    return {"cpu_seconds": spent, "curve": curve, "first entropy": first,
            "regret": regrets(learner, args.episodes, TEST)}


def walked(surrogate: str, seed: int, iterations: int) -> list[list[float]]:
    """Return before and after one step, of each of 300 goals."""
    torch.manual_seed(seed)
    learner = PolicyMAML(mlp(2, (64,), 2, activation="tanh"), 0.03, surrogate=surrogate)
    meta_train(learner, WALKS, TrainConfig(iterations=iterations, meta_batch=20, lr=5e-3, schedule="cosine", clip=1.0,
                                           seed=seed))
    return [[float(f"{v:.5g}") for v in s.values] for s in meta_test_path(learner, WALKS, 1, 300, TEST)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=900, help="of the recurrent policy; others take a share")
    parser.add_argument("--episodes", type=int, default=1000, help="test tasks")
    parser.add_argument("--meta-batch", type=int, default=128, help="tasks of a meta-iteration, on bandits")
    parser.add_argument("--only", choices=list(CORES), help="this policy alone, into results/policies-NAME.json")
    parser.add_argument("--rates", type=float, nargs="+", help="outer rates that are tried first")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work = Work(f"policies-{args.only}" if args.only else "policies", args)
    widths = {c: work.part(f"ucb {c}", lambda: sum(regrets(BanditRule("ucb", c=c), 500, VALIDATION)) / 500)  # noqa: B023
              for c in WIDTHS}
    best = min(widths, key=widths.__getitem__)
    rules = {name: work.part(name, lambda: regrets(BanditRule(name, c=best), args.episodes, TEST))  # noqa: B023
             for name in ("random", "thompson", "ucb", "greedy", "gittins")}
    rows: dict[str, Any] = {name: {"regret": over_seeds([values])} for name, values in rules.items()}
    for core, (_, share, _) in CORES.items() if not args.only else [(args.only, CORES[args.only])]:
        iterations = max(int(share * args.iterations), 10)
        lr, grid = tuned(work, core, iterations, args)
        runs = [work.part(f"{core} {seed}", lambda: run(core, seed, lr, iterations, args))  # noqa: B023
                for seed in range(args.seeds)]
        values = [r["regret"] for r in runs]
        rows[core] = {"iterations": iterations, "lr": lr, "tuning": grid, "regret": over_seeds(values),
                      "cpu_seconds": [r["cpu_seconds"] for r in runs], "curves": [r["curve"] for r in runs],
                      "first entropy": [round(r["first entropy"], 3) for r in runs],
                      **{f"minus {name}": minus(values, [rules[name]]) for name in ("thompson", "ucb", "greedy",
                                                                                   "gittins")}}
        print(core, lr, rows[core]["regret"], rows[core]["minus greedy"], flush=True)
    navigation = {}
    for surrogate in () if args.only else SURROGATES:
        found = [work.part(f"walk {surrogate} {seed}", lambda: walked(surrogate, seed, args.iterations // 4))  # noqa: B023
                 for seed in range(args.seeds)]
        before, after = ([f[i] for f in found] for i in (0, 1))
        navigation[surrogate] = {"before": over_seeds(before), "after": over_seeds(after), "gain": minus(after, before)}
        print(surrogate, navigation[surrogate]["gain"], flush=True)
    work.write({**work.spent(), "config": settings(args), "ucb": [[c, round(v, 3)] for c, v in widths.items()],
                "bandits": rows, "navigation": navigation})


if __name__ == "__main__":
    main()
