"""Almost no inner loop: the last layer adapts, the body is shared."""

import inspect

from torch import Tensor, nn

from metalib.episode import Data, check_support
from metalib.fast.private import call
from metalib.functional import Loss, Params, descend, gradient
from metalib.learners.maml import MAML, adapting, head_of


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
