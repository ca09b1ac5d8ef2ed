"""Five diagnoses from few labelled images, one source of images left out: meta-learning against thirty numbers.

    OMP_NUM_THREADS=1 python recipes/medical.py --force    # replaces what is there; --resume runs/medical continues

Needs MedMNIST's and BCCD's files (downloaded once, 16 MB). Writes results/medical.json.

Four sources: breast (ultrasound), chest (X-ray), retina (photographs: referable or not, and five grades), blood (red
cells, white cells, platelets). An episode has K labelled images of each class from the official training part and 15
queries of each from the official test part; of blood, support and query are of different smears. Each source is left
out in turn: networks train on the official training parts of the other three, at most CAP images a class, and all that
is chosen (rate, ridge strength, temperature; by the loss) is chosen on tasks of the other three, alike for every row.

    encoders   pixels; 30 statistics; a Conv4 with 16 channels: trained as a ProtoNet on the other sources; as one
               classifier of all their classes; as a ProtoNet on letters; untrained. Equal passes, equal tuning.
    heads      a ridge on features standardised by the other sources; the cosine to the class mean; prototypes.
    natural    breast at the mix of its official test part: what balanced accuracy is for.
    heat       the temperature of the ridge on statistics: none (10), of the other sources, of the source itself.
    sham       a coin for each smear, diagnosed from red cells: split by cell, and by smear.
"""

from __future__ import annotations

import argparse
from functools import cache
from typing import Any, NamedTuple

import torch
from cost import passes
from record import Work, minus, options, over_seeds, settings
from torch import Tensor, nn

from metalib import ClassImages, Episode, FewShot, Pretrained, ProtoNet, TrainConfig, conv4, glyphs, meta_train, seeded
from metalib.data.bccd import bccd
from metalib.data.medmnist import medmnist
from metalib.functional import class_means, one_hot, squared_distance
from metalib.judging.diagnosis import auroc, balanced_accuracy, calibration_error
from metalib.learners.head import ridge
from metalib.learners.statistics import Statistics
from metalib.tasks import Classify
from metalib.tasks.sham import Sham

SOURCES = {"breast": ["breast"], "chest": ["pneumonia"], "retina": ["referable", "retina"], "blood": ["blood"]}
SHOTS, QUERY, CAP, CHANNELS = (1, 5, 20, 50), 15, 300, 16
STRENGTHS = [10.0 ** e for e in range(-4, 3)]  # of the ridge, times the number of features
HEATS = [2.0 ** (e / 2) for e in range(-6, 17)]
RATES = (1e-3, 3e-3, 1e-2)
TASK = {"shot": 5, "query": 10}  # of training; 2-way
PASSES = passes(2 * TASK["shot"], 2 * TASK["query"], steps=1, order=1)
NETWORKS = ("ProtoNet", "pooled classifier", "letters", "untrained")
FIXED = ("pixels", "statistics")


# ---------------------------------------------------------------- tasks

@cache
def bank(name: str) -> ClassImages:
    return bccd() if name == "blood" else medmnist(name)


@cache
def exam(name: str, shot: int) -> FewShot:
    """The tasks of a diagnosis, as they are tested."""
    images = bank(name)
    if name == "blood":
        return FewShot(images, way=3, shot=shot, query=QUERY, apart="smear")
    return FewShot(images.where(part=["train", "val"]), way=len(images), shot=shot, query=QUERY,
                   queries=images.where(part="test"))


@cache
def pool(out: str) -> ClassImages:
    """The training part of the other sources, at most CAP images a class; a class belongs to its source."""
    x, labels, groups, names = [], [], [], []
    for source, (*_, name) in SOURCES.items():
        if source == out:
            continue
        part = bank(name).where(part="train")
        for c in range(len(part)):
            rows = torch.nonzero(part.labels == c)[:, 0]
            rows = rows[torch.randperm(len(rows), generator=seeded(c))[:CAP]]
            x.append(part.images[rows])
            labels += [len(names)] * len(rows)
            groups.append(source)
            names.append(f"{source}/{part.names[c]}")
    return ClassImages.from_arrays(torch.cat(x), labels, names=names, groups=groups)


# ---------------------------------------------------------------- encoders

