"""Accuracy against the number of training classes, and against shots: ProtoNet, MAML and Pretrained on glyphs().

    OMP_NUM_THREADS=1 python recipes/curves.py --force    # replaces what is there; --resume runs/curves continues

Needs no network; about five CPU-minutes. Writes results/curves.json, for chapter 3. The networks are small and
have no batch norm, two layers of 64 units (MAML's with a head), so that all the runs fit. They are trained for 5-way
1-shot, every run on as many image passes as every other (cost.py), one task or one batch at a time. A seed draws the
training classes and the weights; the networks of all seeds meet the same test tasks.

On validation scripts, with all training classes and by the mean over the seeds, each learner chooses its rate, MAML
then its inner rate and its test steps, Pretrained its head; steps and head are chosen anew for each shot. While the
best rate is at the edge of its grid, the grid grows. The weights are those at the end: no checkpoint is chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from cost import passes
from honest import counts
from record import Work, options

from metalib import (
    MAML,
    Classify,
    ClassImages,
    FewShot,
    Learner,
    PixelFloor,
    Pretrained,
    ProtoNet,
    Score,
    TrainConfig,
    glyphs,
    meta_test,
    meta_test_path,
    meta_train,
    mlp,
    seeded,
)
from metalib.functional import derived

WAY, QUERY, WIDTH = 5, 5, 64
ASKED = 10  # queries a class in a test: with 10 shots, all 20 drawings
COST = {"protonet": passes(WAY, WAY * QUERY, steps=1, order=1),  # passes of one iteration: a task,
        "maml": passes(WAY, WAY * QUERY, steps=1), "pretrained": 60}  # a task, a batch
RATES, INNER, FACTOR = (1e-3, 4e-3, 1.6e-2), (0.05, 0.2, 0.8), 4
CLASSES, SHOTS = (10, 85, 722), (1, 2, 5, 10)  # of 722 training classes; of 20 drawings
STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90)  # inner steps that are tried at test time
TRIED = 100  # validation tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=7200, help="image passes of each training run")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds")
    parser.add_argument("--episodes", type=int, default=300, help="test tasks; a third of them of training classes")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, images = Work("curves", args), glyphs()
    train, val, test = (images.split(part) for part in ("train", "val", "test"))
    assert len(train) == CLASSES[-1]
    tuning, classes, shots = {}, {}, {}
    for name in COST:
        tuning[name], classes[name], shots[name] = one_learner(name, train, val, test, args, work)
    unseen = {k: FewShot(test, WAY, k, ASKED) for k in SHOTS}
    shots["floor"] = {k: {"test": [tested(PixelFloor(), tasks, args.episodes)]} for k, tasks in unseen.items()}
    work.write({
        **work.spent(), "way": WAY, "query": ASKED, "episodes": args.episodes, "episode_seed": 0, "width": WIDTH,
        "image_passes": args.passes, "passes_per_iteration": COST, "bank": test.digest(),
        "digests": {k: meta_test(PixelFloor(), tasks, args.episodes).digest for k, tasks in unseen.items()},
        "tuning": tuning, "classes": classes, "shots": shots, "unit": f"right answers of {WAY * ASKED}, task by task"})


def one_learner(name: str, train: ClassImages, val: ClassImages, test: ClassImages, args: argparse.Namespace,
                work: Work) -> tuple[Any, Any, Any]:
    """Everything about one learner: what was chosen, accuracy by training classes, accuracy by shots."""
    trained: dict[Any, Learner] = {}
    most = CLASSES[-1]

    def learner(n: int, seed: int, lr: float, inner: float) -> Learner:
        if (n, seed, lr, inner) not in trained:
            trained[n, seed, lr, inner] = fit(name, some(train, n, seed), seed, lr, inner, args.passes)
        return trained[n, seed, lr, inner]

    def try_out(lr: float, inner: float) -> dict[str, float]:
        try:
            nets = [learner(most, seed, lr, inner) for seed in range(args.seeds)]
            return best_option(nets, FewShot(val, WAY, 1, ASKED))[1]
        except FloatingPointError:  # diverged
            return {"": 0.0}

    def tune() -> dict[str, Any]:
        inner, lr, tried = INNER[1], RATES[1], {}

        def validated(lr: float, inner: float) -> float:
            tried[f"{lr:g}, {inner:g}"] = work.part(f"{name}: rates {lr:g}, {inner:g}", lambda: try_out(lr, inner))
            return max(tried[f"{lr:g}, {inner:g}"].values())

        lr = climb(RATES, lambda lr: validated(lr, inner))
        if name == "maml":
            inner = climb(INNER, lambda inner: validated(lr, inner))
        found = tried[f"{lr:g}, {inner:g}"]
        return {"lr": lr, "inner": inner, "option": max(found, key=found.__getitem__), "tried": tried}

    def by_classes(n: int, seed: int) -> dict[str, str]:
        net, bank = learner(n, seed, best["lr"], best["inner"]), some(train, n, seed)
        return {part: tested(net, FewShot(images, WAY, 1, ASKED), episodes, best["option"])
                for part, images, episodes in (("train", bank, args.episodes // 3), ("test", test, args.episodes))}

    def by_shots(k: int) -> dict[str, Any]:
        nets = [learner(most, seed, best["lr"], best["inner"]) for seed in range(args.seeds)]
        option, tried = best_option(nets, FewShot(val, WAY, k, ASKED))
        return {"option": option, "validation": tried,
                "test": [tested(net, FewShot(test, WAY, k, ASKED), args.episodes, option) for net in nets]}

    best = work.part(f"{name}: tuning", tune)
    print(name, {k: v for k, v in best.items() if k != "tried"}, work.spent(), flush=True)
    classes = {n: [work.part(f"{name}: {n} classes, seed {seed}", lambda: by_classes(n, seed))  # noqa: B023
                   for seed in range(args.seeds)] for n in CLASSES}
    shots = {1: {"option": best["option"], "test": [run["test"] for run in classes[most]]},
             **{k: work.part(f"{name}: {k} shots", lambda: by_shots(k)) for k in SHOTS if k > 1}}  # noqa: B023
    print(name, {k: part["option"] for k, part in shots.items()}, work.spent(), flush=True)
    return best, classes, shots


def some(train: ClassImages, n: int, seed: int) -> ClassImages:
    """n of the training classes, drawn with the seed: the first n of one order, so that more classes include fewer."""
    return train.subset(torch.randperm(len(train), generator=seeded(derived(seed, "classes")))[:n].tolist())


def fit(name: str, train: ClassImages, seed: int, lr: float, inner: float, total: int) -> Learner:
    """A learner that was trained on `total` image passes."""
    torch.manual_seed(seed)
    pixels, tasks = train.x[0].numel(), FewShot(train, WAY, 1, QUERY)
    if name == "maml":
        learner = MAML(mlp(pixels, (WIDTH, WIDTH), WAY), inner_lr=inner, steps=1)
    elif name == "protonet":
        learner = ProtoNet(mlp(pixels, (WIDTH,), WIDTH))
    else:
        learner = Pretrained(mlp(pixels, (WIDTH,), WIDTH), classes=len(train), embedding_dim=WIDTH)
        tasks = Classify(train, COST[name])
    meta_train(learner, tasks, TrainConfig(iterations=total // COST[name], meta_batch=1, lr=lr, schedule="cosine",
                                           clip=10, seed=seed))
    return learner


def climb(grid: tuple[float, ...], score: Callable[[float], float]) -> float:
    """The best value of a grid, which grows by FACTOR for as long as the best is at its edge."""
    scores = {value: score(value) for value in grid}
    while (best := max(scores, key=scores.__getitem__)) in (min(scores), max(scores)):
        beyond = best / FACTOR if best == min(scores) else best * FACTOR
        scores[beyond] = score(beyond)
    return best


def best_option(learners: list[Learner], tasks: FewShot) -> tuple[str, dict[str, float]]:
    """MAML's steps or Pretrained's head, chosen on validation tasks; and the accuracy with each, mean over learners."""
    tried = [accuracies(learner, tasks) for learner in learners]
    means = {option: round(sum(one[option] for one in tried) / len(tried), 4) for option in tried[0]}
    return max(means, key=means.__getitem__), means


def accuracies(learner: Learner, tasks: FewShot) -> dict[str, float]:
    """Accuracy on validation tasks with each number of steps, or each head."""
    if isinstance(learner, MAML):
        path = meta_test_path(learner, tasks, STEPS[-1], TRIED)
        return {str(j): path[j].mean for j in STEPS}
    heads = ("centroid", "linear") if isinstance(learner, Pretrained) else ("",)
    return {option: scored(learner, tasks, TRIED, option).mean for option in heads}


def scored(learner: Learner, tasks: FewShot, episodes: int, option: str) -> Score:
    if isinstance(learner, Pretrained):
        learner.head = option
    return meta_test(learner, tasks, episodes, steps=int(option) if isinstance(learner, MAML) else None)


def tested(learner: Learner, tasks: FewShot, episodes: int, option: str = "") -> str:
    """Right answers of each task."""
    return counts(scored(learner, tasks, episodes, option), tasks)


if __name__ == "__main__":
    main()
