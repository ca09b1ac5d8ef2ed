"""The ProtoNet that chapter 0's page runs on the reader's own drawings: trained on printed letters, tested on hands.

    OMP_NUM_THREADS=1 python recipes/alphabet.py --force    # replaces what is there; --resume runs/alphabet continues

Trains on glyphs' training scripts alone; its test needs Omniglot (METALIB_DATA, or a download). About twelve
CPU-minutes. Writes results/alphabet.json and results/checkpoints/alphabet.pt, the network of seed 0.

Each image is normalised alone, because the page asks about one drawing at a time; so a query's answer is the same
whether it comes alone or with others. RULES are the ways to redraw the letters of a training task. The rule is chosen
with seed 0 on 5-way tasks of Omniglot's 25 training alphabets. The tests are scored once: glyphs' test scripts, and the
20 alphabets of Omniglot's evaluation set, each drawing thinned, centred, scaled and traced as if it had been drawn on
the page. In Omniglot the support and the query of a sign are by two people. "page" is seed 0 with its weights rounded
to bytes, as the page has them; "as scanned" the floor on the same tasks before the page's centring and pen.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import torch.nn.functional as F
from cost import passes
from leaks import values
from record import Work, checkpoint, minus, options, over_seeds, settings
from torch import Tensor

from metalib import (
    ClassImages,
    Episode,
    FewShot,
    PixelFloor,
    ProtoNet,
    TrainConfig,
    conv4,
    glyphs,
    meta_train,
    omniglot,
)
from metalib.figures.widgets.alphabet import FINE, PEN, SIDE, SIZE, SMALL, rounded

WAY, QUERY, LR, CHANNELS, NORM = 20, 5, 3e-3, 32, "group"
RULES = {"as printed": (0.0, 0.0), "bent": (1.0, 0.0), "bent, another pen": (1.0, 1.0)}  # (pixels, half pixels)
TESTS = {"5-way 1-shot": (5, 1), "10-way 1-shot": (10, 1), "5-way 5-shot": (5, 5)}


class Redrawn:
    """Tasks whose drawings are each bent by a smooth field and drawn with a pen of another width.

        x'(u) = x(A u + b(u)),    b a bicubic surface through 4 x 4 normal displacements of `bend` pixels

    A is the identity with normal noise of 0.06 `bend`. The pen is wider or narrower by up to half a pixel on each side,
    times `pen`.
    """

    def __init__(self, tasks: FewShot, bend: float, pen: float) -> None:
        self.tasks, self.bend, self.pen = tasks, bend, pen

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        episodes = self.tasks.sample(n, generator=generator)
        return Episode(*(part._replace(x=self.redraw(part.x, generator)) for part in episodes))

    def redraw(self, drawings: Tensor, generator: torch.Generator) -> Tensor:
        x = drawings.flatten(0, 1)  # (M, 1, H, W)
        M = len(x)
        if self.bend:
            noise = 0.06 * self.bend * torch.randn(M, 2, 2, generator=generator)
            A = torch.cat([torch.eye(2) + noise, torch.zeros(M, 2, 1)], 2)
            field = torch.randn(M, 2, 4, 4, generator=generator) * (2 * self.bend / SIZE)
            field = F.interpolate(field, size=x.shape[2:], mode="bicubic", align_corners=True)
            grid = F.affine_grid(A, x.shape, align_corners=False) + field.permute(0, 2, 3, 1)
            x = F.grid_sample(x, grid, align_corners=False)
        if self.pen:
            fine = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            wide, narrow = F.max_pool2d(fine, 3, 1, 1), -F.max_pool2d(-fine, 3, 1, 1)
            t = self.pen * (2 * torch.rand(M, 1, 1, 1, generator=generator) - 1)
            x = F.avg_pool2d(torch.where(t > 0, fine + t * (wide - fine), fine - t * (narrow - fine)), 2)
        return x.reshape(drawings.shape)


def as_the_page(bank: ClassImages) -> ClassImages:
    """The bank's drawings as if they had been drawn on the page: thinned to lines, centred, scaled, and its pen.

    Without its pen the width of a line would say how large a sign was drawn, which the page does not know.
    """
    done = [retraced(images) for images in bank.images.split(1024)]
    return ClassImages.from_arrays(torch.cat(done), bank.labels, names=bank.names, groups=bank.groups)


def retraced(images: Tensor) -> Tensor:
    """uint8 (M, 1, 28, 28), ink 255 -> (M, 28, 28): what `raster` of tools/pictures.py makes of its lines."""
    x = images.float() / 255
    x = F.interpolate(x / x.amax((1, 2, 3), keepdim=True).clamp(min=1e-3), scale_factor=2, mode="bicubic")
    drawing, row, column = thinned(x[:, 0] > 0.4).nonzero(as_tuple=True)  # every pixel of every line
    large = torch.zeros(len(images), SIZE * FINE, SIZE * FINE)
    low, high = (torch.stack([torch.zeros(len(images)).scatter_reduce(0, drawing, v.float(), how, include_self=False)
                              for v in (row, column)]) for how in ("amin", "amax"))  # (2, M)
    scale = (SIDE - PEN) * FINE / (high - low).amax(0).clamp(min=2 * SMALL * SIZE)  # (M,)
    y, x = (((v - (low[k] + high[k])[drawing] / 2) * scale[drawing] + SIZE * FINE / 2).floor().long()
            for k, v in enumerate((row, column)))
    large[drawing, y, x] = 1
    reach = int(PEN * FINE / 2)
    at = torch.arange(-reach, reach + 1)
    disc = (at[:, None] ** 2 + at**2 <= reach**2).float()
    ink = F.conv2d(large[:, None], disc[None, None], padding=reach) > 0.5
    return (F.avg_pool2d(ink.float(), FINE)[:, 0] * 255).round().byte()


def thinned(ink: Tensor) -> Tensor:
    """Binary drawings (M, H, W) as lines one pixel wide.

    Guo and Hall (1989), "Parallel thinning with two-subiteration algorithms", CACM 32(3).
    """
    ink, before = F.pad(ink, (1, 1, 1, 1)), None
    turns = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]  # north, then clockwise
    while before is None or not torch.equal(before, ink):
        before = ink
        for half in (0, 1):
            n, ne, e, se, s, sw, w, nw = (ink.roll((-dy, -dx), (1, 2)) for dy, dx in turns)
            crossings = (~n & (ne | e)).int() + (~e & (se | s)) + (~s & (sw | w)) + (~w & (nw | n))
            pairs = [(nw | n).int() + (ne | e) + (se | s) + (sw | w), (n | ne).int() + (e | se) + (s | sw) + (w | nw)]
            count = torch.minimum(*pairs)
            side = (n | ne | ~se) & e if half else (s | sw | ~nw) & w
            ink = ink & ~((crossings == 1) & (count >= 2) & (count <= 3) & ~side)
    return ink[:, 1:-1, 1:-1]


def confidence(prediction: Tensor, y: Tensor) -> Tensor:
    """How sure the network is of what it says, on average over the queries of a task."""
    return prediction.softmax(-1).amax(-1).mean()


def trained(rule: str, seed: int, images: ClassImages, iterations: int, work: Work) -> ProtoNet:
    torch.manual_seed(seed)
    learner = ProtoNet(conv4(channels=CHANNELS, norm=NORM))
    config = TrainConfig(iterations=iterations, meta_batch=1, lr=LR, schedule="cosine", seed=seed,
                         checkpoint=work.state(f"{rule}-{seed}".replace(" ", "-")))
    meta_train(learner, Redrawn(FewShot(images.split("train"), WAY, 1, QUERY), *RULES[rule]), config)
    return learner


def tested(learner: Any, banks: dict[str, ClassImages], n: int) -> dict[str, list[float]]:
    """Accuracy task by task, one query of each class; and the confidence at 5-way 1-shot."""
    scores = {f"{name}, {test}": values(learner, FewShot(bank, way, shot, query=1), n)
              for name, bank in banks.items() for test, (way, shot) in TESTS.items()}
    sure = {f"{name}, confidence": values(learner, FewShot(bank, 5, 1, query=1), n, metric=confidence)
            for name, bank in banks.items() if isinstance(learner, ProtoNet)}
    return {**scores, **sure}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=500, help="meta-iterations, one task each")
    parser.add_argument("--episodes", type=int, default=600, help="test tasks")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, images, n = Work("alphabet", args, checkpoint("alphabet")), glyphs(), args.episodes
    hands = omniglot("background")
    choosing = {"validation scripts": FewShot(images.split("val"), query=3),
                "Omniglot's training alphabets": FewShot(as_the_page(hands.split("train")), query=3)}
    first = {rule: trained(rule, 0, images, args.iterations, work) for rule in RULES}
    tried = {rule: work.part(f"tried {rule}", lambda: {where: over_seeds([values(learner, tasks, n)])  # noqa: B023
                                                       for where, tasks in choosing.items()})
             for rule, learner in first.items()}
    rule = max(RULES, key=lambda rule: tried[rule]["Omniglot's training alphabets"]["mean"])
    print(tried, rule, work.spent(), sep="\n", flush=True)

    learners = [first[rule], *(trained(rule, seed, images, args.iterations, work) for seed in range(1, args.seeds))]
    banks = {"new scripts": images.split("test"), "handwriting": as_the_page(hands.split("test"))}
    runs = [work.part(f"seed {seed}", lambda: tested(learner, banks, n))  # noqa: B023
            for seed, learner in enumerate(learners)]
    floor = work.part("floor", lambda: tested(PixelFloor(), {**banks, "as scanned": hands.split("test")}, n))
    page = work.part("rounded", lambda: tested(rounded(learners[0]), banks, n))
    scores = {key: over_seeds([run[key] for run in runs]) for key in runs[0]}
    print(*(f"{key}: {row}" for key, row in scores.items()), work.spent(), sep="\n", flush=True)
    work.write({**work.spent(), "config": settings(args), "query": 1, "rule": rule, "tried": tried,
                "learner": f"ProtoNet(conv4(channels={CHANNELS}, norm={NORM!r}))",
                "banks": {name: bank.digest() for name, bank in banks.items()},
                "image_passes": args.iterations * passes(WAY, QUERY * WAY, steps=1, order=1), "scores": scores,
                "floor": {key: over_seeds([row]) for key, row in floor.items()},
                "minus floor": {key: minus([run[key] for run in runs], [row]) for key, row in floor.items()
                                if key in runs[0]},
                "page": {key: over_seeds([row]) for key, row in page.items()},
                "page minus unrounded": {key: minus([row], [runs[0][key]]) for key, row in page.items()}},
               {checkpoint("alphabet"): learners[0]})


if __name__ == "__main__":
    main()
