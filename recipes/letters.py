"""Chapter 0's comparison over three networks, and what its task distribution did: rule and letters, each changed alone.

    OMP_NUM_THREADS=1 python recipes/letters.py --force    # replaces what is there; --resume runs/letters continues

Needs no network; about 14 CPU-minutes. Writes results/letters.json. ProtoNets as in recipes/play.py (its rate and its
450 tasks, chosen there on validation scripts), with three seeds each and other training tasks:

    game             the nine training scripts, as the network of the game
    syllabics        Canadian syllabics alone, of which many are other letters when they are turned
    no syllabics     the other scripts without Lisu, which also turns letters: about as many letters as the syllabics
    turned queries   the nine scripts, every query turned by an angle of its own

Each is tested on the test scripts, one query at a time, with the query upright and turned. "memoriser" has the game's
encoder and a classifier of the training letters, trained on half of the drawings with as many image passes; it names
the support and the query by all training letters and matches the names.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
import torch.nn.functional as F
from cost import passes
from leaks import drawings, values
from record import Work, minus, options, over_seeds, settings
from torch import Tensor

from metalib import (
    Classify,
    ClassImages,
    Data,
    Episode,
    FewShot,
    Learner,
    PixelFloor,
    Pretrained,
    ProtoNet,
    TrainConfig,
    conv4,
    glyphs,
    meta_train,
)
from metalib.functional import class_means
from metalib.learners.metric import way_of

ITERATIONS, WAY, QUERY, LR, CHANNELS, BATCH = 450, 30, 5, 3e-3, 32, 180
PASSES = ITERATIONS * passes(WAY, QUERY * WAY, steps=1, order=1)
ANGLES = (0, 30, 90, 180)


class Turned:
    """Tasks whose queries are turned: by one angle, or each by its own if `degrees` is None."""

    def __init__(self, tasks: FewShot, degrees: float | None) -> None:
        self.tasks, self.degrees = tasks, degrees

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        episodes = self.tasks.sample(n, generator=generator)
        x = episodes.query.x.flatten(0, 1)  # (T*N*Q, C, H, W)
        turn = (torch.rand(len(x), generator=generator) * 2 * math.pi if self.degrees is None
                else torch.full((len(x),), math.radians(self.degrees)))
        zero = torch.zeros_like(turn)
        matrix = torch.stack([turn.cos(), -turn.sin(), zero, turn.sin(), turn.cos(), zero], 1).reshape(-1, 2, 3)
        x = F.grid_sample(x, F.affine_grid(matrix, x.shape, align_corners=False), align_corners=False)
        return episodes._replace(query=episodes.query._replace(x=x.reshape(episodes.query.x.shape)))


class MatchesNames(Learner):
    """Support and query are named by all training letters; a query belongs to the support whose names agree best.

        logits_n(x) = log sum_c p(c | x) p_n(c),    p_n the mean of p(. | x_i) over the support of class n
    """

    def __init__(self, trained: Pretrained) -> None:
        super().__init__()
        self.encoder, self.classifier = trained.encoder, trained.classifier

    def names(self, x: Tensor) -> Tensor:
        return self.classifier(self.encoder(x)).softmax(-1)  # (M, letters)

    def adapt(self, support: Data) -> Tensor:
        return class_means(self.names(support.x), support.y, way_of(support))

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        return (self.names(x) @ phi.T).clamp(min=1e-30).log()


def trained(rule: str, train: ClassImages, seed: int) -> ProtoNet:
    kept = {"syllabics": lambda script: script == "Canadian Aboriginal",
            "no syllabics": lambda script: script not in ("Canadian Aboriginal", "Lisu")}.get(rule, lambda script: True)
    bank = train.subset([c for c, script in enumerate(train.groups) if kept(script)])
    tasks: Any = FewShot(bank, way=WAY, shot=1, query=QUERY)
    torch.manual_seed(seed)
    learner = ProtoNet(conv4(channels=CHANNELS))
    meta_train(learner, Turned(tasks, None) if rule == "turned queries" else tasks, config(seed, ITERATIONS))
    return learner


def config(seed: int, iterations: int) -> TrainConfig:
    return TrainConfig(iterations=iterations, meta_batch=1, lr=LR, schedule="cosine", seed=seed)


def tested(learner: Learner, test: ClassImages, n: int) -> dict[str, list[float]]:
    """Turned by each angle, 5-way; upright, 20-way. One query at a time, as in the game."""
    game, twenty = (FewShot(test, way=way, shot=1, query=1) for way in (5, 20))
    return {**{f"{a} degrees": values(learner, Turned(game, a) if a else game, n, transductive=False) for a in ANGLES},
            "20-way": values(learner, twenty, n // 4, transductive=False)}


def memorised(train: ClassImages, test: ClassImages, seed: int, n: int) -> dict[str, list[float]]:
    """The memoriser and a ProtoNet of the same drawings: the training letters' other drawings, and the test scripts."""
    known, fresh = drawings(train, 0, 10), drawings(train, 10, 20)
    torch.manual_seed(seed)
    classifier = Pretrained(conv4(channels=CHANNELS), classes=len(train))
    meta_train(classifier, Classify(known, BATCH), config(seed, PASSES // BATCH))
    learners = {"memoriser": MatchesNames(classifier), "ProtoNet": trained("game", known, seed)}
    tasks = {where: FewShot(bank, way=5, shot=1, query=5)
             for where, bank in (("training letters", fresh), ("new scripts", test))}
    return {f"{who}, {where}": values(learner, t, n) for who, learner in learners.items() for where, t in tasks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=400)
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, images, n = Work("letters", args), glyphs(), args.episodes
    train, test, seeds = images.split("train"), images.split("test"), range(args.seeds)
    rules = {rule: [work.part(f"{rule} {seed}", lambda: tested(trained(rule, train, seed), test, n))  # noqa: B023
                    for seed in seeds] for rule in ("game", "syllabics", "no syllabics", "turned queries")}
    floor = work.part("floor", lambda: tested(PixelFloor(), test, n))
    memory = [work.part(f"memoriser {seed}", lambda: memorised(train, test, seed, n)) for seed in seeds]  # noqa: B023
    tests = list(floor)

    def column(rule: str, test: str) -> list[list[float]]:
        return [run[test] for run in rules[rule]]

    work.write({**work.spent(), "config": settings(args), "bank": test.digest(), "image_passes": PASSES,
                "rules": {rule: {t: over_seeds(column(rule, t)) for t in tests} for rule in rules},
                "floor": {t: over_seeds([floor[t]]) for t in tests},
                "game minus floor": {t: minus(column("game", t), [floor[t]]) for t in tests},
                "minus game": {rule: {t: minus(column(rule, t), column("game", t)) for t in tests}
                               for rule in rules if rule != "game"},
                "memoriser": {row: over_seeds([m[row] for m in memory]) for row in memory[0]},
                "memoriser minus ProtoNet": {where: minus([m[f"memoriser, {where}"] for m in memory],
                                                          [m[f"ProtoNet, {where}"] for m in memory])
                                             for where in ("training letters", "new scripts")}})


if __name__ == "__main__":
    main()
