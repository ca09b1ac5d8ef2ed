"""What each approximation of MAML loses: equal passes, each tuned on validation scripts, three training seeds.

    python recipes/cheaper.py --force        # replaces results/cheaper.json; --resume FILE continues; 90 CPU-minutes

Glyphs, 5-way 1-shot, unseen scripts, Conv4 with 16 channels. A method's inner settings and outer rate are chosen with
seed 0 on validation scripts: two inner settings, and outer rates from a grid in factors of 4 that is widened until its
best is no edge. The number of inner steps at test is chosen there as well. Cost by the formula of cost.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from cost import passes_of
from levers import curve, paired, values
from record import Work, options, score_fields

from metalib import (
    ANIL,
    FOMAML,
    MAML,
    FewShot,
    ImplicitMAML,
    MetaSGD,
    PixelFloor,
    Reptile,
    TrainConfig,
    conv4,
    glyphs,
    meta_test,
    meta_train,
)

SEEDS, CHANNELS, PASSES, TEST, VAL = (0, 1, 2), 16, 64_000, 600, 60
STEPS = (0, 1, 2, 3, 5, 10, 20, 30, 45, 60, 90)  # of the test, tried on validation
RATES = (1e-3, 4e-3, 1.6e-2)

Make = Callable[[], MAML]
METHODS: dict[str, list[tuple[str, Make]]] = {
    "MAML": [("J=1, alpha=0.4", lambda: MAML(net(), 0.4, 1)), ("J=3, alpha=0.2", lambda: MAML(net(), 0.2, 3))],
    "FOMAML": [("J=1, alpha=0.4", lambda: FOMAML(net(), 0.4, 1)), ("J=3, alpha=0.2", lambda: FOMAML(net(), 0.2, 3))],
    "ANIL": [("J=3, alpha=0.4", lambda: ANIL(net(), 0.4, 3)), ("J=5, alpha=1", lambda: ANIL(net(), 1.0, 5))],
    "Meta-SGD": [("J=1, alpha=0.4", lambda: MetaSGD(net(), 0.4, 1)),
                 ("J=3, alpha=0.2", lambda: MetaSGD(net(), 0.2, 3))],
    "Reptile": [("J=5, all examples", lambda: Reptile(net(), 0.2, 5)),
                ("J=5, minibatches of 10", lambda: Reptile(net(), 0.2, 5, batch=10))],
    "implicit": [("J=5, lambda=1, 2 products", lambda: ImplicitMAML(net(), 0.2, 5, strength=1.0, cg_steps=2)),
                 ("J=8, lambda=4, 3 products", lambda: ImplicitMAML(net(), 0.1, 8, strength=4.0, cg_steps=3))],
}


def net() -> conv4:
    return conv4(5, channels=CHANNELS)


def trained(make: Make, lr: float, seed: int, images: Any) -> tuple[MAML, bool]:
    """A learner after PASSES passes, one task in every update; and whether it was stopped by a step not finite."""
    torch.manual_seed(seed)
    learner, tasks = make(), FewShot(images.split("train"), 5, 1, 5)
    config = TrainConfig(iterations=PASSES // passes_of(learner, 5, 25), meta_batch=1, lr=lr, schedule="cosine",
                         clip=10, seed=seed)
    try:
        meta_train(learner, tasks, config)
    except FloatingPointError:
        return learner, True
    return learner, False


def run(make: Make, lr: float, seed: int, images: Any, *, tested: bool = True) -> dict[str, Any]:
    """Validation after each number of steps; if `tested`, the test score at the best of them."""
    learner, stopped = trained(make, lr, seed, images)
    scores = curve(learner, FewShot(images.split("val")), STEPS, VAL)
    best = max(range(len(STEPS)), key=lambda i: scores[i]["mean"])
    row = {"lr": lr, "seed": seed, "stopped": stopped, "steps": STEPS[best], "val": scores[best]["mean"],
           "curve": [s["mean"] for s in scores]}
    if not tested:
        return row
    row["test"] = values(meta_test(learner, FewShot(images.split("test")), TEST, steps=STEPS[best]))
    if isinstance(learner, ImplicitMAML):
        task = FewShot(images.split("val"), 5, 1, 5).sample(1, generator=torch.Generator().manual_seed(0)).task(0)
        row["gradient_error"] = round(learner.gradient_error(task, steps=200, cg_steps=30), 4)
    return row


def tuned(work: Work, name: str, images: Any) -> tuple[Make, float, list[dict[str, Any]]]:
    """The inner setting and outer rate that did best on validation, and every trial."""
    trials: list[dict[str, Any]] = []
    for setting, make in METHODS[name]:
        rates = list(RATES)
        while True:
            rows = [work.part(f"{name}, {setting}, {lr:g}", lambda: run(make, lr, 0, images, tested=False))  # noqa: B023
                    for lr in rates]
            best = max(range(len(rates)), key=lambda i: rows[i]["val"])  # noqa: B023
            if best not in (0, len(rates) - 1) or len(rates) > 5:
                break
            rates = [rates[0] / 4, *rates] if best == 0 else [*rates, rates[-1] * 4]
        trials += [{"setting": setting, **row} for row in rows]
    winner = max(trials, key=lambda row: row["val"])
    return dict(METHODS[name])[winner["setting"]], winner["lr"], trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options(parser)
    torch.set_num_threads(1)
    work, images, rows = Work("cheaper", parser.parse_args()), glyphs(), {}
    for name in METHODS:
        make, lr, trials = tuned(work, name, images)
        runs = [work.part(f"{name}, seed {s}", lambda: run(make, lr, s, images)) for s in SEEDS]  # noqa: B023
        setting = max(trials, key=lambda row: row["val"])["setting"]
        rows[name] = {"setting": setting, "lr": lr, "passes_per_task": passes_of(make(), 5, 25), "runs": runs,
                      "trials": trials}
        print(name, setting, lr, [r["test"]["mean"] for r in runs], flush=True)
    minus = {name: [paired(b["test"], a["test"]) for a, b in zip(rows["MAML"]["runs"], row["runs"], strict=True)]
             for name, row in rows.items() if name != "MAML"}
    floor = score_fields(meta_test(PixelFloor(), FewShot(images.split("test")), TEST))
    work.write({**work.spent(), "image_passes": PASSES, "channels": CHANNELS, "steps_tried": STEPS, "floor": floor,
                "methods": rows, "minus_maml": minus})


if __name__ == "__main__":
    main()
