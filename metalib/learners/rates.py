"""Inner rates that are learned: Meta-SGD, and the rates of MAML++."""

import torch
from torch import nn

from metalib.arguments import check_choice, check_positive
from metalib.functional import Loss, Params
from metalib.learners.maml import MAML, Adapts, adapting


class MetaSGD(MAML):
    """`MAML` whose inner rates are meta-learned with theta, one for every weight.

        phi_{j+1} = phi_j - exp(rho) * grad L_S(phi_j),        meta-learned: theta and rho

    The exponential keeps a rate positive and lets it change by factors; all begin at `inner_lr`.

    Args:
        net, inner_lr, steps, order, loss, adapts, step_losses: see `MAML`.
        per: "weight", one rate for every number in theta (Meta-SGD); "tensor", one for every weight matrix and every
            bias (the per-layer rates of MAML++); "step", one for each inner step; "tensor and step" (MAML++), one for
            each of both. After more steps than J the last rates go on.

    Raises:
        ValueError: as `MAML`; a rate of zero, whose logarithm is infinite; another `per`.

    Li et al. (2017), "Meta-SGD: learning to learn quickly for few-shot learning", arXiv:1707.09835; Antoniou, Edwards
    and Storkey (2019), "How to train your MAML", ICLR.
    """

    def __init__(self, net: nn.Module, inner_lr: float = 0.1, steps: int = 1, order: int = 2,
                 loss: Loss | None = None, *, per: str = "weight", adapts: Adapts = None,
                 step_losses: float = 0.0) -> None:
        super().__init__(net, inner_lr, steps, order, loss, adapts=adapts, step_losses=step_losses)
        check_choice(per, "per", "weight", "tensor", "step", "tensor and step")
        check_positive(inner_lr=inner_lr)
        self.per = per
        moved = adapting(net, adapts)
        self.names = [*moved]  # parameter names have dots, which a ParameterDict refuses: a list, in their order
        start = torch.tensor(float(inner_lr), dtype=torch.float64).log()
        shapes = [p.shape if per == "weight" else () for p in moved.values()] if per != "step" else [()]
        own = (max(steps, 1),) if "step" in per else ()
        like = next(iter(moved.values()))
        self.log_rates = nn.ParameterList(
            start.to(like.device, like.dtype).expand((*own, *shape)).clone() for shape in shapes)

    def rate(self, j: int) -> Params:
        """exp(rho) of inner step j, name -> tensor."""
        rates = [*self.log_rates] if self.per != "step" else [self.log_rates[0]] * len(self.names)
        if "step" in self.per:
            rates = [rho[min(j, len(rho) - 1)] for rho in rates]
        return {name: rho.exp() for name, rho in zip(self.names, rates, strict=True)}
