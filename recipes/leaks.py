"""Chapter 2's leaks that need training, over three seeds, and each cause changed alone.

    OMP_NUM_THREADS=1 python recipes/leaks.py --force    # replaces what is there; --resume runs/leaks continues

Needs no network; about two CPU-minutes. Writes results/leaks.json. All tasks are 5-way 1-shot on glyphs(), all
networks ProtoNets with 784-64-64 units as in the chapter, trained on 300 meta-iterations of 8 tasks; nothing is tuned.

    unseen     One exam on a random half of every test script's classes, drawings 10-19. Training: drawings 0-9 of those
               classes; of the other half, so of the same scripts; of as many classes of other scripts. A seed draws the
               halves, the other classes and the weights.
    turned     Rotations of one character meet, or do not: on the half of the characters that resemble their half turn
               least, and on the half that resemble it most.
    labels     A learner that never reads the support, trained with class c always labelled c mod 5.
    statistics One encoder as it is; and one whose features are standardised over the batch in training, as they are and
               divided by four. These are tested with the statistics of all the queries, of one query with the support,
               of the training classes.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from record import Work, minus, options, over_seeds, settings
from torch import Tensor, nn

from metalib import (
    ClassImages,
    Data,
    FewShot,
    Learner,
    PixelFloor,
    ProtoNet,
    TrainConfig,
    glyphs,
    meta_test,
    meta_train,
    mlp,
)
from metalib.functional import seeded

FEW: dict[str, Any] = {"way": 5, "shot": 1, "query": 15, "dtype": torch.float64}


class RotationsMeet(FewShot):
    """Labels 0 to 3 are the four rotations of one character."""

    def sample_indices(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        classes, examples = super().sample_indices(n, generator=generator)
        B = len(self.images) // 4
        classes[:, 1:4] = (classes[:, :1] + B * torch.arange(1, 4)) % (4 * B)
        return classes, examples


class FixedLabels(FewShot):
    """Class c has label c mod N in every episode."""

    def sample_indices(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        classes, examples = super().sample_indices(n, generator=generator)
        group = torch.randint(len(self.images) // self.way, (n, self.way), generator=generator)
        return self.way * group + torch.arange(self.way), examples


class IdentityOnly(Learner):
    """Never looks at the support."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def adapt(self, support: Data) -> Tensor:
        return support.y[:0]

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        return self.net(x)


