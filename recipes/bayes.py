"""Bayesian learners on noisy sine waves and on drawn characters: errors, and whether the intervals hold what they say.

    OMP_NUM_THREADS=1 python recipes/bayes.py --force    # replaces what is there; --resume runs/bayes continues

Needs no network and about 20 CPU-minutes. Writes results/bayes.json. Three training seeds each; outer rates are chosen
on validation tasks in runs of a quarter of the length with the first seed.

Waves with noise 0.1, 10 support points in training, 0 to 20 at the test; tested on the same waves in float64, before
and after one factor on all standard deviations that is fitted on validation waves with as many points.

    linear                 `BayesLinear`, 1-64-64-32, tanh; meta-loss: -log p of the query
    linear, evidence       the same; meta-loss: -log p of support and query together
    linear, noise stays    the first, whose noise stays where it starts, 0.5: why short trainings over-cover
    linear, one std        the first one's means, with one std, that of its errors on validation waves: a ridge head
    kernel                 `DeepKernelGP`, an RBF kernel on the same network's features, evidence
    kernel, both           the sum of an RBF and a linear kernel
    maml                   1-64-64-1, tanh, J = 5, alpha = 0.01; one std, as above; steps at the test from validation
    maml, laplace          the same MAML; lambda and noise of its last layer's posterior learned on validation waves

Characters: glyphs, 5-way 1-shot, of scripts that training did not see; ANIL of a perceptron after 5 and 50 inner steps,
as it is, with a temperature, and with a Laplace posterior whose lambda is 1, or learned; both numbers come from
the validation scripts: accuracy, NLL, calibration error.

Expected: linear and linear, evidence below an MSE of 0.025 and with 87 to 93 % of the targets in their 90 % intervals
before the factor; kernel, both below 0.1.
"""

from __future__ import annotations

import argparse
import copy
import math
from typing import Any

import torch
from processes import Exact
from record import Stopwatch, Work, minus, options, over_seeds, settings
from torch import Tensor

from metalib import (
    ANIL,
    MAML,
    BayesLinear,
    Data,
    DeepKernelGP,
    Episode,
    FewShot,
    LaplaceMAML,
    Learner,
    Metric,
    Normal,
    Sinusoids,
    TrainConfig,
    glyphs,
    meta_test,
    meta_train,
    mlp,
)

NOISE, QUERY, BATCH, WIDTH, DIM = 0.1, 40, 32, 64, 32
SHOTS = (0, 1, 2, 3, 5, 10, 20)
MAKE = {
    "linear": lambda: BayesLinear(body(), DIM),
    "linear, evidence": lambda: BayesLinear(body(), DIM, objective="evidence"),
    "linear, noise stays": lambda: BayesLinear(body(), DIM),
    "kernel": lambda: DeepKernelGP(body(), objective="evidence"),
    "kernel, both": lambda: DeepKernelGP(body(), kernel="both", objective="evidence"),
    "maml": lambda: MAML(mlp(1, (WIDTH, WIDTH), 1, activation="tanh"), 0.01, 5, adapts="all"),
}
RATES, STEPS = (5e-3, 1e-2, 2e-2), (1, 2, 3, 5, 7, 10, 15, 20)
METRICS = ["MSE", "NLL", "coverage"]
SQUARES = Metric("squared z", lambda p, y: ((y - p.mean) / p.std).square().mean())
VALIDATION, TEST = 2, 1  # seeds
LETTERS = {"lr": 3e-3, "alpha": 0.3}


def body() -> mlp:
    return mlp(1, (WIDTH, WIDTH), DIM, activation="tanh")


class Points:
    """The same waves with the first `shot` of their 20 support points."""

    def __init__(self, shot: int, query: int = 50, dtype: torch.dtype = torch.float64) -> None:
        self.tasks, self.shot = Sinusoids(shot=SHOTS[-1], query=query, noise=NOISE, dtype=dtype), shot

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        (x, y, _), query = self.tasks.sample(n, generator=generator)
        return Episode(Data(x[:, :self.shot], y[:, :self.shot]), query)


class Stretched(Learner):
    """Another learner's predictions with every std times one factor; `constant` puts one std in place of them all."""

    def __init__(self, learner: Learner, factor: float, *, constant: bool = False, steps: int | None = None) -> None:
        super().__init__()
        self.learner, self.factor, self.constant, self.steps = learner, factor, constant, steps

    def adapt(self, support: Data) -> Any:
        return self.learner.adapt(support) if self.steps is None else self.learner.adapt(support, self.steps)

    def predict(self, phi: Any, x: Tensor) -> Normal:
        p = self.learner.predict(phi, x)
        mean = p.mean if isinstance(p, Normal) else p
        return Normal(mean, torch.full_like(mean, self.factor) if self.constant else self.factor * p.std)


