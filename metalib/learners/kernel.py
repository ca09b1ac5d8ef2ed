"""A Gaussian process on learned features: the kernel is meta-learned, and the support is all that a task keeps."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from metalib.arguments import check_choice
from metalib.distributions import Normal
from metalib.episode import Data
from metalib.functional import Loss, squared_distance
from metalib.learners.bayes import Believing, factor, log_density, whitened
from metalib.learners.metric import embeddings, floats_of, logarithm


class Conditioned(NamedTuple):
    """What a Gaussian process keeps of a task.

    Attributes:
        z: the support's features, (K, D).
        L: the Cholesky factor of its covariance with the noise, (K, K).
        white: L^{-1} (y - mean), (K, P).
    """

    z: Tensor
    L: Tensor
    white: Tensor


class DeepKernelGP(Believing):
    """Deep kernel transfer: an exact Gaussian process whose kernel compares learned features.

        g ~ GP(c, k),    y = g(x) + noise e        k(x, x') = a^2 exp(-|f(x) - f(x')|^2 / 2 l^2) + b^2 <f(x), f(x')>
        L L^T = K + noise^2 I                      K_ij = k(x_i, x_j) on the support, (K, K)

        v(x) = L^{-1} k(support, x)
        y* | x*, S ~ N(c + v^T L^{-1} (y - c), k(x*, x*) - v^T v + noise^2)
        log p(y | x) = log N(y; c, K + noise^2 I)  the evidence, `log_evidence`

    Meta-learned: f and the logarithms of a, l, b and noise, and c. The linear kernel alone is `BayesLinear` with the
    prior N(0, b^2 I) over heads. The covariance does not depend on y.

    Args:
        encoder: f, maps inputs (M, ...) to features (M, D).
        outputs: P; given the kernel, the outputs are independent.
        kernel: "rbf", "linear" or "both", the sum.
        scale: where a and b start, in units of y.
        length: where l starts, in units of the features.
        noise: where the noise's standard deviation starts, in units of y.
        objective, loss: see `BayesLinear`. Patacchiola et al. take the evidence.

    Raises:
        TypeError: the encoder is no network.
        ValueError: an argument out of range; targets of another shape.

    Patacchiola, Turner, Crowley, O'Boyle and Storkey (2020), "Bayesian meta-learning for the few-shot setting via deep
    kernels", NeurIPS; Wilson, Hu, Salakhutdinov and Xing (2016), "Deep kernel learning", AISTATS.
    """

    def __init__(self, encoder: nn.Module, outputs: int = 1, *, kernel: str = "rbf", scale: float = 1.0,
                 length: float = 1.0, noise: float = 0.5, objective: str = "query", loss: Loss | None = None) -> None:
        super().__init__(encoder, outputs, noise, objective, loss)
        check_choice(kernel, "kernel", "rbf", "linear", "both")
        self.kernel, self.scale, self.length = kernel, scale, length
        round_, flat = kernel != "linear", kernel != "rbf"
        self.log_scale = logarithm(scale, "scale", encoder) if round_ else None
        self.log_length = logarithm(length, "length", encoder) if round_ else None
        self.log_slope = logarithm(scale, "scale", encoder) if flat else None
        self.mean = nn.Parameter(torch.zeros_like(floats_of(encoder).new_empty(outputs)))

    def adapt(self, support: Data) -> Conditioned:
        """The support's features and what its targets say; no support leaves the prior."""
        z = embeddings(self.encoder, support.x)
        L = factor(self.covariance(z, z), self.variance)
        return Conditioned(z, L, whitened(L, self.targets(support) - self.mean))

    def predict(self, phi: Conditioned, x: Tensor) -> Normal:
        """Mean and standard deviation, (M, P) each, the noise included."""
        z = embeddings(self.encoder, x)
        v = whitened(phi.L, self.covariance(phi.z, z))  # (K, M)
        left = (self.prior_variance(z) - v.square().sum(0)).clamp(min=0)  # rounding may leave less than nothing
        mean = self.mean + v.T @ phi.white
        return Normal(mean, (left + self.variance).sqrt()[:, None].expand_as(mean))

    def log_evidence(self, data: Data) -> Tensor:
        """log p(y | x) of all targets together, in nats; a scalar."""
        phi = self.adapt(data)
        return log_density(phi.L @ phi.white, phi.L)

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        """k between the rows of features a (M, D) and b (N, D): (M, N)."""
        total = 0.0
        if self.log_scale is not None:
            total = (2 * self.log_scale - 0.5 * squared_distance(a, b) * (-2 * self.log_length).exp()).exp()
        return total if self.log_slope is None else total + (2 * self.log_slope).exp() * a @ b.T

    def prior_variance(self, z: Tensor) -> Tensor:
        """k(x, x) for each row of features z (M, D): (M,)."""
        total = torch.zeros_like(z[:, 0])
        if self.log_scale is not None:
            total = total + (2 * self.log_scale).exp()
        return total if self.log_slope is None else total + (2 * self.log_slope).exp() * z.square().sum(1)
