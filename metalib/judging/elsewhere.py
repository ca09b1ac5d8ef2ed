"""Batch norm's statistics from elsewhere than the batch at hand: what a query owes to its neighbours."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from metalib.data import ClassImages
from metalib.episode import Data
from metalib.functional import seeded
from metalib.learner import Learner
from metalib.nets import conv4
from metalib.tasks import FewShot

REFERENCE = 500  # training images, of as many classes


class Alone(Learner):
    """Another learner that gets to see each query by itself: f_phi([x_q]), a batch of one."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def adapt(self, support: Data) -> Any:
        return self.learner.adapt(support)

    def predict(self, phi: Any, x: Tensor) -> Tensor:
        return vmap(lambda x_q: self.learner.predict(phi, x_q[None])[0])(x)  # (M, N)


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
    found = {"each image alone": deepcopy(learner), "fixed statistics": deepcopy(learner)}
    found["each image alone"].encoder = OneByOne(learner.encoder)
    found["fixed statistics"].encoder = Fixed(learner.encoder, reference)
    return found
