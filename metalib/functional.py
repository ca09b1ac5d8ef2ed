"""Pure functions on tensors and dicts of tensors: nothing here knows what a learner is."""

import hashlib
from collections.abc import Callable
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from metalib.distributions import Normal

Params = dict[str, Tensor]
Loss = Callable[[Any, Tensor], Tensor]  # (prediction, y) -> scalar


def seeded(seed: int) -> torch.Generator:
    """A CPU generator with this seed, Python's integer or NumPy's: randomness is always explicit.

    Raises:
        TypeError: no integer.
        ValueError: a seed outside 0 .. 2^32 - 1. PyTorch's CPU generator reads 32 bits of it, so that 2^32 would be 0
            again.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed={seed!r}: expected an integer, 0 .. 2^32 - 1")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed}: expected 0 .. 2^32 - 1; the generator reads no more bits than those")
    return torch.Generator().manual_seed(int(seed))


def derived(seed: int, purpose: str) -> int:
    """The seed of an independent stream: what training draws must not be what a test with the same seed draws.

        2^31 + (SHA-256(seed, purpose) mod 2^31)

    The upper half of the seeds belongs to such streams, so a seed below 2^31, as people choose them, never meets one.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return 2**31 + int.from_bytes(digest[:4], "little") % 2**31


def descend(params: Params, grads: Params, lr: float | Tensor | Params) -> Params:
    """One gradient step, out of place: phi_{j+1} = phi_j - lr * g.

    Args:
        params: phi_j, name -> tensor.
        grads: g = dL/dphi_j, the same names and shapes.
        lr: one rate for all, or one tensor per name (Meta-SGD).
    """
    if isinstance(lr, dict):
        return {k: p - lr[k] * grads[k] for k, p in params.items()}
    if isinstance(lr, Tensor):
        return {k: p - lr * grads[k] for k, p in params.items()}
    return {k: torch.add(p, grads[k], alpha=-lr) for k, p in params.items()}  # one operator, not two


def gradient(f: Callable[..., Tensor], params: Params, *args: Any, differentiable: bool = True) -> Params:
    """d f(params, *args) / d params, name -> tensor, as the inner loop needs it. See `gradient_and_value`."""
    return gradient_and_value(f, params, *args, differentiable=differentiable)[0]


def gradient_and_value(f: Callable[..., Tensor], params: Params, *args: Any,
                       differentiable: bool = True) -> tuple[Params, Tensor]:
    """d f(params, *args) / d params and f(params, *args), inside any transform of torch.func or outside all.

    The numbers of `torch.func.grad_and_value` with less work. That function records the backward pass always; this
    one does only if it is to be differentiated. And where the innermost transform is a `grad` that tracks `params`
    already, its graph is asked, instead of making another one.

    Args:
        f: (params, *args) -> scalar.
        params: name -> tensor.
        differentiable: whether the gradient is a function of `params` that can be differentiated again. It is not
            where gradients are disabled (`torch.no_grad`).
    """
    differentiable = differentiable and torch.is_grad_enabled()
    if torch.is_inference_mode_enabled():  # a derivative is needed all the same, and what was made there has none
        with torch.inference_mode(False):
            params, args = tree_map_only(Tensor, lambda t: t.clone() if t.is_inference() else t, (params, args))
            return gradient_and_value(f, params, *args, differentiable=False)

    def ask(leaves: Params) -> tuple[Params, Tensor]:
        value = scalar(f(leaves, *args))
        if not value.requires_grad:
            raise RuntimeError("the loss does not require grad: none of the weights that are to move is in it, or a "
                               ".detach(), an .item() or an integer stands between them")
        grads = torch.autograd.grad(value, list(leaves.values()), create_graph=differentiable, allow_unused=True)
        if all(g is None for g in grads):
            raise RuntimeError("none of the weights that are to move is in the loss, but perhaps those of a copy of "
                               "the network: call it with the weights, torch.func.functional_call(net, phi, x)")
        return {k: torch.zeros_like(p) if g is None else g
                for (k, p), g in zip(leaves.items(), grads, strict=True)}, value

    if not transformed():
        with torch.enable_grad():
            grads, value = ask({k: p if differentiable and p.requires_grad else p.detach().requires_grad_()
                                for k, p in params.items()})
        return grads, value if differentiable else value.detach()
    if differentiable and _innermost(params):
        return ask(params)
    # A graph is what torch.func.grad is needed for; what it differentiates, once f has been, is a zero.
    return torch.func.grad(lambda p: (torch.zeros(()), ask(p)), has_aux=True)(params)[1]


