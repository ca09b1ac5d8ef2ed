"""Neural processes: from a set of points to a distribution over functions, without an inner loop."""

import math

import torch
from torch import Tensor, nn

from metalib.arguments import check_positive, check_whole
from metalib.distributions import Normal, mixed
from metalib.episode import Data, Episode
from metalib.functional import Loss
from metalib.keys import fold, key, key_of, normal
from metalib.learner import Learner
from metalib.nets import same_dtype

State = dict[str, Tensor]


class NeuralProcess(Learner):
    """Adaptation encodes each support point and forgets their order; prediction decodes a normal distribution at x.

        r_i = h(x_i, y_i),  i = 1..K;      r_0, learned, says that nothing was seen

        conditional     r = (1/(K+1)) sum_i r_i                       y | x, S ~ N(mean, std) = g(x, r)
        attentive       r(x) = sum_i a_i(x) r_i                       y | x, S ~ g(x, r(x))
        latent          z ~ q(z | S) = N(m(r), s(r))                  y | x, z ~ g(x, z)
        latent and attentive: both paths                              y | x, S, z ~ g(x, r(x), z)

    a(x) are softmax weights of several heads, between an embedding of x and one of each x_i; before that the r_i attend
    to each other. Because of r_0 an empty support is no special case: it leaves the learned prior. The support is a
    set: its order changes nothing, its size is free.

    What it is sure of holds for sizes that training has seen. After training with 10 points alone, where nothing is
    known 90 % intervals hold a fifth to two fifths of the targets (results/processes.json).

    The meta-loss is the mean of -log p(y) over the query. With a latent variable it is the negative evidence lower
    bound of a task, divided by the number of targets,

        -(1/M) ( sum_m log p(y_m | x_m, z) - KL(q(z | S, Q) || q(z | S)) ),      z ~ q(z | S, Q)

    with a z that the task's data and the share of training done decide (`metalib.keys`). A prediction mixes those of
    `samples` values of z from q(z | S), drawn with the same standard normal numbers for every task, and is the normal
    distribution with the mixture's mean and variance.

    Args:
        x_dim, y_dim: D of the inputs (M, D) and of the targets (M, D), floats.
        hidden: width of every layer and of r.
        layers: of h, and hidden ones of g.
        attention: each x reads the support for itself, instead of its mean.
        latent: numbers in z; 0 has none.
        heads: of every attention; they divide `hidden`.
        rounds: of self-attention among the r_i, 0 or more.
        samples: of z in a prediction.
        floor: std = floor + softplus(.), in units of y.
        loss: (Normal, y) -> scalar; None means -log p(y).

    Raises:
        ValueError: an argument out of range; data of other shapes, or targets that are no floats.

    Garnelo et al. (2018a), "Conditional neural processes", ICML; Garnelo et al. (2018b), "Neural processes",
    arXiv:1807.01622; Kim et al. (2019), "Attentive neural processes", ICLR.
    """

    shares_weights = True

    def __init__(self, x_dim: int = 1, y_dim: int = 1, hidden: int = 128, layers: int = 3, *, attention: bool = False,
                 latent: int = 0, heads: int = 4, rounds: int = 1, samples: int = 32, floor: float = 0.01,
                 loss: Loss | None = None) -> None:
        super().__init__(loss)
        check_whole(1, x_dim=x_dim, y_dim=y_dim, hidden=hidden, layers=layers, heads=heads, samples=samples)
        check_whole(0, latent=latent, rounds=rounds)
        if attention not in (True, False):
            raise ValueError(f"attention={attention!r:.60}: expected True or False; heads= says how many heads it has")
        check_positive(floor=floor)  # without it, one point that is met exactly makes the loss minus infinity
        if attention and hidden % heads:
            raise ValueError(f"hidden={hidden} with heads={heads}, which share it: choose a multiple of {heads}")
        self.x_dim, self.y_dim, self.hidden, self.layers, self.attention = x_dim, y_dim, hidden, layers, attention
        self.latent, self.heads, self.rounds, self.samples, self.floor = latent, heads, rounds, samples, floor
        self.encoder = perceptron(x_dim + y_dim, *[hidden] * layers)  # h
        self.nothing = nn.Parameter(torch.zeros(hidden))  # r_0
        if attention:
            self.among = nn.Sequential(*[Among(hidden, heads) for _ in range(rounds)])
            self.place = perceptron(x_dim, hidden, hidden)
            self.nowhere = nn.Parameter(torch.zeros(hidden))  # where r_0 stands
            self.read = Attention(hidden, heads)
        if latent:
            self.to_z = perceptron(hidden, hidden, 2 * latent)
            self.register_buffer("elapsed", torch.zeros(()), persistent=False)
        paths = (hidden if attention or not latent else 0) + latent
        self.decoder = perceptron(x_dim + paths, *[hidden] * layers, 2 * y_dim)  # g

    def encode(self, data: Data) -> Tensor:
        """r_0 and the r_i, (K + 1, hidden)."""
        self._check(data.x, data.y)
        r = torch.cat([self.nothing[None], self.encoder(torch.cat([data.x, data.y], -1))])
        return self.among(r) if self.attention else r

    def belief(self, r: Tensor) -> Normal:
        """q(z | points) of encoded points (K + 1, hidden): mean and std, each (latent,)."""
        mean, raw = self.to_z(r.mean(0)).chunk(2, -1)
        return Normal(mean, 0.1 + 0.9 * raw.sigmoid())  # neither 0 nor without bound: Kim et al.'s parametrisation

    def adapt(self, support: Data) -> State:
        """What is kept of the support: "r" (hidden,), or "keys" and "values" (K + 1, hidden) of attention; "z"
        (samples, latent)."""
        r = self.encode(support)
        return self._state(support.x, r, self._z(self.belief(r), key(0), self.samples) if self.latent else None)

    def predict(self, phi: State, x: Tensor) -> Normal:
        """Mean and standard deviation at inputs (M, x_dim): (M, y_dim) each; the noise of the targets is included."""
        self._check(x)
        h = [x]
        if "keys" in phi:
            h.append(self.read(self.place(x), phi["keys"], phi["values"]))
        if "r" in phi:
            h.append(phi["r"].expand(len(x), -1))
        h = torch.cat(h, -1)
        if "z" not in phi:
            return self._normal(h)
        z = phi["z"]
        return mixed(self._normal(torch.cat([h.expand(len(z), -1, -1), z[:, None].expand(-1, len(x), -1)], -1)))

    def forward(self, episode: Episode) -> Tensor:
        """The meta-loss of one task: -log p, or the negative evidence lower bound, per target."""
        if not self.latent:
            return super().forward(episode)
        (x, y, _), query = episode
        r = self.encode(episode.support)
        before = self.belief(r)
        after = self.belief(self.encode(Data(torch.cat([x, query.x]), torch.cat([y, query.y]))))
        draw = fold(key_of(episode), (self.elapsed.double() * 2**40).long())
        phi = self._state(x, r, self._z(after, draw, 1))
        return self.task_loss(self.predict(phi, query.x), query.y) + divergence(after, before) / query.y.numel()

    def _state(self, x: Tensor, r: Tensor, z: Tensor | None) -> State:
        phi = {} if z is None else {"z": z}
        if self.attention:
            return {**phi, "keys": torch.cat([self.nowhere[None], self.place(x)]), "values": r}
        return phi or {"r": r.mean(0)}

    def _z(self, belief: Normal, draw: Tensor, n: int) -> Tensor:
        """n samples (n, latent) that the key `draw` decides."""
        return belief.mean + belief.std * normal(draw.to(belief.mean.device), n, self.latent, dtype=belief.mean.dtype)

    def _normal(self, h: Tensor) -> Normal:
        mean, raw = self.decoder(h).chunk(2, -1)
        return Normal(mean, self.floor + nn.functional.softplus(raw))

    def _check(self, x: Tensor, y: Tensor | None = None) -> None:
        for name, t, width in (("x", x, self.x_dim), ("y", y, self.y_dim)):
            if t is None:
                continue
            if t.ndim != 2 or t.shape[1] != width or not t.is_floating_point():
                raise ValueError(f"{name} is {t.dtype} and has shape {tuple(t.shape)}, expected floats (M, {width}): "
                                 f"set {name}_dim=, or give a task's points as rows, {name}.reshape(len({name}), -1); "
                                 "labels of classes are no targets here (ProtoNet and others take them)")
            same_dtype(t, self.nothing)


