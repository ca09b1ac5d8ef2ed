"""Model-agnostic meta-learning: adapt by gradient descent, and differentiate through the descent."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.func import functional_call

from metalib.episode import Data, check_support
from metalib.functional import Params, descend, gradient
from metalib.learner import Learner


class MAML(Learner):
    """Adaptation is J steps of gradient descent on the support loss, from a learned start.

        phi_0 = theta,    phi_{j+1} = phi_j - alpha * grad L_S(phi_j),    phi = phi_J,    meta-loss = L_Q(phi)

    The meta-gradient is a product of Jacobians (chapter 4 derives it):

        d L_Q(phi_J) / d theta = (I - alpha H_0) (I - alpha H_1) ... (I - alpha H_{J-1}) grad L_Q(phi_J),

    H_j the Hessian of L_S at phi_j. `order=1` (FOMAML) drops every factor and keeps grad L_Q(phi_J).

    Args:
        net: maps inputs (M, ...) to predictions (M, N) or (M, D); its parameters are theta.
        inner_lr: alpha.
        steps: J.
        order: 2, the exact meta-gradient, or 1, the first-order approximation.
        loss: see `Learner`; used for both the inner and the outer loss.

    Raises:
        ValueError: a negative rate or number of steps, or an order other than 1 and 2.

    Finn, Abbeel and Levine (2017), "Model-agnostic meta-learning for fast adaptation of deep networks", ICML.
    """

    def __init__(self, net: nn.Module, inner_lr: float = 0.1, steps: int = 1, order: int = 2,
                 loss: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__(loss)
        if order not in (1, 2):
            raise ValueError(f"order={order}: expected 2 (exact) or 1 (first order)")
        if inner_lr < 0 or steps < 0:
            raise ValueError(f"inner_lr={inner_lr}, steps={steps}: neither may be negative")
        self.net, self.inner_lr, self.steps, self.order = net, inner_lr, steps, order

    def adapt(self, support: Data, steps: int | None = None) -> Params:
        """phi_J, the weights after the inner loop; `steps` overrides J, for example to adapt longer at test time."""
        return self.path(support, steps)[-1]

    def path(self, support: Data, steps: int | None = None) -> list[Params]:
        """Every inner iterate [phi_0, ..., phi_J], each a dict name -> tensor."""
        check_support(support)
        phi = dict(self.net.named_parameters())  # phi_0 = theta
        iterates = [phi]
        for _ in range(self.steps if steps is None else steps):
            # grad L_S(phi_j); order 1 takes it as a constant: d phi_{j+1} / d phi_j = I
            g = gradient(self.support_loss, phi, support, differentiable=self.order == 2)
            phi = descend(phi, g, self.inner_lr)
            iterates.append(phi)
        return iterates

    def support_loss(self, phi: Params, support: Data) -> Tensor:
        """L_S(phi), the inner loss."""
        return self.task_loss(self.predict(phi, support.x), support.y)

    def predict(self, phi: Params, x: Tensor) -> Tensor:
        """The network with the task's weights: f_phi(x)."""
        return functional_call(self.net, phi, (x,))


def FOMAML(net: nn.Module, inner_lr: float = 0.1, steps: int = 1,  # noqa: N802 (a method's name)
           loss: Callable[[Tensor, Tensor], Tensor] | None = None) -> MAML:
    """First-order MAML: `MAML` with order=1, whose meta-gradient is grad L_Q at the adapted weights."""
    return MAML(net, inner_lr, steps, order=1, loss=loss)
