"""One Omniglot checkpoint under the protocols that published numbers were made with. Nothing is trained.

    OMP_NUM_THREADS=1 python recipes/protocols.py --force    # --resume runs/protocols continues

Tests results/checkpoints/omniglot-protonet-20w1s.pt, 5-way 1-shot, and writes per-task scores to
results/protocols.json, which the chapter on the published numbers reads. Also the per-task scores of the other 5-way
1-shot checkpoints on the same episodes, so that they can be compared in pairs, and of all of them on printed letters,
glyphs(), which need no download. About five CPU-minutes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from record import Work, checkpoint, options
from torch import Tensor

from metalib import ClassImages, Data, FewShot, Learner, Score, glyphs, load, meta_test, omniglot, seeded
from metalib.judging.elsewhere import Alone

STEPS = {"protonet-5w1s": None, "pretrained-5w1s": None, "maml-5w1s": 3}  # inner steps at test time


class FixedStatistics(Learner):
    """A metric learner whose batch norm is steadied by a fixed batch of training images, embedded with every batch.

    It stands in for the running statistics of other libraries: the reference images outnumber a task's many times, so
    a prediction hardly depends on which other queries it is made with.
    """

    def __init__(self, learner: Learner, reference: Tensor) -> None:
        super().__init__()
        self.learner, self.reference = learner, reference

    def adapt(self, support: Data) -> Any:
        x = torch.cat([self.reference, support.x])
        nobody = torch.full((len(self.reference),), support.way)  # one more class, whose prototype is thrown away
        return self.learner.adapt(Data(x, torch.cat([nobody, support.y]), support.way + 1))[:-1]

    def predict(self, phi: Any, x: Tensor) -> Tensor:
        return self.learner.predict(phi, torch.cat([self.reference, x]))[len(self.reference):]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1000, help="tasks of each protocol")
    parser.add_argument("--few", type=int, default=300, help="tasks of the protocols that pass many more images")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work = Work("protocols", args)
    bank = omniglot("vinyals", rotations="all")
    train, turned, test = bank.split("train"), bank.split("test"), omniglot("vinyals").split("test")
    learner, tasks = load(checkpoint("omniglot-protonet-20w1s")), FewShot(test)
    steady = FixedStatistics(learner, FewShot(train, way=500).sample(1, generator=seeded(0)).support.x[0])
    meeting = replace(turned, base=torch.arange(len(turned)))  # every rotation a character of its own
    printed = FewShot(glyphs().split("test"))

    def other(name: str, tasks: FewShot, episodes: int, steps: int | None) -> Score:
        return meta_test(load(checkpoint(f"omniglot-{name}")), tasks, episodes, steps=steps)

    asked = {"protocols": {
        "queries together": lambda: meta_test(learner, tasks, args.episodes),
        "support + one query": lambda: meta_test(learner, tasks, args.few, transductive=False),
        "fixed statistics": lambda: replace(meta_test(steady, tasks, args.few), transductive=False),
        "each query alone": lambda: replace(meta_test(Alone(learner), tasks, args.few), transductive=False),
        "rotated test classes": lambda: meta_test(learner, FewShot(turned), args.episodes),
        "rotations may meet": lambda: meta_test(learner, FewShot(meeting), args.episodes),
        "one query a class": lambda: meta_test(learner, FewShot(test, query=1), args.episodes),
        "one alphabet a task": lambda: within_alphabets(learner, test, args.episodes),
        "training classes": lambda: meta_test(learner, FewShot(train), args.episodes)},
        "checkpoints": {k: partial(other, k, tasks, args.episodes, j) for k, j in STEPS.items()},
        "glyphs": {k: partial(other, k, printed, args.few, j) for k, j in {"protonet-20w1s": None, **STEPS}.items()}}
    found: dict[str, dict[str, Any]] = {}
    for group, scores in asked.items():
        found[group] = {}
        for name, score in scores.items():
            queries = 5 if name == "one query a class" else 75
            found[group][name] = work.part(f"{group}: {name}", lambda: fields(score(), queries))  # noqa: B023
            print(f"{name}: {found[group][name]['text']}", flush=True)
    work.write({**work.spent(), "checkpoint": "omniglot-protonet-20w1s.pt", "way": 5, "shot": 1, "episode_seed": 0,
                "train_classes": len(train), "test_classes": len(test), **found})


def within_alphabets(learner: Learner, images: ClassImages, episodes: int) -> Score:
    """All classes of a task from one alphabet, the same number of tasks from each that has five characters."""
    alphabets = [a for a in sorted(set(images.groups)) if images.groups.count(a) >= 5]
    parts = [meta_test(learner, FewShot(images.subset(i for i, g in enumerate(images.groups) if g == a)),
                       episodes // len(alphabets)) for a in alphabets]
    return Score.of(torch.cat([s.values for s in parts]), digest="-".join(s.digest[:4] for s in parts))


def fields(score: Score, queries: int = 75) -> dict[str, Any]:
    """What is needed to compute with a score again: right answers a task, of how many."""
    return {"right": " ".join(str(round(v * queries)) for v in score.values.tolist()), "queries": queries,
            "transductive": score.transductive, "digest": score.digest, "text": str(score)}


if __name__ == "__main__":
    main()
