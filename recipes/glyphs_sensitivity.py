"""How MAML's accuracy on glyphs depends on its rates and steps. Every number is on validation scripts, none on test.

    python recipes/glyphs_sensitivity.py rates --force     # outer rate: MAML, ProtoNet and Pretrained at equal compute
    python recipes/glyphs_sensitivity.py testing --force   # inner rate and steps, at test time, of glyphs-maml.pt

Each replaces results/glyphs-sensitivity-PART.json (without --force: refuses to; --resume FILE continues). Compute is
counted in image passes, one image forward and backward through the network, by the formula of cost.py.
"""

from __future__ import annotations

import argparse

import torch
from cost import passes
from record import Work, checkpoint, options, score_fields

from metalib import (
    MAML,
    Classify,
    ClassImages,
    FewShot,
    Learner,
    Pretrained,
    ProtoNet,
    TrainConfig,
    conv4,
    glyphs,
    load,
    meta_test,
    meta_test_path,
    meta_train,
)

WAY, SHOT, QUERY, CHANNELS = 5, 1, 5, 16
COST = {"maml": 4 * passes(WAY * SHOT, WAY * QUERY, steps=1),  # passes of a meta-iteration: 4 tasks,
        "protonet": passes(WAY * SHOT, WAY * QUERY, steps=1, order=1), "pretrained": 64}  # one task, a batch
PASSES = 200 * COST["maml"]  # chapter 5 trains its MAML live for 200 meta-iterations, and its rivals as long
RATES = (1e-3, 4e-3, 1.6e-2)


def run(images: ClassImages, name: str, lr: float) -> Learner:
    """Train one learner on PASSES image passes: the learner of chapter 5's live runs."""
    torch.manual_seed(0)
    train = images.split("train")
    if name == "maml":
        learner, tasks = MAML(conv4(WAY, channels=CHANNELS), inner_lr=0.4, steps=1), FewShot(train, WAY, SHOT, QUERY)
    elif name == "protonet":
        learner, tasks = ProtoNet(conv4(channels=CHANNELS)), FewShot(train, WAY, SHOT, QUERY)
    else:
        learner = Pretrained(conv4(channels=CHANNELS), classes=len(train))
        tasks = Classify(train, batch=COST["pretrained"])
    config = TrainConfig(iterations=PASSES // COST[name], meta_batch=4 if name == "maml" else 1, lr=lr,
                         schedule="cosine", clip=10)
    meta_train(learner, tasks, config)
    return learner


def rates(images: ClassImages, val: FewShot, work: Work) -> dict[str, object]:
    rows: list[dict[str, object]] = []
    for name in ("maml", "protonet", "pretrained"):
        for lr in RATES:
            rows += work.part(f"{name} {lr}", lambda: scores(run(images, name, lr), name, lr, val))  # noqa: B023
            print(rows[-1], flush=True)
    return {"image_passes": PASSES, "channels": CHANNELS, "rows": rows}


def scores(learner: Learner, name: str, lr: float, val: FewShot) -> list[dict[str, object]]:
    """On validation tasks; Pretrained with either head."""
    rows = []
    for head in ("centroid", "linear") if name == "pretrained" else (None,):
        if head:
            learner.head = head
        rows.append({"learner": name, "lr": lr, "head": head, "val": score_fields(meta_test(learner, val, 60))})
    return rows


def testing(images: ClassImages, val: FewShot, work: Work) -> dict[str, object]:
    learner, rows = load(checkpoint("glyphs-maml")), []
    for inner_lr in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2):
        learner.inner_lr = inner_lr
        path = work.part(str(inner_lr), lambda: [score_fields(s) for s in meta_test_path(learner, val, 5, 40)])
        rows.append({"inner_lr": inner_lr, "path": path})
        print(inner_lr, *path, sep="\n  ", flush=True)
    return {"checkpoint": "results/checkpoints/glyphs-maml.pt", "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("rates", "testing"))
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, images = Work(f"glyphs-sensitivity-{args.part}", args), glyphs()
    result = {"rates": rates, "testing": testing}[args.part](images, FewShot(images.split("val")), work)
    work.write({**work.spent(), "seed": 0, "split": "glyphs, validation scripts", **result})


if __name__ == "__main__":
    main()
