"""The regression that has a closed form: what an in-context learner is held against."""

import torch

from metalib.arguments import check_number, check_whole
from metalib.episode import Data, Episode
from metalib.tasks.protocol import check_request


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
