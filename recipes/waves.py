"""What past waves leave behind: chapter 1's comparisons, over three training seeds, tuned on validation waves.

    OMP_NUM_THREADS=1 python recipes/waves.py --force    # replaces what is there; --resume runs/waves continues

Needs no network and about three CPU-minutes. Writes results/waves.json, which chapter 1 shows.

Five support points. The unit of compute is one point forward and backward (cost.py). Every method but "scratch" is
trained with as many passes as MAML, once for each seed; its outer rate is chosen on validation waves in runs of a
quarter of that, what it needs at the test (rate, number of steps, strength of the ridge) with the first seed:

    maml       1-40-40-1, tanh; J = 5 in training; it also chooses alpha.
    joint      the same network with J = 0: as many updates and tasks as MAML, more query points.
    scratch    the same network, untrained.
    ridge      features with a new head. The multi-task objective: one body 1-40-40 for 500 waves, of each of which 50
               points are known, a linear head for each. A new wave gets a head by ridge regression.
    prior      the same features; the head is shrunk to the mean of the 500 heads, in the metric of their covariance.

Then the causes: a start is taken apart into its function and its movement, f_phi(x) = g(x) + net_phi(x) - net_theta(x),
which is gradient descent on targets shifted by g - net_theta; on the family, upside down, and at twice the frequency.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from cost import passes
from record import Work, minus, options, over_seeds, settings
from torch import Tensor

from metalib import MAML, Data, Episode, Learner, Sinusoids, TrainConfig, meta_test, meta_train, mlp
from metalib.figures.widgets import sine
from metalib.functional import seeded
from metalib.tasks.protocol import one_by_one

K, Q, J, BATCH = 5, 10, 5, 25
PASSES = passes(K, Q, steps=J)  # of MAML, a task
UPDATE = BATCH * PASSES  # a meta-iteration
WAVES, POINTS, WIDTH = 500, 50, 40  # of the multi-task objective: its waves, what is known of each, its features
STEPS = (0, 1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # where gradient descent is scored
GRIDS = {"scratch": ((0.01, 0.02, 0.03, 0.05), 5000), "joint": ((0.005, 0.01, 0.02), 5000)}  # rates, most steps
ALPHA, INNER = 0.01, (0.003, 0.02, 0.04, 0.08)  # MAML's inner rate; the others that it tries
OUTER = (3e-3, 1e-2, 3e-2)
STRENGTHS = tuple(10.0**e for e in range(-8, 3))
ORDER = ("scratch", "joint", "maml", "ridge", "prior")
TEST = Sinusoids(shot=K, query=100)


class FastWaves(Sinusoids):
    """Waves of twice the frequency."""

    def episode(self, A: Tensor, b: Tensor, support_x: Tensor, query_x: Tensor) -> Episode:
        def data(x: Tensor) -> Data:
            return Data(x, A[:, None, None] * torch.sin(2 * x + b[:, None, None]))

        return Episode(data(support_x), data(query_x))


def average(x: Tensor) -> Tensor:
    """The mean over all waves of the family."""
    return 2.55 * 2 / math.pi * x.cos()


def zero(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def drawn(tasks: Sinusoids, n: int, seed: int) -> Episode:
    """The episodes that `meta_test` draws, as one."""
    episodes = list(one_by_one(tasks, n, seeded(seed)))
    return Episode(*(Data(torch.cat([getattr(e, part).x for e in episodes]),
                          torch.cat([getattr(e, part).y for e in episodes])) for part in ("support", "query")))


CHANGED = {"family": [("average", average)], "upside down": [], "fast": [("average", average), ("zero", zero)]}


# ---------------------------------------------------------------- gradient descent on many tasks at once

def descend(net: mlp, episode: Episode, rate: float, last: int, start: Any = None) -> dict[int, tuple[Tensor, Tensor]]:
    """{J: (MSE on the support, on the query), each (T,)} for J in STEPS, to `last`; `start` replaces net_theta."""
    (x, y, *_), (xq, yq, *_) = episode
    if start is not None:
        with torch.no_grad():
            y, yq = (b - start(a) + net(a.reshape(-1, 1)).reshape(a.shape) for a, b in ((x, y), (xq, yq)))
    weights = [p.detach().expand(len(x), *p.shape) for layer in net.layers for p in (layer.weight.T, layer.bias[None])]

    def errors(weights: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        for i in range(0, len(weights), 2):
            x = torch.baddbmm(weights[i + 1], x, weights[i])
            x = x.tanh() if i + 2 < len(weights) else x
        return (x - y).square().mean((1, 2))

    path = {}
    for step in range(last + 1):
        if step in STEPS:
            with torch.no_grad():
                path[step] = errors(weights, x, y), errors(weights, xq, yq)
        weights = [w.detach().requires_grad_() for w in weights]
        grads = torch.autograd.grad(errors(weights, x, y).sum(), weights)
        weights = [w.detach() - rate * g for w, g in zip(weights, grads)]
    return path


def best_descent(net: mlp, rates: tuple[float, ...], last: int) -> dict[str, Any]:
    """Rate and number of steps that are best on validation waves; every number of the grid."""
    validation = drawn(TEST, 50, 2)
    grid = {(rate, j): float(query.mean()) for rate in rates
            for j, (_, query) in descend(net, validation, rate, last).items()}
    rate, j = min((k for k in grid if math.isfinite(grid[k])), key=grid.get)
    return {"rate": rate, "steps": j, "validation": [[*k, round(v, 4)] for k, v in grid.items()]}


# ---------------------------------------------------------------- features

class Features(Learner):
    """A body for many waves, and the heads that it has for them; a new wave gets a head by linear algebra."""

    def __init__(self, how: str, body: mlp, heads: Tensor, strength: float) -> None:
        super().__init__()
        self.body, self.strength = body, strength
        self.m, self.C = (heads.mean(0), heads.T.cov()) if how == "prior" else (
            torch.zeros_like(heads[0]), torch.eye(heads.shape[1], dtype=heads.dtype))

    def features(self, x: Tensor) -> Tensor:
        h = self.body(x).tanh()
        return torch.cat([h, torch.ones_like(h[:, :1])], 1)  # (M, D + 1)

    def adapt(self, support: Data) -> Tensor:
        H = self.features(support.x)
        inner = H @ self.C @ H.T + self.strength * torch.eye(len(H), dtype=H.dtype)  # (K, K)
        return self.m[:, None] + self.C @ H.T @ torch.linalg.solve(inner, support.y - H @ self.m[:, None])

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        return self.features(x) @ phi


def multitask(seed: int, lr: float, updates: int, waves: int = 50, points: int = 10) -> tuple[mlp, Tensor]:
    """(body, heads) of the multi-task objective; an update sees `points` of `waves` waves."""
    torch.manual_seed(seed)
    body = mlp(1, (WIDTH,), WIDTH, activation="tanh").double()
    heads = torch.nn.Parameter(0.1 * torch.randn(WAVES, WIDTH + 1, dtype=torch.float64))
    data, draw = Sinusoids(shot=1, query=POINTS).sample(WAVES, generator=seeded(10 + seed)).query, seeded(seed)
    optimiser = torch.optim.Adam([*body.parameters(), heads], lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for _ in range(updates):
        t = torch.randperm(WAVES, generator=draw)[:waves]
        i = torch.randint(POINTS, (waves, points), generator=draw)
        x, y = data.x[t[:, None], i], data.y[t[:, None], i]  # (waves, points, 1)
        h = body(x.reshape(-1, 1)).tanh().reshape(waves, points, -1)
        out = (h * heads[t, None, :-1]).sum(-1) + heads[t, None, -1]
        loss = (out - y[..., 0]).square().mean() + 1e-4 * heads[t].square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return body, heads.detach()


# ---------------------------------------------------------------- the work

def train(name: str, seed: int, lr: float, iterations: int, alpha: float = ALPHA) -> list[Any]:
    """One training at `iterations` meta-iterations' worth of MAML's passes: weights as nested lists."""
    torch.manual_seed(seed)
    if name == "scratch":
        return [vector(sine.network())]
    if name == "features":
        body, heads = multitask(seed, lr, iterations * UPDATE // 500)
        return [vector(body), heads.tolist()]
    learner = MAML(sine.network(), alpha, J if name == "maml" else 0)
    meta_train(learner, Sinusoids(shot=K, query=Q if name == "maml" else PASSES), TrainConfig(
        iterations=iterations, meta_batch=BATCH, lr=lr, schedule="cosine", clip=10.0, seed=seed))
    return [vector(learner)]


def vector(module: torch.nn.Module) -> list[float]:
    return torch.nn.utils.parameters_to_vector(module.parameters()).tolist()


def filled(module: torch.nn.Module, values: list[float]) -> Any:
    torch.nn.utils.vector_to_parameters(torch.tensor(values, dtype=torch.float64), module.parameters())
    return module


def made(name: str, kept: list[Any], strength: float = 1e-2) -> Any:
    """The network or the learner that `train` made."""
    if name in ("ridge", "prior"):
        body = filled(mlp(1, (WIDTH,), WIDTH, activation="tanh").double(), kept[0])
        return Features(name, body, torch.tensor(kept[1], dtype=torch.float64), strength)
    return filled(sine.network(), kept[0])


def validated(name: str, kept: list[Any], alpha: float) -> float:
    """The error on validation waves by which rates are chosen: with the best strength, or at the best step."""
    if name in ("ridge", "prior"):
        return min(meta_test(made(name, kept, s), TEST, 200, 2).mean for s in STRENGTHS[2::2])
    net, rates = made(name, kept), (alpha,) if name == "maml" else GRIDS[name][0]
    validation = drawn(TEST, 200, 2)
    errors = [float(query.mean()) for rate in rates for _, query in descend(net, validation, rate, 200).values()]
    return min(e for e in errors if math.isfinite(e))


def similarity(net: mlp) -> list[float]:
    """Of the kernel at the start: to E[y y'] and to the covariance E[(y - mean)(y' - mean')] of the family."""
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)[:, None]
    rows = torch.func.jacrev(lambda p: torch.func.functional_call(net, p, (x,))[:, 0])(
        {k: p.detach() for k, p in net.named_parameters()})
    jac = torch.cat([r.flatten(1) for r in rows.values()], 1)
    k, moment = jac @ jac.T, (5**3 - 0.1**3) / (6 * 4.9) * torch.cos(x - x.T)
    wanted = (moment, moment - average(x) * average(x).T)
    return [round(float((k * m).sum() / (k.norm() * m.norm())), 4) for m in wanted]


