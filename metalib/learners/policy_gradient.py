"""MAML with a policy gradient inside: adapting is one step up the return, estimated from a few episodes."""

import math

import torch
from torch import Tensor, nn

from metalib.arguments import check_choice, check_network, check_number, check_positive, check_whole
from metalib.fast.private import call
from metalib.functional import Params, descend, gradient, surrogate
from metalib.learner import Learner
from metalib.tasks.environments import MDP, Bandit, Navigation, chosen, noise

Task = Bandit | MDP | Navigation
TEST = -1  # the episodes in which an adapted policy is judged; no inner step has this number


class PolicyMAML(Learner):
    """Adaptation is J steps of policy gradient from a learned start, each on K episodes of its own.

        phi_0 = theta,    phi_{j+1} = phi_j + alpha * grad J^(phi_j),    meta-loss = -(return of phi_J)

    The gradient of the estimate J^ is differentiated again, for d phi / d theta = I + alpha * Hessian. Which function
    of log pi has the right second derivative in the mean as well as the right first one is `objective`'s matter. The
    advantage of a step is its return-to-go minus the mean of the other episodes' at the same step.

    The meta-gradient is that of J(theta + alpha grad J(theta)), a step on the *expected* return, with estimates in both
    places: consistent as K grows, biased at finite K, for the return is no linear function of phi. That theta decides
    which episodes the inner step sees is in the Hessian of that objective; the derivative of the mean return after the
    *sampled* step has a score term instead (Stadie et al., 2018, "Some considerations on learning to explore via
    meta-reinforcement learning", E-MAML). So the gradient is no derivative of the meta-loss that is reported
    (`approximate`). A frozen weight is not meta-learned, and starts each task from the value it has.

    Args:
        net: observations (M, D) to logits (M, A) of discrete actions, or in `Navigation` to mean velocities (M, 2) in
            units of `std`.
        inner_lr: alpha.
        steps: J.
        episodes: K, for each inner step and for the meta-loss; at least 2.
        surrogate: "dice", "lvc" or "naive": see `objective`.
        std: standard deviation of a velocity.

    Raises:
        TypeError: `net` is no network; a task that is no environment. ValueError: a negative rate, fewer than 2
            episodes, another surrogate; a net whose outputs are not as many as the actions.

    Finn, Abbeel and Levine (2017), "Model-agnostic meta-learning for fast adaptation of deep networks", ICML.
    """

    approximate = True

    def __init__(self, net: nn.Module, inner_lr: float = 0.1, steps: int = 1, *, episodes: int = 20,
                 surrogate: str = "dice", std: float = 0.1) -> None:
        super().__init__()
        check_network(net)
        check_number(inner_lr, "inner_lr")
        check_whole(0, steps=steps)
        check_whole(2, episodes=episodes)  # each is the others' baseline
        check_positive(std=std)  # without which nothing is tried
        check_choice(surrogate, "surrogate", "dice", "lvc", "naive")
        self.net, self.inner_lr, self.steps, self.episodes = net, inner_lr, steps, episodes
        self.surrogate, self.std = surrogate, std

    def adapt(self, support: Task, steps: int | None = None) -> Params:
        """phi_J, the policy's weights; `steps` overrides J."""
        return self.path(support, steps)[-1]

    def path(self, support: Task, steps: int | None = None) -> list[Params]:
        """[phi_0, ..., phi_J]."""
        phi = dict(self.net.named_parameters())
        iterates = [phi]
        for j in range(self.steps if steps is None else steps):
            g = gradient(self.inner_loss, phi, support, j)
            phi = descend(phi, g, self.inner_lr)
            iterates.append(phi)
        return iterates

    def inner_loss(self, phi: Params, task: Task, j: int) -> Tensor:
        """Minus the estimate J^ of inner step j."""
        played = self.play(phi, task, j)
        return -objective(self.log_prob(phi, task, played), advantages(played["rewards"]), self.surrogate)

    def predict(self, phi: Params, x: Task) -> dict[str, Tensor]:
        """K episodes of the policy: {"return": their mean return, "states" (H, K, D), "actions" (H, K, A), "rewards"
        (H, K)}."""
        played = self.play(phi, x, TEST)
        return {"return": played["rewards"].sum(0).mean()} | played

    def forward(self, episode: Task) -> Tensor:
        """Minus the adapted policy's return, with the meta-gradient in its graph."""
        phi = self.adapt(episode)
        played = self.play(phi, episode, TEST)
        reward = played["rewards"]
        return surrogate(-reward.sum(0).mean(),
                         -objective(self.log_prob(phi, episode, played), advantages(reward), "naive"))

    def play(self, phi: Params, task: Task, i: int) -> dict[str, Tensor]:
        """K episodes, the task's i-th ones: states (H, K, D), actions (H, K, A), rewards (H, K), without a graph."""
        if not hasattr(task, "step"):
            raise TypeError(f"PolicyMAML acts in a Bandit, an MDP or a Navigation, not in a {type(task).__name__}")
        u, rows, K = noise(task, i, self.episodes), [], self.episodes
        state = task.start()[None].expand(K, -1)
        A = len(task.goal if isinstance(task, Navigation) else task.rewards(task.start()))
        with torch.no_grad():
            for t in range(task.horizon):
                out = call(self.net, phi, task.observe(state, t))
                if out.shape != (K, A):
                    raise ValueError(f"the net's output has shape {tuple(out.shape)}, expected {(K, A)}, because an "
                                     f"action in this {type(task).__name__} is {A} numbers: set out_dim={A}")
                if isinstance(task, Navigation):
                    action = self.std * (out + math.sqrt(2) * torch.erfinv(2 * u[t, :, :2] - 1))
                else:
                    action = chosen(out.softmax(-1), u[t, :, 0])
                following, reward = task.step(state, action, u[t, :, 2:], t)
                reward = reward + 0 * action.sum(-1)  # no action, NaN, has no reward
                rows.append({"states": task.observe(state, t), "actions": action, "rewards": reward})
                state = following
        return {k: torch.stack([row[k] for row in rows]) for k in rows[0]}

    def log_prob(self, phi: Params, task: Task, played: dict[str, Tensor]) -> Tensor:
        """log pi(a | s) of what was played, (H, K)."""
        states, actions = played["states"], played["actions"]
        out = call(self.net, phi, states.flatten(0, 1)).unflatten(0, states.shape[:2])
        if isinstance(task, Navigation):  # without the constant
            return -0.5 * (actions / self.std - out).square().sum(-1)
        return (out.log_softmax(-1) * actions).sum(-1)


