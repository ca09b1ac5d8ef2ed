"""Chapter 3's two networks, with the statistics of batch norm taken from elsewhere.

    OMP_NUM_THREADS=1 python recipes/batchnorm.py --force    # replaces what is there; --resume runs/batchnorm continues

Tests results/checkpoints/honest-*.pt on the 600 episodes of results/honest.json and writes per-task scores to
results/batchnorm.json. About a CPU-minute. Two protocols: every image in a batch of its own, support and query alike;
and the mean and variance of one fixed batch of training images in every layer, as running statistics would be used.
Expected: ProtoNet, 50 % where only the query is alone, has 72 % with every image alone and 92 % with fixed statistics.
"""

from __future__ import annotations

import argparse

import torch
from honest import NAMES, counts
from record import Work, checkpoint, options

from metalib import FewShot, PixelFloor, glyphs, load, meta_test
from metalib.judging.elsewhere import REFERENCE, variants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=600, help="test tasks")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, images = Work("batchnorm", args), glyphs()
    tasks, protocols = FewShot(images.split("test")), {}
    for name in NAMES:
        tried = variants(load(checkpoint(f"honest-{name}")), images.split("train"))
        protocols[name] = {protocol: work.part(f"{name}, {protocol}", lambda: counts(  # noqa: B023
            meta_test(learner, tasks, args.episodes), tasks)) for protocol, learner in tried.items()}  # noqa: B023
        print(name, work.spent(), flush=True)
    work.write({**work.spent(), "checkpoints": [f"honest-{name}.pt" for name in NAMES], "way": 5, "shot": 1,
                "query": 15, "episode_seed": 0, "digest": meta_test(PixelFloor(), tasks, args.episodes).digest,
                "bank": images.split("test").digest(), "reference_images": REFERENCE, "protocols": protocols,
                "unit": "correct queries of 75, task by task"})


if __name__ == "__main__":
    main()