def causes(nets: dict[str, mlp], alpha: float) -> dict[str, Any]:
    """Per-task errors after J steps for each family, start function and movement; the support error as an alarm."""
    found: dict[str, Any] = {"kernel": {name: similarity(net) for name, net in nets.items()}}
    upside_down = Sinusoids(shot=K, query=100, phase=(math.pi, 2 * math.pi))
    families: dict[str, Sinusoids] = {"family": TEST, "upside down": upside_down,
                                      "fast": FastWaves(shot=K, query=100)}
    left = {}
    for family, tasks in families.items():
        episode = drawn(tasks, 300, 1)
        for name, net in nets.items():
            for what, start in (("own", None), *CHANGED[family]):
                path = descend(net, episode, alpha, 10, start)
                found[f"{family}/{name}/{what}"] = {j: query.tolist() for j, (_, query) in path.items()}
                if name == "maml" and what == "own":
                    left[family] = path[5][0] / episode.support.y.square().mean((1, 2))
    alarm = {f: round(float(v.median()), 4) for f, v in left.items()}
    auc = (left["fast"][:, None] > left["family"][None]).double().mean()
    return {**found, "alarm": {**alarm, "auc": round(float(auc), 4)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=300, help="meta-iterations of MAML, 25 tasks each")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, page = Work("waves", args), {name: learner.net for name, learner in sine.learners().items()}

    def fitted(name: str, seed: int, lr: float, iterations: int, alpha: float = ALPHA) -> list[Any]:
        name = "features" if name in ("ridge", "prior") else name
        return work.part(f"train {name} {seed} {lr} {iterations} {alpha}",
                         lambda: train(name, seed, lr, iterations, alpha))

    def chosen(name: str) -> dict[str, Any]:
        """Outer rate, and for MAML the inner one, that are best on validation waves in short runs."""
        errors: dict[tuple[float, float], float] = {}

        def best(*pairs: tuple[float, float]) -> tuple[float, float]:
            for lr, alpha in pairs:
                try:
                    errors[lr, alpha] = validated(name, fitted(name, 0, lr, args.iterations // 4, alpha), alpha)
                except FloatingPointError:  # a step that is not finite is refused
                    errors[lr, alpha] = math.inf
            return min(errors, key=errors.__getitem__)

        lr, alpha = best(*((lr, ALPHA) for lr in OUTER))
        while lr == max(one for one, _ in errors):  # the winner at the edge: a wider grid
            lr, alpha = best((round(lr * 10**0.5, 3), ALPHA))
        if name == "maml":
            lr, alpha = best(*((lr, other) for other in INNER))
        found = {"lr": lr, "alpha": alpha, "validation": [[*pair, round(v, 4)] for pair, v in errors.items()]}
        print(name, found, flush=True)
        return found

    tuning = {name: chosen(name) for name in ORDER[1:]}
    trained = {name: [fitted(name, seed, how["lr"], args.iterations, how["alpha"]) for seed in range(args.seeds)]
               for name, how in tuning.items()}
    trained["scratch"] = [train("scratch", seed, 0.0, 0) for seed in range(args.seeds)]

    alpha, at_test = tuning["maml"]["alpha"], {}
    net = made("maml", trained["maml"][0])
    ours, theirs = descend(net, drawn(TEST, 20, 1), alpha, J)[J][1], meta_test(MAML(net, alpha, J), TEST, 20, 1).values
    assert torch.allclose(ours, theirs, atol=1e-9)  # all tasks at once: the library's gradient descent
    for name in ORDER:
        kept = trained[name][0]
        if name in ("ridge", "prior"):
            grid = work.part(f"tune {name}", lambda: [[s, round(meta_test(made(name, kept, s), TEST, 200, 2).mean, 6)]  # noqa: B023
                                                      for s in STRENGTHS])
            at_test[name] = {"strength": min(grid, key=lambda v: v[1])[0], "validation": grid}
        else:
            rates, last = GRIDS.get(name, ((alpha,), 200))
            at_test[name] = work.part(f"tune {name}", lambda: best_descent(made(name, kept), rates, last))  # noqa: B023

    def tested(name: str, seed: int) -> dict[str, list[float]]:
        kept, how = trained[name][seed], at_test[name]
        if name in ("ridge", "prior"):
            learner = made(name, kept, how["strength"])
            return {"tuned": meta_test(learner, TEST, 600, 1).values.tolist()}
        episodes = drawn(TEST, 600 if name == "maml" else 100, 1)
        path = descend(made(name, kept), episodes, how["rate"], how["steps"])
        return {"tuned": path[how["steps"]][1].tolist(), **({"J = 5": path[5][1].tolist()} if name == "maml" else {})}

    tests = {name: [work.part(f"test {name} {seed}", lambda: tested(name, seed)) for seed in range(args.seeds)]  # noqa: B023
             for name in ORDER}
    values = {name: [t["tuned"] for t in found] for name, found in tests.items()}
    values["maml, J = 5"] = [t["J = 5"] for t in tests["maml"]]
    rows = {name: {**over_seeds(v), "minus maml": minus(v, [m[: len(v[0])] for m in values["maml"]])}
            for name, v in values.items()}

    path = descend(page["maml"], drawn(TEST, 600, 1), sine.weights()["alpha"], 50)
    longer = [path[j][1].tolist() for j in (5, 50)]
    longest = sine.weights()["made"]["config"]["iterations"] * UPDATE
    for name in values:
        rows[name]["passes"] = 0 if name == "scratch" else args.iterations * UPDATE
    for j, found in zip((5, 50), longer):
        rows[f"page, J = {j}"] = {**over_seeds([found]), "passes": longest,
                                  "prior minus it": minus(values["prior"], [found])}
    parts = [work.part(f"causes {seed}", lambda: causes({n: made(n, trained[n][seed]) for n in ORDER[:3]}, alpha))  # noqa: B023
             for seed in range(args.seeds)]
    keys = [k for k in parts[0] if "/" in k]
    starts = {k: {j: over_seeds([p[k][j] for p in parts]) for j in parts[0][k]} for k in keys}
    gains = {k: minus([p[k]["10"] for p in parts], [p[k]["0"] for p in parts]) for k in keys}
    work.write({"network": "1-40-40-1, tanh, float64", "shot": K, "steps": J, "meta_batch": BATCH,
                "config": settings(args), **work.spent(),
                "tuning": tuning, "at_test": at_test, "methods": rows, "starts": starts, "J = 10 minus J = 0": gains,
                "kernel": {n: [p["kernel"][n] for p in parts] for n in ORDER[:3]},
                "alarm": [p["alarm"] for p in parts]})


if __name__ == "__main__":
    main()
