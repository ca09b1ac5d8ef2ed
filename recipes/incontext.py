"""Networks that learn by reading: against ridge regression on linear tasks, and on letters over frozen features.

    python recipes/incontext.py linear --force     # results/incontext-linear.json; about 2 CPU-hours
    python recipes/incontext.py letters --force    # results/incontext-letters.json; about 20 CPU-minutes

linear: D = 5, noise 0.5, trained at every context length up to 20; three seeds. In training the squared error at each
length is divided by ridge regression's there, which is 16 times as large without a pair as with 20. The error, the
noise included, is compared with that of ridge regression, the best predictor there is, on the same tasks: at the
lengths of training, beyond them, and with another noise. letters: 5-way 1-shot, unseen scripts; the encoder is that of
a ProtoNet trained with the same seed, frozen. The outer rate of every learner is chosen on validation tasks, seed 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from levers import paired, values
from record import Work, options, score_fields
from torch import Tensor

from metalib import (
    Data,
    FewShot,
    Learner,
    LinearTasks,
    PixelFloor,
    ProtoNet,
    SequenceLearner,
    TrainConfig,
    conv4,
    glyphs,
    meta_test,
    meta_train,
)
from metalib.learners.head import ridge

SEEDS, DIM, NOISE, TRAINED = (0, 1, 2), 5, 0.5, 20
ITERATIONS = {"attention": 24_000, "recurrent": 2_000}
LENGTHS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 20, 25, 30, 40)
NOISES = (0.1, 0.5, 1.0, 2.0)


class Ridge(Learner):
    """The closed form with a given penalty."""

    def __init__(self, penalty: float) -> None:
        super().__init__()
        self.penalty = penalty

    def adapt(self, support: Data) -> Tensor:
        return ridge(support.x, support.y, self.penalty)

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        return x @ phi


def tasks_of(shot: int, noise: float = NOISE, query: int = 20) -> LinearTasks:
    return LinearTasks(DIM, shot, query, noise=noise, dtype=torch.float32)


def relative() -> Callable[[Tensor, Tensor], Tensor]:
    """The squared errors after 0, 1, ..., TRAINED - 1 pairs, relative to ridge regression's; the query's as is."""
    best = Tensor([meta_test(Ridge(NOISE**2), tasks_of(k), 1000, seed=3).mean for k in range(TRAINED)])
    weight = (1 / best / (1 / best).mean())[:, None]

    def loss(prediction: Tensor, y: Tensor) -> Tensor:
        errors = (prediction - y).square()
        return (weight * errors).mean() if len(errors) == TRAINED else errors.mean()

    return loss


def reader(core: str, lr: float, seed: int, iterations: int) -> SequenceLearner:
    torch.manual_seed(seed)
    learner = SequenceLearner(DIM, 1, core, dim=64, layers=3 if core == "attention" else 2, loss=relative())
    meta_train(learner, tasks_of(TRAINED, query=4), TrainConfig(
        iterations=iterations, meta_batch=64, lr=lr, schedule="cosine", clip=1.0, seed=seed))
    return learner


def against_ridge(core: str, lr: float, seed: int) -> dict[str, Any]:
    """The error at every length and noise, and ridge regression's on the same tasks."""
    learner, rows = reader(core, lr, seed, ITERATIONS[core]), {}
    for kind, settings in (("length", [(k, NOISE) for k in LENGTHS]), ("noise", [(10, s) for s in NOISES])):
        for shot, noise in settings:
            tasks = tasks_of(shot, noise)
            ours, best, told = (meta_test(one, tasks, 2000, seed=1) for one in (
                learner, Ridge(noise**2), Ridge(NOISE**2)))
            rows[f"{kind} {shot if kind == 'length' else noise}"] = {
                "reader": score_fields(ours), "ridge": score_fields(best), "ridge of the training noise":
                score_fields(told), "ratio": round(ours.mean / best.mean, 4)}
    return {"seed": seed, "lr": lr, "rows": rows}


