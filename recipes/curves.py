"""Accuracy against the number of training classes, and against shots: ProtoNet, MAML and Pretrained on glyphs().

    OMP_NUM_THREADS=1 python recipes/curves.py --force    # replaces what is there; --resume runs/curves continues

Needs no network; about ten CPU-minutes. Writes results/curves.json, which chapter 3 reads. Small networks, conv4 with
16 channels, trained for 5-way 1-shot, every run on as many image passes as every other (cost.py), one task or one batch
at a time. A seed draws the training classes and the weights; the networks of all seeds meet the same test tasks.

On 50 tasks of the validation scripts, with seed 0 and all training classes, each learner chooses its rate, MAML its
number of test steps (anew for each shot) and Pretrained its head (likewise). While the best rate is at the edge of the
grid, the grid grows. The weights are those at the end: no checkpoint is chosen.
"""

from __future__ import annotations

import argparse
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
    conv4,
    glyphs,
    meta_test,
    meta_test_path,
    meta_train,
    seeded,
)
from metalib.functional import derived

WAY, QUERY, CHANNELS, INNER = 5, 5, 16, 0.4
COST = {"protonet": passes(WAY, WAY * QUERY, steps=1, order=1),  # passes of one iteration: a task,
        "maml": passes(WAY, WAY * QUERY, steps=1), "pretrained": 60}  # a task, a batch
RATES, FACTOR = (1e-3, 4e-3, 1.6e-2), 4
CLASSES, SHOTS = (10, 40, 160, 722), (1, 2, 5, 10)  # of 722 training classes; of 20 drawings
STEPS, TRIED = 5, 50  # inner steps that are tried at test time; validation tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=9600, help="image passes of each training run")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds")
    parser.add_argument("--episodes", type=int, default=300, help="test tasks; half as many of the training classes")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, images = Work("curves", args), glyphs()
    train, val, test = (images.split(part) for part in ("train", "val", "test"))
    assert len(train) == CLASSES[-1]
    tuning, classes, shots = {}, {}, {}
    for name in COST:
        tuning[name], classes[name], shots[name] = one_learner(name, train, val, test, args, work)
    unseen = {k: FewShot(test, WAY, k, QUERY) for k in SHOTS}
    shots["floor"] = {k: [tested(PixelFloor(), tasks, args.episodes)] for k, tasks in unseen.items()}
    work.write({
        **work.spent(), "way": WAY, "query": QUERY, "episodes": args.episodes, "episode_seed": 0, "channels": CHANNELS,
        "image_passes": args.passes, "passes_per_iteration": COST, "bank": test.digest(),
        "digests": {k: meta_test(PixelFloor(), tasks, args.episodes).digest for k, tasks in unseen.items()},
        "tuning": tuning, "classes": classes, "shots": shots, "unit": f"right answers of {WAY * QUERY}, task by task"})