class Attention(nn.Module):
    """Several heads of softmax attention: softmax(q k^T / sqrt(D)) v of each, side by side, and a linear layer.

    PyTorch's own has no double backward and falls back to a loop under vmap.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (M, width) reads k and v (K, width): (M, width)."""
        q, k, v = (f(t).unflatten(-1, (self.heads, -1)).transpose(0, 1)  # (heads, ., D)
                   for f, t in ((self.q, q), (self.k, k), (self.v, v)))
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)  # (heads, M, K)
        return self.out((weights @ v).transpose(0, 1).flatten(1))


class Among(nn.Module):
    """A round of self-attention, (K, width) -> (K, width): r + attention(norm r), then r + perceptron(norm r)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.own = Attention(width, heads), perceptron(width, width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, r: Tensor) -> Tensor:
        normed = self.first(r)
        r = r + self.attention(normed, normed, normed)
        return r + self.own(self.second(r))


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with GELU between them: smooth, so that finite differences can be trusted."""
    layers = [m for a, b in zip(widths, widths[1:]) for m in (nn.Linear(a, b), nn.GELU())]
    return nn.Sequential(*layers[:-1])


def divergence(q: Normal, p: Normal) -> Tensor:
    """KL(q || p) of independent normal distributions, summed: a scalar, in nats."""
    ratio = q.std / p.std
    return (0.5 * (ratio.square() + ((q.mean - p.mean) / p.std).square() - 1) - ratio.log()).sum()
