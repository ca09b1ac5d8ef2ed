"""MAML that says how sure it is: a Laplace posterior over the last layer, around what the inner loop found."""

import inspect
import math

import torch
from torch import Tensor, nn

from metalib.arguments import check_whole
from metalib.distributions import Normal
from metalib.episode import Data
from metalib.fast.private import call
from metalib.functional import Params
from metalib.keys import key, normal
from metalib.learner import Learner
from metalib.learners.bayes import factor, whitened
from metalib.learners.maml import MAML, head_of
from metalib.learners.metric import logarithm

State = dict[str, Tensor | Params]


class LaplaceMAML(Learner):
    """MAML as empirical Bayes: its inner loop finds the most probable head, and its curvature there says how sure.

        phi = A_theta(S)                        MAML's own adaptation
        w | S ~ N(w_phi, (lambda I + G)^{-1})   the last layer's weights and bias, around phi's

        regression       G = Z^T Z / noise^2                                         Z = [z_i, 1], what the head reads
                         y | x, S ~ N(f_phi(x), z (lambda I + G)^{-1} z^T + noise^2)
        classification   G = sum_i z_i z_i^T (x) (diag p_i - p_i p_i^T)              p_i = softmax f_phi(x_i)
                         p(y | x, S) = mean over draws of w of softmax(z w)

    G is the Gauss-Newton matrix of the support's log-likelihood. The network is linear in its head, so nothing else is
    approximated than the posterior; with targets in squared error G is its exact Hessian. Meta-learned: theta, log
    lambda and log noise, from -log p of the query. A lambda that nobody learned can be worse than no posterior at all:
    chapter 10 measures one.

    To learn lambda and noise alone, on validation tasks, freeze the network of a trained MAML whose `adapts` does not
    look at `requires_grad`:

        maml = MAML(net, adapts="all");  meta_train(maml, tasks, config)
        maml.requires_grad_(False);      meta_train(LaplaceMAML(maml), validation, config)

    Args:
        maml: a `MAML`, or one of its kind, with the default loss, whose network has a method `features(x)` that its
            last layer reads, a linear one (`mlp` and `conv4` have).
        precision: where lambda starts.
        noise: where the noise's standard deviation starts, in units of y; classification has none.
        samples: of w in a prediction of classes, an even number: each draw comes with its mirror image.

    Raises:
        TypeError: no MAML.
        ValueError: a MAML with a loss of its own, which has no likelihood that we know; no such network; an argument
            out of range.

    Grant, Finn, Levine, Darrell and Griffiths (2018), "Recasting gradient-based meta-learning as hierarchical Bayes",
    ICLR; MacKay (1992), "The evidence framework applied to classification networks", Neural Computation 4.
    """

    def __init__(self, maml: MAML, *, precision: float = 1.0, noise: float = 0.5, samples: int = 32) -> None:
        super().__init__()
        if not isinstance(maml, MAML):
            raise TypeError(f"LaplaceMAML is made of a MAML, not of {maml!r:.60}")
        if maml.loss is not None:
            raise ValueError("LaplaceMAML needs the loss to be a likelihood: build the MAML with loss=None")
        check_whole(2, samples=samples)
        if samples % 2:
            raise ValueError(f"samples={samples}: expected an even number")
        self.head = head_of(maml.net)
        if not isinstance(maml.net.get_submodule(self.head), nn.Linear) or not inspect.ismethod(
                getattr(maml.net, "features", None)):
            raise ValueError(f"{type(maml.net).__name__}: expected a network with a method features(x) that its last "
                             "layer reads, an nn.Linear, such as mlp or conv4(out_dim=5)")
        self.maml, self.precision, self.noise, self.samples = maml, precision, noise, samples
        self.log_precision = logarithm(precision, "precision", maml.net)
        self.log_noise = logarithm(noise, "noise", maml.net)

    def adapt(self, support: Data, steps: int | None = None) -> State:
        """{"phi": MAML's weights} and "L", the factor of the head's precision (D+1, D+1), or for classes "heads", draws
        (samples, D+1, N)."""
        phi = self.maml.adapt(support, steps)
        z, strength = self._features(phi, support.x), self.log_precision.exp()
        if support.way is None:
            return {"phi": phi, "L": factor(z.T @ z * (-2 * self.log_noise).exp(), strength)}
        w = self._head(phi)  # (D+1, N)
        p = (z @ w).softmax(-1)
        H = p.diag_embed() - p[:, :, None] * p[:, None]  # (NK, N, N)
        G = torch.einsum("ma,mb,mij->aibj", z, z, H).reshape(w.numel(), w.numel())
        L = factor(G, strength)
        e = normal(key(0).to(z.device), w.numel(), self.samples // 2, dtype=z.dtype)  # the same for every task
        d = whitened(L.mT, e, upper=True).T.unflatten(1, w.shape)
        return {"phi": phi, "heads": torch.cat([w + d, w - d])}

    def predict(self, phi: State, x: Tensor) -> Tensor | Normal:
        """A `Normal` (M, P), the noise included; or logarithms of the classes' probabilities, (M, N)."""
        z = self._features(phi["phi"], x)
        if "heads" in phi:
            return (z @ phi["heads"]).log_softmax(-1).logsumexp(0) - math.log(self.samples)
        mean, v = z @ self._head(phi["phi"]), whitened(phi["L"], z.T)  # v (D+1, M)
        variance = v.square().sum(0) + (2 * self.log_noise).exp()
        return Normal(mean, variance.sqrt()[:, None].expand_as(mean))

    def _features(self, phi: Params, x: Tensor) -> Tensor:
        """[z, 1] that the head reads, (M, D+1); [z] if the head has no bias."""
        z = call(self.maml.net, phi, x, method="features")
        bias = self.maml.net.get_submodule(self.head).bias
        return z if bias is None else torch.cat([z, torch.ones_like(z[:, :1])], 1)

    def _head(self, phi: Params) -> Tensor:
        """phi's weights and bias of the head as one matrix, (D+1, N)."""
        own = dict(self.maml.net.named_parameters())
        parts = [phi.get(name, own[name]) for name in (f"{self.head}.weight", f"{self.head}.bias") if name in own]
        return torch.cat([p.T if p.ndim == 2 else p[None] for p in parts])
