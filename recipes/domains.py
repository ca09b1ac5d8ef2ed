"""What a network that was trained on one domain of images can tell apart in others: chapter 14's matrix.

    OMP_NUM_THREADS=1 python recipes/domains.py --force    # replaces what is there; --resume runs/domains continues
    OMP_NUM_THREADS=1 python recipes/domains.py --smoke    # a fragment of everything in seconds: domains-smoke.json

Needs qtawesome and scikit-learn, and Omniglot and the blood cells in the data root (or a network, once); without the
loader of the cells that column is left out. Writes results/domains.json; about 30 CPU-minutes.

Training: print (glyphs()), handwriting (Omniglot), icons (pictograms()), or all three, each task from one of them. Each
domain gives as many classes of its training split as icons has, and 16 drawings of each, with their quarter turns as
further classes (on validation classes that was better for icons and no worse for handwriting); a seed draws the
classes. "All three" has three times the classes and not a step more. Four alphabets of Omniglot are left out, since
glyphs() trains or tests on the same scripts. Every network is a conv4 of 32 channels and sees 240 x 120 images, the
classifiers marked x10 ten times as many. ProtoNet: 20-way 1-shot, five queries; classifier: 120 images, all classes.

Tuning: one outer rate for each method and training set, by 5-way tasks of the validation classes of that set itself,
after a third of the steps; the grid grows where its edge wins. Nothing is chosen on a test task.

Test: the same 250 tasks for all rows, 5-way 1-shot with five queries a class (cells: 3-way) of the test splits; of all
ten digits, in the middle of the paper and moved by up to 4 pixels; and of blood cells, grey, dark for light, one of a
class a smear. "Pixels, centred" moves each picture's ink to the middle before pixels are compared; "pixels, sliding"
takes the best of 81 placements, up to 4 pixels either way.
"""

from __future__ import annotations

import argparse
import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from cost import passes
from leaks import values
from record import Work, minus, options, over_seeds, settings
from torch import Tensor

from metalib import (
    ClassImages,
    FewShot,
    Learner,
    PixelFloor,
    Pretrained,
    ProtoNet,
    TrainConfig,
    conv4,
    glyphs,
    meta_test,
    meta_train,
    omniglot,
)
from metalib.data.digits import digits
from metalib.data.pictograms import pictograms
from metalib.functional import seeded
from metalib.tasks import Classify

DRAWN, DRAWINGS = ("print", "handwriting", "icons"), 16
HOMES = (*DRAWN, "all three")
WAY, QUERY, CHANNELS, RATES = 20, 5, 32, (3e-3, 1e-2, 3e-2)
# Scripts that glyphs() tests or validates on, and one that it trains on: their characters would be in two domains.
IN_PRINT = ("N_Ko", "Hebrew", "Mkhedruli_(Georgian)", "Old_Church_Slavonic_(Cyrillic)")
METHODS: dict[str, tuple[str, int, tuple[str, ...]]] = {  # name -> (norm, times the steps, training sets)
    "ProtoNet": ("batch", 1, HOMES), "ProtoNet, group norm": ("group", 1, HOMES), "classifier": ("batch", 1, HOMES),
    "classifier x10": ("batch", 10, ("print", "all three"))}


# ---------------------------------------------------------------- the domains

@functools.cache
def drawn() -> dict[str, ClassImages]:
    """The three domains with splits."""
    script = omniglot("background")
    script = script.subset(c for c, alphabet in enumerate(script.groups) if alphabet not in IN_PRINT)
    return {"print": glyphs(), "handwriting": script, "icons": pictograms()}


@functools.cache
def home(name: str, seed: int) -> ClassImages:
    """The training classes of one domain, or of all: equally many of each, equally many drawings, and quarter turns."""
    n = min(len(bank.split("train")) for bank in drawn().values())
    parts = [drawn()[domain].split("train") for domain in (DRAWN if name == "all three" else (name,))]
    chosen = [torch.randperm(len(bank), generator=seeded(seed))[:n].tolist() for bank in parts]
    return together([first(bank.subset(c), DRAWINGS) for bank, c in zip(parts, chosen)]).with_rotations()


@functools.cache
def rehearsal(name: str) -> FewShot:
    """Tasks of the validation classes of a training set; of all three, each task from one domain."""
    banks = [drawn()[domain].split("val") for domain in (DRAWN if name == "all three" else (name,))]
    return FewShot(together([first(bank, DRAWINGS) for bank in banks]), way=5, shot=1, query=5, within="group")


