"""Weight normalisation, w = g v / |v|, with a second derivative that is right.

PyTorch's operator takes |v| as a constant when its backward pass is differentiated (torch 2.13: `gradgradcheck` fails),
which makes a second-order meta-gradient wrong by a per cent or so, without an error.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm


def differentiable_weight_norm(module: nn.Module) -> None:
    """Let a module that normalises a weight, as a parametrization or in a hook, do it by elementary operations."""
    if isinstance(module, _WeightNorm):
        vars(module)["forward"] = functools.partial(_normalised, dim=module.dim)
    hooks = module._forward_pre_hooks
    if any(isinstance(h, WeightNorm) for h in hooks.values()):
        vars(module)["_forward_pre_hooks"] = type(hooks)(
            (k, _Hook(h.name, h.dim) if isinstance(h, WeightNorm) else h) for k, h in hooks.items())


class _Hook(WeightNorm):
    def compute_weight(self, module: nn.Module) -> Tensor:
        return _normalised(getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v"), self.dim)


def _normalised(g: Tensor, v: Tensor, dim: int) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))
