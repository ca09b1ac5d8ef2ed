"""Black-box learners: a network reads the support as a sequence, and adapting is nothing but reading."""

import torch
from torch import Tensor, nn

from metalib.arguments import check_choice, check_network, check_whole
from metalib.episode import Data, Episode
from metalib.fast.private import call
from metalib.functional import Loss, lstm_step, one_hot
from metalib.keys import shuffle
from metalib.learner import Learner
from metalib.nets import same_dtype

Memory = tuple[Tensor, ...]


class SequenceLearner(Learner):
    """A network whose input is the support, pair by pair, and then a query: its weights are the same for every task.

        phi = read((x_1, y_1), ..., (x_K, y_K)),        f_phi(x) = ask(phi, x)

    No gradient is taken in `adapt`: what is learned is how to learn. The support is read in an order that its examples
    decide (`metalib.keys.shuffle`), so the learner is a function of a set and no sampler's order reaches it. With an
    empty support it predicts from x alone: its prior.

    Args:
        in_dim: D, the numbers of an input, or of its embedding if there is an encoder.
        out_dim: numbers of a target (M, out_dim); for classes N, which are read as one-hot vectors.
        core: "attention": a causal transformer (no positions: the order says nothing), phi the support's activations in
            every layer; "recurrent": an LSTM, phi its state.
        dim, layers, heads: width and depth of the core; heads of the attention.
        encoder: maps inputs (M, ...) to (M, D); None flattens them. Frozen weights (`requires_grad_(False)`) stay.
        every_length: the meta-loss is the mean over all support examples, each predicted from those before it, and the
            query: one task trains every context length up to K.
        loss: see `Learner`.

    Raises:
        ValueError: another core; a size below 1; heads that do not divide dim; inputs of another width or dtype, or
            targets that out_dim does not fit.

    Hochreiter, Younger and Conwell (2001), "Learning to learn using gradient descent", ICANN; Garg, Tsipras, Liang and
    Valiant (2022), "What can transformers learn in-context?", NeurIPS.
    """

    shares_weights = True

    def __init__(self, in_dim: int, out_dim: int, core: str = "attention", *, dim: int = 64, layers: int = 3,
                 heads: int = 4, encoder: nn.Module | None = None, every_length: bool = True,
                 loss: Loss | None = None) -> None:
        super().__init__(loss)
        check_choice(core, "core", "attention", "recurrent")
        check_whole(1, in_dim=in_dim, out_dim=out_dim, dim=dim, layers=layers, heads=heads)
        if encoder is not None:
            check_network(encoder)
        self.in_dim, self.out_dim, self.core, self.dim, self.layers = in_dim, out_dim, core, dim, layers
        self.heads, self.encoder, self.every_length = heads, encoder, every_length
        self.embed = nn.Linear(in_dim + out_dim + 1, dim)
        self.body = Attention(dim, layers, heads) if core == "attention" else Recurrent(dim, layers)
        self.head = nn.Linear(dim, out_dim)

    def adapt(self, support: Data) -> Memory:
        """The memory after the support: of every layer the activations (K, dim), or the state (2 dim,)."""
        order = shuffle(support.x, support.y)
        return self.body.read(self.tokens(support.x[order], support.y[order], support.way))

    def predict(self, phi: Memory, x: Tensor) -> Tensor:
        """Each query by itself, (M, out_dim)."""
        return self.head(self.body.ask(phi, self.tokens(x)))

    def forward(self, episode: Episode) -> Tensor:
        """The query loss, or with `every_length` the mean over the query and the support, each from those before it."""
        support, query = episode
        K, Q = len(support.y), len(query.y)
        if not (self.every_length and K):
            return super().forward(episode)
        order = shuffle(support.x, support.y)
        x, y = support.x[order], support.y[order]
        phi, each = self.body.replay(self.tokens(x, y, support.way), self.tokens(x))
        loss = self.task_loss(self.predict(phi, query.x), query.y)
        return (K * self.task_loss(self.head(each), y) + Q * loss) / (K + Q)

    def tokens(self, x: Tensor, y: Tensor | None = None, way: int | None = None) -> Tensor:
        """[embedding of x, y, 1] of an example and [embedding of x, 0, 0] of a query, embedded: (M, dim)."""
        z = x.flatten(1) if self.encoder is None else call(self.encoder, {}, x).flatten(1)
        if z.shape[1] != self.in_dim:
            raise ValueError(f"an input has {z.shape[1]} numbers and in_dim={self.in_dim}: set in_dim={z.shape[1]}")
        same_dtype(z, self.embed.weight)
        if y is None:
            seen = z.new_zeros(len(z), self.out_dim + 1)
        else:
            target = one_hot(y, self.out_dim) if way is not None else (y if y.ndim > 1 else y[:, None]).flatten(1)
            if target.shape[1] != self.out_dim or way is not None and way > self.out_dim:
                raise ValueError(f"the targets have {way or target.shape[1]} numbers or classes and out_dim="
                                 f"{self.out_dim}: build the learner with out_dim={way or target.shape[1]}")
            seen = torch.cat([target.to(z.dtype), z.new_ones(len(z), 1)], 1)
        return self.embed(torch.cat([z, seen], 1))


