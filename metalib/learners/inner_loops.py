"""MAML with another inner loop: ANIL's moves the head alone, Reptile's goes through all examples of the task."""

import inspect

import torch
from torch import Tensor, nn

from metalib.arguments import check_positive, check_whole
from metalib.episode import Data, Episode, check_support
from metalib.fast.private import call
from metalib.functional import Loss, Params, descend, dot, gradient, gradient_and_value, surrogate
from metalib.keys import shuffle
from metalib.learners.maml import MAML, Adapts, adapting, head_of


class ANIL(MAML):
    """`MAML` whose inner loop moves the last layer alone; the body is meta-learned and the same for every task.

        z = body(x),    W_0 = theta_head,    W_{j+1} = W_j - alpha * grad_W L_S(W_j z_S)

    Where the network has a method `features(x)`, what its last layer reads (`mlp` and `conv4` do), these are computed
    once for all inner steps: a task costs NK + NQ passes through the body, whatever J is. Another network, one whose
    `features` is a module (torchvision's, with pooling behind it) or whose head shares a weight with its body for
    example, is called as a whole. `MAML(net, adapts=predicate)` is the same for any other part of a network, at the
    cost of MAML's forward passes.

    Args:
        net: ends with its head: `net.head`, else the last module that has parameters.
        inner_lr, steps, order, loss: see `MAML`.

    Raghu et al. (2020), "Rapid learning or feature reuse? Towards understanding the effectiveness of MAML", ICLR.
    """

    def __init__(self, net: nn.Module, inner_lr: float = 0.1, steps: int = 1, order: int = 2,
                 loss: Loss | None = None) -> None:
        super().__init__(net, inner_lr, steps, order, loss, adapts="head")

    def path(self, support: Data, steps: int | None = None) -> list[Params]:
        """Every inner iterate [phi_0, ..., phi_J] of the head, each a dict of the network's names -> tensor."""
        name, phi = head_of(self.net), adapting(self.net, "head")
        if not inspect.ismethod(getattr(self.net, "features", None)) or getattr(self.net, "head", name) is None or any(
                not k.startswith(f"{name}.") for k in phi):
            return super().path(support, steps)
        check_support(support)
        head, z = self.net.get_submodule(name), call(self.net, {}, support.x, method="features")  # (NK, D)

        def loss(phi: Params, read: Data) -> Tensor:
            own = {k.removeprefix(f"{name}."): w for k, w in phi.items()}
            return self.inner_loss(call(head, own, read.x), read)

        iterates = [phi]
        for j in range(self.steps if steps is None else steps):
            g = gradient(loss, phi, support._replace(x=z), differentiable=self.order == 2)
            phi = descend(phi, g, self.rate(j))
            iterates.append(phi)
        return iterates


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
