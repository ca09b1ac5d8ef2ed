"""What a network that was trained on one domain of images can tell apart in others: chapter 14's matrix.

    OMP_NUM_THREADS=1 python recipes/domains.py --force    # replaces what is there; --resume runs/domains continues
    OMP_NUM_THREADS=1 python recipes/domains.py --smoke    # a fragment of everything in seconds: domains-smoke.json

Needs qtawesome and scikit-learn, and Omniglot and the blood cells in the data root (or a network, once); without the
loader of the cells that column is left out. Writes results/domains.json; about 25 CPU-minutes.

Training: print (glyphs()), handwriting (Omniglot), icons (pictograms()), two of them, or all three, each task from one
of them. Each domain gives as many classes of its training split as icons has, and 16 drawings of each; a seed draws the
classes (of icons all that there are) and the weights. More domains are more classes and not a step more. No quarter
turns are added: many Canadian syllabics are turns of one another, and some icons have no top. Of Omniglot, alphabets
whose script glyphs() draws are left out, and one of two Syriac ones. Every network is a conv4 of 32 channels and sees
180 x 120 images, those marked x10 ten times as many. ProtoNet: 20-way 1-shot, five queries; classifier: 120 images, all
classes (of all three domains together, while a task of the ProtoNet is of one).

Tuning: one outer rate for each method and training set, by 5-way tasks of the validation classes of that set itself,
after a third of the steps (x10: after a tenth); the grid grows where its edge wins. The width of the blur likewise.
Nothing is chosen on a test task. That pixels slide by up to 4 was set, knowing that drawings are moved by up to 2.2.

Test: the same 150 tasks for all rows, 5-way 1-shot with five queries a class (cells: 3-way) of the test splits; of all
ten digits, in the middle of the paper and moved by up to 4 pixels; and of blood cells, grey, dark for light, less their
background, support and query of different smears. For some rows also print and icons drawn without their random shift,
and icons whose support and query are by different families. "Pixels, centred" moves each picture's ink to the middle
before pixels are compared; "pixels, sliding" takes the best of 81 placements; "pixels, blurred" blurs both pictures and
subtracts their means. "Fixed statistics" are the same trained weights, but the batch norm has the mean and variance of
1,000 training images instead of those of the test's batch.
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
from torch import Tensor, nn

from metalib import (
    ClassImages,
    Data,
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
from metalib.data import lettering
from metalib.data.digits import digits
from metalib.data.pictograms import pictograms
from metalib.functional import seeded
from metalib.tasks import Classify

DRAWN, DRAWINGS = ("print", "handwriting", "icons"), 16
SETS = {**{name: (name,) for name in DRAWN}, "all three": DRAWN,
        **{f"without {name}": tuple(d for d in DRAWN if d != name) for name in DRAWN}}
HOMES = (*DRAWN, "all three")
WAY, QUERY, CHANNELS, RATES, BLURS = 20, 5, 32, (3e-3, 1e-2, 3e-2), (1.0, 2.0, 3.0)
# Alphabets of Omniglot in scripts that glyphs() draws: no script may be in two domains.
IN_PRINT = {"Arabic": ("Malay_(Jawi_-_Arabic)",), "Armenian": ("Armenian",),
            "Canadian Aboriginal": tuple(f"{name}_(Canadian_Aboriginal_Syllabics)"
                                         for name in ("Blackfoot", "Inuktitut", "Ojibwe")),
            "Cyrillic": ("Cyrillic", "Old_Church_Slavonic_(Cyrillic)"),
            "Georgian": ("Asomtavruli_(Georgian)", "Mkhedruli_(Georgian)"), "Greek": ("Greek",), "Hebrew": ("Hebrew",),
            "Latin": ("Latin",), "N'Ko": ("N_Ko",), "Tifinagh": ("Tifinagh",)}
LEFT_OUT = (*(alphabet for found in IN_PRINT.values() for alphabet in found),
            "Syriac_(Estrangelo)")  # a training alphabet; Syriac_(Serto) is in the test
METHODS: dict[str, tuple[str, int, tuple[str, ...]]] = {  # name -> (norm, times the steps, training sets)
    "ProtoNet": ("batch", 1, tuple(SETS)), "classifier": ("batch", 1, ("print", "all three")),
    "ProtoNet x10": ("batch", 10, ("print",)), "classifier x10": ("batch", 10, ("print",))}
FIXED = {method: ("print",) for method in METHODS}  # also tested with fixed statistics
APART = {"blood cells": "smear", "icons, families apart": "family"}  # facts that part support and query of a test
DETAILS = ("print, unmoved", "icons, unmoved", "icons, families apart")  # columns of the floors and of HOMES alone


# ---------------------------------------------------------------- the domains

@functools.cache
def drawn() -> dict[str, ClassImages]:
    """The three domains with splits."""
    script = omniglot("background")
    script = script.subset(c for c, alphabet in enumerate(script.groups) if alphabet not in LEFT_OUT)
    return {"print": glyphs(), "handwriting": script, "icons": pictograms()}


@functools.cache
def unmoved() -> dict[str, ClassImages]:
    """The test classes of print and icons, the same drawings without their random shift."""
    letters, icons = (importlib.import_module(f"metalib.data.{name}") for name in ("glyphs", "pictograms"))
    shift, lettering.SHIFT = lettering.SHIFT, 0.0  # every other random number stays what it was
    try:
        folder = icons._folder()
        maps = {stem: icons._verified(folder, stem) for stem in icons.TABLE["digests"]}
        arrays = {"print": letters._draw_all(letters._font_files(), 0), "icons": icons._draw_all(folder, maps, 28, 0)}
    finally:
        lettering.SHIFT = shift
    banks = {name: lettering.bank(a, a["names"].tolist()) for name, a in arrays.items()}
    assert all(bank.names == drawn()[name].names for name, bank in banks.items())  # so that tasks are paired
    return {f"{name}, unmoved": bank.split("test") for name, bank in banks.items()}


@functools.cache
def home(name: str, seed: int) -> ClassImages:
    """The training classes of one or more domains: of each equally many classes, and equally many drawings."""
    n = min(len(bank.split("train")) for bank in drawn().values())
    parts = [drawn()[domain].split("train") for domain in SETS[name]]
    chosen = [torch.randperm(len(bank), generator=seeded(seed))[:n].tolist() for bank in parts]
    return together([first(bank.subset(c), DRAWINGS) for bank, c in zip(parts, chosen)])


@functools.cache
def rehearsal(name: str) -> FewShot:
    """Tasks of the validation classes of a training set; of several domains, each task from one."""
    banks = [drawn()[domain].split("val") for domain in SETS[name]]
    return FewShot(together([first(bank, DRAWINGS) for bank in banks]), way=5, shot=1, query=5, within="group")


@functools.cache
def columns() -> dict[str, ClassImages]:
    """What is tested."""
    found = {name: bank.split("test") for name, bank in drawn().items()}
    return {**found, "digits": digits(), "shifted digits": digits(shift=4), **cells(), **unmoved(),
            "icons, families apart": found["icons"]}


def cells() -> dict[str, ClassImages]:
    """Blood cells as the drawn domains are, bright on dark: less the background, which is the border's median."""
    try:
        bank = importlib.import_module("metalib.data.bccd").bccd()
    except ImportError:
        print("metalib.data.bccd is not here: the column of blood cells is left out")
        return {}
    grey = 255 - bank.images.float().mean(1)
    border = torch.cat([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], 1).median(1).values
    grey = (grey - border[:, None, None]).clamp(min=0).round()
    return {"blood cells": ClassImages.from_arrays(grey.to(torch.uint8), bank.labels, names=bank.names,
                                                   about={"smear": bank.about["smear"]})}


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
    wide = F.pad(bank.images[:, 0], [side] * 4)
    moved = [x[side - a:2 * side - a, side - b:2 * side - b] for x, (a, b) in zip(wide, move.round().int().tolist())]
    return ClassImages.from_arrays(torch.stack(moved), bank.labels, names=bank.names, about=bank.about)


