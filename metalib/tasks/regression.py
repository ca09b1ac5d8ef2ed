"""Regression: the toy of the field, sine waves, and noisy linear functions, which have a closed form."""

import math

import torch
from torch import Tensor

from metalib.arguments import check_number, check_whole
from metalib.episode import Data, Episode
from metalib.tasks.protocol import check_request


class Sinusoids:
    """Regression tasks y = A sin(x + b): the toy of Finn et al. (2017), section 5.1.

        A ~ U(amplitude),  b ~ U(phase),  x ~ U(-5, 5);    x and y (T, K, 1) in float64

    With noise, y is that plus noise * N(0, 1), in the support and in the query alike.

    Args:
        shot: K, support points.
        query: Q, query points.
        amplitude: the range of A.
        phase: the range of b, in radians.
        noise: the standard deviation of the targets' noise; 0 draws none, and the same tasks as ever.
        dtype: float64 by default, so that toy results agree across machines.
    """

    def __init__(self, shot: int = 10, query: int = 10, *, amplitude: tuple[float, float] = (0.1, 5.0),
                 phase: tuple[float, float] = (0.0, math.pi), noise: float = 0.0,
                 dtype: torch.dtype = torch.float64) -> None:
        check_whole(1, shot=shot, query=query)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(f"dtype={dtype!r}: expected a floating-point dtype, in which a sine is no whole number")
        if not all(math.isfinite(v) for v in (*amplitude, *phase)):
            raise ValueError(f"amplitude={amplitude}, phase={phase}: expected two finite numbers each, low and high")
        check_number(noise, "noise")
        self.shot, self.query, self.amplitude, self.phase = shot, query, amplitude, phase
        self.noise, self.dtype = noise, dtype

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """n tasks on the CPU."""
        A, b = self.sample_functions(n, generator=generator)
        x = 10 * torch.rand(n, self.shot + self.query, 1, generator=generator, dtype=torch.float64) - 5
        drawn = self.episode(A, b, x[:, :self.shot], x[:, self.shot:])
        if not self.noise:
            return drawn
        noise = self.noise * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(self.dtype)
        parts = zip(drawn, noise.split([self.shot, self.query], 1), strict=True)
        return Episode(*(data._replace(y=data.y + e) for data, e in parts))

    def sample_functions(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(A, b) of n tasks, each (T,)."""
        check_request(n, generator)
        u = torch.rand(2, n, generator=generator, dtype=torch.float64)
        (a0, a1), (b0, b1) = self.amplitude, self.phase
        return a0 + (a1 - a0) * u[0], b0 + (b1 - b0) * u[1]

    def episode(self, A: Tensor, b: Tensor, support_x: Tensor, query_x: Tensor) -> Episode:
        """The episode of given functions at given inputs (T, M, 1): noise-free targets."""
        def data(x: Tensor) -> Data:
            return Data(x.to(self.dtype), (A[:, None, None] * torch.sin(x + b[:, None, None])).to(self.dtype))

        return Episode(data(support_x), data(query_x))

    def __repr__(self) -> str:
        noise = f", noise={self.noise}" if self.noise else ""
        return f"Sinusoids(shot={self.shot}, query={self.query}{noise})"


class LinearTasks:
    """Noisy linear functions, whose best predictor from K examples is ridge regression.

        w ~ N(0, I),    x ~ N(0, I),    y = <w, x> + noise * N(0, 1);        x (T, K, D), y (T, K, 1)

    With this prior the posterior mean of w is the ridge solution of strength noise^2 (`metalib.learners.head.ridge`);
    no learner has a smaller expected error at any K.

    Args:
        dim: D.
        shot: K, support points; 0 is allowed, and asks for the prior.
        query: Q, query points.
        noise: the standard deviation of the targets' noise, in the support and the query.
        dtype: float64 by default, so that toy results agree across machines.
    """

    def __init__(self, dim: int = 5, shot: int = 20, query: int = 20, *, noise: float = 0.5,
                 dtype: torch.dtype = torch.float64) -> None:
        check_whole(1, dim=dim, query=query)
        check_whole(0, shot=shot)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(f"dtype={dtype!r}: expected a floating-point dtype")
        check_number(noise, "noise")
        self.dim, self.shot, self.query, self.noise, self.dtype = dim, shot, query, noise, dtype

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """n tasks on the CPU."""
        check_request(n, generator)
        M = self.shot + self.query
        w = torch.randn(n, self.dim, 1, generator=generator, dtype=torch.float64)
        x = torch.randn(n, M, self.dim, generator=generator, dtype=torch.float64)
        y = x @ w + self.noise * torch.randn(n, M, 1, generator=generator, dtype=torch.float64)
        x, y, K = x.to(self.dtype), y.to(self.dtype), self.shot
        return Episode(Data(x[:, :K], y[:, :K]), Data(x[:, K:], y[:, K:]))

    def __repr__(self) -> str:
        return f"LinearTasks(dim={self.dim}, shot={self.shot}, query={self.query}, noise={self.noise})"
