"""Five diagnoses from few labelled images, one source of images left out: meta-learning against thirty numbers.

    OMP_NUM_THREADS=1 python recipes/medical.py --force    # replaces what is there; --resume runs/medical continues

Needs MedMNIST's and BCCD's files (downloaded once, 16 MB). Writes results/medical.json.

Four sources: breast (ultrasound), chest (X-ray), retina (photographs: referable or not, and five grades), blood (red
cells, white cells, platelets). An episode has K labelled images of each class from the official train and val parts and
15 queries of each from the official test part, without labelled images that differ from a test image by less than TWIN;
of blood, support and query are of different photographs.

Nested: each source is left out in turn. Of the other three, two train and one chooses (FOLDS): the rate and the number
of updates of a network, the strength of the ridge and the temperature, by the loss there, alike for every row. Then the
network is trained on all three. Features are standardised with the mean and deviation on the training images. Training
images: of the official training part, at most CAP a class.

    encoders   pixels; 30 statistics; a Conv4 trained as a ProtoNet, as one classifier of all classes, or untrained.
               Its norm is of groups of channels: no query sees another.
    heads      a ridge; the cosine to the class mean; prototypes. A network is tuned for its heads together.
    wide       a ProtoNet of twice the width and length: its loss on the sources that choose.
    twins      breast with the near twins of test images left in.
    natural    breast at the mix of its official test part: what balanced accuracy is for.
    heat       temperatures of the ridge on statistics: default (10), of the other sources, of the labelled images (one
               left out in turn), of the source itself (an oracle, fitted on other tasks of the same test images).
    sham       a coin for each photograph, diagnosed from red cells: split by cell, and by photograph.

Intervals are over tasks and over test images (of blood, photographs): both variances added.
"""

from __future__ import annotations

import argparse
import tempfile
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from cost import passes
from record import Work, options, over_seeds, settings
from torch import Tensor, nn

from metalib import ClassImages, FewShot, Pretrained, ProtoNet, TrainConfig, audit, conv4, meta_train, seeded
from metalib.data.bccd import bccd
from metalib.data.medmnist import medmnist
from metalib.functional import class_means, one_hot, squared_distance
from metalib.judging.diagnosis import calibration_error
from metalib.learners.head import ridge
from metalib.learners.statistics import Statistics
from metalib.tasks import Classify
from metalib.tasks.sham import Sham

SOURCES = {"breast": ["breast"], "chest": ["pneumonia"], "retina": ["referable", "retina"], "blood": ["blood"]}
FOLDS = {"breast": ("retina", "blood", "chest"), "chest": ("retina", "blood", "breast"),
         "retina": ("breast", "chest", "blood"), "blood": ("breast", "chest", "retina")}  # two that train, one chooses
ILL = {"breast": 0, "pneumonia": 1, "referable": 1}
SHOTS, QUERY, CAP, CHANNELS = (1, 5, 20, 50), 15, 300, 32
TWIN = 6  # root mean squared difference, of 255
STRENGTHS = [10.0 ** e for e in range(-4, 4)]  # of the ridge, times the number of features
HEATS = [2.0 ** (e / 2) for e in range(-6, 17)]
RATES = (1e-3, 3e-3, 1e-2)
TASK, META_BATCH = {"way": 2, "shot": 5, "query": 10}, 2  # of training
PASSES = META_BATCH * passes(10, 20, steps=1, order=1)  # of an update
NETWORKS = {"untrained": ["ridge"], "ProtoNet": ["prototypes", "ridge"], "pooled classifier": ["ridge"]}
FIXED = {"pixels": ["cosine", "ridge"], "statistics": ["ridge"]}
ENCODERS: dict[str, nn.Module] = {"pixels": nn.Flatten(), "statistics": Statistics()}
METRICS = ("accuracy", "loss", "AUROC")


# ---------------------------------------------------------------- tasks

@cache
def bank(name: str) -> ClassImages:
    return bccd() if name == "blood" else medmnist(name)


def kept(images: ClassImages, keep: Tensor) -> ClassImages:
    """Only these examples."""
    return ClassImages.from_arrays(images.images[keep], images.labels[keep], names=images.names,
                                   about={k: v[keep.numpy()] for k, v in images.about.items()})