class Standardised(nn.Module):
    """An encoder whose features have mean 0 and deviation `scale` over the batch at hand, or over a fixed one."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net, self.scale, self.fixed = net, scale, None

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)  # (M, D)
        basis = z if self.fixed is None else self.fixed
        return self.scale * (z - basis.mean(0)) / (basis.var(0, correction=0) + 1e-3).sqrt()


def drawings(bank: ClassImages, first: int, last: int) -> ClassImages:
    """The same classes with drawings first .. last - 1 only."""
    rows = (bank.starts[:, None] + torch.arange(first, last)).flatten()
    return ClassImages.from_arrays(bank.images[rows], bank.labels[rows], names=bank.names, groups=bank.groups)


def some(bank: ClassImages, n: int, seed: int) -> ClassImages:
    return bank.subset(torch.randperm(len(bank), generator=seeded(seed))[:n].tolist())


def halves(bank: ClassImages, seed: int) -> tuple[ClassImages, ClassImages]:
    """Two halves of the classes of every group."""
    order = torch.randperm(len(bank), generator=seeded(seed)).tolist()
    parts: tuple[list[int], list[int]] = ([], [])
    for group in dict.fromkeys(bank.groups):
        for i, c in enumerate(c for c in order if bank.groups[c] == group):
            parts[i % 2].append(c)
    return bank.subset(parts[0]), bank.subset(parts[1])


def protonet(bank: ClassImages, seed: int, scale: float | None = None) -> ProtoNet:
    """One ProtoNet; with a scale, its features are standardised."""
    torch.manual_seed(seed)
    net = mlp(784, (64,), 64)
    learner = ProtoNet(Standardised(net, scale) if scale else net).double()
    meta_train(learner, FewShot(bank, **FEW | {"query": 5}), config(seed))
    return learner


def config(seed: int) -> TrainConfig:
    return TrainConfig(iterations=300, meta_batch=8, lr=1e-3, seed=seed)


def values(learner: Learner, tasks: Any, n: int, **how: Any) -> list[float]:
    return [round(v, 6) for v in meta_test(learner, tasks, n, **how).values.tolist()]


def unseen(seed: int, train: ClassImages, test: ClassImages, n: int) -> dict[str, list[float]]:
    own, same = halves(test, seed)
    exam, count = FewShot(drawings(own, 10, 20), **FEW | {"query": 9}), min(len(own), len(same))
    banks = {"the exam's own classes": some(own, count, seed), "other scripts": some(train, count, seed),
             "other classes, the same scripts": some(same, count, seed)}
    found = {name: values(protonet(drawings(bank, 0, 10), seed), exam, n) for name, bank in banks.items()}
    return {**found, "nearest pixels": values(PixelFloor(), exam, n)}


def turned(learner: Learner, test: ClassImages, n: int) -> dict[str, list[float]]:
    bank, B = test.with_rotations(), len(test)
    upright, upside = (bank.images.reshape(4, B, 20, -1)[r].double().mean(1) for r in (0, 2))
    order = nn.functional.cosine_similarity(upright, upside).argsort()
    found = {}
    for name, part in (("least alike", order[: B // 2]), ("most alike", order[-(B // 2):])):
        half = bank.subset(torch.cat([part + r * B for r in range(4)]).tolist())
        for draw, sampler in (("apart", FewShot), ("meet", RotationsMeet)):
            found[f"{name}, {draw}"] = values(learner, sampler(half, **FEW), n)
    return found


def labels(seed: int, others: ClassImages, test: ClassImages, n: int) -> dict[str, list[float]]:
    twenty = others.subset(range(20))
    old, new = drawings(twenty, 0, 10), drawings(twenty, 10, 20)
    found = {}
    for name, sampler in (("fresh", FewShot), ("fixed", FixedLabels)):
        torch.manual_seed(seed)
        learner = IdentityOnly(mlp(784, (64,), 5)).double()
        meta_train(learner, sampler(old, **FEW | {"query": 9}), config(seed))
        found[name] = values(learner, sampler(new, **FEW | {"query": 9}), n)
    found["fixed, then fresh"] = values(learner, FewShot(new, **FEW | {"query": 9}), n)
    found["fixed, new scripts"] = values(learner, FixedLabels(test, **FEW), n)
    return found


def statistics(seed: int, others: ClassImages, test: ClassImages, plain: Learner, n: int) -> dict[str, list[float]]:
    known, tasks = drawings(others, 0, 10), FewShot(test, **FEW)
    found = {"no standardisation": values(plain, tasks, n)}
    for scale, suffix in ((1.0, ""), (0.25, ", features / 4")):
        learner = protonet(known, seed, scale)
        found[f"all queries{suffix}"] = values(learner, tasks, n)
        found[f"one query{suffix}"] = values(learner, tasks, n, transductive=False)
        with torch.no_grad():
            learner.encoder.fixed = learner.encoder.net(known.images.double() / 255)
        found[f"training classes{suffix}"] = values(learner, tasks, n)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=600)
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, images, n = Work("leaks", args), glyphs(), args.episodes
    train, test = images.split("train"), images.split("test")

    def one(seed: int) -> dict[str, dict[str, list[float]]]:
        others = some(train, len(test), seed)
        plain = protonet(drawings(others, 0, 10), seed)
        return {"unseen": unseen(seed, train, test, n), "turned": turned(plain, test, n),
                "labels": labels(seed, others, test, n), "statistics": statistics(seed, others, test, plain, n)}

    runs = [work.part(f"seed {seed}", lambda: one(seed)) for seed in range(args.seeds)]  # noqa: B023 (used at once)
    tables = {part: {row: [r[part][row] for r in runs] for row in runs[0][part]} for part in runs[0]}
    pairs = {"unseen": [("the exam's own classes", "other scripts"),
                        ("the exam's own classes", "other classes, the same scripts"),
                        ("other classes, the same scripts", "other scripts")],
             "turned": [("least alike, meet", "least alike, apart"), ("most alike, meet", "most alike, apart")],
             "labels": [],
             "statistics": [("all queries", "one query"), ("all queries", "training classes"),
                            ("no standardisation", "all queries"),
                            ("all queries, features / 4", "one query, features / 4"),
                            ("all queries, features / 4", "training classes, features / 4"),
                            ("no standardisation", "all queries, features / 4")]}
    work.write({**work.spent(), "config": settings(args), "bank": test.digest(), "way": 5, "shot": 1,
                "training_images": config(0).iterations * config(0).meta_batch * 30, **{
                    part: {"rows": {row: over_seeds(v) for row, v in rows.items()},
                           "pairs": {f"{a} minus {b}": minus(rows[a], rows[b]) for a, b in pairs[part]}}
                    for part, rows in tables.items()}})


if __name__ == "__main__":
    main()