def chosen_rate(work: Work, core: str) -> tuple[float, list[dict[str, float]]]:
    """The rate with the least validation error after 1,000 meta-iterations, seed 0; a best at the top adds another."""
    trials, rates = [], [1e-3, 2e-3, 4e-3]
    for lr in rates:
        def trial(lr: float = lr) -> dict[str, float]:
            return {"lr": lr, "val": meta_test(reader(core, lr, 0, 1000), tasks_of(10), 500, seed=2).mean}

        trials.append(work.part(f"{core} {lr}", trial))
        best = min(trials, key=lambda t: t["val"])["lr"]
        if len(trials) == len(rates) and best == lr:
            rates.append(2 * lr)
    return best, trials


def linear(work: Work) -> dict[str, Any]:
    result: dict[str, Any] = {"dim": DIM, "noise": NOISE, "trained_lengths": TRAINED, "iterations": ITERATIONS}
    for core in ("attention", "recurrent"):
        lr, trials = chosen_rate(work, core)
        runs = [work.part(f"{core} seed {s}", lambda: against_ridge(core, lr, s)) for s in SEEDS]  # noqa: B023
        print(core, lr, [[k, r["ratio"]] for r in runs for k, r in r["rows"].items()], flush=True)
        result[core] = {"lr": lr, "trials": trials, "runs": runs}
    return result


# ---------------------------------------------------------------- letters

CHANNELS, WAY = 32, 5


def proto(seed: int) -> ProtoNet:
    torch.manual_seed(seed)
    learner = ProtoNet(conv4(channels=CHANNELS))
    meta_train(learner, FewShot(glyphs().split("train"), 20, 1, 5), TrainConfig(
        iterations=600, meta_batch=1, lr=3e-3, schedule="cosine", seed=seed))
    return learner


def letter_reader(core: str, lr: float, seed: int, encoder: conv4, iterations: int) -> SequenceLearner:
    torch.manual_seed(seed)
    encoder.requires_grad_(False)
    learner = SequenceLearner(CHANNELS, WAY, core, dim=64, layers=3 if core == "attention" else 2, encoder=encoder,
                              every_length=False)  # with one shot nothing before an example tells its class
    meta_train(learner, FewShot(glyphs().split("train"), WAY, 1, 5), TrainConfig(
        iterations=iterations, meta_batch=8, lr=lr, schedule="cosine", clip=1.0, seed=seed))
    return learner


def letters(work: Work) -> dict[str, Any]:
    images = glyphs()
    val, test = FewShot(images.split("val"), WAY), FewShot(images.split("test"), WAY)
    result: dict[str, Any] = {"floor": score_fields(meta_test(PixelFloor(), test, 600)), "channels": CHANNELS}
    encoders = {s: proto(s) for s in SEEDS}
    result["ProtoNet"] = [work.part(f"proto {s}", lambda: values(meta_test(encoders[s], test, 600)))  # noqa: B023
                          for s in SEEDS]
    for core in ("attention", "recurrent"):
        def trial(lr: float, core: str = core) -> dict[str, float]:
            learner = letter_reader(core, lr, 0, encoders[0].encoder, 600)
            return {"lr": lr, "val": meta_test(learner, val, 200).mean}

        trials = [work.part(f"{core} {lr}", lambda: trial(lr)) for lr in (3e-4, 1e-3, 3e-3, 1e-2)]  # noqa: B023
        lr = max(trials, key=lambda t: t["val"])["lr"]
        runs = [work.part(f"{core} seed {s}", lambda: values(meta_test(  # noqa: B023
            letter_reader(core, lr, s, encoders[s].encoder, 2000), test, 600))) for s in SEEDS]  # noqa: B023
        print(core, lr, [r["mean"] for r in runs], flush=True)
        result[core] = {"lr": lr, "trials": trials, "runs": runs,
                        "minus_protonet": [paired(r, p) for r, p in zip(runs, result["ProtoNet"], strict=True)]}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("linear", "letters"))
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work = Work(f"incontext-{args.part}", args)
    result = {"linear": linear, "letters": letters}[args.part](work)
    work.write({**work.spent(), **result})


if __name__ == "__main__":
    main()