@cache
def gaps(name: str) -> Tensor:
    """Root mean squared difference, of 255, between labelled and test images: (labelled, test)."""
    known, test = (bank(name).where(part=part).images.flatten(1).float() for part in (["train", "val"], "test"))
    return torch.cdist(known, test) / known.shape[1] ** 0.5


@cache
def exam(name: str, shot: int, *, twins: bool = False, most: int | None = None) -> FewShot:
    """The tasks of a diagnosis, as they are tested; to choose on them, of at most so many labelled images a class."""
    def few(images: ClassImages, most: int) -> ClassImages:
        rank = torch.rand(len(images.labels), generator=seeded(0), dtype=torch.float64)
        near = torch.stack([(rank[images.labels == c] < r).sum() for c, r in zip(images.labels.tolist(), rank)])
        return kept(images, near < most)

    images = bank(name)
    if name == "blood":
        images = few(images, 2 * most) if most else images
        return FewShot(images, way=3, shot=shot, query=QUERY, apart="photograph")
    known, test = images.where(part=["train", "val"]), images.where(part="test")
    known = known if twins else kept(known, gaps(name).amin(1) >= TWIN)
    known, test = (few(known, most), few(test, most)) if most else (known, test)
    return FewShot(known, way=len(images), shot=shot, query=QUERY, queries=test)


@cache
def pool(sources: tuple[str, ...]) -> ClassImages:
    """The training images of these sources, at most CAP a class; a class belongs to its source."""
    x, labels, groups, names = [], [], [], []
    for source in sources:
        part = bank(name := SOURCES[source][-1]).where(part="train")
        for c in range(len(part)):
            rows = torch.nonzero(part.labels == c)[:, 0]
            rows = rows[torch.randperm(len(rows), generator=seeded(c))[:CAP]]
            x.append(part.images[rows])
            labels += [len(names)] * len(rows)
            groups.append(source)
            names.append(f"{name}/{part.names[c]}")
    return ClassImages.from_arrays(torch.cat(x), labels, names=names, groups=groups)


# ---------------------------------------------------------------- encoders

def trained(name: str, sources: tuple[str, ...], rate: float, seed: int, lengths: list[int],
            channels: int = CHANNELS) -> dict[int, nn.Module]:
    """{updates: a Conv4 after so many updates of PASSES image passes each}."""
    torch.manual_seed(seed)
    encoder, images, found = conv4(channels=channels, in_channels=3, norm="group"), pool(sources), {}
    if name == "untrained":
        return {n: encoder.requires_grad_(False) for n in lengths}
    learner, tasks, batch = ((ProtoNet(encoder), FewShot(images, within="group", **TASK), META_BATCH)
                             if name == "ProtoNet" else
                             (Pretrained(encoder, classes=len(images)), Classify(images, batch=PASSES), 1))
    with tempfile.TemporaryDirectory() as folder:
        for n in lengths:  # each goes on from the last
            meta_train(learner, tasks, TrainConfig(iterations=n, meta_batch=batch, lr=rate, seed=seed,
                                                   checkpoint=Path(folder) / "state", checkpoint_every=10**6))
            found[n] = deepcopy(encoder).requires_grad_(False)
    return found


