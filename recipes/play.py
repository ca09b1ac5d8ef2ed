"""The ProtoNet that chapter 0 plays against: trained on nine scripts, tested on four that it never saw.

    OMP_NUM_THREADS=1 python recipes/play.py --force    # replaces what is there; --resume runs/play.ckpt continues

Needs no network and about a CPU-minute. Writes results/glyphs-protonet.json and results/checkpoints/play-protonet.pt.
Expected: over 95 % at 5-way 1-shot on the test scripts, within 60 CPU-seconds of training.

The training episodes are 30-way, harder than the 5-way test. That and the learning rate were chosen on the validation
scripts; the test scripts are scored once, here.
"""

from __future__ import annotations

import argparse

import torch
from cost import passes
from record import Work, checkpoint, options, score_fields, settings

from metalib import FewShot, PixelFloor, ProtoNet, TrainConfig, conv4, glyphs, meta_test, meta_train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the training episodes")
    parser.add_argument("--iterations", type=int, default=450, help="meta-iterations, one task each")
    parser.add_argument("--train-way", type=int, default=30, help="N of the training tasks")
    parser.add_argument("--lr", type=float, default=3e-3, help="outer learning rate, brought down to 0 by a cosine")
    parser.add_argument("--episodes", type=int, default=600, help="test tasks")
    options(parser)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    images = glyphs()
    work = Work("glyphs-protonet", args, checkpoint("play-protonet"))
    learner = ProtoNet(conv4(channels=32))
    train = FewShot(images.split("train"), way=args.train_way, shot=1, query=5)
    val, test = (FewShot(images.split(part), way=5, shot=1) for part in ("val", "test"))
    history = meta_train(learner, train, TrainConfig(iterations=args.iterations, meta_batch=1, lr=args.lr,
                                                     schedule="cosine", seed=args.seed, checkpoint=work.state()))
    time = work.part("time", work.spent)

    game = FewShot(images.split("test"), way=5, shot=1, query=1)  # one new drawing at a time, as a player sees it
    scores = {"test": meta_test(learner, test, args.episodes), "validation": meta_test(learner, val, args.episodes),
              "floor": meta_test(PixelFloor(), test, args.episodes),
              "game": meta_test(learner, game, args.episodes, transductive=False),
              "game_floor": meta_test(PixelFloor(), game, args.episodes, transductive=False)}
    print(history, time, *(f"{key}: {score}" for key, score in scores.items()), sep="\n")
    work.write({**time, "learner": "ProtoNet(conv4(channels=32))", "way": 5, "shot": 1, "query": 15, "seed": args.seed,
                "image_passes": args.iterations * passes(args.train_way, 5 * args.train_way, steps=1, order=1),
                "split": "glyphs, scripts held out", "bank": test.images.digest(), "config": settings(args),
                "history": str(history), **{key: score_fields(score) for key, score in scores.items()}},
               {checkpoint("play-protonet"): learner})


if __name__ == "__main__":
    main()
