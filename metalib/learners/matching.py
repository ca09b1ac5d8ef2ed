"""Comparing a query with the support: by a cosine and attention, or by a network that has learned to compare."""

import torch
from torch import Tensor, nn

from metalib.arguments import check_choice, check_network, check_whole
from metalib.episode import Data
from metalib.fast.private import call
from metalib.functional import Loss, check_embeddings, class_means, lstm_step, one_hot
from metalib.keys import shuffle
from metalib.learner import Learner
from metalib.learners.metric import embeddings, floats_of, logarithm, way_of, width_of
from metalib.nets import mlp


class MatchingNet(Learner):
    """A query attends to the support examples, and its label is the attended mixture of their labels.

        a_i(x) = softmax_i( tau cos(f(x), g(x_i)) ),        p(y = n | x) = sum_{i: y_i = n} a_i(x)

    g = f is the encoder, unless `full_context`: then both also depend on the whole support set,

        g(x_i) = z_i + (forward LSTM over z_1 ... z_M)_i + (backward LSTM)_i,        z_i = encoder(x_i)
        f(x)   = h_R,   h_r = z + LSTM(z, [h_{r-1}, sum_i softmax_i(<h_{r-1}, g(x_i)>) g(x_i)])

    The LSTM reads the support in an order that the examples decide (`metalib.keys.shuffle`), so what is learned is a
    function of a set, as without it.

    Args:
        encoder: maps inputs (M, ...) to embeddings (M, D).
        full_context: whether embeddings depend on the whole support set. D is read from
            the encoder's `out_dim` or `embedding_dim`.
        loss: of the logits log p(y | x), see `Learner`.
        temperature: where a learned tau starts. What a ReLU leaves is all positive, so cosines differ by little:
            between two letters, for a conv4 at first, it is 0.8 on average.
        reads: R, with full context: how often a query's LSTM reads the support.
        embedding_dim: D, where the encoder does not say.

    Raises:
        TypeError: the encoder is no network.
        ValueError: a temperature that is not positive; reads below 1; a full_context that is no bool; a width that
            nobody says; embeddings or labels of a wrong shape.

    Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra (2016), "Matching networks for one shot learning", NeurIPS.
    """

    shares_weights = True

    def __init__(self, encoder: nn.Module, full_context: bool = False, loss: Loss | None = None, *,
                 temperature: float = 30.0, reads: int = 3, embedding_dim: int | None = None) -> None:
        super().__init__(loss)
        check_network(encoder)
        if full_context not in (True, False):
            raise ValueError(f"full_context={full_context!r:.60}: expected True or False; a loss goes to loss=")
        check_whole(1, reads=reads)
        self.encoder, self.full_context, self.temperature, self.reads = encoder, full_context, temperature, reads
        self.embedding_dim = embedding_dim
        self.log_temperature = logarithm(temperature, "temperature", encoder)
        self.context = _FullContext(width_of(encoder, embedding_dim)) if full_context else None
        if full_context:
            self.context.to(self.log_temperature.device, self.log_temperature.dtype)

    def adapt(self, support: Data) -> tuple[Tensor, Tensor, Tensor]:
        """The support's embeddings g (NK, D), their unit vectors, and which class each belongs to (NK, N)."""
        way = way_of(support)
        x, y = support.x, support.y
        if self.full_context:
            order = shuffle(x, y)
            x, y = x[order], y[order]
        g = embeddings(self.encoder, x)
        if self.full_context:
            gates = self.context.there
            if (D := gates.out_features // 4) != g.shape[1]:
                raise ValueError(f"the embeddings are {g.shape[1]} wide, not {D}: give embedding_dim={g.shape[1]}")
            g = call(self.context, {}, g.to(gates.weight.dtype), method="of_support")
        return g, unit(g), one_hot(y, way)

    def predict(self, phi: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        """log p(y | x) up to one constant a query, (M, N)."""
        g, directions, member = phi
        f = embeddings(self.encoder, x)
        if self.full_context:
            f = call(self.context, {}, f.to(g.dtype), g, self.reads, method="of_query")
        scores = self.log_temperature.exp() * (unit(f) @ directions.T)  # (M, NK)
        least = torch.finfo(scores.dtype).min  # not -inf, over which alone logsumexp has the gradient NaN
        return torch.where(member.T, scores[:, None], least).logsumexp(-1)  # (M, N, NK) -> (M, N)


class RelationNet(Learner):
    """A small network, the relation module, sees a class and a query together and says how well they go together.

        c_n = mean of f(x_i) over class n,        logits_n(x) = r([c_n, f(x)])

    f(x) may be vectors (M, D) or maps (M, C, h, w), which are concatenated along their channels. (The paper adds up a
    class's examples; the mean is the same at one shot, and lets the shot change.)

    Args:
        encoder: f. A conv4 at 28 pixels leaves maps of one pixel and flattens them: vectors.
        relation: r, maps (P, 2D) or (P, 2C, h, w) to (P, 1). None is mlp(2D, (64, 64), 1), with D from the
            encoder's `out_dim` or `embedding_dim`; an encoder that returns maps needs one of its own, such as
            nn.Sequential(nn.Conv2d(2 * C, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(64, 1)).
        objective: "squared error": sum_n (sigmoid(logits_n) - [y = n])^2, the mean over queries, as in the paper.
            "cross-entropy": of the softmax over classes, as the other learners. The larger the way, the fewer pairs are
            right ones: 30-way, on 250 tasks of glyphs, the first had learned nothing and the second much.
        loss: instead of the objective, see `Learner`.

    Raises:
        TypeError: the encoder or the relation module is no network.
        ValueError: another objective; a width that nobody says; features, scores or labels of a wrong shape.

    Sung, Yang, Zhang, Xiang, Torr and Hospedales (2018), "Learning to compare: relation network for few-shot learning",
    CVPR.
    """

    shares_weights = True

    def __init__(self, encoder: nn.Module, relation: nn.Module | None = None, loss: Loss | None = None, *,
                 objective: str = "squared error") -> None:
        super().__init__(loss)
        check_network(encoder)
        check_choice(objective, "objective", "squared error", "cross-entropy")
        if relation is None:
            like = floats_of(encoder)
            relation = mlp(2 * width_of(encoder), (64, 64), 1).to(like.device, like.dtype)
        check_network(relation)
        self.encoder, self.relation, self.objective = encoder, relation, objective

    def adapt(self, support: Data) -> Tensor:
        """The mean features of each class, (N, D) or (N, C, h, w)."""
        way, z = way_of(support), self.features(support.x)
        return class_means(z.flatten(1), support.y, way).reshape(way, *z.shape[1:])

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        """The relation scores before the sigmoid, (M, N)."""
        z = self.features(x)
        M, N = len(z), len(phi)
        pairs = [phi[None].expand(M, *phi.shape), z[:, None].expand(M, *phi.shape)]  # (M, N, D) or (M, N, C, h, w)
        scores = call(self.relation, {}, torch.cat(pairs, 2).flatten(0, 1))  # (M * N, 1)
        if not isinstance(scores, Tensor) or scores.numel() != M * N:
            what = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(f"the relation module returned {what} for {M * N} pairs, not one number each, (P, 1)")
        return scores.reshape(M, N)

    def task_loss(self, prediction: Tensor, y: Tensor) -> Tensor:
        """`loss` if given, else the objective."""
        if self.loss is not None or self.objective == "cross-entropy":
            return super().task_loss(prediction, y)
        right = one_hot(y, prediction.shape[-1]).to(prediction.dtype)
        return (prediction.sigmoid() - right).square().sum(-1).mean()

    def features(self, x: Tensor) -> Tensor:
        """f(x), vectors or maps."""
        z = call(self.encoder, {}, x)
        check_embeddings(z, maps=True)
        return z


class _FullContext(nn.Module):
    """The two functions that make an embedding depend on the support set: the gates of three LSTMs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.there, self.back, self.query = (nn.Linear(reads * width, 4 * width) for reads in (2, 2, 3))

    def of_support(self, z: Tensor) -> Tensor:  # (NK, D) -> (NK, D)
        return z + _run(self.there, z) + _run(self.back, z.flip(0)).flip(0)

    def of_query(self, z: Tensor, g: Tensor, reads: int) -> Tensor:  # (M, D), (NK, D) -> (M, D)
        h, c = z, torch.zeros_like(z)
        for _ in range(reads):
            read = (h @ g.T).softmax(-1) @ g  # (M, D)
            out, c = lstm_step(self.query(torch.cat([z, h, read], -1)), c)
            h = z + out
        return h


def _run(gates: nn.Linear, z: Tensor) -> Tensor:
    """h of every step, (M, D)."""
    h = c = torch.zeros_like(z[:1])
    steps = []
    for row in z.split(1):
        h, c = lstm_step(gates(torch.cat([row, h], -1)), c)
        steps.append(h)
    return torch.cat(steps)


def unit(z: Tensor) -> Tensor:
    """z / |z| of each row, in float32 at least; a row of zeros stays zero, with a gradient that is finite
    (F.normalize's is 1e12)."""
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    square = z.square().sum(-1, keepdim=True)
    there = square > torch.finfo(z.dtype).tiny
    return z * torch.where(there, square, 1.0).rsqrt()