def encoded(encoder: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([encoder(part.float() / 255) for part in images.split(500)])


class Scale(NamedTuple):
    """Mean and standard deviation of each feature, on the training images, every source alike."""

    mean: Tensor
    std: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        return ((z - self.mean) / self.std).double()


def scale_of(encoder: nn.Module, sources: tuple[str, ...]) -> Scale:
    images = pool(sources)
    group = [images.groups[c] for c in images.labels.tolist()]
    z = encoded(encoder, images.images)
    parts = [z[torch.tensor([g == s for g in group])] for s in sources]
    mean = torch.stack([p.mean(0) for p in parts]).mean(0)
    std = torch.stack([(p - mean).square().mean(0) for p in parts]).mean(0).sqrt()
    return Scale(mean, std.clamp(min=1e-3 * float(std.max())))


# ---------------------------------------------------------------- episodes and heads

class Drawn(NamedTuple):
    """Episodes as rows of `images`: support (T, M), labels, query (T, Q), labels, the query's test unit (T, Q).

    Labels are numbered afresh in each episode: `kinds` (T, N) are the classes of the bank that they stand for.
    """

    images: Tensor
    support: Tensor
    y: Tensor
    query: Tensor
    target: Tensor
    unit: Tensor
    kinds: Tensor
    way: int


def drawn(tasks: Any, n: int, seed: int, *, whole: bool = False) -> Drawn:
    """n episodes; `whole`: `images` are all of the bank, not those that were drawn."""
    support, y, query, target = tasks.sample_rows(n, generator=seeded(seed))
    unit, facts = query, tasks.images.about
    if "photograph" in facts:
        names = sorted(set(facts["photograph"]))
        unit = torch.tensor([names.index(p) for p in facts["photograph"]])[query]
    unit, kinds = unit.unique(return_inverse=True)[1], torch.arange(tasks.way).expand(n, -1)  # a coin has no class
    if isinstance(tasks, FewShot):  # the support is in the order of its labels
        kinds = tasks.images.labels[support[:, ::tasks.shot]]
    if whole:
        return Drawn(tasks.images.images, support, y, query, target, unit, kinds, tasks.way)
    rows, index = torch.cat([support, query], 1).unique(return_inverse=True)
    M = support.shape[1]
    return Drawn(tasks.images.images[rows], index[:, :M], y, index[:, M:], target, unit, kinds, tasks.way)


@cache
def tests(name: str, shot: int, n: int, twins: bool = False) -> Drawn:
    return drawn(exam(name, shot, twins=twins), n, 0, whole=True)


@cache
def choosing(source: str, shot: int, n: int) -> Drawn:
    return drawn(exam(SOURCES[source][-1], shot, most=100), n, 1)


def said(head: str, z: Tensor, d: Drawn, scale: Scale, strength: float) -> Tensor:
    """What a head says of the queries, before any temperature, (T, M, N)."""
    found = []
    z = scaled(z, scale) if head == "ridge" else z
    for s, y, q in zip(d.support, d.y, d.query):
        if head == "cosine":
            unit = nn.functional.normalize
            found.append(unit(z[q], dim=1) @ unit(class_means(z[s], y, d.way), dim=1).T)
        elif head == "prototypes":
            found.append(-squared_distance(z[q], class_means(z[s], y, d.way)) / z.shape[1])
        else:
            weights = ridge(z[s], one_hot(y, d.way).double(), torch.tensor(strength * (z.shape[1] - 1)).double())
            found.append(z[q] @ weights)
    return torch.stack(found)


def scaled(z: Tensor, scale: Scale) -> Tensor:
    """[standardised features, 1]."""
    return torch.cat([scale(z), torch.ones(len(z), 1).double()], 1)


def left_out(z: Tensor, y: Tensor, strength: float) -> Tensor:
    """What the ridge on all support examples but one says of that one, for each, (M, N): y - alpha / diag(C)."""
    C = torch.linalg.inv(z @ z.T + strength * torch.eye(len(z)).double())
    return y - C @ y / C.diagonal()[:, None]


def loss(logits: Tensor, y: Tensor) -> float:
    return float(nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten()))


class Chosen(NamedTuple):
    """What the source that chooses says a head's numbers should be, and their loss there."""

    strength: float
    heat: float
    loss: float


def choose(head: str, z: Tensor, d: Drawn, scale: Scale) -> Chosen:
    """The ridge strength and the temperature with the least loss."""
    found = []
    for strength in STRENGTHS if head == "ridge" else [0.0]:
        logits = said(head, z, d, scale, strength)
        found += [Chosen(strength, heat, loss(heat * logits, d.target)) for heat in HEATS]
    return min(found, key=lambda c: c.loss)


def picks(encoder: nn.Module, heads: list[str], out: str, args: argparse.Namespace, shots: list[int]) -> dict[str, Any]:
    """{head: {shot: Chosen}} of an encoder that was trained on the two sources of a fold."""
    *two, third = FOLDS[out]
    scale, found = scale_of(encoder, tuple(two)), {head: {} for head in heads}
    for shot in shots:
        d = choosing(third, shot, args.val)
        z = encoded(encoder, d.images)
        for head in heads:
            found[head][str(shot)] = list(choose(head, z, d, scale))
    return found


# ---------------------------------------------------------------- scores

