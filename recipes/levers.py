"""MAML beside its rivals at one meta-batch, and what cures and levers do to it: three training seeds, eight of cures.

    python recipes/levers.py equal --force      # glyphs: MAML, ProtoNet and Pretrained; the untrained network's plateau
    python recipes/levers.py cures --force      # waves: what is proposed against divergence
    python recipes/levers.py letters --force    # glyphs: the levers of MAML++, and the head alone

Each replaces results/levers-PART.json (without --force: refuses to; --resume FILE continues); two to six CPU-minutes.
Compute is counted in image passes by the formula of cost.py. Rates and steps are chosen on validation scripts, rivals'
rates in glyphs-sensitivity-rates.json, at the same number of passes and of trials.
"""

from __future__ import annotations

import argparse
import json

import torch
from cost import passes
from record import ROOT, Work, options, score_fields
from torch import Tensor, nn

from metalib import (
    MAML,
    Classify,
    Data,
    Episode,
    FewShot,
    Learner,
    PixelFloor,
    Pretrained,
    ProtoNet,
    Score,
    Sinusoids,
    TrainConfig,
    compare,
    conv4,
    glyphs,
    meta_test,
    meta_train,
    mlp,
)
from metalib.functional import Params, descend, gradient, seeded

SEEDS, CHANNELS, ALPHA, TASKS = (0, 1, 2), 16, 0.4, 60
COST = {"maml": passes(5, 25, steps=1), "protonet": passes(5, 25, steps=1, order=1), "pretrained": 64}
PASSES = 32_000  # chapter 5's live runs
CURVE = (0, 1, 2, 3, 5, 10, 15, 20)  # inner steps at which validation is scored
LONG = (0, 1, 2, 3, 5, 10, 15, 20, 30, 40)


def curve(learner: MAML, tasks: FewShot, steps: tuple[int, ...], n: int) -> list[dict[str, object]]:
    """Scores after some of the inner steps, on the same tasks; the path is walked once."""
    generator, found = seeded(0), []
    for _ in range(n):
        support, query = tasks.sample(1, generator=generator).task(0)
        with torch.no_grad():
            path = learner.path(support, max(steps))
            found.append([(learner.predict(path[j], query.x).argmax(-1) == query.y).float().mean() for j in steps])
    scores = [Score.of(v, metric="accuracy", transductive=True, steps=j, seed=0, digest="")
              for j, v in zip(steps, torch.tensor(found).T)]
    return [score_fields(s) for s in scores]


# ---------------------------------------------------------------- equal

def trained(name: str, lr: float, seed: int) -> Learner:
    """One learner after PASSES image passes, one task (or 64 images) in every update."""
    torch.manual_seed(seed)
    images = glyphs().split("train")
    tasks: FewShot | Classify = FewShot(images, 5, 1, 5)
    if name == "maml":
        learner: Learner = MAML(conv4(5, channels=CHANNELS), ALPHA, steps=1)
    elif name == "protonet":
        learner = ProtoNet(conv4(channels=CHANNELS))
    else:
        learner, tasks = Pretrained(conv4(channels=CHANNELS), classes=len(images)), Classify(images, batch=64)
    meta_train(learner, tasks, TrainConfig(iterations=PASSES // COST[name], meta_batch=1, lr=lr, schedule="cosine",
                                           clip=10, seed=seed))
    return learner


def maml(lr: float, seed: int, val: FewShot, test: FewShot) -> dict[str, object]:
    """MAML, its validation curve over the inner steps, and its test score at the best of them."""
    learner = trained("maml", lr, seed)
    scores = curve(learner, val, CURVE, 40)
    best = CURVE[max(range(len(CURVE)), key=lambda i: scores[i]["mean"])]
    return {"lr": lr, "seed": seed, "steps": best, "val": scores,
            **{f"test_{j}": values(meta_test(learner, test, TASKS, steps=j)) for j in {1, best}}}


def values(score: Score) -> dict[str, object]:
    return {**score_fields(score), "values": [round(v, 5) for v in score.values.tolist()]}


def rival(name: str, lr: float, seed: int, test: FewShot) -> dict[str, object]:
    return {"lr": lr, "seed": seed, "test": values(meta_test(trained(name, lr, seed), test, TASKS))}


