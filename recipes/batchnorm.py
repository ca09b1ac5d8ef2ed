"""Chapter 3's two networks, with the statistics of batch norm taken from elsewhere.

    OMP_NUM_THREADS=1 python recipes/batchnorm.py --force    # replaces what is there; --resume runs/batchnorm continues

Tests results/checkpoints/honest-*.pt on the 600 episodes of results/honest.json and writes per-task scores to
results/batchnorm.json. About a CPU-minute. Two protocols: every image in a batch of its own, support and query alike;
and the mean and variance of one fixed batch of training images in every layer, as running statistics would be used.
Expected: ProtoNet, 50 % where only the query is alone, has 72 % with every image alone and 92 % with fixed statistics.
"""

from __future__ import annotations

import argparse
from copy import deepcopy

import torch
import torch.nn.functional as F
from honest import NAMES, counts
from record import Work, checkpoint, options
from torch import Tensor, nn
from torch.func import vmap

from metalib import ClassImages, FewShot, Learner, PixelFloor, conv4, glyphs, load, meta_test, seeded

REFERENCE = 500  # training images, of as many classes


class OneByOne(nn.Module):
    """An encoder that gets to see each image by itself, in a batch of one."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return vmap(lambda image: self.encoder(image[None])[0])(x)  # (M, D)


class Fixed(nn.Module):
    """A conv4 whose batch norm uses, in every layer, the mean and variance that one fixed batch has there."""

    def __init__(self, encoder: conv4, reference: Tensor) -> None:
        super().__init__()
        self.blocks, self.moments, x = encoder.blocks, [], reference
        with torch.no_grad():
            for block in self.blocks:
                z = F.conv2d(x, block.weight, padding=1)
                self.moments.append((z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)))
                x = self.through(block, z, self.moments[-1])

    def through(self, block: nn.Module, z: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
        return F.max_pool2d(F.relu(F.batch_norm(z, *moments, block.scale, block.bias)), 2)

    def forward(self, x: Tensor) -> Tensor:
        for block, moments in zip(self.blocks, self.moments, strict=True):
            x = self.through(block, F.conv2d(x, block.weight, padding=1), moments)
        return x.flatten(1)  # (M, D)


def variants(learner: Learner, train: ClassImages) -> dict[str, Learner]:
    """The same weights with batch norm's statistics from elsewhere."""
    reference = FewShot(train, way=REFERENCE).sample(1, generator=seeded(0)).support.x[0]
    found = {}
    for name, encoder in (("each image alone", OneByOne(learner.encoder)),
                          ("fixed statistics", Fixed(learner.encoder, reference))):
        found[name] = deepcopy(learner)
        found[name].encoder = encoder
    return found


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