def credits(logits: Tensor, d: Drawn) -> dict[str, Tensor]:
    """Of each query (T, M), what a task's metric is the mean of."""
    y, member = d.target, nn.functional.one_hot(d.target, d.way).double()  # (T, M, N)
    eye = torch.eye(d.way, dtype=torch.bool)
    odds = logits - logits[..., None, :].masked_fill(eye, -torch.inf).logsumexp(-1)  # as in auroc
    ahead = ((odds[:, :, None] > odds[:, None]).double() + (odds[:, :, None] >= odds[:, None]).double()) / 2
    above = torch.einsum("tijn,tjn->tin", ahead, 1 - member) / (1 - member).sum(1, keepdim=True)
    below = torch.einsum("tjin,tjn->tin", ahead, member) / member.sum(1, keepdim=True)
    area = ((above * member).sum(2) + (below * (1 - member)).sum(2) / (d.way - 1)) / 2
    return {"accuracy": (logits.argmax(2) == y).double(), "AUROC": area,
            "loss": nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)}


def sums(credit: Tensor, d: Drawn) -> dict[str, list[float]]:
    """The mean of each task, and the sum of each test unit and class: all that an interval needs."""
    return {"tasks": [round(v, 5) for v in credit.mean(1).tolist()],
            "units": [round(v, 4) for v in by_unit(credit.double(), d).flatten().tolist()]}


def by_unit(values: Tensor, d: Drawn) -> Tensor:
    """Sums (units, N), by class of the bank."""
    table = torch.zeros(int(d.unit.max()) + 1, d.way, dtype=torch.float64)
    kind = d.kinds.gather(1, d.target).flatten()
    return table.index_put_((d.unit.flatten(), kind), values.flatten(), accumulate=True)


def interval(seeds: list[dict[str, list[float]]], d: Drawn, factor: int = 1) -> dict[str, Any]:
    """Mean, 95 % interval over tasks and test units, and the mean of each seed.

    A unit's influence is the sum of its deviations from the means of their classes, over all queries; twice that for an
    AUROC, whose pairs are counted at both ends.
    """
    found = over_seeds([s["tasks"] for s in seeds])
    table = torch.tensor([s["units"] for s in seeds]).double().mean(0).view(-1, d.way)
    counts = by_unit(torch.ones_like(d.target).double(), d)
    influence = factor * (table - counts * table.sum(0) / counts.sum(0)).sum(1) / counts.sum()
    K = len(table)
    units = 1.96 * float((influence.square().sum() * K / (K - 1)).sqrt())
    return {**found, "ci95": float(f"{(found['ci95'] ** 2 + units ** 2) ** 0.5:.3g}"), "tasks_ci95": found["ci95"],
            "units": K}


def less(a: list[Any], b: list[Any]) -> list[dict[str, list[float]]]:
    """a - b, seed by seed; one b for all seeds."""
    return [{k: [x - y for x, y in zip(one[k], other[k])] for k in ("tasks", "units")}
            for one, other in zip(a, b * len(a) if len(b) == 1 else b)]


def calibration(logits: Tensor, d: Drawn, draws: int = 200) -> dict[str, float]:
    """Calibration error of all queries together; its interval by drawing test units again."""
    whole = float(calibration_error().f(logits.flatten(0, 1), d.target.flatten()))
    p, best = logits.double().softmax(-1).max(-1)
    inside = one_hot(((p * 10).ceil().clamp(1, 10) - 1).long().flatten(), 10).double()
    gap = ((best == d.target).double() - p).flatten()[:, None] * inside
    of_unit = torch.zeros(int(d.unit.max()) + 1, 10).double().index_add_(0, d.unit.flatten(), gap)
    size = torch.bincount(d.unit.flatten()).double()
    again = torch.randint(len(size), (draws, len(size)), generator=seeded(0))
    spread = (of_unit[again].sum(1).abs().sum(1) / size[again].sum(1)).std()
    return {"mean": round(whole, 4), "ci95": round(1.96 * float(spread), 4)}


# ---------------------------------------------------------------- parts of the recipe

