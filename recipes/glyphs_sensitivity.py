"""How MAML's accuracy on glyphs depends on its rates and steps. Every number is on validation scripts, none on test.

    python recipes/glyphs_sensitivity.py rates     # outer rate: MAML, ProtoNet and Pretrained at equal compute
    python recipes/glyphs_sensitivity.py testing   # inner rate and inner steps, at test time, of glyphs-maml.pt

Each writes results/glyphs-sensitivity-PART.json (--force replaces it; --resume FILE continues). Compute is counted in
image passes: one image forward and backward through the network. An inner step that is differentiated counts twice.
"""

from __future__ import annotations

import argparse

import torch
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

PASSES, CHANNELS = 28_000, 16  # chapter 5 trains live with these
RATES = (1e-3, 4e-3, 1.6e-2)


def run(images: ClassImages, name: str, lr: float) -> Learner:
    """Train one learner on PASSES image passes: the learner of chapter 5's live runs."""
    torch.manual_seed(0)
    train = images.split("train")
    if name == "maml":
        learner, tasks = MAML(conv4(5, channels=CHANNELS), inner_lr=0.4, steps=1), FewShot(train, query=5)
        T, passes = 4, 2 * 5 + 25
    elif name == "protonet":
        learner, tasks, T, passes = ProtoNet(conv4(channels=CHANNELS)), FewShot(train, query=5), 1, 5 + 25
    else:
        learner = Pretrained(conv4(channels=CHANNELS), classes=len(train))
        tasks, T, passes = Classify(train, batch=64), 1, 64
    iterations = PASSES // (T * passes)
    meta_train(learner, tasks, TrainConfig(iterations=iterations, meta_batch=T, lr=lr, schedule="cosine", clip=10))
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