def objective(log_prob: Tensor, advantage: Tensor, how: str = "dice") -> Tensor:
    """A function of log pi (H, K) whose derivatives at the policy that acted estimate those of the expected return.

    With l_t = log pi(a_t | s_t), box(x) = exp(x - x.detach()), whose value is 1, and A_t the advantage, a constant:

        naive    sum_t l_t A_t                                          first derivative only
        lvc      sum_t box(l_t) A_t                                     second without how earlier choices bear on A_t
        dice     sum_t box(l_0 + ... + l_{t-1}) (box(l_t) - 1) A_t      first and second

    the mean over K episodes. "lvc" varies less than "dice", and is as right where actions move no state, as in a
    bandit. Elsewhere it is biased: a little or nearly as much as "naive" (tests/test_policy_gradient.py).

    Foerster, Farquhar, Al-Shedivat, Rocktäschel, Xing and Whiteson (2018), "DiCE: the infinitely differentiable
    Monte-Carlo estimator", ICML; with advantages: Farquhar, Whiteson and Foerster (2019), "Loaded DiCE", NeurIPS;
    Rothfuss, Lee, Clavera, Asfour and Abbeel (2019), "ProMP: proximal meta-policy search", ICLR (LVC).
    """
    def box(x: Tensor) -> Tensor:
        return (x - x.detach()).exp()

    if how == "naive":
        weight = log_prob
    elif how == "lvc":
        weight = box(log_prob)
    else:
        weight = box(log_prob.cumsum(0) - log_prob) * (box(log_prob) - 1)
    return (weight * advantage).sum(0).mean()


def advantages(rewards: Tensor) -> Tensor:
    """Return-to-go of (H, K) rewards, minus the mean of the other episodes' at that step; a constant."""
    later = rewards.flip(0).cumsum(0).flip(0)
    K = rewards.shape[1]
    return ((later - later.mean(1, keepdim=True)) * (K / (K - 1))).detach()