def trained(name: str, seed: int, lr: float, iterations: int) -> Learner:
    torch.manual_seed(seed)
    learner = MAKE[name]()
    if "stays" in name:
        learner.log_noise.requires_grad_(False)
    meta_train(learner, Points(10, QUERY, torch.float32), TrainConfig(
        iterations=iterations, meta_batch=BATCH, lr=lr, schedule="cosine", clip=10.0 if name == "maml" else 1.0,
        seed=seed, map="vmap"))
    return learner.double()


def errors(learner: Learner, shot: int) -> tuple[float, int | None]:
    """(smallest validation error, MAML's number of steps that gives it)."""
    if isinstance(learner, MAML):
        return min((meta_test(learner, Points(shot), 200, VALIDATION, steps=j).mean, j) for j in STEPS)
    return meta_test(learner, Points(shot), 200, VALIDATION, metric="MSE").mean, None


def validated(learner: Learner) -> float:
    if isinstance(learner, MAML):
        return errors(learner, 10)[0]
    return meta_test(learner, Points(10), 200, VALIDATION, metric="NLL").mean


def scored(learner: Learner, shot: int, n: int) -> dict[str, list[float]]:
    found = meta_test(learner, Points(shot), n, TEST, metric=METRICS)
    return {name: [float(f"{v:.5g}") for v in score.values] for name, score in zip(METRICS, found, strict=True)}


def laplace(maml: MAML) -> LaplaceMAML:
    """Its two numbers, from validation waves with 10 points; the network stays as it is."""
    learner = LaplaceMAML(copy.deepcopy(maml), noise=0.3).double()
    learner.maml.requires_grad_(False)
    meta_train(learner, Points(10, QUERY), TrainConfig(iterations=150, meta_batch=8, lr=0.1, schedule="cosine",
                                                       seed=VALIDATION, map="vmap"))
    return learner


def run(name: str, seed: int, lr: float, args: argparse.Namespace) -> dict[str, Any]:
    """One training, tested with each number of points: {kind: {shot: {"before": scores, "after": scores}}}."""
    watch = Stopwatch()
    learner = trained(name, seed, lr, args.iterations)
    spent, kinds = watch.read()["cpu_seconds"], {}

    def test(kind: str, learner: Learner, shot: int) -> None:
        squares = meta_test(learner, Points(shot), 200, VALIDATION, metric=SQUARES).mean
        kinds.setdefault(kind, {})[shot] = {
            "before": scored(learner, shot, args.episodes), "factor": math.sqrt(squares),
            "after": scored(Stretched(learner, math.sqrt(squares)), shot, args.episodes)}

    sure = laplace(learner) if name == "maml" else None
    for shot in SHOTS:
        error, steps = errors(learner, shot) if shot or name != "maml" else (0.0, 0)
        if name == "maml" and shot:
            test("maml", Stretched(learner, math.sqrt(error), constant=True, steps=steps), shot)
            test("maml, laplace", sure, shot)
        elif name != "maml":
            test(name, learner, shot)
        if name == "linear":
            test("linear, one std", Stretched(learner, math.sqrt(error), constant=True), shot)
    numbers = {k: round(float(p.detach().exp()), 5) for k, p in (sure or learner).named_parameters()
               if k.startswith("log_") and p.ndim == 0}
    return {"cpu_seconds": spent, "numbers": numbers, "kinds": kinds}


