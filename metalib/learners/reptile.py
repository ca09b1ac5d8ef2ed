"""Reptile: move theta towards where plain training on the task leads."""

import torch
from torch import Tensor, nn

from metalib.arguments import check_positive, check_whole
from metalib.episode import Data, Episode
from metalib.functional import Loss, descend, dot, gradient_and_value, surrogate
from metalib.keys import shuffle
from metalib.learners.maml import MAML, Adapts, adapting


class Reptile(MAML):
    """J steps of gradient descent on all examples of the task; the meta-gradient points from there to theta.

        phi_0 = theta,    phi_{j+1} = phi_j - alpha * grad L_j(phi_j),    meta-gradient = (theta - phi_J) / alpha

    which is the sum of the J gradients. L_j is the loss of the j-th minibatch, or with batch=None of the support and
    the query together; then one step, J = 1, is joint training. It is no gradient of a meta-loss (`approximate`), and
    needs no second derivative. The meta-loss that is reported is L_{J-1}(phi_{J-1}), the last that training computes.

    At test `adapt` takes the steps of `MAML` on the support, all of it at once.

    Args:
        net, inner_lr, loss, adapts: see `MAML`. What the inner loop does not move gets no meta-gradient.
        steps: J, in training and at test.
        batch: examples in a minibatch. They follow each other through an order that the examples decide, round and
            round.

    Raises:
        ValueError: as `MAML`; an inner rate of 0; batch below 1.

    Nichol, Achiam and Schulman (2018), "On first-order meta-learning algorithms", arXiv:1803.02999.
    """

    approximate = True

    def __init__(self, net: nn.Module, inner_lr: float = 0.1, steps: int = 5, loss: Loss | None = None, *,
                 batch: int | None = None, adapts: Adapts = None) -> None:
        super().__init__(net, inner_lr, steps, order=1, loss=loss, adapts=adapts)
        check_positive(inner_lr=inner_lr)  # by which the meta-gradient is divided
        check_whole(1, steps=steps, batch=1 if batch is None else batch)
        self.batch = batch

    def forward(self, episode: Episode) -> Tensor:
        """The last inner loss, with the meta-gradient in its graph (`surrogate`)."""
        support, query = episode
        data = Data(torch.cat([support.x, query.x]), torch.cat([support.y, query.y]), support.way)
        theta = adapting(self.net, self.adapts)
        phi = {k: p.detach() for k, p in theta.items()}
        for part in self.minibatches(data):
            g, loss = gradient_and_value(self.support_loss, phi, part, differentiable=False)
            phi = descend(phi, g, self.inner_lr)
        away = {k: ((p - phi[k]) / self.inner_lr).detach() for k, p in theta.items()}
        return surrogate(loss, dot(away, theta))

    def minibatches(self, data: Data) -> list[Data]:
        """What each of the J steps sees."""
        if self.batch is None:
            return [data] * self.steps
        M = len(data.y)
        order = shuffle(data.x, data.y)
        places = torch.arange(self.steps * self.batch, device=order.device).reshape(self.steps, self.batch) % M
        return [Data(data.x[order[i]], data.y[order[i]], data.way) for i in places]
