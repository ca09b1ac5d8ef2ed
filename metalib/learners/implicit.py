"""Implicit MAML: the gradient of where the inner loop ends, not of how it got there."""

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from metalib.arguments import check_positive, check_whole
from metalib.episode import Data, Episode, check_support
from metalib.functional import Loss, Params, descend, dot, gradient, gradient_and_value, hvp, relative_error, surrogate
from metalib.learners.maml import MAML, Adapts, adapting


class ImplicitMAML(MAML):
    """Adaptation solves a proximal problem, and its meta-gradient needs the solution alone.

        phi* = argmin_phi  L_S(phi) + (lambda / 2) |phi - theta|^2
        d L_Q(phi*) / d theta = (I + H / lambda)^{-1} grad L_Q(phi*),    H the Hessian of L_S at phi*

    The problem is approached by J steps of gradient descent from theta, the product with the inverse by conjugate
    gradient, which needs products with H alone: memory does not grow with J (`path`, which keeps every iterate, is for
    looking). Where the problem is not solved, the formula is not the gradient of what was computed (`approximate`), and
    `gradient_error` says by how much.

    Args:
        net, loss, adapts: see `MAML`. What the inner loop does not move gets no meta-gradient.
        inner_lr: alpha. Steps shrink the distance to phi* only if alpha < 2 / (lambda + largest eigenvalue of H).
        steps: J.
        strength: lambda, how strongly theta holds phi.
        cg_steps: products with H in the conjugate gradient.

    Raises:
        ValueError: as `MAML`; a strength that is not positive; cg_steps below 1.

    Rajeswaran, Finn, Kakade and Levine (2019), "Meta-learning with implicit gradients", NeurIPS.
    """

    approximate = True

    def __init__(self, net: nn.Module, inner_lr: float = 0.1, steps: int = 16,
                 loss: Loss | None = None, *, strength: float = 1.0, cg_steps: int = 5, adapts: Adapts = None) -> None:
        super().__init__(net, inner_lr, steps, order=1, loss=loss, adapts=adapts)
        check_positive(strength=strength)  # without a pull towards theta, phi* does not depend on theta
        check_whole(1, cg_steps=cg_steps)
        self.strength, self.cg_steps = strength, cg_steps

    def adapt(self, support: Data, steps: int | None = None) -> Params:
        """phi_J, without keeping what came before it."""
        return deque(self.iterates(support, steps), maxlen=1).pop()

    def path(self, support: Data, steps: int | None = None) -> list[Params]:
        """Every inner iterate [phi_0, ..., phi_J]; nothing differentiates through them."""
        return list(self.iterates(support, steps))

    def iterates(self, support: Data, steps: int | None = None) -> Iterator[Params]:
        """phi_0, ..., phi_J, one after another."""
        check_support(support)
        phi = theta = {k: p.detach() for k, p in adapting(self.net, self.adapts).items()}
        yield phi
        for _ in range(self.steps if steps is None else steps):
            g = gradient(self.support_loss, phi, support, differentiable=False)
            pull = {k: g[k] + self.strength * (phi[k] - theta[k]) for k in theta}
            phi = descend(phi, pull, self.inner_lr)
            yield phi

    def forward(self, episode: Episode) -> Tensor:
        """L_Q(phi_J), with the implicit meta-gradient in its graph (`surrogate`)."""
        support, query = episode
        phi = self.adapt(support)
        g, loss = gradient_and_value(self.support_loss, phi, query, differentiable=False)

        def product(v: Params) -> Params:
            Hv = hvp(lambda p: self.support_loss(p, support), phi, v)
            return {k: v[k] + Hv[k] / self.strength for k in v}

        direction = conjugate_gradient(product, g, steps=self.cg_steps)
        theta = adapting(self.net, self.adapts)
        return surrogate(loss, dot({k: v.detach() for k, v in direction.items()}, theta))

    def gradient_error(self, episode: Episode, *, steps: int = 1000, cg_steps: int = 100) -> float:
        """How far the meta-gradient at these settings is from that of the solved problem, relative, for one task.

        Args:
            episode: one task, in the network's dtype; float64 if small errors matter.
            steps, cg_steps: of the reference.
        """
        own, theta = (self.steps, self.cg_steps), {k: p for k, p in self.named_parameters() if p.requires_grad}
        try:
            here, _ = self.task_gradient(theta, episode)
            self.steps, self.cg_steps = steps, cg_steps
            solved, _ = self.task_gradient(theta, episode)
        finally:
            self.steps, self.cg_steps = own
        return relative_error(here, solved)


def conjugate_gradient(product: Callable[[Params], Params], b: Params, *, steps: int = 10,
                       tol: float = 1e-10) -> Params:
    """Solve A x = b for a symmetric positive definite A that is only known by its products v -> A v.

        x_0 = 0,   r = b - A x,   p = r + beta p,   x <- x + alpha p,   alpha = <r, r> / <p, A p>

    Exact after as many steps as A has distinct eigenvalues; implicit MAML solves (I + H / lambda) x = g with it.

    Args:
        product: v -> A v.
        b: the right-hand side.
        steps: at most this many products.
        tol: stop when |r| <= tol |b|. Under vmap, where a stop cannot depend on data, further steps change nothing.

    Hestenes and Stiefel (1952), "Methods of conjugate gradients for solving linear systems".
    """
    x, r = {k: torch.zeros_like(v) for k, v in b.items()}, b
    p, rr = r, dot(r, r)
    enough = tol**2 * rr
    for _ in range(steps):
        Ap = product(p)
        going = rr > enough
        alpha = torch.where(going, rr / torch.where(going, dot(p, Ap), 1.0), 0.0)
        x = {k: x[k] + alpha * p[k] for k in b}
        r = {k: r[k] - alpha * Ap[k] for k in b}
        before, rr = rr, dot(r, r)
        beta = torch.where(going, rr / torch.where(going, before, 1.0), 0.0)
        p = {k: r[k] + beta * p[k] for k in b}
    return x