def tested(encoder: nn.Module, chosen: dict[str, Any], out: str, args: argparse.Namespace) -> dict[str, Any]:
    """{head: {task: {shot: {metric: sums}}}} of the source left out."""
    scale = scale_of(encoder, tuple(s for s in SOURCES if s != out))
    found: dict[str, Any] = {head: {name: {} for name in SOURCES[out]} for head in chosen}
    for name in SOURCES[out]:
        z = encoded(encoder, tests(name, args.shots[0], args.episodes).images)  # at all shots the same bank
        for shot in args.shots:
            d = tests(name, shot, args.episodes)
            for head, by_shot in chosen.items():
                strength, heat, _ = by_shot[str(shot)]
                found[head][name][str(shot)] = {k: sums(v, d) for k, v in credits(
                    heat * said(head, z, d, scale, strength), d).items()}
    return found


def fold(name: str, rate: float, out: str, args: argparse.Namespace) -> dict[str, Any]:
    """{updates: {source left out: picks}} of one training, whose two sources serve both that are not among them."""
    *two, _ = FOLDS[out]
    lengths = [args.updates] if name == "untrained" else sorted({max(1, args.updates // k) for k in (4, 2, 1)})
    return {str(n): {o: picks(encoder, NETWORKS[name], o, args, args.shots) for o, f in FOLDS.items()
                     if list(f[:2]) == two}
            for n, encoder in trained(name, tuple(two), rate, 99, lengths).items()}


def best(folds: dict[str, Any], out: str) -> tuple[float, int, dict[str, Any]]:
    """The rate and the number of updates whose loss at 5 shots is least, all heads together; what was chosen there."""
    found = [(sum(shots["5"][2] for shots in outs[out].values()), float(rate), int(n), outs[out])
             for rate, lengths in folds.items() for n, outs in lengths.items() if out in outs]
    return min(found, key=lambda f: f[0])[1:]


def wide(rate: float, out: str, args: argparse.Namespace) -> dict[str, Any]:
    """Losses at 5 shots where is chosen, of a ProtoNet twice as wide, by updates."""
    *two, _ = FOLDS[out]
    nets = trained("ProtoNet", tuple(two), rate, 99, [max(1, args.updates // 2), args.updates, 2 * args.updates],
                   2 * CHANNELS)
    return {str(n): {o: {h: s["5"][2] for h, s in picks(encoder, NETWORKS["ProtoNet"], o, args, [5]).items()}
                     for o, f in FOLDS.items() if list(f[:2]) == two} for n, encoder in nets.items()}


def spoken(name: str, out: str, pick: list[float], args: argparse.Namespace, *, n: int,
           twins: bool = False, encoder: str = "statistics", shot: int = 5) -> tuple[Drawn, Tensor]:
    """(episodes, logits before the temperature) of the ridge on an encoder without weights."""
    scale = scale_of(ENCODERS[encoder], tuple(s for s in SOURCES if s != out))
    d = tests(name, shot, n, twins)
    return d, said("ridge", encoded(ENCODERS[encoder], d.images), d, scale, pick[0])


def report(name: str, out: str, pick: list[float], args: argparse.Namespace) -> dict[str, Any]:
    """What a hospital asks of the ridge on statistics, at 5 shots."""
    d, logits = spoken(name, out, pick, args, n=args.episodes)
    truth, call = (d.kinds.gather(1, labels) for labels in (d.target, logits.argmax(2)))
    right, found = truth == call, {"units": int(d.unit.max()) + 1}
    counts = torch.zeros(d.way, d.way).index_put_((truth.flatten(), call.flatten()), torch.ones(truth.numel()),
                                                  accumulate=True)
    for c in range(d.way):  # the recall of one class: its queries alone
        of = (truth == c).nonzero()[:, 1].view(len(right), -1)
        part = d._replace(target=torch.zeros_like(of), kinds=torch.zeros_like(d.kinds), way=1,
                          unit=d.unit.gather(1, of).unique(return_inverse=True)[1])
        found[f"recall {c}"] = interval([sums(right.gather(1, of).double(), part)], part)
    found["confusion"], found["ECE"] = counts.long().tolist(), calibration(pick[1] * logits, d)
    if name in ILL:
        labels = bank(name).where(part="test").labels
        found["prevalence"] = round(float((labels == ILL[name]).double().mean()), 4)
    return found


def elsewhere(out: str, strength: float, args: argparse.Namespace) -> float:
    """The temperature with the least mean loss on the three other sources, each standardised by the other two."""
    losses = torch.zeros(len(HEATS))
    for source in (s for s in SOURCES if s != out):
        d, encoder = choosing(source, 5, args.val), ENCODERS["statistics"]
        scale = scale_of(encoder, tuple(s for s in SOURCES if s not in (out, source)))
        logits = said("ridge", encoded(encoder, d.images), d, scale, strength)
        losses += torch.tensor([loss(t * logits, d.target) for t in HEATS])
    return HEATS[int(losses.argmin())]


def heat(name: str, out: str, pick: list[float], args: argparse.Namespace) -> dict[str, Any]:
    """Loss and calibration error of the ridge on statistics, 5 shots, with four temperatures, on half of the tasks."""
    half = args.episodes
    d, logits = spoken(name, out, pick, args, n=2 * half)
    z = scaled(encoded(ENCODERS["statistics"], d.images), scale_of(
        ENCODERS["statistics"], tuple(s for s in SOURCES if s != out)))
    own = min(HEATS, key=lambda t: loss(t * logits[half:], d.target[half:]))
    strength = pick[0] * (z.shape[1] - 1)
    support = []
    for s, y in zip(d.support[:half], d.y):
        alone = left_out(z[s], one_hot(y, d.way).double(), strength)
        support.append(min(HEATS, key=lambda t: loss(t * alone, y)))  # noqa: B023
    test = d._replace(**{k: getattr(d, k)[:half] for k in ("support", "y", "query", "target", "kinds")},
                      unit=d.unit[:half].unique(return_inverse=True)[1])
    taus = {"default": 10.0, "others": elsewhere(out, pick[0], args), "support": support, "own": own}
    rows, losses = {}, {}
    for which, tau in taus.items():
        warm = torch.as_tensor(tau).double().view(-1, 1, 1) * logits[:half]
        losses[which] = sums(credits(warm, test)["loss"], test)
        rows[which] = {"heat": float(torch.as_tensor(tau).double().log().mean().exp()),
                       "loss": interval([losses[which]], test), "ECE": calibration(warm, test)}
    for which in ("others", "support", "own"):
        rows[which]["minus default"] = interval(less([losses[which]], [losses["default"]]), test)
    return rows


def twins(name: str, out: str, chosen: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """How near labelled and test images are; the accuracy with the near ones left in, 5 and 50 shots."""
    near = gaps(name)
    found = {"least": round(float(near.min()), 2), "median": round(float(near.amin(0).median()), 1),
             "test": int((near.amin(0) < TWIN).sum()), "tests": near.shape[1],
             "dropped": int((near.amin(1) < TWIN).sum()), "labelled": near.shape[0]}
    known, test = (bank(name).where(part=part).labels for part in (["train", "val"], "test"))
    pairs = (near < TWIN) & (known[:, None] != test)
    found["of two classes"] = int(pairs.any(0).sum())
    for encoder in FIXED if found["dropped"] else ():
        for shot in {str(s) for s in args.shots} & {"5", "50"}:
            for kind in (False, True):
                d, logits = spoken(name, out, chosen[encoder][shot], args, n=args.episodes, twins=kind,
                                   encoder=encoder, shot=int(shot))
                found[f"{encoder}, {shot}, {'with' if kind else 'without'}"] = interval(
                    [sums(credits(logits, d)["accuracy"], d)], d)
    return found


def natural(pick: list[float], args: argparse.Namespace, draws: int = 300) -> dict[str, Any]:
    """Breast ultrasound at the mix of the official test part, all of it, 5 shots: ridge on statistics.

    At a threshold for equal classes, and with log odds shifted to the mix. Intervals by drawing supports and test
    images again.
    """
    encoder, test = ENCODERS["statistics"], bank("breast").where(part="test")
    scale, tasks = scale_of(encoder, tuple(s for s in SOURCES if s != "breast")), exam("breast", 5)
    rows = tasks.sample_rows(args.episodes, generator=seeded(0))[0]
    z = scaled(encoded(encoder, torch.cat([tasks.images.images[rows.flatten()], test.images])), scale)
    z_q, z, y = z[rows.numel():], z[:rows.numel()].view(*rows.shape, -1), tasks.images.labels[rows]  # 0: malignant
    logits = torch.stack([z_q @ ridge(a, one_hot(b, 2).double(), torch.tensor(pick[0] * (z.shape[2] - 1)).double())
                          for a, b in zip(z, y)]) * pick[1]
    odds, sick = logits[..., 0] - logits[..., 1], test.labels == 0  # (T, images)
    pi = float(sick.double().mean())

    def measured(odds: Tensor, sick: Tensor) -> dict[str, float]:
        ahead = odds[:, sick][:, :, None] - odds[:, ~sick][:, None]
        found = {"AUROC": float(((ahead > 0).double() + (ahead >= 0).double()).mean() / 2)}
        for name, shift in (("", 0.0), (" shifted", float(torch.tensor(pi / (1 - pi)).log()))):
            called = odds + shift > 0
            s, t = called[:, sick].double().mean(), (~called[:, ~sick]).double().mean()
            ppv = (called & sick).sum(1) / called.sum(1)  # of a support that calls nobody ill there is none
            found |= {f"sensitivity{name}": float(s), f"specificity{name}": float(t),
                      f"accuracy{name}": float((called == sick).double().mean()),
                      f"balanced accuracy{name}": float(s + t) / 2, f"PPV{name}": float(ppv.nanmean()),
                      f"PPV of all{name}": float((called & sick).sum() / called.sum())}
        return found

    whole, g, again = measured(odds, sick), seeded(0), []
    for _ in range(draws):
        ill, well, t = (part[torch.randint(len(part), part.shape, generator=g)] for part in (
            sick.nonzero()[:, 0], (~sick).nonzero()[:, 0], torch.arange(len(odds))))
        images = torch.cat([ill, well])
        again.append(measured(odds[t][:, images], sick[images]))
    return {"prevalence": round(pi, 4), "images": len(sick), "supports": len(odds), **{
        k: {"mean": round(v, 4), "ci95": round(1.96 * float(torch.tensor([a[k] for a in again]).std()), 4)}
        for k, v in whole.items()}}


def sham(chosen: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Accuracy on a coin for each photograph, diagnosed from red cells; the ridge's strength as for blood."""
    slides, found = bank("blood").subset([0]).by("photograph", least=10), {"photographs": 0}
    found["photographs"] = len(slides)
    for name, encoder in ENCODERS.items():
        scale = scale_of(encoder, tuple(s for s in SOURCES if s != "blood"))
        for split, apart in (("by cell", False), ("by photograph", True)):
            d = drawn(Sham(slides, sources=3, shot=2, query=5, apart=apart), 2 * args.episodes, 0)
            logits = said("ridge", encoded(encoder, d.images), d, scale, chosen[name]["5"][0])
            found[f"{name}, {split}"] = over_seeds([(logits.argmax(2) == d.target).double().mean(1).tolist()])
    return found


def looked(name: str, **how: Any) -> dict[str, Any]:
    """The audit of an exam."""
    a = audit(exam(name, 5, **how), episodes=100)
    return {"text": str(a), "passed": a.passed, "near": a.near_images, "twins": a.twin_images,
            "facts": {f.name: [round(f.score.mean, 4), round(f.chance, 4), f.shared, f.queries] for f in a.facts}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=500, help="of each network, at most")
    parser.add_argument("--episodes", type=int, default=150)
    parser.add_argument("--val", type=int, default=40, help="tasks of the source on which all is chosen")
    parser.add_argument("--shots", type=int, nargs="+", default=list(SHOTS))
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--smoke", action="store_true", help="seconds: everything once, tiny")
    options(parser)
    args = parser.parse_args()
    if args.smoke:
        args.seeds, args.updates, args.episodes, args.val, args.shots, args.rates = 1, 1, 2, 2, [5], [3e-3]
    torch.set_num_threads(1)
    work = Work("medical", args)
    cells: dict[str, dict[str, dict[str, list[Any]]]] = {}  # row, task, shot: sums by seed
    chosen: dict[str, dict[str, Any]] = {}  # encoder, source left out: the picks of its heads
    folds: dict[str, dict[str, Any]] = {name: {} for name in args.networks}  # rate, updates, source left out: picks

    def keep(encoder: str, heads: dict[str, Any]) -> None:
        for head, tasks in heads.items():
            for name, shots in tasks.items():
                for shot, one in shots.items():
                    cells.setdefault(f"{encoder}, {head}", {}).setdefault(name, {}).setdefault(shot, []).append(one)

    for name, heads in FIXED.items():
        for out in SOURCES:
            chosen.setdefault(name, {})[out] = work.part(f"choose {name} {out}", lambda: picks(
                ENCODERS[name], heads, out, args, args.shots))  # noqa: B023
            keep(name, work.part(f"test {name} {out}", lambda: tested(
                ENCODERS[name], chosen[name][out], out, args)))  # noqa: B023
    names, shots = sum(SOURCES.values(), []), [str(s) for s in args.shots]
    out_of = {name: out for out, tasks in SOURCES.items() for name in tasks}
    pick = {name: chosen["statistics"][out]["ridge"]["5"] for name, out in out_of.items()}

    extra = {
        "audits": {name: work.part(f"audit {name}", lambda: looked(name)) for name in names} | {  # noqa: B023
            "breast with twins": work.part("audit twins", lambda: looked("breast", twins=True))},
        "twins": {name: work.part(f"twins {name}", lambda: twins(  # noqa: B023
            name, out_of[name], {e: chosen[e][out_of[name]]["ridge"] for e in FIXED}, args))  # noqa: B023
            for name in names if name not in ("blood", "referable")},
        "report": {name: work.part(f"report {name}", lambda: report(name, out_of[name], pick[name], args))  # noqa: B023
                   for name in names},
        "natural": work.part("natural", lambda: natural(pick["breast"], args)),
        "heat": {name: work.part(f"heat {name}", lambda: heat(name, out_of[name], pick[name], args))  # noqa: B023
                 for name in names},
        "sham": work.part("sham", lambda: sham({e: chosen[e]["blood"]["ridge"] for e in FIXED}, args))}
    widths: dict[str, Any] = {}
    for name in args.networks:
        for rate in args.rates if name != "untrained" else [0.0]:
            folds[name][str(rate)] = {}
            for out in ("breast", "retina"):  # the first sources left out by each of the two folds
                for n, outs in work.part(f"fold {name} {rate} {out}", lambda: fold(name, rate, out, args)).items():  # noqa: B023
                    folds[name][str(rate)].setdefault(n, {}).update(outs)
        for seed in range(args.seeds):
            for out in SOURCES:
                rate, n, picked = best(folds[name], out)
                chosen.setdefault(name, {})[out] = {"rate": rate, "updates": n, **picked}
                others = tuple(s for s in SOURCES if s != out)
                keep(name, work.part(f"test {name} {out} {seed}", lambda: tested(
                    trained(name, others, rate, seed, [n])[n], picked, out, args)))  # noqa: B023
        for out in ("breast", "retina") if name == "ProtoNet" else ():
            for n, outs in work.part(f"wide {out}", lambda: wide(best(folds["ProtoNet"], out)[0], out, args)).items():  # noqa: B023
                widths.setdefault(n, {}).update(outs)

    def measured(row: str, rival: str | None = None) -> dict[str, Any]:
        def one(name: str, shot: str, metric: str) -> dict[str, Any]:
            mine, theirs = ([s[metric] for s in cells[r][name][shot]] if r else None for r in (row, rival))
            return interval(less(mine, theirs) if rival else mine, tests(name, int(shot), args.episodes),
                            2 if metric == "AUROC" else 1)
        return {name: {shot: {m: one(name, shot, m) for m in METRICS} for shot in shots} for name in names}

    fields = {
        "config": settings(args), "banks": {name: bank(name).digest() for name in names},
        "passes": PASSES, "channels": CHANNELS, "table": {row: measured(row) for row in cells},
        "minus": {rival: {row: measured(row, rival) for row in cells if row != rival}
                  for rival in ("statistics, ridge", "pixels, ridge")},
        "chosen": chosen, "folds": {name: {rate: {n: {o: {h: s["5"][2] for h, s in heads.items()}
                                                       for o, heads in outs.items()} for n, outs in lengths.items()}
                                           for rate, lengths in folds[name].items()} for name in folds},
        "wide": widths, "grids": {"strengths": STRENGTHS, "heats": HEATS, "rates": args.rates}}
    work.write({**work.spent(), **fields, **extra})


if __name__ == "__main__":
    main()
