"""RL^2: a policy with a memory learns to explore, because its memory is all that changes within a task."""

import torch
from torch import Tensor, nn

from metalib.arguments import check_choice, check_number, check_whole
from metalib.fast.private import call
from metalib.functional import lstm_step, surrogate
from metalib.learner import Learner
from metalib.nets import mlp, same_dtype
from metalib.tasks.environments import MDP, Bandit, chosen, noise

Memory = tuple[Tensor, Tensor, Tensor, Tensor]  # h, the last action, the last reward, episodes played


class RL2(Learner):
    """One policy for all tasks, whose input is what happened so far: adapting is remembering.

        h_t = read(h_{t-1}, a_{t-1}, r_{t-1}, s_t),        a_t ~ pi(. | h_t) = softmax(logits(h_t))

    It is trained for the return of a whole lifetime, so a pull that only informs is paid by what comes later. With
    r(a) the mean reward of an action now and V a critic, the meta-gradient is that of

        (1/H) sum_t [ sum_a pi(a | h_t) r(a) + log pi(a_t | h_t) (r_{t+1} + ... + r_{H-1} - V_t) + entropy * H(pi_t) ]

    The immediate reward needs no sample, because training knows the task. So does the critic, which sees the mean
    rewards; the policy does not. The meta-loss that is reported is minus the return, the sum of the mean rewards of
    the actions taken. It is a step function of the weights for given random numbers, so the gradient is not its
    derivative but right in the mean (`approximate`).

    Args:
        actions: A.
        features: numbers that the task's `observe` returns: 0 of a bandit, S of an `MDP`.
        core: "recurrent": an LSTM that reads all. "arms": an LSTM for each arm, with shared weights, that reads its own
            pulls and the mean of all states: no arm is special. "counts": a perceptron, shared in the same way, on what
            a uniform prior makes of each arm's pulls and wins (see `Counts`), all that matters of a bandit's past.
        dim: width.
        entropy: weight of the policy's entropy in training; 0 adds none.

    Raises:
        ValueError: another core; fewer than 2 actions, a width below 1; "arms" or "counts" with features; a task of
            another size or dtype.
        TypeError: a task whose actions cannot be counted.

    Duan, Schulman, Chen, Bartlett, Sutskever and Abbeel (2016), "RL^2: Fast reinforcement learning via slow
    reinforcement learning", arXiv:1611.02779.
    """

    shares_weights = True
    approximate = True

    def __init__(self, actions: int, features: int = 0, core: str = "recurrent", *, dim: int = 32,
                 entropy: float = 0.0) -> None:
        super().__init__()
        check_whole(2, actions=actions)
        check_whole(0, features=features)
        check_whole(1, dim=dim)
        check_number(entropy, "entropy")
        check_choice(core, "core", "recurrent", "arms", "counts")
        if features and core != "recurrent":
            raise ValueError(f"core={core!r} has no place for {features} features of a state: use core='recurrent'")
        self.actions, self.features, self.core, self.dim, self.entropy = actions, features, core, dim, entropy
        self.body = {"recurrent": Recurrent, "arms": Arms, "counts": Counts}[core](actions, features, dim)
        secret = actions * max(features, 1) if core == "recurrent" else 1
        self.critic = mlp(self.body.width + secret + 2, (dim,), 1)

    def adapt(self, support: Bandit | MDP, steps: int | None = None) -> Memory:
        """The memory after `steps` episodes of H actions each; None is 0, the memory of one who has seen nothing."""
        self._check(support)
        r = support[0].new_zeros
        phi = (r(self.body.memory), r(self.actions), r(()), support.key * 0)
        for _ in range(steps or 0):  # the last of them has read all but its own last reward, which phi carries
            phi = self.play(phi, support)[0]
        return phi

    def _check(self, support: Bandit | MDP) -> None:
        if not isinstance(support, (Bandit, MDP)):
            raise TypeError(f"RL2 acts in a Bandit or an MDP, not in a {type(support).__name__}: use PolicyMAML")
        S, A = (0, support.p.shape[-1]) if isinstance(support, Bandit) else support.r.shape[-2:]
        if (A, S) != (self.actions, self.features):
            raise ValueError(f"a {type(support).__name__} of {A} actions and {S} features for RL2(actions="
                             f"{self.actions}, features={self.features}): build it with actions={A}, features={S}")
        same_dtype(support[0], next(self.parameters()))

    def predict(self, phi: Memory, x: Bandit | MDP) -> dict[str, Tensor]:
        """The next episode: {"return": sum of mean rewards, "regret": of a bandit, "actions" (H, A), "rewards" (H,),
        "entropy": of each choice in nats, (H,)}."""
        _, step = self.play(phi, x)
        result = {"return": step["mean"].sum(), "actions": step["action"], "rewards": step["reward"],
                  "entropy": entropy(step["logits"])}
        if isinstance(x, Bandit):
            result["regret"] = x.horizon * x.p.amax() - result["return"]
        return result

    def forward(self, episode: Bandit | MDP) -> Tensor:
        """Minus the return of a first lifetime, with the policy's and the critic's gradient in its graph."""
        _, step = self.play(self.adapt(episode), episode)
        H, logits, mean = episode.horizon, step["logits"], step["mean"]
        p, log_p = logits.softmax(-1), logits.log_softmax(-1)
        now = (p * step["rewards"]).sum(-1)  # (H,), exact
        later = mean.flip(0).cumsum(0).flip(0) - mean  # r_{t+1} + ... + r_{H-1}
        left = torch.arange(H - 1, -1, -1, device=mean.device).to(mean.dtype)  # how many these are
        value = now.detach() + self.value(step, now.detach(), left / H, episode)  # (H,), of a step
        advantage = (later - left * value).detach()
        policy = now + (log_p * step["action"]).sum(-1) * advantage + self.entropy * entropy(logits)
        critic = (left / H * (later / left.clamp(min=1) - value)).square()
        return surrogate(-mean.sum(), (0.5 * critic - policy).mean())

    def value(self, step: dict[str, Tensor], now: Tensor, left: Tensor, task: Bandit | MDP) -> Tensor:
        """What a later step brings on average more than this one, (H,), of one who sees the mean rewards."""
        h = step["h"].detach()
        h = h if h.ndim == 3 else h[:, None]  # (H, A, width), or (H, 1, width) of a memory that all arms share
        secret = (task.p if isinstance(task, Bandit) else task.r).reshape(h.shape[1], -1).expand(*h.shape[:2], -1)
        both = torch.stack([now, left], -1)[:, None].expand(*h.shape[:2], 2)
        x = torch.cat([h, secret, both], -1)
        return call(self.critic, {}, x.flatten(0, 1)).reshape(x.shape[:-1]).mean(-1)

    def play(self, phi: Memory, task: Bandit | MDP) -> tuple[Memory, dict[str, Tensor]]:
        """(the memory after one more episode, what happened in each of its H steps)."""
        self._check(task)
        h, action, reward, i = phi
        u, state, rows = noise(task, i), task.start(), []
        for t in range(task.horizon):
            seen = torch.cat([task.observe(state, t), (u[0, :1] * 0 + 1 - t / task.horizon)])
            h, out, logits = self.body(h, action, reward, seen)
            action, rewards = chosen(logits.detach().softmax(-1), u[t, 0]), task.rewards(state)
            state, reward = task.step(state, action, u[t, 2:], t)
            rows.append({"logits": logits, "h": out, "action": action, "reward": reward, "rewards": rewards,
                         "mean": (action * rewards).sum()})
        return (h, action, reward, i + 1), {k: torch.stack([row[k] for row in rows]) for k in rows[0]}