def paired(a: dict[str, object], b: dict[str, object]) -> dict[str, object]:
    """a - b on the same test tasks."""
    scores = [Score.of(torch.tensor(s["values"]), metric=s["metric"], transductive=s["transductive"], steps=s["steps"],
                       seed=s["seed"], digest=s["digest"]) for s in (a, b)]
    difference = compare(*scores)
    return {"mean": round(difference.mean, 5), "ci95": round(difference.ci95, 5), "text": str(difference)}


def untrained(seed: int, val: FewShot) -> list[dict[str, object]]:
    torch.manual_seed(seed)
    return curve(MAML(conv4(5, channels=CHANNELS), ALPHA), val, LONG, 40)


def equal(work: Work) -> dict[str, object]:
    images = glyphs()
    val, test = (FewShot(images.split(part)) for part in ("val", "test"))
    sweep = json.loads((ROOT / "results" / "glyphs-sensitivity-rates.json").read_text(encoding="utf-8"))
    assert sweep["image_passes"] == PASSES and sweep["channels"] == CHANNELS
    flat = {str(s): work.part(f"untrained {s}", lambda: untrained(s, val)) for s in SEEDS}  # noqa: B023 (used at once)
    tuning = [work.part(f"maml {lr} 0", lambda: maml(lr, 0, val, test)) for lr in (1e-3, 4e-3, 1.6e-2)]  # noqa: B023
    lr = max(tuning, key=lambda row: max(s["mean"] for s in row["val"]))["lr"]
    runs = {"maml": [work.part(f"maml {lr} {s}", lambda: maml(lr, s, val, test)) for s in SEEDS]}  # noqa: B023
    for name in ("protonet", "pretrained"):
        rate = max((r for r in sweep["rows"] if r["learner"] == name), key=lambda r: r["val"]["mean"])["lr"]
        runs[name] = [work.part(f"{name} {s}", lambda: rival(name, rate, s, test)) for s in SEEDS]  # noqa: B023
    for row in runs["maml"]:
        row["test"] = row[f"test_{row['steps']}"]
    pairs = {name: {"J = 1": [paired(b["test"], a["test_1"]) for a, b in zip(runs["maml"], runs[name])],
                    "J chosen": [paired(b["test"], a["test"]) for a, b in zip(runs["maml"], runs[name])]}
             for name in ("protonet", "pretrained")}
    return {"image_passes": PASSES, "channels": CHANNELS, "alpha": ALPHA, "meta_batch": 1, "curve": CURVE, "long": LONG,
            "untrained": flat, "floor": {"val": score_fields(meta_test(PixelFloor(), val, 40)),
                                         "test": score_fields(meta_test(PixelFloor(), test, TASKS))},
            "tuning": tuning, "runs": runs, "minus_maml": pairs}


# ---------------------------------------------------------------- cures and levers

class MultiStep(MAML):
    """MAML whose meta-loss is the mean of the query losses after steps 1 .. J (MAML++)."""

    def forward(self, episode: Episode) -> Tensor:
        path = self.path(episode.support)[1:]
        losses = [self.task_loss(self.predict(phi, episode.query.x), episode.query.y) for phi in path]
        return torch.stack(losses).mean()


class LearnedRates(MAML):
    """MAML with a learned rate for every parameter tensor and every step (MAML++ has one per layer and step)."""

    def __init__(self, net: nn.Module, inner_lr: float, steps: int) -> None:
        super().__init__(net, inner_lr, steps)
        self.rates = nn.ParameterDict({k.replace(".", "/"): nn.Parameter(torch.full((steps,), inner_lr))
                                       for k, _ in net.named_parameters()})

    def path(self, support: Data, steps: int | None = None) -> list[Params]:
        iterates = super().path(support, 0)
        for j in range(self.steps if steps is None else steps):
            g = gradient(self.support_loss, iterates[-1], support)
            rates = {k: self.rates[k.replace(".", "/")][min(j, self.steps - 1)] for k in g}
            iterates.append(descend(iterates[-1], g, rates))
        return iterates


