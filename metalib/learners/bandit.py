"""Bandits by rule: simple opponents of a policy that was trained. Nothing is learned, at most one number is tuned."""

import functools

import torch
from torch import Tensor

from metalib.arguments import check_choice, check_number
from metalib.keys import fold, uniform
from metalib.learner import Learner
from metalib.tasks.environments import Bandit, noise

Outcome = dict[str, Tensor]
TUNED = {"optimistic": 3.0, "bayes-ucb": 1.25, "ucb": 0.2}  # c for 5 arms and 50 pulls


class BanditRule(Learner):
    """Pull the arm with the largest score; ties are broken at random. With w wins in n pulls of an arm, after t pulls,

        greedy      mu = (w + 1) / (n + 2), the posterior mean: the prior of every p is uniform
        optimistic  (w + c) / (n + c + 1), greedy with the prior Beta(c, 1), as if there had been c - 1 more wins
        bayes-ucb   mu + c sqrt(mu (1 - mu) / (n + 3)), c standard deviations of the posterior above its mean
        ucb         w / n + c sqrt(2 log(t + 1) / n), infinite for an arm without a pull
        thompson    a draw from the posterior Beta(w + 1, n - w + 1)
        gittins     `gittins(H)`: what the arm is worth with H - t pulls to go
        random      0

    `meta_test(BanditRule("greedy"), Bandits(), metric="regret")`. Regret counts mean rewards, H max p - sum p of the
    arms pulled, so the luck of the pulls themselves is not in it. UCB is the one rule besides random that makes no use
    of the prior; it must pull each arm once.

    Args:
        rule: one of those names.
        c: of optimistic, bayes-ucb and ucb; the others have none. None is 3, 1.25 and 0.2, about the best for 5 arms
            and 50 pulls on validation tasks. "ucb" with c = 1, and log t for log(t + 1), is UCB1 of Auer, Cesa-Bianchi
            and Fischer (2002), "Finite-time analysis of the multiarmed bandit problem", Machine Learning.

    Raises:
        ValueError: another rule, or c below 0.
        TypeError: the task is no `Bandit`.
    """

    def __init__(self, rule: str = "greedy", *, c: float | None = None) -> None:
        super().__init__()
        check_choice(rule, "rule", "random", "greedy", "optimistic", "bayes-ucb", "ucb", "thompson", "gittins")
        c = TUNED.get(rule, 0.0) if c is None else c
        check_number(c, "c")
        self.rule, self.c = rule, c

    def adapt(self, support: Bandit) -> Tensor:
        """Losses and wins of each arm, (A, 2): none yet."""
        if not isinstance(support, Bandit):
            raise TypeError(f"expected a Bandit, as Bandits().sample draws them, not a {type(support).__name__}")
        return support.p.new_zeros(support.p.shape[0], 2)

    def predict(self, phi: Tensor, x: Bandit) -> Outcome:
        """What happens in H pulls, of which phi is what `adapt` returns (some rules count on it): see `outcome`."""
        task, u, actions, rewards = x, noise(x, 0), [], []
        coins = uniform(fold(task.key, -1), task.horizon, len(task.p), dtype=torch.float64)
        for t in range(task.horizon):
            score = self.score(phi, t, task).double() + 1e-9 * coins[t]
            action = (torch.arange(len(score), device=score.device) == score.argmax()).to(task.p.dtype)
            _, reward = task.step(task.p, action, u[t, 2:], t)
            phi = phi + action[:, None] * torch.stack([1 - reward, reward])
            actions.append(action)
            rewards.append(reward)
        return outcome(task, torch.stack(actions), torch.stack(rewards))

    def score(self, counts: Tensor, t: int, task: Bandit) -> Tensor:
        """Of each arm, (A,), before pull t."""
        losses, wins = counts.unbind(1)
        n = losses + wins
        if self.rule == "greedy":
            return (wins + 1) / (n + 2)
        if self.rule == "optimistic":
            return (wins + self.c) / (n + self.c + 1)
        if self.rule == "bayes-ucb":
            mean = (wins + 1) / (n + 2)
            return mean + self.c * (mean * (1 - mean) / (n + 3)).sqrt()
        if self.rule == "ucb":
            width = self.c * (2 * torch.tensor(t + 1.0).log() / n.clamp(min=1)).sqrt()
            return torch.where(n == 0, torch.inf, wins / n.clamp(min=1) + width)
        if self.rule == "thompson":  # Beta(a, b) = G(a) / (G(a) + G(b)), G(a) a sum of a exponentials
            draws = -uniform(fold(fold(task.key, -2), t), len(n), 2, t + 2, dtype=torch.float64).log()
            G = (draws * (torch.arange(t + 2, device=n.device) <= counts[..., None])).sum(-1)  # (A, 2)
            return G[:, 1] / G.sum(1)
        if self.rule == "gittins":
            H = task.horizon
            place = ((H - t) * (H + 1) + wins.long()) * (H + 1) + losses.long()
            return gittins(H).to(n.device).flatten()[place]
        return torch.zeros_like(n)


def outcome(task: Bandit, actions: Tensor, rewards: Tensor) -> Outcome:
    """{"return": sum of the mean rewards of the arms pulled, "regret": what the best arm would have had more,
    "actions" (H, A), "rewards" (H,)}."""
    mean = (actions * task.p).sum()
    return {"return": mean, "regret": task.horizon * task.p.amax() - mean, "actions": actions, "rewards": rewards}


@functools.lru_cache(maxsize=4)
def gittins(horizon: int, grid: int = 1001) -> Tensor:
    """The finite-horizon Gittins index of Bernoulli arms with a uniform prior: table[m, w, l], (H+1, H+1, H+1).

    The pay lambda of a known arm at which m more pulls are worth as much if the first is of the arm with w wins and l
    losses, mu = (w + 1) / (w + l + 2):

        m lambda = mu + mu V(m-1, w+1, l) + (1 - mu) V(m-1, w, l+1),        V(m, w, l) = max(m lambda, the right side)

    (who turns to the known arm learns nothing more, so stays). One dynamic programme for each lambda of a grid on
    [0, 1]; between two of them the difference of both sides, piecewise linear, is taken as a line. Entries that no
    horizon reaches, m + w + l > H, are NaN.

    Args:
        horizon: H.
        grid: numbers of lambda.

    Gittins (1979), "Bandit processes and dynamic allocation indices", J. R. Stat. Soc. B 41.
    """
    H, known = horizon, torch.linspace(0, 1, grid, dtype=torch.float64)[:, None, None]
    table = torch.full((H + 1, H + 1, H + 1), torch.nan, dtype=torch.float64)
    w, losses = torch.meshgrid(*[torch.arange(H + 1, dtype=torch.float64)] * 2, indexing="ij")
    mu = (w + 1) / (w + losses + 2)  # (H+1, H+1)
    V = torch.zeros(grid, H + 1, H + 1, dtype=torch.float64)  # with no pull to go
    for m in range(1, H + 1):
        n = H - m + 1  # wins and losses are below this
        mean = mu[:n, :n]
        pull = mean * (1 + V[:, 1:n + 1, :n]) + (1 - mean) * V[:, :n, 1:n + 1]
        gap = m * known - pull  # rises with lambda
        at = (gap >= 0).double().argmax(0).clamp(min=1)
        high, low = (gap.gather(0, (at - i)[None])[0] for i in (0, 1))
        index = (at - high / (high - low)) / (grid - 1)
        table[m, :n, :n] = torch.where(w[:n, :n] + losses[:n, :n] <= H - m, index, torch.nan)
        V = torch.maximum(m * known, pull)
    return table