def network(name: str, out: str, rate: float, seed: int, updates: int) -> nn.Module:
    """A Conv4, trained in its own way with `updates` times PASSES x 4 image passes."""
    torch.manual_seed(seed)
    encoder = conv4(channels=CHANNELS, in_channels=3)
    how = {"lr": rate, "schedule": "cosine", "seed": seed}
    if name == "ProtoNet":
        tasks = FewShot(pool(out), way=2, within="group", **TASK)
        meta_train(ProtoNet(encoder), tasks, TrainConfig(iterations=updates, meta_batch=4, **how))
    elif name == "letters":
        return letters(rate, seed, updates)
    elif name == "pooled classifier":
        images = pool(out)
        meta_train(Pretrained(encoder, classes=len(images)), Classify(images, batch=4 * PASSES),
                   TrainConfig(iterations=updates, meta_batch=1, **how))
    return encoder.eval().requires_grad_(False)


@cache
def letters(rate: float, seed: int, updates: int) -> nn.Module:
    """Of a network that has seen letters only; it is the same whatever is left out."""
    torch.manual_seed(seed)
    encoder, images = conv4(channels=CHANNELS, in_channels=3), glyphs().split("train")
    images = ClassImages.from_arrays(images.images.repeat(1, 3, 1, 1), images.labels, names=images.names)
    meta_train(ProtoNet(encoder), FewShot(images, way=20, shot=1, query=4 * PASSES // 20 - 1),
               TrainConfig(iterations=updates, meta_batch=1, lr=rate, schedule="cosine", seed=seed))
    return encoder.eval().requires_grad_(False)


ENCODERS: dict[str, nn.Module] = {"pixels": nn.Flatten(), "statistics": Statistics()}


# ---------------------------------------------------------------- heads

class Seen(NamedTuple):
    """Features of one episode."""

    z: Tensor
    y: Tensor
    z_q: Tensor
    y_q: Tensor
    way: int


def seen(encoder: nn.Module, tasks: Any, n: int, seed: int) -> list[Seen]:
    """n episodes through the encoder: support and query each in one batch, as a batch norm sees them."""
    g, found = seeded(seed), []
    with torch.no_grad():
        for _ in range(n):
            episode: Episode = tasks.sample(1, generator=g).task(0)
            (x, y, way), (x_q, y_q, _) = episode
            found.append(Seen(encoder(x), y, encoder(x_q), y_q, way))
    return found


class Scale(NamedTuple):
    """Mean and standard deviation of each feature, on the other sources."""

    mean: Tensor
    std: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        return (z - self.mean) / self.std


def scale_of(episodes: list[Seen]) -> Scale:
    z = torch.cat([e.z for e in episodes])
    return Scale(z.mean(0), z.std(0).clamp(min=1e-3 * float(z.std(0).max())))


def logits(head: str, e: Seen, scale: Scale, strength: float) -> Tensor:
    """What a head says of the queries, before any temperature, (M, N)."""
    if head == "cosine":
        unit = nn.functional.normalize
        return unit(e.z_q, dim=1) @ unit(class_means(e.z, e.y, e.way), dim=1).T
    if head == "prototypes":
        return -squared_distance(e.z_q, class_means(e.z, e.y, e.way)) / e.z.shape[1]
    z, z_q = (torch.cat([scale(part).double(), torch.ones(len(part), 1)], 1) for part in (e.z, e.z_q))
    weights = ridge(z, one_hot(e.y, e.way).double(), torch.tensor(strength * e.z.shape[1]).double())
    return z_q @ weights


def loss(said: list[Tensor], episodes: list[Seen], heat: float) -> float:
    return float(torch.stack([nn.functional.cross_entropy(heat * s, e.y_q) for s, e in zip(said, episodes)]).mean())


class Chosen(NamedTuple):
    """What the other sources say a head's numbers should be, and their loss there."""

    strength: float
    heat: float
    loss: float


def choose(head: str, sources: list[list[Seen]], scale: Scale) -> Chosen:
    """The ridge strength and the temperature with the least loss, all sources alike."""
    found = []
    for strength in STRENGTHS if head == "ridge" else [0.0]:
        said = [[logits(head, e, scale, strength) for e in episodes] for episodes in sources]
        found += [Chosen(strength, heat, sum(loss(s, e, heat) for s, e in zip(said, sources)) / len(sources))
                  for heat in HEATS]
    return min(found, key=lambda c: c.loss)


def others(encoder: nn.Module, out: str, shot: int, n: int) -> list[list[Seen]]:
    """Tasks of the other sources, on which everything is chosen."""
    return [seen(encoder, exam(names[-1], shot), n, seed=1) for source, names in SOURCES.items() if source != out]


def scores(said: list[Tensor], episodes: list[Seen], heat: float) -> dict[str, Any]:
    """Per task: accuracy, balanced accuracy, loss, AUROC; over all queries together: the calibration error."""
    pairs = [(heat * s, e.y_q) for s, e in zip(said, episodes)]
    each = {"accuracy": [(s.argmax(1) == y).double().mean() for s, y in pairs],
            "balanced accuracy": [balanced_accuracy.f(*p) for p in pairs],
            "loss": [nn.functional.cross_entropy(*p) for p in pairs], "AUROC": [auroc.f(*p) for p in pairs]}
    return {**{k: [round(float(v), 5) for v in vs] for k, vs in each.items()}, "ECE": ece(said, episodes, heat)}


def ece(said: list[Tensor], episodes: list[Seen], heat: float) -> float:
    return round(float(calibration_error().f(heat * torch.cat(said), torch.cat([e.y_q for e in episodes]))), 4)


# ---------------------------------------------------------------- parts of the recipe

def tested(encoder: nn.Module, heads: list[str], out: str, args: argparse.Namespace) -> dict[str, Any]:
    """{head: {task: {shot: scores}}} of the source left out; with what was chosen on the others."""
    found: dict[str, Any] = {head: {name: {} for name in SOURCES[out]} for head in heads}
    for shot in args.shots:
        known = others(encoder, out, shot, args.val)
        scale = scale_of(sum(known, []))
        picks = {head: choose(head, known, scale) for head in heads}
        for name in SOURCES[out]:
            episodes = seen(encoder, exam(name, shot), args.episodes, seed=0)
            for head, pick in picks.items():
                said = [logits(head, e, scale, pick.strength) for e in episodes]
                found[head][name][str(shot)] = {**scores(said, episodes, pick.heat), "chosen": pick._asdict()}
    return found


def rate_for(name: str, out: str, args: argparse.Namespace) -> dict[str, float]:
    """The loss on the other sources at 5 shots, by rate, of a network of a seed that is not tested."""
    losses = {}
    for rate in args.rates:
        known = others(network(name, out, rate, 99, args.updates), out, 5, args.val)
        losses[str(rate)] = choose("ridge", known, scale_of(sum(known, []))).loss
    return losses


def heat(out: str, args: argparse.Namespace) -> dict[str, Any]:
    """Calibration error of the ridge on statistics at 5 shots, with three temperatures, on half of the tasks each."""
    known = others(ENCODERS["statistics"], out, 5, args.val)
    scale, rows = scale_of(sum(known, [])), {}
    pick = choose("ridge", known, scale)
    for name in SOURCES[out]:
        episodes = seen(ENCODERS["statistics"], exam(name, 5), 2 * args.episodes, seed=0)
        said = [logits("ridge", e, scale, pick.strength) for e in episodes]
        half = args.episodes  # a temperature of the source itself is fitted on the other half
        own = min(HEATS, key=lambda t: loss(said[half:], episodes[half:], t))
        rows[name] = {which: {"heat": t, "ECE": ece(said[:half], episodes[:half], t),
                              "loss": over_seeds([[loss([s], [e], t) for s, e in zip(said[:half], episodes[:half])]])}
                      for which, t in (("none", 10.0), ("others", pick.heat), ("own", own))}
    return rows


def natural(args: argparse.Namespace) -> dict[str, Any]:
    """Breast ultrasound at the mix of the official test part, all of it, 5 shots: ridge on statistics."""
    encoder, images = ENCODERS["statistics"], bank("breast")
    known = others(encoder, "breast", 5, args.val)
    scale, test = scale_of(sum(known, [])), images.where(part="test")
    pick = choose("ridge", known, scale)
    z_q, y_q, found, tasks, g = encoder(test.images.float() / 255), test.labels, [], exam("breast", 5), seeded(0)
    for _ in range(args.episodes):  # an episode's labels are in random order, and here class 0 must be malignant
        rows = tasks.sample_rows(1, generator=g)[0][0]
        e = Seen(encoder(tasks.images.rows(rows, torch.float32)), tasks.images.labels[rows], z_q, y_q, 2)
        said = pick.heat * logits("ridge", e, scale, pick.strength)
        sick, called = y_q == 0, said.argmax(1) == 0  # class 0 is malignant
        found.append({"accuracy": (called == sick).double().mean(), "balanced accuracy": balanced_accuracy.f(said, y_q),
                      "AUROC": auroc.f(said, y_q), "sensitivity": called[sick].double().mean(),
                      "specificity": (~called[~sick]).double().mean(),
                      "PPV": (called & sick).sum() / called.sum().clamp(min=1)})
    return {"prevalence": round(float((y_q == 0).double().mean()), 4),
            **{k: over_seeds([[float(f[k]) for f in found]]) for k in found[0]}}


def sham(args: argparse.Namespace) -> dict[str, Any]:
    """Accuracy on a coin for each smear, diagnosed from red cells; the ridge's strength as for blood."""
    slides, found = bank("blood").subset([0]).by("smear", least=10), {"smears": 0}
    found["smears"] = len(slides)
    for name, encoder in ENCODERS.items():
        known = others(encoder, "blood", 5, args.val)
        scale = scale_of(sum(known, []))
        pick = choose("ridge", known, scale)
        for split, apart in (("by cell", False), ("by smear", True)):
            episodes = seen(encoder, Sham(slides, sources=3, shot=2, query=5, apart=apart), 2 * args.episodes, seed=0)
            right = [(logits("ridge", e, scale, pick.strength).argmax(1) == e.y_q).double().mean() for e in episodes]
            found[f"{name}, {split}"] = over_seeds([[float(r) for r in right]])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=200, help="of each network")
    parser.add_argument("--episodes", type=int, default=150)
    parser.add_argument("--val", type=int, default=15, help="tasks of each other source, on which all is chosen")
    parser.add_argument("--shots", type=int, nargs="+", default=list(SHOTS))
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--smoke", action="store_true", help="seconds: everything once, tiny")
    options(parser)
    args = parser.parse_args()
    if args.smoke:
        args.seeds, args.updates, args.episodes, args.val, args.shots, args.rates = 1, 1, 2, 2, [5], [3e-3]
    torch.set_num_threads(1)
    work, seeds = Work("medical", args), range(args.seeds)
    found: dict[str, dict[str, dict[str, list[Any]]]] = {}  # row, task, shot: scores by seed
    rates: dict[str, dict[str, Any]] = {}

    def keep(row: str, tasks: dict[str, Any]) -> None:
        for name, shots in tasks.items():
            for shot, one in shots.items():
                found.setdefault(row, {}).setdefault(name, {}).setdefault(shot, []).append(one)

    for out in SOURCES:
        for name in FIXED:
            heads = ["cosine", "ridge"] if name == "pixels" else ["ridge"]
            for head, tasks in work.part(f"{name} {out}", lambda: tested(ENCODERS[name], heads, out, args)).items():  # noqa: B023
                keep(f"{name}, {head}", tasks)
        for name in NETWORKS:
            if name != "untrained":
                rates.setdefault(name, {})[out] = work.part(f"rate {name} {out}", lambda: rate_for(name, out, args))  # noqa: B023
            best = float(min(rates[name][out], key=rates[name][out].get)) if name in rates else 0.0
            heads = ["prototypes", "ridge"] if name == "ProtoNet" else ["ridge"]
            for seed in seeds:
                tasks_of = work.part(f"{name} {out} {seed}", lambda: tested(  # noqa: B023
                    network(name, out, best, seed, args.updates), heads, out, args))  # noqa: B023
                for head, tasks in tasks_of.items():
                    keep(f"{name}, {head}", tasks)

    def column(row: str, name: str, shot: str, metric: str) -> list[list[float]]:
        return [one[metric] for one in found[row][name][shot]]

    names, shots = sum(SOURCES.values(), []), [str(s) for s in args.shots]
    metrics = ("accuracy", "balanced accuracy", "loss", "AUROC")
    table = {row: {name: {shot: {**{m: over_seeds(column(row, name, shot, m)) for m in metrics},
                                 "ECE": [one["ECE"] for one in found[row][name][shot]],
                                 "chosen": [one["chosen"] for one in found[row][name][shot]]}
                          for shot in shots} for name in names} for row in found}
    differences = {rival: {row: {name: {shot: {m: minus(column(row, name, shot, m), column(rival, name, shot, m))
                                               for m in metrics} for shot in shots} for name in names}
                           for row in found if row != rival} for rival in ("statistics, ridge", "pixels, ridge")}
    work.write({**work.spent(), "config": settings(args), "banks": {name: bank(name).digest() for name in names},
                "image_passes": 4 * PASSES * args.updates, "table": table, "minus": differences, "rates": rates,
                "natural": work.part("natural", lambda: natural(args)),
                "heat": {k: v for out in SOURCES
                         for k, v in work.part(f"heat {out}", lambda: heat(out, args)).items()},  # noqa: B023
                "sham": work.part("sham", lambda: sham(args))})


if __name__ == "__main__":
    main()