def one_learner(name: str, train: ClassImages, val: ClassImages, test: ClassImages, args: argparse.Namespace,
                work: Work) -> tuple[Any, Any, Any]:
    """Everything about one learner: what was chosen, accuracy by training classes, accuracy by shots."""
    trained: dict[tuple[int, int, float], Learner] = {}

    def learner(n: int, seed: int, lr: float) -> Learner:
        if (n, seed, lr) not in trained:
            trained[n, seed, lr] = fit(name, some(train, n, seed), seed, lr, args.passes)
        return trained[n, seed, lr]

    def by_classes(n: int, seed: int) -> dict[str, str]:
        net, bank = learner(n, seed, best["lr"]), some(train, n, seed)
        return {"train": tested(net, FewShot(bank, WAY, 1, QUERY), args.episodes // 2, best["option"]),
                "test": tested(net, FewShot(test, WAY, 1, QUERY), args.episodes, best["option"])}

    def by_shots(k: int) -> dict[str, Any]:
        nets = [learner(CLASSES[-1], seed, best["lr"]) for seed in range(args.seeds)]
        option, tried = best_option(nets[0], FewShot(val, WAY, k, QUERY))
        return {"option": option, "validation": tried,
                "test": [tested(net, FewShot(test, WAY, k, QUERY), args.episodes, option) for net in nets]}

    best = work.part(f"{name}: tuning", lambda: tuned(lambda lr: learner(CLASSES[-1], 0, lr), val))
    print(name, best, work.spent(), flush=True)
    classes = {n: [work.part(f"{name}: {n} classes, seed {seed}", lambda: by_classes(n, seed))  # noqa: B023
                   for seed in range(args.seeds)] for n in reversed(CLASSES)}
    print(name, "classes", work.spent(), flush=True)
    shots = {1: {"option": best["option"], "test": [part["test"] for part in classes[CLASSES[-1]]]},
             **{k: work.part(f"{name}: {k} shots", lambda: by_shots(k)) for k in SHOTS[1:]}}  # noqa: B023
    print(name, "shots", {k: part["option"] for k, part in shots.items()}, work.spent(), flush=True)
    return best, classes, shots


def some(train: ClassImages, n: int, seed: int) -> ClassImages:
    """n of the training classes, drawn with the seed: the first n of one order, so that more classes include fewer."""
    return train.subset(torch.randperm(len(train), generator=seeded(derived(seed, "classes")))[:n].tolist())


def fit(name: str, train: ClassImages, seed: int, lr: float, total: int) -> Learner:
    """A learner that was trained on `total` image passes."""
    torch.manual_seed(seed)
    if name == "maml":
        learner, tasks = MAML(conv4(WAY, channels=CHANNELS), inner_lr=INNER, steps=1), FewShot(train, WAY, 1, QUERY)
    elif name == "protonet":
        learner, tasks = ProtoNet(conv4(channels=CHANNELS)), FewShot(train, WAY, 1, QUERY)
    else:
        learner = Pretrained(conv4(channels=CHANNELS), classes=len(train))
        tasks = Classify(train, COST[name])
    meta_train(learner, tasks, TrainConfig(iterations=total // COST[name], meta_batch=1, lr=lr, schedule="cosine",
                                           clip=10, seed=seed))
    return learner


def tuned(learner: Any, val: ClassImages) -> dict[str, Any]:
    """The rate and the option that are best on validation tasks, and everything that was tried."""
    tried: dict[float, dict[str, float]] = {}
    rates = list(RATES)
    while rates:
        for lr in rates:
            tried[lr] = best_option(learner(lr), FewShot(val, WAY, 1, QUERY))[1]
        lr = max(tried, key=lambda lr: max(tried[lr].values()))
        rates = [lr / FACTOR] if lr == min(tried) else [lr * FACTOR] if lr == max(tried) else []
    return {"lr": lr, "option": max(tried[lr], key=tried[lr].__getitem__),
            "tried": {rate: tried[rate] for rate in sorted(tried)}}


def best_option(learner: Learner, tasks: FewShot) -> tuple[str, dict[str, float]]:
    """MAML's steps or Pretrained's head, chosen on validation tasks; and the accuracy with each."""
    if isinstance(learner, MAML):
        path = meta_test_path(learner, tasks, STEPS, TRIED)
        tried = {str(j): s.mean for j, s in enumerate(path) if j}
    else:
        tried = {option: tested_score(learner, tasks, TRIED, option).mean
                 for option in (("centroid", "linear") if isinstance(learner, Pretrained) else ("",))}
    tried = {option: round(mean, 4) for option, mean in tried.items()}
    return max(tried, key=tried.__getitem__), tried


def tested_score(learner: Learner, tasks: FewShot, episodes: int, option: str) -> Score:
    if isinstance(learner, MAML):  # all tasks at once is faster for few support images, and no other number
        return meta_test(learner, tasks, episodes, steps=int(option), map="vmap" if tasks.shot < 3 else "auto")
    if isinstance(learner, Pretrained):
        learner.head = option
    return meta_test(learner, tasks, episodes)


def tested(learner: Learner, tasks: FewShot, episodes: int, option: str = "") -> str:
    """Right answers of each task."""
    return counts(tested_score(learner, tasks, episodes, option), tasks)


if __name__ == "__main__":
    main()