def entropy(logits: Tensor) -> Tensor:
    """-sum_a p log p of the softmax of logits (..., A), in nats; at most log A."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


class Recurrent(nn.Module):
    """One LSTM for all that happens: h (2 D,)."""

    def __init__(self, actions: int, features: int, dim: int) -> None:
        super().__init__()
        self.memory, self.width = (2 * dim,), dim
        self.gates = nn.Linear(2 * actions + 1 + features + dim, 4 * dim)
        nn.init.ones_(self.gates.bias[dim:2 * dim])
        self.head = nn.Linear(dim, actions)

    def forward(self, h: Tensor, action: Tensor, reward: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(the next memory, what the critic sees of it, logits (A,))."""
        out, cell = h.chunk(2, -1)
        out, cell = lstm_step(self.gates(torch.cat([action, action * reward, seen, out])), cell)
        return torch.cat([out, cell]), out, self.head(out)


class Arms(nn.Module):
    """An LSTM for each arm, with shared weights: h (A, 2 D)."""

    def __init__(self, actions: int, features: int, dim: int) -> None:
        super().__init__()
        self.memory, self.width = (actions, 2 * dim), dim
        self.gates = nn.Linear(3 + 2 * dim, 4 * dim)
        nn.init.ones_(self.gates.bias[dim:2 * dim])
        self.head = nn.Linear(2 * dim, 1)

    def forward(self, h: Tensor, action: Tensor, reward: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `Recurrent`; what the critic sees is (A, D)."""
        out, cell = h.chunk(2, -1)
        x = torch.stack([action, action * reward, seen.expand_as(action)], -1)  # (A, 3)
        out, cell = lstm_step(self.gates(torch.cat([x, out, out.mean(0).expand_as(out)], -1)), cell)
        logits = self.head(torch.cat([out, out.mean(0).expand_as(out)], -1)).squeeze(-1)
        return torch.cat([out, cell], -1), out, logits


class Counts(nn.Module):
    """Pulls and wins of each arm, h (A, 2), and a perceptron that all arms share.

    It reads five numbers of an arm with w wins in n pulls, which know the uniform prior: the posterior mean
    mu = (w + 1) / (n + 2), the posterior standard deviation sqrt(mu (1 - mu) / (n + 3)), the largest mu of all arms,
    1 / (n + 1), and the share of the time that is left. What is left to find is the bonus for what a pull tells.
    Before the first pull all arms look alike, so the first choice is uniform whatever the weights are.
    """

    def __init__(self, actions: int, features: int, dim: int) -> None:
        super().__init__()
        self.memory, self.width = (actions, 2), 5
        self.net = mlp(5, (dim, dim), 1)

    def forward(self, h: Tensor, action: Tensor, reward: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `Recurrent`; what the critic sees is (A, 5), the same five numbers."""
        h = h + torch.stack([action, action * reward], -1)
        n, wins = h.unbind(-1)
        mean = (wins + 1) / (n + 2)
        spread = (mean * (1 - mean) / (n + 3)).sqrt()
        x = torch.stack([mean, spread, mean.amax().expand_as(mean), 1 / (n + 1), seen.expand_as(mean)], -1)
        return h, x, call(self.net, {}, x).squeeze(-1)