def tuned(work: Work, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The outer rate that is best on validation waves in short runs."""
    found: dict[float, float] = {}

    def tried(lr: float) -> None:
        def error() -> float:
            try:
                return validated(trained(name, 0, lr, args.iterations // 4))
            except FloatingPointError:
                return 1e9
        found[lr] = work.part(f"tune {name} {lr:g}", error)

    for lr in RATES:
        tried(lr)
    while (best := min(found, key=found.__getitem__)) in (min(found), max(found)):
        tried(best / 2 if best == min(found) else best * 2)  # the winner at the edge: a wider grid
    return {"lr": best, "validation": {f"{lr:g}": round(v, 4) for lr, v in found.items()}}


# ---------------------------------------------------------------- characters

class Warm(Learner):
    """Logits divided by one temperature."""

    def __init__(self, learner: Learner, temperature: float = 1.0) -> None:
        super().__init__()
        self.learner = learner
        self.log_temperature = torch.nn.Parameter(torch.tensor(math.log(temperature)))

    def adapt(self, support: Data) -> Any:
        return self.learner.adapt(support)

    def predict(self, phi: Any, x: Tensor) -> Tensor:
        return self.learner.predict(phi, x) / self.log_temperature.exp()


def calibration(learner: Learner, tasks: FewShot, n: int, bins: int = 10) -> dict[str, Any]:
    """Expected calibration error over all queries, and its parts: (confidence, accuracy, share) of each bin."""
    episodes = tasks.sample(n, generator=torch.Generator().manual_seed(TEST))
    sure, right = [], []
    for t in range(n):
        (support, query) = episodes.task(t)
        with torch.no_grad():
            p, guess = learner.predict(learner.adapt(support), query.x).softmax(-1).max(-1)
        sure.append(p)
        right.append((guess == query.y).float())
    sure, right = torch.cat(sure), torch.cat(right)
    place = (sure * bins).long().clamp(max=bins - 1)
    rows = [(float(sure[place == b].mean()), float(right[place == b].mean()), float((place == b).float().mean()))
            for b in range(bins) if bool((place == b).any())]
    return {"error": round(sum(w * abs(c - a) for c, a, w in rows), 5),
            "mean confidence minus accuracy": round(float((sure - right).mean()), 5),
            "bins": [[round(v, 4) for v in row] for row in rows]}


def letters(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One network of ANIL's, tested after 5 and after 50 inner steps, as it is and with one number fitted."""
    images = glyphs()
    parts = {part: FewShot(images.split(part), 5, 1, 10) for part in ("train", "val", "test")}
    torch.manual_seed(seed)
    anil = ANIL(mlp(784, (64, 64), 5), LETTERS["alpha"], 5)
    meta_train(anil, parts["train"], TrainConfig(iterations=args.letters, meta_batch=16, lr=LETTERS["lr"], clip=10.0,
                                                 schedule="cosine", seed=seed, map="vmap"))
    anil.requires_grad_(False)
    result = {}
    for steps in (5, 50):
        anil.steps = steps
        learners: dict[str, Learner] = {"as it is": anil, "temperature": Warm(anil), "lambda = 1": LaplaceMAML(anil),
                                        "lambda learned": LaplaceMAML(anil)}
        for name, learner in learners.items():
            if name in ("temperature", "lambda learned"):
                meta_train(learner, parts["val"], TrainConfig(iterations=100, meta_batch=8, lr=0.2, seed=VALIDATION,
                                                              schedule="cosine", map="vmap"))
            found = meta_test(learner, parts["test"], args.episodes, TEST, metric=["accuracy", "NLL"], map="vmap")
            result[f"{name}, J = {steps}"] = {
                **{m: [float(f"{v:.5g}") for v in score.values] for m, score in zip(("accuracy", "NLL"), found)},
                "numbers": {k: round(float(p.detach().exp()), 4) for k, p in learner.named_parameters() if p.ndim == 0},
                **calibration(learner, parts["test"], min(args.episodes, 200))}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=1200, help="meta-iterations on waves, 32 tasks each")
    parser.add_argument("--letters", type=int, default=600, help="meta-iterations on characters, 16 tasks each")
    parser.add_argument("--episodes", type=int, default=500, help="test tasks")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work = Work("bayes", args)
    exact = work.part("exact", lambda: {shot: scored(Exact(), shot, args.episodes) for shot in SHOTS})
    rows: dict[str, Any] = {"exact": {s: {m: over_seeds([v]) for m, v in found.items()} for s, found in exact.items()}}
    tuning, numbers, seconds = {}, {}, {}
    for name in MAKE:
        tuning[name] = how = tuned(work, "linear" if "stays" in name else name, args)
        runs = [work.part(f"{name} {seed}", lambda: run(name, seed, how["lr"], args)) for seed in range(args.seeds)]  # noqa: B023
        numbers[name], seconds[name] = [r["numbers"] for r in runs], [r["cpu_seconds"] for r in runs]
        for kind in runs[0]["kinds"]:
            rows[kind] = {}
            for s in runs[0]["kinds"][kind]:
                found = [r["kinds"][kind][s] for r in runs]
                rows[kind][s] = {"factor": [round(f["factor"], 4) for f in found],
                                 **{m: over_seeds([f["before"][m] for f in found]) for m in METRICS},
                                 "after": {m: over_seeds([f["after"][m] for f in found]) for m in METRICS[1:]},
                                 "NLL minus exact": minus([f["before"]["NLL"] for f in found], [exact[s]["NLL"]])}
            print(kind, how["lr"], {m: rows[kind]["10"][m] for m in METRICS}, rows[kind]["10"]["after"], flush=True)
    drawn = [work.part(f"letters {seed}", lambda: letters(seed, args)) for seed in range(args.seeds)]  # noqa: B023
    table = {name: {**{m: over_seeds([d[name][m] for d in drawn]) for m in ("accuracy", "NLL")},
                    "NLL minus as it is": minus([d[name]["NLL"] for d in drawn],
                                                [d[f"as it is, {name.split(', ')[1]}"]["NLL"] for d in drawn]),
                    **{k: [d[name][k] for d in drawn]
                       for k in ("error", "mean confidence minus accuracy", "numbers", "bins")}} for name in drawn[0]}
    for name, row in table.items():
        print(name, row["accuracy"], row["NLL"], row["error"], flush=True)
    work.write({**work.spent(), "config": settings(args), "noise": NOISE, "meta_batch": BATCH, "tuning": tuning,
                "cpu": seconds, "numbers": numbers, "waves": rows, "letters": {"how": LETTERS, "learners": table}})


if __name__ == "__main__":
    main()
