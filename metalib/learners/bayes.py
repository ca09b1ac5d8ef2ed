"""Bayesian linear regression on learned features: a prior over heads, meta-learned and conditioned on the support."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metalib.arguments import check_choice, check_network, check_whole
from metalib.distributions import Normal
from metalib.episode import Data, Episode
from metalib.functional import Loss
from metalib.learner import Learner
from metalib.learners.head import eye, features
from metalib.learners.metric import floats_of, logarithm


class Heads(NamedTuple):
    """A normal distribution over heads: of each output's weights, with a covariance that the outputs share.

    Attributes:
        mean: (D+1, P).
        covariance: (D+1, D+1).
    """

    mean: Tensor
    covariance: Tensor


class Believing(Learner):
    """What learners with an evidence share: the noise, and which likelihood is the meta-loss.

    A subclass defines `log_evidence(data)`. `BayesLinear` says what the arguments are.
    """

    shares_weights = True

    def __init__(self, encoder: nn.Module, outputs: int, noise: float, objective: str, loss: Loss | None) -> None:
        super().__init__(loss)
        check_network(encoder)
        check_whole(1, outputs=outputs)
        check_choice(objective, "objective", "query", "evidence")
        if objective == "evidence" and loss is not None:
            raise ValueError("objective='evidence' is a loss itself: leave loss=None, or take objective='query'")
        self.encoder, self.outputs, self.noise, self.objective = encoder, outputs, noise, objective
        self.log_noise = logarithm(noise, "noise", encoder)

    @property
    def variance(self) -> Tensor:
        """noise^2, a scalar."""
        return (2 * self.log_noise).exp()

    def forward(self, episode: Episode) -> Tensor:
        """The meta-loss of one task: -log p of its query given its support, or of both together; per target."""
        if self.objective == "query":
            return super().forward(episode)
        (x, y, way), query = episode
        whole = Data(torch.cat([x, query.x]), torch.cat([y, query.y]), way)
        return -self.log_evidence(whole) / whole.y.numel()

    def targets(self, data: Data) -> Tensor:
        """y, (M, P) floats; anything else is refused, because broadcasting would hide it."""
        if data.y.shape != (len(data.x), self.outputs) or not data.y.is_floating_point():
            raise ValueError(f"targets are {data.y.dtype} {tuple(data.y.shape)}, expected floats "
                             f"{(len(data.x), self.outputs)}: set outputs=, or give y[:, None]; labels of classes are "
                             "no targets here (RidgeHead and ProtoNet take them)")
        return data.y


class BayesLinear(Believing):
    """A head is drawn from a normal distribution; adaptation conditions that distribution on the support, exactly.

        w ~ N(m, C),    C = diag(exp -rho)           the prior over heads; its last entry belongs to the constant 1
        y = Z w + noise e,    e ~ N(0, I)            Z = [f(x_i), 1], (K, D+1)

        G  = C Z^T (Z C Z^T + noise^2 I)^{-1}        a system of K unknowns
        m' = m + G (y - Z m),    C' = C - G Z C      the posterior, which is the prior of what comes next
        y* | x*, S ~ N(z* m', z* C' z*^T + noise^2)  z* = [f(x*), 1]

        log p(y | x) = log N(y; Z m, Z C Z^T + noise^2 I)        the evidence, `log_evidence`

    Meta-learned: f, m, rho and log noise. C is diagonal because another covariance is the same prior with other
    features, provided f ends with a linear layer. The covariance C' does not depend on y: how wrong the prior was for a
    task shows in the evidence, not in the width of its intervals.

    Args:
        encoder: f, maps inputs (M, ...) to features (M, D).
        dim: D; without features, 0, the head is the constant alone.
        outputs: P; each has a head of its own, and all have one C.
        precision: where exp rho starts, the same for all D+1 weights.
        noise: where the noise's standard deviation starts, in units of y.
        objective: the meta-loss of a task, per target: "query", -log p of each query target given the support, or
            "evidence", -log p of all targets of the task, support and query together (empirical Bayes).
        loss: (Normal, y) -> scalar, for objective="query"; None means -log p(y).

    Raises:
        TypeError: the encoder is no network.
        ValueError: an argument out of range; features or targets of another shape.

    Grant et al. (2018), "Recasting gradient-based meta-learning as hierarchical Bayes", ICLR, for the point of view;
    Harrison, Sharma and Pavone (2018), "Meta-learning priors for efficient online Bayesian regression", WAFR.
    """

    def __init__(self, encoder: nn.Module, dim: int, outputs: int = 1, *, precision: float = 1.0, noise: float = 0.5,
                 objective: str = "query", loss: Loss | None = None) -> None:
        super().__init__(encoder, outputs, noise, objective, loss)
        check_whole(0, dim=dim)
        self.dim, self.precision = dim, precision
        start = logarithm(precision, "precision", encoder).detach()
        self.log_precision = nn.Parameter(start.repeat(dim + 1))
        self.prior_mean = nn.Parameter(torch.zeros_like(floats_of(encoder).new_empty(dim + 1, outputs)))

    def prior(self) -> Heads:
        """The belief about the head of a task of which nothing was seen."""
        return Heads(self.prior_mean, (-self.log_precision).exp().diag())

    def adapt(self, data: Data, phi: Heads | None = None) -> Heads:
        """The posterior over heads. `phi` is the belief before, the prior if None: adapt(S2, adapt(S1)) is
        adapt(S1 + S2)."""
        (m, C), z = phi or self.prior(), self._features(data.x)
        L = factor(z @ C @ z.T, self.variance)
        G = whitened(L.mT, whitened(L, z @ C), upper=True).T  # (D+1, K)
        rest = eye(z, self.dim + 1) - G @ z
        # C - G Z C as a sum of two squares (Joseph): symmetric, and never negative
        return Heads(m + G @ (self.targets(data) - z @ m), rest @ C @ rest.T + self.variance * G @ G.T)

    def predict(self, phi: Heads, x: Tensor) -> Normal:
        """Mean and standard deviation, (M, P) each, the noise included."""
        z = self._features(x)
        mean, left = z @ phi.mean, ((z @ phi.covariance) * z).sum(1, keepdim=True)
        return Normal(mean, (left.clamp(min=0) + self.variance).sqrt().expand_as(mean))  # rounding may leave -0

    def log_evidence(self, data: Data, phi: Heads | None = None) -> Tensor:
        """log p(y | x) of all targets together, in nats, under the belief phi (the prior if None); a scalar.

        log_evidence(S1 + S2) is log_evidence(S1) + log_evidence(S2, adapt(S1)).
        """
        (m, C), z = phi or self.prior(), self._features(data.x)
        return log_density(self.targets(data) - z @ m, factor(z @ C @ z.T, self.variance))

    def _features(self, x: Tensor) -> Tensor:
        z = features(self.encoder, x)  # (M, D+1)
        if z.shape[1] != self.dim + 1:
            raise ValueError(f"the encoder returned {z.shape[1] - 1} features with dim={self.dim}: make them equal")
        return z


def factor(K: Tensor, variance: Tensor) -> Tensor:
    """L with L L^T = K + variance I, for a symmetric K (M, M) without negative eigenvalues; NaN where there is none.

    The variance is taken to be 8 (machine epsilon) * (mean of K's diagonal) at least, about what rounding took from K;
    where it is larger nothing is added. `cholesky_ex` does not raise, because one bad matrix would end the whole
    meta-batch with it.
    """
    least = 8 * torch.finfo(K.dtype).eps * K.diagonal().mean()
    L, failed = torch.linalg.cholesky_ex(K + torch.maximum(variance, least) * eye(K, len(K)))
    return torch.where(failed > 0, torch.nan, L)


def whitened(L: Tensor, b: Tensor, *, upper: bool = False) -> Tensor:
    """L^{-1} b for a triangular L (M, M) and b (M, P)."""
    return torch.linalg.solve_triangular(L, b, upper=upper)


def log_density(residual: Tensor, L: Tensor) -> Tensor:
    """sum over the columns r of `residual` (M, P) of log N(r; 0, L L^T), a scalar in nats.

        log N(r; 0, K) = -r^T K^{-1} r / 2 - log det K / 2 - M log(2 pi) / 2
    """
    M, P = residual.shape
    return (-0.5 * whitened(L, residual).square().sum() - P * L.diagonal().log().sum()
            - 0.5 * M * P * math.log(2 * math.pi))
