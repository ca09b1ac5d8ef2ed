"""Model-agnostic meta-learning: adapt by gradient descent, and differentiate through the descent."""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from metalib.arguments import check_network, check_number, check_whole
from metalib.episode import Data, Episode, check_support
from metalib.fast.block import ConvBlock
from metalib.fast.private import call, is_frozen
from metalib.functional import Loss, Params, descend, gradient
from metalib.learner import Learner

Adapts = str | Callable[[str, Tensor], bool] | None  # what the inner loop moves: see `MAML`


class MAML(Learner):
    """Adaptation is J steps of gradient descent on the support loss, from a learned start.

        phi_0 = theta,    phi_{j+1} = phi_j - alpha * grad L_S(phi_j),    phi = phi_J,    meta-loss = L_Q(phi)

    With `adapts`, phi holds a part of theta only; the rest is the same for every task, and meta-learned all the same.

    The meta-gradient is a product of Jacobians (chapter 4 derives it):

        d L_Q(phi_J) / d theta = (I - alpha H_0) (I - alpha H_1) ... (I - alpha H_{J-1}) grad L_Q(phi_J),

    H_j the Hessian of L_S at phi_j. `order=1` (FOMAML) drops every factor and keeps grad L_Q(phi_J).

    Args:
        net: maps inputs (M, ...) to predictions (M, N) or (M, D); its parameters are theta.
        inner_lr: alpha.
        steps: J.
        order: 2, the exact meta-gradient, or 1, the first-order approximation.
        loss: see `Learner`; used for both the inner and the outer loss.
        adapts: what the inner loop moves. `requires_grad=False` says that a parameter is not meta-learned, and:
            None: every parameter that requires a gradient. A frozen layer moves in neither loop.
            "all": every parameter. A frozen one starts each task from the value it has: the head of zeros of Kao, Chiu
            and Chen (2022) is zeros, frozen, and this.
            "head": the last layer alone (ANIL: Raghu et al., 2020): the net's `head` if it has one, else the last
            module, in the order in which they were made, that has parameters.
            "norm": scale and shift of the normalisation layers.
            "context": the context of `WithContext` (CAVIA: Zintgraf et al., 2019).
            (name, parameter) -> bool: those for which it is true. Like the three words before, it does not look at
            `requires_grad`. Of a parameter that two layers share, each of its names is tried.

        step_losses: the share of training, 0 to 1, in which the query loss after every inner step counts; see below.

    With step_losses = r, after a share t of training,

        meta-loss = sum_j w_j L_Q(phi_j),    w_j = max(0, 1 - t / r) / J for j < J,    w_J = 1 - sum of the others,

    so that early in training every inner iterate is held to something (Antoniou, Edwards and Storkey, 2019, section 3).

    Raises:
        TypeError: `net` is no network.
        ValueError: a rate or number of steps that is negative or no number, an order other than 1 and 2, an unknown
            `adapts`, or one that selects no parameter; step_losses above 1.

    Finn, Abbeel and Levine (2017), "Model-agnostic meta-learning for fast adaptation of deep networks", ICML.
    """

    def __init__(self, net: nn.Module, inner_lr: float = 0.1, steps: int = 1, order: int = 2,
                 loss: Loss | None = None, *, adapts: Adapts = None, step_losses: float = 0.0) -> None:
        super().__init__(loss)
        check_network(net)
        if order not in (1, 2) or isinstance(order, bool):
            raise ValueError(f"order={order}: expected 2 (exact) or 1 (first order)")
        check_number(inner_lr, "inner_lr")
        check_whole(0, steps=steps)
        check_number(step_losses, "step_losses")
        if step_losses > 1:
            raise ValueError(f"step_losses={step_losses}: expected a share of training, 0 to 1; 0.5 is the first half")
        if not (adapts is None or callable(adapts) or adapts in ("all", "head", "norm", "context")):
            raise ValueError(f"adapts={adapts!r}: expected None, 'all', 'head', 'norm', 'context' or a function of a "
                             "parameter's name and the parameter")
        self.net, self.inner_lr, self.steps, self.order, self.adapts = net, inner_lr, steps, order, adapts
        self.step_losses = step_losses
        if step_losses:
            self.register_buffer("elapsed", torch.zeros(()), persistent=False)

    def adapt(self, support: Data, steps: int | None = None) -> Params:
        """phi_J, the weights after the inner loop; `steps` overrides J, for example to adapt longer at test time."""
        return self.path(support, steps)[-1]

    def path(self, support: Data, steps: int | None = None) -> list[Params]:
        """Every inner iterate [phi_0, ..., phi_J], each a dict name -> tensor."""
        check_support(support)
        phi = adapting(self.net, self.adapts)  # phi_0 = theta
        iterates = [phi]
        for j in range(self.steps if steps is None else steps):
            # grad L_S(phi_j); order 1 takes it as a constant: d phi_{j+1} / d phi_j = I
            g = gradient(self.support_loss, phi, support, differentiable=self.order == 2)
            phi = descend(phi, g, self.rate(j))
            iterates.append(phi)
        return iterates

    def rate(self, j: int) -> float | Params:
        """alpha of inner step j; a subclass may give one for each parameter."""
        return self.inner_lr

    def forward(self, episode: Episode) -> Tensor:
        """The meta-loss of one task: L_Q(phi_J), or a weighted sum of L_Q(phi_j) over the steps."""
        if not self.step_losses or self.steps < 2:
            return super().forward(episode)
        losses = [self.task_loss(self.predict(phi, episode.query.x), episode.query.y)
                  for phi in self.path(episode.support)[1:]]
        early = (1 - self.elapsed / self.step_losses).clamp(min=0) / self.steps  # w_j for j < J
        return early * sum(losses[:-1]) + (1 - (self.steps - 1) * early) * losses[-1]

    def support_loss(self, phi: Params, support: Data) -> Tensor:
        """L_S(phi), the inner loss."""
        return self.inner_loss(self.predict(phi, support.x), support)

    def inner_loss(self, prediction: Tensor, support: Data) -> Tensor:
        """The inner loss of predictions for the support."""
        known = self.loss is None and support.way is not None and isinstance(prediction, Tensor)
        if known and prediction.shape[-1] < support.way:
            raise ValueError(f"the network has {prediction.shape[-1]} outputs, which cannot tell {support.way} classes "
                             f"apart: give it {support.way}, e.g. conv4(out_dim={support.way}), or lower way=")
        return self.task_loss(prediction, support.y)

    def predict(self, phi: Params, x: Tensor) -> Tensor:
        """The network with the task's weights: f_phi(x)."""
        return call(self.net, phi, x)