class Attention(nn.Module):
    """A causal transformer without positions: an example sees those before it, a query all of them and itself."""

    def __init__(self, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim={dim} and heads={heads}: the heads share the width equally")
        self.blocks, self.last = nn.ModuleList(Block(dim, heads) for _ in range(layers)), nn.LayerNorm(dim)

    def read(self, pairs: Tensor) -> Memory:
        """What every layer reads, (K, dim) each: the first i rows are the memory of the first i examples."""
        h, memory = pairs, []
        for block in self.blocks:
            memory.append(h)
            h = block(h, h, earlier(len(h), h.device))
        return tuple(memory)

    def replay(self, pairs: Tensor, queries: Tensor) -> tuple[Memory, Tensor]:
        """(the memory, the features of query i asked after the first i examples)."""
        memory = self.read(pairs)
        return memory, self.ask(memory, queries, earlier(len(pairs), pairs.device))

    def ask(self, memory: Memory, queries: Tensor, seen: Tensor | None = None) -> Tensor:
        """Features (M, dim) of queries that see the memory, each for itself; `seen` (M, K) says which rows."""
        h = queries
        for block, context in zip(self.blocks, memory, strict=True):
            h = block(h, context, seen)
        return self.last(h)


def earlier(n: int, device: torch.device) -> Tensor:
    """Row i sees the columns before i, (n, n)."""
    return torch.ones(n, n, dtype=torch.bool, device=device).tril(-1)


class Block(nn.Module):
    """Attention to a context and to oneself, then a perceptron; each behind a layer norm and added to its input."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.before, self.between = heads, nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.wide, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, h: Tensor, context: Tensor, seen: Tensor | None) -> Tensor:
        """h (M, dim) attends to context (K, dim), where seen (M, K) is true, and to itself."""
        def heads(t: Tensor) -> Tensor:  # (heads, M, dim / heads)
            return t.unflatten(1, (self.heads, t.shape[1] // self.heads)).transpose(0, 1)

        own, others = self.before(h), self.before(context)
        q = heads(self.query(own)) / (h.shape[-1] / self.heads) ** 0.5
        mine = (q * heads(self.key(own))).sum(-1, keepdim=True)  # (heads, M, 1)
        scores = q @ heads(self.key(others)).transpose(1, 2)  # (heads, M, K)
        if seen is not None:
            scores = scores.masked_fill(~seen, -torch.inf)
        weights = torch.cat([scores, mine], -1).softmax(-1)
        mixed = weights[..., :-1] @ heads(self.value(others)) + weights[..., -1:] * heads(self.value(own))
        h = h + self.out(mixed.transpose(0, 1).flatten(1))
        return h + self.narrow(nn.functional.gelu(self.wide(self.between(h))))


class Recurrent(nn.Module):
    """LSTM layers. A query is one more step, from the state it finds."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(2 * dim, 4 * dim) for _ in range(layers))
        for gate in self.gates:  # what is remembered is kept to begin with (Gers, Schmidhuber and Cummins, 2000)
            nn.init.ones_(gate.bias[dim:2 * dim])

    def read(self, pairs: Tensor) -> Memory:
        """The state after all examples, one (2 dim,) a layer."""
        return self.states(pairs)[-1]

    def replay(self, pairs: Tensor, queries: Tensor) -> tuple[Memory, Tensor]:
        """(the memory, the features of query i asked after the first i examples)."""
        *before, memory = self.states(pairs)
        return memory, self.ask(tuple(torch.stack(layer) for layer in zip(*before, strict=True)), queries)

    def states(self, pairs: Tensor) -> list[Memory]:
        """After 0, 1, ..., K examples."""
        states = [tuple(pairs.new_zeros(2 * pairs.shape[1]) for _ in self.gates)]
        for pair in pairs.unbind(0):
            states.append(self.step(states[-1], pair)[1])
        return states

    def step(self, state: Memory, h: Tensor) -> tuple[Tensor, Memory]:
        """(output, next state) of inputs h (..., dim); states are (..., 2 dim)."""
        after = []
        for gate, s in zip(self.gates, state, strict=True):
            hidden, cell = s.expand(*h.shape[:-1], -1).chunk(2, -1)
            hidden, cell = lstm_step(gate(torch.cat([h, hidden], -1)), cell)
            after.append(torch.cat([hidden, cell], -1))
            h = hidden
        return h, tuple(after)

    def ask(self, memory: Memory, queries: Tensor) -> Tensor:
        """Features (M, dim): each query is one more step."""
        return self.step(memory, queries)[0]