# ---------------------------------------------------------------- training and testing

class SlidingPixels(PixelFloor):
    """The cosine with each mean support image, moved over the query to where it fits best."""

    def __init__(self, reach: int = 4) -> None:
        super().__init__()
        self.reach = reach

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        z = F.normalize(x.flatten(1), dim=1).view_as(x)  # (M, 1, H, W)
        return F.conv2d(F.pad(z, [self.reach] * 4), phi.view(-1, *x.shape[1:])).amax((2, 3))  # (M, N)


class BlurredPixels(PixelFloor):
    """The cosine of pictures that were blurred by a Gaussian, `width` pixels its deviation, and lost their means."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.width, at = width, torch.arange(-9.0, 10.0)
        self.line = F.normalize(torch.exp(-0.5 * (at / width) ** 2), p=1, dim=0)

    def seen(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, torch.outer(self.line, self.line)[None, None], padding=9)
        return x - x.mean((2, 3), keepdim=True)

    def adapt(self, support: Data) -> Tensor:
        return super().adapt(Data(self.seen(support.x), support.y, support.way))

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        return super().predict(phi, self.seen(x))


class FixedStatistics(nn.Module):
    """A trained conv4 whose batch norms keep the mean and the variance that they have on the images x."""

    def __init__(self, net: conv4, x: Tensor) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for block in net.blocks:
            channels, of = block.weight.shape[:2]
            layer = nn.Conv2d(of, channels, 3, padding=1, bias=False)
            norm = nn.BatchNorm2d(channels)
            layer.weight, norm.weight, norm.bias = block.weight, block.scale, block.bias
            with torch.no_grad():
                z = layer(x)
                norm.running_mean, norm.running_var = z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)
                self.blocks.append(nn.Sequential(layer, norm, nn.ReLU(), nn.MaxPool2d(2)).eval())
                x = self.blocks[-1](x)
        self.embedding_dim = x[0].numel()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x.flatten(1)


def fixed(learner: Learner, name: str, seed: int) -> Learner:
    """The learner with the statistics of 1,000 of its training images."""
    bank = home(name, seed)
    learner.encoder = FixedStatistics(learner.encoder, bank.rows(
        torch.randint(len(bank.labels), (1000,), generator=seeded(seed)), torch.float32))
    return learner


def trained(method: str, name: str, seed: int, lr: float, steps: int) -> Learner:
    """After `steps` meta-iterations, whatever the method's name says."""
    norm, *_ = METHODS[method]
    bank = home(name, seed)
    torch.manual_seed(seed)
    encoder = conv4(channels=CHANNELS, norm=norm)
    within = "group" if len(SETS[name]) > 1 else None
    if method.startswith("ProtoNet"):
        learner, tasks = ProtoNet(encoder), FewShot(bank, way=WAY, shot=1, query=QUERY, within=within)
    else:
        learner, tasks = Pretrained(encoder, classes=len(bank)), Classify(bank, batch=WAY * (1 + QUERY))
    meta_train(learner, tasks, TrainConfig(iterations=steps, meta_batch=1, lr=lr, schedule="cosine", seed=seed))
    return learner


