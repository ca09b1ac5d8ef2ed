"""One trained network, many headlines: the scores that chapter 3 dissects. A small Conv4 on glyphs().

    OMP_NUM_THREADS=1 python recipes/honest.py --force    # replaces what is there; --resume runs/honest continues

Needs no network; about six CPU-minutes. Writes results/honest.json (per-task scores) and
results/checkpoints/honest-*.pt, which chapter 3 reads.

ProtoNet and Pretrained train at equal compute, on as many images forward and backward. Each chooses its learning rate
on validation scripts, at 120 images an update, and then halves the update, with twice as many of them, while that does
better there. Then once for each seed.
"""

from __future__ import annotations

import argparse

import torch
from cost import passes
from record import Work, checkpoint, options

from metalib import (
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
    meta_train,
)
from metalib.judging.elsewhere import Alone

LRS, CHANNELS = (1e-3, 3e-3, 1e-2), 16
WAYS = (20, 10, 5)  # of ProtoNet's training tasks, 1-shot with 5 queries: 120, 60, 30 images, and Pretrained's batches
IMAGES = {way: passes(way, way * 5, steps=1, order=1) for way in WAYS}
NAMES = ("protonet", "pretrained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="training seeds of ProtoNet and of Pretrained")
    parser.add_argument("--iterations", type=int, default=300, help="of each, if an update sees 120 images")
    parser.add_argument("--episodes", type=int, default=600, help="test tasks")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, images = Work("honest", args, *(checkpoint(f"honest-{name}") for name in NAMES)), glyphs()
    train, val, test = (images.split(part) for part in ("train", "val", "test"))
    n, tasks, val_tasks = args.episodes, FewShot(test), FewShot(val)
    tuning, validation, seeds, first, chosen = {}, {}, {}, {}, {}
    for name in NAMES:
        def trained(seed: int, lr: float, way: int) -> tuple[Learner, float]:
            total = args.iterations * IMAGES[WAYS[0]]
            return fit(name, seed, lr, way, total // IMAGES[way], train, val_tasks, work)  # noqa: B023 (used at once)

        tried = {(lr, WAYS[0]): trained(0, lr, WAYS[0]) for lr in LRS}
        lr, way = max(tried, key=lambda key: tried[key][1])  # noqa: B023
        while lr == max(one for one, _ in tried):  # the winner at the edge: a wider grid
            beyond = round(lr * 10**0.5, 3)
            tried[beyond, WAYS[0]] = trained(0, beyond, WAYS[0])
            lr, way = max(tried, key=lambda key: tried[key][1])  # noqa: B023
        for smaller in WAYS[1:]:
            tried[lr, smaller] = trained(0, lr, smaller)
            if tried[lr, smaller][1] <= tried[lr, way][1]:
                break
            way = smaller
        fitted = [tried[lr, way], *(trained(seed, lr, way) for seed in range(1, args.seeds))]
        tuning[name] = {f"{one:g}, {IMAGES[size]} images": v for (one, size), (_, v) in tried.items()}
        chosen[name] = {"lr": lr, "images_per_iteration": IMAGES[way]}
        validation[name] = [v for _, v in fitted]
        seeds[name] = [work.part(f"{name} {seed}", lambda: counts(meta_test(learner, tasks, n), tasks))  # noqa: B023
                       for seed, (learner, _) in enumerate(fitted)]
        first[name] = fitted[0][0]
        print(name, chosen[name], tuning[name], "validation", validation[name], work.spent(), flush=True)
    protocols = {name: work.part(f"protocols of {name}", lambda: by_protocol(learner, tasks, FewShot(train), n))  # noqa: B023
                 for name, learner in first.items()}
    scripts, protonet = {}, first["protonet"]
    for script in sorted(set(val.groups) | set(test.groups)):
        one = FewShot(images.subset([c for c, group in enumerate(images.groups) if group == script]))
        scripts[script] = work.part(f"script {script}", lambda: counts(meta_test(protonet, one, 200), one))  # noqa: B023
    work.write({
        **work.spent(), "way": 5, "shot": 1, "query": 15, "episode_seed": 0, "episodes": n,
        "digest": meta_test(PixelFloor(), tasks, n).digest, "bank": test.digest(), "channels": CHANNELS,
        "images": args.iterations * IMAGES[WAYS[0]], "chosen": chosen, "tuning": tuning, "validation": validation,
        "protocols": protocols, "seeds": seeds, "scripts": scripts,
        "validation_scripts": sorted(set(val.groups)), "unit": "correct queries of 75, task by task"},
        {checkpoint(f"honest-{name}"): learner for name, learner in first.items()})


def fit(name: str, seed: int, lr: float, way: int, iterations: int, train: ClassImages,
        val_tasks: FewShot, work: Work) -> tuple[Learner, float]:
    """(trained learner, its validation accuracy): the better of two checkpoints on validation scripts."""
    torch.manual_seed(seed)
    if name == "protonet":
        learner, tasks = ProtoNet(conv4(channels=CHANNELS)), FewShot(train, way, 1, 5)
    else:
        learner, tasks = Pretrained(conv4(channels=CHANNELS), classes=len(train)), Classify(train, IMAGES[way])
    config = TrainConfig(iterations=iterations, meta_batch=1, lr=lr, schedule="cosine", clip=10, seed=seed,
                         val_every=max(iterations // 2, 1), val_episodes=100,
                         checkpoint=work.state(f"{name}-{seed}-{lr}-{way}"))
    history = meta_train(learner, tasks, config, val_tasks)
    return learner, round(max(mean for _, mean, _ in history.validations), 5)


def by_protocol(learner: Learner, tasks: FewShot, seen: FewShot, n: int) -> dict[str, str]:
    """Per-task scores of one learner under the protocols of chapter 3."""
    return {"together": counts(meta_test(learner, tasks, n), tasks),
            "support + one": counts(meta_test(learner, tasks, n // 2, transductive=False), tasks),  # slow
            "alone": counts(meta_test(Alone(learner), tasks, n), tasks),
            "seen scripts": counts(meta_test(learner, seen, n), seen)}


def counts(score: Score, tasks: FewShot) -> str:
    """The number of correct queries of each task, as text: exact, and short enough to commit."""
    return " ".join(str(round(v * tasks.way * tasks.query)) for v in score.values.tolist())


if __name__ == "__main__":
    main()