# (alpha, clip, (J, order, iterations) of each phase; a phase begins with a new Adam); schedule; learner
CURES: dict[str, dict[str, object]] = {
    "alpha 0.1": {},
    "patience: twice the updates": {"phases": ((5, 2, 400),)},
    "alpha 0.05": {"alpha": 0.05},
    "alpha 0.02": {"alpha": 0.02},
    "alpha 0.01": {"alpha": 0.01},
    "clip to 1": {"clip": 1.0},
    "first order": {"phases": ((5, 1, 200),)},
    "first order, then exact": {"phases": ((5, 1, 100), (5, 2, 100))},
    "1 step, then 5": {"phases": ((1, 2, 100), (5, 2, 100))},
    "a new Adam every 20": {"phases": ((5, 2, 20),) * 10},
    "a new Adam every 5": {"phases": ((5, 2, 5),) * 40},
    "a new Adam every time": {"phases": ((5, 2, 1),) * 200},
    "the same, clip to 1": {"phases": ((5, 2, 1),) * 200, "clip": 1.0},
    "multi-step loss": {"learner": MultiStep},
    "cosine outer rate": {"schedule": "cosine"},
}


def cure(seed: int, alpha: float = 0.1, clip: float | None = None, phases: tuple = ((5, 2, 200),),
         schedule: str = "constant", learner: type[MAML] = MAML) -> dict[str, object]:
    torch.manual_seed(seed)
    maml, losses, stopped = learner(mlp(1, (40, 40), 1).double(), alpha, 5), [], False
    for i, (maml.steps, maml.order, iterations) in enumerate(phases):
        config = TrainConfig(iterations=iterations, meta_batch=8, lr=5e-3, clip=clip, schedule=schedule,
                             seed=100 * seed + i)
        try:
            losses += meta_train(maml, Sinusoids(shot=10, query=10), config).losses
        except FloatingPointError:  # a step that is not finite was refused; the weights from before it are tested
            stopped = True
            break
    score = meta_test(maml, Sinusoids(shot=10, query=10), 200, seed=1, steps=5)
    largest = None if stopped else float(f"{max(losses):.3g}")
    return {"seed": seed, "stopped": stopped, "largest": largest, "mean": float(f"{score.mean:.4g}"),
            "median": round(float(score.values.median()), 4)}


def cures(work: Work) -> dict[str, object]:
    rows = {name: [work.part(f"{name} {s}", lambda: cure(s, **how)) for s in range(8)]  # noqa: B023
            for name, how in CURES.items()}
    return {"seeds": list(range(8)), "tasks": 200, "metric": "MSE of validation waves after 5 steps", "rows": rows}


LETTERS: dict[str, dict[str, object]] = {
    "MAML, J = 3, cosine": {},
    "constant outer rate": {"schedule": "constant"},
    "multi-step loss": {"make": MultiStep},
    "learned rates": {"make": LearnedRates},
    "first order": {"orders": (1,)},
    "first order, then exact": {"orders": (1, 2)},
    "head alone": {"adapts": "head"},
}


def letter(seed: int, val: FewShot, make: type[MAML] = MAML, schedule: str = "cosine", iterations: int = 200,
           orders: tuple[int, ...] = (2,), **how: object) -> dict[str, object]:
    torch.manual_seed(seed)
    learner, losses = make(conv4(5, channels=CHANNELS), ALPHA, 3, **how), []
    tasks = FewShot(glyphs().split("train"), 5, 1, 5)
    for i, learner.order in enumerate(orders):  # phases of equal length, each with a new Adam and a schedule of its own
        losses += meta_train(learner, tasks, TrainConfig(iterations=iterations // len(orders), meta_batch=1, lr=4e-3,
                                                         schedule=schedule, clip=10, seed=100 * i + seed)).losses
    return {"seed": seed, "largest": round(max(losses), 3), "val": values(meta_test(learner, val, 40))}


def letters(work: Work) -> dict[str, object]:
    val = FewShot(glyphs().split("val"))
    rows = {name: [work.part(f"{name} {s}", lambda: letter(s, val, **how)) for s in SEEDS]  # noqa: B023
            for name, how in LETTERS.items()}
    first = rows["MAML, J = 3, cosine"]
    return {"channels": CHANNELS, "alpha": ALPHA, "iterations": 200, "meta_batch": 1, "rows": rows, "minus_maml": {
        name: [paired(b["val"], a["val"]) for a, b in zip(first, row)] for name, row in rows.items() if row != first}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("equal", "cures", "letters"))
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work = Work(f"levers-{args.part}", args)
    result = {"equal": equal, "cures": cures, "letters": letters}[args.part](work)
    work.write({**work.spent(), "seeds": SEEDS, **result})


if __name__ == "__main__":
    main()
