"""Neural processes: from a set of points to a distribution over functions, without an inner loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalib.arguments import check_number
from metalib.distributions import Normal, mixed
from metalib.episode import Data, Episode
from metalib.keys import fold, key, key_of, normal
from metalib.learner import Learner

State = dict[str, Tensor]


class NeuralProcess(Learner):
    shares_weights = True

    def __init__(self, x_dim: int = 1, y_dim: int = 1, hidden: int = 128, layers: int = 3, *, attention: bool = False,
                 latent: int = 0, heads: int = 4, rounds: int = 1, samples: int = 16, floor: float = 0.01,
                 loss: Callable[[Normal, Tensor], Tensor] | None = None) -> None:
        super().__init__(loss)
        self.x_dim, self.y_dim, self.hidden, self.layers, self.rounds = x_dim, y_dim, hidden, layers, rounds
        self.attention, self.latent, self.heads, self.samples, self.floor = attention, latent, heads, samples, floor
        H = hidden
        self.encoder = perceptron(x_dim + y_dim, *[H] * layers)
        self.prior = nn.Parameter(torch.zeros(H))
        if attention:
            self.mix = nn.ModuleList(Attention(H, heads) for _ in range(rounds))
            self.place = perceptron(x_dim, H, H)
            self.nowhere = nn.Parameter(torch.zeros(H))
            self.read = Attention(H, heads, residual=False)
        if latent:
            self.to_z = perceptron(H, H, 2 * latent)
            self.register_buffer("elapsed", torch.zeros(()), persistent=False)
        width = x_dim + latent + (H if attention or not latent else 0) + (H if attention else 0)
        self.decoder = perceptron(width, *[H] * layers, 2 * y_dim)

    def points(self, data: Data) -> Tensor:
        r = self.encoder(torch.cat([data.x, data.y], -1))
        r = torch.cat([self.prior[None], r])
        for layer in (self.mix if self.attention else ()):
            r = layer(r, r, r)
        return r

    def belief(self, r: Tensor) -> Normal:
        mean, raw = self.to_z(r.mean(0)).chunk(2, -1)
        return Normal(mean, 0.1 + 0.9 * raw.sigmoid())

    def state(self, data, r):
        phi = {}
        if self.attention:
            f = self.place(data.x)
            phi = {"keys": torch.cat([self.nowhere[None], f]), "values": r}
        elif not self.latent:
            phi = {"r": r.mean(0)}
        return phi

    def adapt(self, support: Data) -> State:
        r = self.points(support)
        phi = self.state(support, r)
        if self.latent:
            q = self.belief(r)
            eps = normal(key(0).to(r.device), self.samples, self.latent, dtype=r.dtype)
            phi["z"] = q.mean + q.std * eps
        return phi

    def predict(self, phi: State, x: Tensor) -> Normal:
        parts = [x]
        if self.attention:
            f = self.place(x)
            parts += [self.read(f, phi["keys"], phi["values"]), f]
        elif not self.latent:
            parts.append(phi["r"].expand(len(x), -1))
        h = torch.cat(parts, -1)
        if self.latent:
            z = phi["z"]
            h = torch.cat([h.expand(len(z), -1, -1), z[:, None].expand(-1, len(x), -1)], -1)
        mean, raw = self.decoder(h).chunk(2, -1)
        out = Normal(mean, self.floor + F.softplus(raw))
        return mixed(out) if self.latent else out

    def forward(self, episode: Episode) -> Tensor:
        if not self.latent:
            return super().forward(episode)
        support, query = episode
        r = self.points(support)
        phi, prior = self.state(support, r), self.belief(r)
        both = Data(torch.cat([support.x, query.x]), torch.cat([support.y, query.y]))
        q = self.belief(self.points(both))
        k = fold(key_of(episode), (self.elapsed.double() * 2**40).long())
        phi["z"] = q.mean + q.std * normal(k, 1, self.latent, dtype=r.dtype)
        kl = (prior.std / q.std).log() + (q.std.square() + (q.mean - prior.mean).square()) / (2 * prior.std.square()) - 0.5
        return self.task_loss(self.predict(phi, query.x), query.y) + kl.sum() / query.y.numel()


class Attention(nn.Module):
    def __init__(self, width, heads, residual=True):
        super().__init__()
        self.heads, self.residual = heads, residual
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        if residual:
            self.mlp = perceptron(width, width, width)
            self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, q, k, v):
        res = q
        if self.residual:
            q = k = v = self.n1(q)
        q, k, v = (f(t).unflatten(-1, (self.heads, -1)).transpose(0, 1)
                   for f, t in ((self.query, q), (self.key, k), (self.value, v)))
        w = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        r = self.out((w @ v).transpose(0, 1).flatten(1))
        if self.residual:
            r = res + r
            r = r + self.mlp(self.n2(r))
        return r


def perceptron(*widths):
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.GELU())]
    return nn.Sequential(*layers[:-1])