def rate(work: Work, method: str, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The outer rate with the best validation tasks, and what each had; the grid grows until the best is inside it."""
    found: dict[float, float] = {}
    grid, steps = list(args.rates), max(1, args.iterations if METHODS[method][1] > 1 else args.iterations // 3)

    def tried(lr: float) -> float:
        return meta_test(trained(method, name, 0, lr, steps), rehearsal(name), args.tuning, seed=1).mean

    while grid:
        lr = grid.pop(0)
        found[lr] = work.part(f"tuning: {method}, {name}, {lr:g}", lambda: tried(lr))  # noqa: B023
        best = max(found, key=lambda r: found[r])
        if not grid and len(args.rates) > 1 and best in (min(found), max(found)) and len(found) < 7:
            grid = [float(f"{best * (0.3 if best == min(found) else 3):.1g}")]
    return {"chosen": best, "validation": {f"{r:g}": round(v, 4) for r, v in sorted(found.items())}}


def exams(learner: Learner, n: int, change: Callable[[ClassImages], ClassImages] = lambda bank: bank, *,
          details: bool = True) -> dict[str, list[float]]:
    """Accuracy on each test task, by column."""
    return {column: values(learner, FewShot(change(bank), way=min(5, len(bank)), shot=1, query=5,
                                            apart=APART.get(column)), n)
            for column, bank in columns().items() if details or column not in DETAILS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=180)
    parser.add_argument("--episodes", type=int, default=150, help="test tasks a column")
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
    n, every = args.episodes, rehearsal("all three")
    blur = {f"{width:g}": work.part(f"blur {width}", lambda: meta_test(
        BlurredPixels(width), every, args.tuning, seed=1).mean) for width in BLURS}  # noqa: B023
    blurred = BlurredPixels(float(max(blur, key=lambda w: blur[w])))
    rows = {"pixels": [work.part("pixels", lambda: exams(PixelFloor(), n))],
            "pixels, centred": [work.part("centred", lambda: exams(PixelFloor(), n, centred))],
            "pixels, sliding": [work.part("sliding", lambda: exams(SlidingPixels(), n))],
            "pixels, blurred": [work.part("blurred", lambda: exams(blurred, n))]}
    floors = tuple(rows)

    def untrained(seed: int) -> Learner:
        torch.manual_seed(seed)
        return ProtoNet(conv4(channels=CHANNELS))

    def run(method: str, name: str, seed: int) -> dict[str, dict[str, list[float]]]:
        """The rows of one training, by what is added to their names."""
        learner = trained(method, name, seed, tuning[method][name]["chosen"], METHODS[method][1] * args.iterations)
        found = {"": exams(learner, n, details=method == "ProtoNet" and name in HOMES)}
        if name in FIXED.get(method, ()):
            found[", fixed statistics"] = exams(fixed(learner, name, seed), n, details=False)
        return found

    rows["random Conv4"] = [work.part(f"random {seed}", lambda: exams(untrained(seed), n))  # noqa: B023
                            for seed in seeds]
    for method, (*_, sets) in METHODS.items():
        for name in sets:
            runs = [work.part(f"{method}, {name} {seed}", lambda: run(method, name, seed))  # noqa: B023
                    for seed in seeds]
            for more in runs[0]:
                rows[f"{method}{more}: {name}"] = [found[more] for found in runs]
        print(method, work.spent(), flush=True)

    def column(row: str, name: str) -> list[list[float]]:
        return [found[name] for found in rows[row]]

    def differences(a: str, b: str) -> dict[str, Any]:
        return {name: minus(column(a, name), column(b, name)) for name in rows[a][0] if name in rows[b][0]}

    def against(a: str, b: str, sets: tuple[str, ...]) -> dict[str, Any]:
        return {name: differences(f"{a}: {name}", f"{b}: {name}") for name in sets}

    place = {"digits": ("digits", "shifted digits"), "print": ("print, unmoved", "print"),
             "icons": ("icons, unmoved", "icons")}
    work.write({
        **work.spent(), "config": settings(args), "train classes": len(home("print", 0)), "drawings": DRAWINGS,
        "image_passes": {m: times * args.iterations * passes(WAY, WAY * QUERY, steps=1, order=1)
                         for m, (_, times, _) in METHODS.items()},
        "domains": {name: {"train": len(b.split("train")), "val": len(b.split("val")), "test": len(b.split("test")),
                           "digest": b.digest()} for name, b in drawn().items()},
        "scripts": {name: {split: sorted(set(drawn()[name].split(split).groups)) for split in ("train", "val", "test")}
                    for name in ("print", "handwriting")},
        "alphabets left out": LEFT_OUT,
        "test": {name: {"classes": len(b), "images": len(b.labels), "digest": b.digest()}
                 for name, b in columns().items()},
        "tuning": {**tuning, "pixels, blurred": {"chosen": blurred.width, "validation": blur}},
        "rows": {row: {name: over_seeds(column(row, name)) for name in rows[row][0]} for row in rows},
        "minus": {floor: {row: differences(row, floor) for row in rows if row != floor} for floor in floors},
        "lost by the shift": {row: {name: minus(column(row, still), column(row, moved))
                                    for name, (still, moved) in place.items() if still in rows[row][0]}
                              for row in rows},
        "fixed minus batch": {method: against(f"{method}, fixed statistics", method, sets)
                              for method, sets in FIXED.items()},
        "ProtoNet minus classifier": against("ProtoNet", "classifier", METHODS["classifier"][2]),
        "fixed: ProtoNet minus classifier": against("ProtoNet, fixed statistics", "classifier, fixed statistics",
                                                    FIXED["classifier"]),
        "x10: ProtoNet minus classifier": against("ProtoNet x10", "classifier x10", ("print",)),
        "fixed x10: ProtoNet minus classifier": against("ProtoNet x10, fixed statistics",
                                                        "classifier x10, fixed statistics", ("print",)),
        "x10 minus x1": {m: differences(f"{m} x10: print", f"{m}: print") for m in ("ProtoNet", "classifier")},
        "all three minus home": {name: minus(column("ProtoNet: all three", name), column(f"ProtoNet: {name}", name))
                                 for name in DRAWN},
        "left out": {name: {other: minus(column(f"ProtoNet: without {name}", name), column(f"ProtoNet: {other}", name))
                            for other in (*SETS[f"without {name}"], "all three", name)} for name in DRAWN}})


if __name__ == "__main__":
    main()