def scalar(loss: Any) -> Tensor:
    """The loss of one task as a tensor without axes.

    Raises:
        ValueError: it is not one number. (The sum of a loss an example would be some other number.)
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"has shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"is a {type(loss).__name__}"
        raise ValueError(f"the loss {what}, expected a tensor with one number a task: take its .mean()")
    return loss.reshape(())


def transformed() -> bool:
    """Whether a transform of torch.func is active here. (PyTorch has no public name for the question yet.)"""
    return torch._C._are_functorch_transforms_active()


def _innermost(params: Params) -> bool:
    """Whether the innermost active transform is a `grad` that tracks all of them. (Nor for this one.)"""
    level = torch._C._functorch.maybe_current_level()
    return all(p.requires_grad and torch._C._functorch.maybe_get_level(p) == level for p in params.values())


def one_hot(y: Tensor, way: int) -> Tensor:
    """Labels (M,) -> indicator matrix (M, N), as booleans. `F.one_hot` fails under vmap; a comparison does not."""
    return y[:, None] == torch.arange(way, device=y.device)


def class_means(z: Tensor, y: Tensor, way: int) -> Tensor:
    """Mean embedding of each class: c_n = (1/K_n) sum_{i: y_i = n} z_i.

    Args:
        z: embeddings, (M, D).
        y: labels 0..way-1, (M,).
        way: N, the number of classes.

    Returns:
        (N, D). A class without an example gets the zero vector.

    Raises:
        ValueError: the embeddings are something else.
    """
    check_embeddings(z)
    member = one_hot(y, way).to(z.dtype)  # (M, N)
    return (member.T @ z) / member.sum(0).clamp(min=1)[:, None]  # (N, D)


def check_embeddings(z: Any, *, maps: bool = False) -> None:
    """Raise a ValueError unless z is a tensor (M, D), or with `maps` (M, C, h, w)."""
    if not isinstance(z, Tensor) or z.ndim != 2 and not (maps and z.ndim == 4):
        what = f"have shape {tuple(z.shape)}" if isinstance(z, Tensor) else f"are a {type(z).__name__}"
        expected = "a tensor (M, D) or maps (M, C, h, w)" if maps else "a tensor (M, D)"
        raise ValueError(f"embeddings {what}, expected {expected} alone: end the encoder with nn.Flatten(), say")


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances between the rows of a (M, D) and of b (N, D): (M, N).

    The differences are formed explicitly: |a|^2 - 2ab + |b|^2 loses digits when a is close to b,
    and `torch.cdist` has no double backward. Where the M N D differences are more than 2^22, they are not: that formula
    is then used, around the mean of b, where its error is a rounding of the largest distance (0 may be -1e-7 of it).
    """
    if len(a) * b.numel() <= 2**22:
        return (a[:, None] - b[None]).pow(2).sum(-1)
    centre = b.mean(0)
    a, b = a - centre, b - centre
    return a.pow(2).sum(-1)[:, None] + b.pow(2).sum(-1) - 2 * a @ b.T


def lstm_step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(output h, next cell state) of an LSTM from its gates (..., 4 D). PyTorch's own LSTM and LSTMCell fail in vmap.

        c' = sigmoid(f) c + sigmoid(i) tanh(g),    h = sigmoid(o) tanh(c'),        gates = [i, f, g, o]
    """
    i, f, g, o = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def default_loss(prediction: Tensor | Normal, y: Tensor) -> Tensor:
    """Cross-entropy for integer targets, mean squared error for float targets; -log p(y) of a `Normal`, per number.

    Raises:
        ValueError: float predictions and targets differ in shape (broadcasting would hide the mistake), or the
            predictions are no tensor.
    """
    if isinstance(prediction, Normal):
        return -prediction.log_prob(y).mean()
    if not isinstance(prediction, Tensor):
        raise ValueError(f"predictions are a {type(prediction).__name__}: return a tensor, or give the learner a loss=")
    if not y.is_floating_point():
        return torch.nn.functional.cross_entropy(prediction, y)
    if prediction.shape != y.shape:
        raise ValueError(f"predictions have shape {tuple(prediction.shape)}, targets {tuple(y.shape)}: make them equal")
    return (prediction - y).square().mean()  # under vmap, F.mse_loss is differentiated in Python


def surrogate(value: Tensor, s: Tensor) -> Tensor:
    """value.detach() + s - s.detach(): the value of one, the gradient of the other.

    With s = <v, theta> for a constant v the gradient is v: Reptile and implicit MAML return this from `forward`, and
    vmap, the trainer and the history need not know.
    """
    return value.detach() + s - s.detach()


def hvp(f: Callable[[Params], Tensor], params: Params, v: Params) -> Params:
    """Hessian-vector product (d2f/dparams2) v without forming the Hessian: the gradient of <grad f, v>.

    Reverse-over-reverse, because some layers have no forward-mode derivative of their backward.
    Pearlmutter (1994), "Fast exact multiplication by the Hessian".
    """
    return torch.func.vjp(torch.func.grad(f), params)[1](v)[0]


def dot(a: Params, b: Params) -> Tensor:
    """Inner product of two dicts of tensors: sum over names of <a_k, b_k>."""
    return sum((a[k] * b[k]).sum() for k in a)


def relative_error(a: Params, b: Params) -> float:
    """|a - b| / |b| over all entries of two dicts of tensors, in float64."""
    diff = sum((a[k].detach().double() - b[k].detach().double()).pow(2).sum() for k in b)
    return float((diff / sum(b[k].detach().double().pow(2).sum() for k in b).clamp(min=1e-300)).sqrt())