@functools.cache
def columns() -> dict[str, ClassImages]:
    """What is tested."""
    found = {name: bank.split("test") for name, bank in drawn().items()}
    return {**found, "digits": digits(), "shifted digits": digits(shift=4), **cells()}


def cells() -> dict[str, ClassImages]:
    """Blood cells as the drawn domains are, bright on dark; of a smear the first of each class."""
    try:
        bank = importlib.import_module("metalib.data.bccd").bccd()
    except ImportError:
        print("metalib.data.bccd is not here: the column of blood cells is left out")
        return {}
    seen = list(zip(bank.labels.tolist(), bank.about["smear"]))
    rows = [i for i, one in enumerate(seen) if i == 0 or one != seen[i - 1]]  # sorted by class, then by smear
    grey = 255 - bank.images[rows].float().mean(1).round()
    return {"blood cells": ClassImages.from_arrays(grey.to(torch.uint8), bank.labels[rows], names=bank.names)}


def first(bank: ClassImages, count: int) -> ClassImages:
    """The first drawings of every class."""
    rows = (bank.starts[:, None] + torch.arange(count)).flatten()
    return ClassImages.from_arrays(bank.images[rows], bank.labels[rows], names=bank.names, groups=bank.groups)


def together(banks: list[ClassImages]) -> ClassImages:
    """One bank of several, whose groups are their numbers."""
    before = torch.tensor([0, *(len(bank) for bank in banks)]).cumsum(0).tolist()
    return ClassImages.from_arrays(
        torch.cat([bank.images for bank in banks]), torch.cat([b.labels + n for b, n in zip(banks, before)]),
        names=[name for bank in banks for name in bank.names],
        groups=[f"domain {i}" for i, bank in enumerate(banks) for _ in bank.names])


def centred(bank: ClassImages) -> ClassImages:
    """Each picture moved by whole pixels, so that the centre of its ink is the middle of the paper."""
    ink, side = bank.images[:, 0].double(), bank.shape[-1]
    at = torch.arange(side, dtype=torch.float64)
    total = ink.sum((1, 2)).clamp(min=1)
    move = torch.stack([(side - 1) / 2 - (ink.sum(2) @ at) / total, (side - 1) / 2 - (ink.sum(1) @ at) / total], 1)
    moved = [x.roll((int(a), int(b)), (0, 1)) for x, (a, b) in zip(bank.images[:, 0], move.round().tolist())]
    return ClassImages.from_arrays(torch.stack(moved), bank.labels, names=bank.names)


# ---------------------------------------------------------------- training and testing

class SlidingPixels(PixelFloor):
    """The cosine with each mean support image, moved over the query to where it fits best."""

    def __init__(self, reach: int = 4) -> None:
        super().__init__()
        self.reach = reach

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        z = F.normalize(x.flatten(1), dim=1).view_as(x)  # (M, 1, H, W)
        return F.conv2d(F.pad(z, [self.reach] * 4), phi.view(-1, *x.shape[1:])).amax((2, 3))  # (M, N)


def trained(method: str, name: str, seed: int, lr: float, steps: int) -> Learner:
    norm, times, _ = METHODS[method]
    bank = home(name, seed)
    torch.manual_seed(seed)
    encoder = conv4(channels=CHANNELS, norm=norm)
    within = "group" if name == "all three" else None
    if method.startswith("ProtoNet"):
        learner, tasks = ProtoNet(encoder), FewShot(bank, way=WAY, shot=1, query=QUERY, within=within)
    else:
        learner, tasks = Pretrained(encoder, classes=len(bank)), Classify(bank, batch=WAY * (1 + QUERY))
    meta_train(learner, tasks, TrainConfig(iterations=times * steps, meta_batch=1, lr=lr, schedule="cosine", seed=seed))
    return learner