def adapting(net: nn.Module, adapts: Adapts) -> Params:
    """The parameters that MAML's inner loop moves, name -> tensor; `MAML` explains `adapts`."""
    params, slots = dict(net.named_parameters()), dict(net.named_parameters(remove_duplicate=False))
    if adapts is None:
        names = [k for k in slots if not is_frozen(net, k)]
    elif adapts == "all":
        names = [*slots]
    elif callable(adapts):
        names = [k for k, p in slots.items() if adapts(k, p)]
    elif adapts == "context":
        names = [k for k in slots if k.rpartition(".")[2] == "context"]
    elif adapts == "norm":
        names = [k for k in slots if _normalises(net.get_submodule(_owner(k)), k)]
    else:
        names = [k for k in slots if f"{_owner(k)}.".startswith(f"{head_of(net)}.")]
    moved = {id(slots[k]) for k in names}  # a shared parameter goes by the first of its names
    chosen = {k: p for k, p in params.items() if id(p) in moved}
    if not chosen:
        raise ValueError(f"adapts={adapts!r} selects none of the {len(params)} parameters {[*params][:4]}...: there is "
                         "nothing that the inner loop could move")
    return chosen


def head_of(net: nn.Module) -> str:
    """The name of a network's head: `head` if it has one, else the last module that has parameters."""
    if isinstance(getattr(net, "head", None), nn.Module):
        return "head"
    return _owner(next(reversed(dict(net.named_parameters(remove_duplicate=False))), ""))


def _owner(name: str) -> str:
    """The name of the module that a parameter belongs to."""
    return name.rpartition(".")[0]


def _normalises(owner: nn.Module, name: str) -> bool:
    """Whether a parameter is the scale or shift of a normalisation, which the class's name says (LayerNorm2d, ...)."""
    if isinstance(owner, ConvBlock):
        return owner.norm is not None and name.rpartition(".")[2] in ("scale", "bias")
    return re.search(r"Norm(\dd)?$", type(owner).__name__) is not None


def FOMAML(net: nn.Module, inner_lr: float = 0.1, steps: int = 1,  # noqa: N802 (a method's name)
           loss: Loss | None = None, *, adapts: Adapts = None) -> MAML:
    """First-order MAML: `MAML` with order=1, whose meta-gradient is grad L_Q at the adapted weights."""
    return MAML(net, inner_lr, steps, order=1, loss=loss, adapts=adapts)
