"""One encoder, seven ways to compare a query with a support set: trained with equal passes, tested on new scripts.

    OMP_NUM_THREADS=1 python recipes/heads.py --force    # replaces what is there; --resume runs/heads continues

Needs no network; about 30 CPU-minutes. Writes results/heads.json. Each learner has a conv4 of 32 channels and
1,000 tasks, 30-way 1-shot with five queries: 180,000 image passes and about 60 CPU seconds. Over three seeds each is
tested on the same 600 tasks of the test scripts, 5-way, one shot and five. All heads are trained at one shot. What
differs from a learner's defaults is in HEADS; the temperatures and the ridge's regularisation, defaults or not, were
chosen on the validation scripts. RelationNet with the paper's squared error is still at chance after 250 such tasks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from cost import passes
from leaks import values
from record import Work, minus, options, over_seeds, settings

from metalib import FewShot, Learner, PixelFloor, ProtoNet, TrainConfig, conv4, glyphs, meta_train
from metalib.learners.head import LogisticHead, RidgeHead
from metalib.learners.matching import MatchingNet, RelationNet

WAY, QUERY, LR, CHANNELS = 30, 5, 3e-3, 32
HEADS: dict[str, Callable[[conv4], Learner]] = {
    "ProtoNet": ProtoNet,
    "ProtoNet, learned temperature": lambda encoder: ProtoNet(encoder, temperature=0.1),
    "MatchingNet": MatchingNet,
    "MatchingNet, full context": lambda encoder: MatchingNet(encoder, full_context=True),
    "RidgeHead": RidgeHead,
    "LogisticHead": LogisticHead,
    "RelationNet": lambda encoder: RelationNet(encoder, objective="cross-entropy"),
}


def tested(name: str, seed: int, args: argparse.Namespace) -> dict[str, list[float]]:
    """Accuracy on each test task, by shot, and where the numbers ended that are learned besides the networks."""
    images = glyphs()
    torch.manual_seed(seed)
    learner = HEADS[name](conv4(channels=CHANNELS))
    meta_train(learner, FewShot(images.split("train"), way=WAY, shot=1, query=QUERY),
               TrainConfig(iterations=args.iterations, meta_batch=1, lr=LR, schedule="cosine", seed=seed))
    ends = {k: [round(float(p.detach().exp()), 4)] for k, p in learner.named_parameters() if k.startswith("log_")}
    return {**ends, **exams(learner, args.episodes)}


def exams(learner: Learner, n: int) -> dict[str, list[float]]:
    test = glyphs().split("test")
    return {f"{shot}-shot": values(learner, FewShot(test, way=5, shot=shot, query=15), n) for shot in (1, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--episodes", type=int, default=600)
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, seeds = Work("heads", args), range(args.seeds)
    runs = {name: [work.part(f"{name} {seed}", lambda: tested(name, seed, args)) for seed in seeds]  # noqa: B023
            for name in HEADS}
    floor = work.part("floor", lambda: exams(PixelFloor(), args.episodes))
    shots = list(floor)

    def column(name: str, shot: str) -> list[list[float]]:
        return [run[shot] for run in runs[name]]

    work.write({**work.spent(), "config": settings(args), "bank": glyphs().split("test").digest(),
                "image_passes": args.iterations * passes(WAY, QUERY * WAY, steps=1, order=1),
                "heads": {name: {shot: over_seeds(column(name, shot)) for shot in shots} for name in HEADS},
                "learned": {name: {k: [run[k][0] for run in runs[name]] for k in runs[name][0] if k not in shots}
                            for name in HEADS},
                "floor": {shot: over_seeds([floor[shot]]) for shot in shots},
                "minus ProtoNet": {name: {shot: minus(column(name, shot), column("ProtoNet", shot)) for shot in shots}
                                   for name in HEADS if name != "ProtoNet"}})


if __name__ == "__main__":
    main()