def rate(work: Work, method: str, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The outer rate with the best validation tasks, and what each had; the grid grows until the best is inside it."""
    found: dict[float, float] = {}
    if method == "classifier x10":  # ten times the steps with the rate of the one that has as many as the others
        return rate(work, "classifier", name, args)
    grid, steps = list(args.rates), max(1, args.iterations // 3)

    def tried(lr: float) -> float:
        return meta_test(trained(method, name, 0, lr, steps), rehearsal(name), args.tuning, seed=1).mean

    while grid:
        lr = grid.pop(0)
        found[lr] = work.part(f"tuning: {method}, {name}, {lr:g}", lambda: tried(lr))  # noqa: B023
        best = max(found, key=lambda r: found[r])
        if not grid and len(args.rates) > 1 and best in (min(found), max(found)) and len(found) < 7:
            grid = [float(f"{best * (0.3 if best == min(found) else 3):.1g}")]
    return {"chosen": best, "validation": {f"{r:g}": round(v, 4) for r, v in sorted(found.items())}}


def exams(learner: Learner, n: int, change: Callable[[ClassImages], ClassImages] = lambda bank: bank,
          ) -> dict[str, list[float]]:
    """Accuracy on each test task, by column."""
    return {column: values(learner, FewShot(change(bank), way=min(5, len(bank)), shot=1, query=5), n)
            for column, bank in columns().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=240)
    parser.add_argument("--episodes", type=int, default=250, help="test tasks a column")
    parser.add_argument("--tuning", type=int, default=100, help="validation tasks a rate")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--smoke", action="store_true", help="a fragment of everything, written as domains-smoke.json")
    options(parser)
    args = parser.parse_args()
    if args.smoke:
        args.seeds, args.iterations, args.episodes, args.tuning, args.rates = 1, 1, 3, 2, (3e-3,)
    torch.set_num_threads(1)
    work, seeds = Work("domains-smoke" if args.smoke else "domains", args), range(args.seeds)
    tuning = {method: {name: rate(work, method, name, args) for name in sets} for method, (*_, sets) in METHODS.items()}
    rows = {"pixels": [work.part("pixels", lambda: exams(PixelFloor(), args.episodes))],
            "pixels, centred": [work.part("centred", lambda: exams(PixelFloor(), args.episodes, centred))],
            "pixels, sliding": [work.part("sliding", lambda: exams(SlidingPixels(), args.episodes))]}

    def untrained(seed: int) -> Learner:
        torch.manual_seed(seed)
        return ProtoNet(conv4(channels=CHANNELS))

    rows["random Conv4"] = [work.part(f"random {seed}", lambda: exams(untrained(seed), args.episodes))  # noqa: B023
                            for seed in seeds]
    for method, (*_, sets) in METHODS.items():
        for name in sets:
            lr = tuning[method][name]["chosen"]
            rows[f"{method}: {name}"] = [work.part(f"{method}, {name} {seed}", lambda: exams(
                trained(method, name, seed, lr, args.iterations), args.episodes)) for seed in seeds]  # noqa: B023
        print(method, work.spent(), flush=True)
    over = list(rows["pixels"][0])

    def column(row: str, name: str) -> list[list[float]]:
        return [run[name] for run in rows[row]]

    def differences(a: str, b: str) -> dict[str, Any]:
        return {name: minus(column(a, name), column(b, name)) for name in over}

    work.write({
        **work.spent(), "config": settings(args), "train classes": len(home("print", 0)) // 4, "drawings": DRAWINGS,
        "image_passes": {m: times * args.iterations * passes(WAY, WAY * QUERY, steps=1, order=1)
                         for m, (_, times, _) in METHODS.items()},
        "domains": {name: {"train": len(b.split("train")), "val": len(b.split("val")), "test": len(b.split("test")),
                           "digest": b.digest()} for name, b in drawn().items()},
        "test": {name: {"classes": len(b), "images": len(b.labels), "digest": b.digest()}
                 for name, b in columns().items()},
        "tuning": tuning,
        "rows": {row: {name: over_seeds(column(row, name)) for name in over} for row in rows},
        "minus pixels": {row: differences(row, "pixels") for row in rows if row != "pixels"},
        "minus sliding pixels": {row: differences(row, "pixels, sliding") for row in rows if row != "pixels, sliding"},
        "group minus batch": {name: differences(f"ProtoNet, group norm: {name}", f"ProtoNet: {name}")
                              for name in HOMES},
        **{f"ProtoNet minus {method}": {name: differences(f"ProtoNet: {name}", f"{method}: {name}")
                                        for name in METHODS[method][2]} for method in ("classifier", "classifier x10")},
        "all three minus home": {name: minus(column("ProtoNet: all three", name), column(f"ProtoNet: {name}", name))
                                 for name in DRAWN}})


if __name__ == "__main__":
    main()
