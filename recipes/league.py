"""The league: every classification learner of the library with the same network and the same number of passes.

    OMP_NUM_THREADS=1 python recipes/league.py --force    # replaces what is there; --resume runs/league continues

About four CPU-hours; a run is one file in results/league/, written as it ends. Without --force those that are there are
kept, and only what is missing is computed before the table; with --only MAML it is the runs of one method, without the
table, so that several processes can share the work. Omniglot is downloaded, or read from METALIB_DATA; --no-omniglot
leaves it out. Writes results/league.json, which the page on the league reads.

Two banks, `glyphs()` and Omniglot (1,028 training and 423 test characters, no rotations), 5-way, one shot and five; a
Conv4 with 16 channels; 64,000 passes of an image in training by the formula of cost.py; 600 test tasks, the same for
all; three training seeds on glyphs, one on Omniglot. A method has two settings and outer rates in factors of 4 that
were compared in whole runs of seed 0 on glyphs' 1-shot validation tasks, and widened while the best was an edge
(results/cheaper.json has these for the methods of chapter 8). What won is used everywhere. Inner steps at the test
were chosen there as well, among at most 20. For the curves, whole trainings with a sixteenth and with a quarter of
the passes, three seeds, the first 200 of the tasks.

Beside them: nearest pixels, and a network pretrained as a classifier of all training classes with as many passes,
under four heads: nearest centroid, logistic regression, ridge regression, and fine-tuning of the whole network. Each of
the last three had six settings, compared on the same validation tasks.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from cost import passes, passes_of
from levers import curve, values
from record import ROOT, Stopwatch, Work, minus, options, over_seeds, settings, write

from metalib import (
    ANIL,
    FOMAML,
    MAML,
    Classify,
    FewShot,
    ImplicitMAML,
    Learner,
    MetaSGD,
    PixelFloor,
    Pretrained,
    ProtoNet,
    Reptile,
    SequenceLearner,
    TrainConfig,
    conv4,
    glyphs,
    meta_test,
    meta_train,
    omniglot,
)
from metalib.learners.head import LogisticHead, RidgeHead
from metalib.learners.matching import MatchingNet, RelationNet

CHANNELS, PASSES, QUERY = 16, 64_000, 5
CURVE, RATES, STEPS = (16, 4), (1e-3, 4e-3, 1.6e-2), (1, 2, 3, 5, 10, 20)
BANKS = {"glyphs": glyphs, "omniglot": lambda: omniglot("vinyals")}


def net(way: int | None = None) -> conv4:
    return conv4(way, channels=CHANNELS)


def reader(core: str) -> SequenceLearner:
    return SequenceLearner(CHANNELS, 5, core, dim=64, layers=3 if core == "attention" else 2, encoder=net(),
                           every_length=False)


@dataclass(frozen=True)
class Setting:
    """How a method is built and trained: `way` classes a task, `batch` tasks an update (images, in pretraining)."""

    make: Callable[[], Learner]
    way: int = 5
    batch: int = 1


def ways(make: Callable[[], Learner]) -> dict[str, Setting]:
    return {"10-way tasks": Setting(make, 10), "30-way tasks": Setting(make, 30)}


METHODS: dict[str, dict[str, Setting]] = {
    "ProtoNet": ways(lambda: ProtoNet(net())),
    "MatchingNet": ways(lambda: MatchingNet(net())),
    "RelationNet": ways(lambda: RelationNet(net(), objective="cross-entropy")),
    "RidgeHead": ways(lambda: RidgeHead(net())),
    "LogisticHead": ways(lambda: LogisticHead(net())),
    "MAML": {"J=1, alpha=0.4": Setting(lambda: MAML(net(5), 0.4, 1)),
             "J=3, alpha=0.2": Setting(lambda: MAML(net(5), 0.2, 3))},
    "FOMAML": {"J=1, alpha=0.4": Setting(lambda: FOMAML(net(5), 0.4, 1)),
               "J=3, alpha=0.2": Setting(lambda: FOMAML(net(5), 0.2, 3))},
    "ANIL": {"J=3, alpha=0.4": Setting(lambda: ANIL(net(5), 0.4, 3)),
             "J=5, alpha=1": Setting(lambda: ANIL(net(5), 1.0, 5))},
    "Meta-SGD": {"J=1, alpha=0.4": Setting(lambda: MetaSGD(net(5), 0.4, 1)),
                 "J=3, alpha=0.2": Setting(lambda: MetaSGD(net(5), 0.2, 3))},
    "Reptile": {"J=5, all examples": Setting(lambda: Reptile(net(5), 0.2, 5)),
                "J=5, minibatches of 10": Setting(lambda: Reptile(net(5), 0.2, 5, batch=10))},
    "implicit": {"J=5, lambda=1, 2 products": Setting(lambda: ImplicitMAML(net(5), 0.2, 5, strength=1.0, cg_steps=2)),
                 "J=8, lambda=4, 3 products": Setting(lambda: ImplicitMAML(net(5), 0.1, 8, strength=4.0, cg_steps=3))},
    "transformer": {"one task an update": Setting(lambda: reader("attention")),
                    "four tasks an update": Setting(lambda: reader("attention"), batch=4)},
    "LSTM": {"one task an update": Setting(lambda: reader("recurrent")),
             "four tasks an update": Setting(lambda: reader("recurrent"), batch=4)},
    "pretrained": {"64 images": Setting(lambda: Pretrained(net()), batch=64),
                   "128 images": Setting(lambda: Pretrained(net()), batch=128)},
}
# Under a pretrained network: each setting is a function from it to a learner.
HEADS: dict[str, dict[str, Callable[[conv4], Learner]]] = {
    "centroid": {"": lambda f: Pretrained(f)},
    "linear": {f"rate {lr:g}, {j} steps": lambda f, lr=lr, j=j: Pretrained(f, "linear", lr=lr, steps=j)
               for lr in (0.03, 0.3, 3.0) for j in (20, 100)},
    "ridge": {f"lambda {r:g}": lambda f, r=r: RidgeHead(f, regularisation=r) for r in (0.1, 1, 10, 50, 200, 1000)},
    "fine-tuning": {f"alpha {a:g}": lambda f, a=a: whole(f, a) for a in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)},
}


def whole(encoder: conv4, alpha: float) -> MAML:
    """All of a pretrained network under a new head of zeros, to be adapted by gradient steps."""
    learner = MAML(net(5), alpha)
    learner.net.load_state_dict(encoder.state_dict(), strict=False)
    torch.nn.init.zeros_(learner.net.head.weight)
    torch.nn.init.zeros_(learner.net.head.bias)
    return learner


def cost(learner: Learner, setting: Setting, shot: int) -> int:
    """Passes of one update."""
    support, query = setting.way * shot, setting.way * QUERY
    if isinstance(learner, Pretrained):
        return setting.batch
    task = passes_of(learner, support, query) if isinstance(learner, MAML) else passes(support, query, steps=1, order=1)
    return setting.batch * task


def trained(setting: Setting, lr: float, seed: int, images: Any, shot: int,
            budget: int) -> tuple[Learner, dict[str, Any]]:
    """A learner after `budget` passes, and what that took; training ends early at a step that is not finite."""
    train, watch = images.split("train"), Stopwatch()
    torch.manual_seed(seed)
    learner = setting.make()
    if isinstance(learner, Pretrained):
        learner = Pretrained(learner.encoder, classes=train.n_classes)
        tasks, batch = Classify(train, setting.batch), 1
    else:
        tasks, batch = FewShot(train, setting.way, shot, QUERY), setting.batch
    updates, stopped = budget // cost(learner, setting, shot), False
    try:
        meta_train(learner, tasks, TrainConfig(iterations=updates, meta_batch=batch, lr=lr, schedule="cosine", clip=10,
                                               seed=seed))
    except FloatingPointError:
        stopped = True
    return learner, {"lr": lr, "seed": seed, "updates": updates, "stopped": stopped,
                     "cpu_seconds": watch.read()["cpu_seconds"]}


def tested(learner: Learner, images: Any, shot: int, n: int, steps: int | None) -> dict[str, Any]:
    return values(meta_test(learner, FewShot(images.split("test"), 5, shot), n, steps=steps))


def validated(learner: Learner, images: Any, n: int) -> tuple[float, int | None]:
    """(accuracy on n 1-shot validation tasks, the number of inner steps that gives it)."""
    tasks = FewShot(images.split("val"))
    if isinstance(learner, MAML):
        best = max(curve(learner, tasks, STEPS, n), key=lambda s: s["mean"])
        return best["mean"], best["steps"]
    return meta_test(learner, tasks, n).mean, None


# ---------------------------------------------------------------- what is chosen on validation tasks

def chosen(name: str, images: Any, budget: int, n: int) -> dict[str, Any]:
    """The setting, outer rate and test steps that did best in whole runs, and every trial."""
    trials = from_chapter_8(name) or []
    for label, setting in {} if trials else METHODS[name].items():
        rates = list(RATES)
        while True:
            for lr in rates:
                if not any(t["setting"] == label and t["lr"] == lr for t in trials):
                    val, steps = validated(trained(setting, lr, 0, images, 1, budget)[0], images, n)
                    trials.append({"setting": label, "lr": lr, "val": val, "steps": steps})
            mine = {t["lr"]: t["val"] for t in trials if t["setting"] == label}
            best = max(mine, key=mine.__getitem__)
            if best not in (min(mine), max(mine)) or len(mine) > 5:
                break
            rates.append(best / 4 if best == min(mine) else best * 4)
    return {**max(trials, key=lambda t: t["val"]), "trials": trials}


def from_chapter_8(name: str) -> list[dict[str, Any]] | None:
    """The trials of recipes/cheaper.py, which had the same network, passes, settings and rates."""
    record = json.loads((ROOT / "results" / "cheaper.json").read_text(encoding="utf-8"))
    assert (record["image_passes"], record["channels"]) == (PASSES, CHANNELS)
    if name not in record["methods"] or name == "ProtoNet":  # that had one setting there
        return None
    short = [i for i, j in enumerate(record["steps_tried"]) if j in STEPS]
    rows = []
    for t in record["methods"][name]["trials"]:
        best = max(short, key=lambda i: t["curve"][i])  # noqa: B023
        rows.append({"setting": t["setting"], "lr": t["lr"], "val": t["curve"][best],
                     "steps": record["steps_tried"][best]})
    return rows


def chosen_heads(encoder: conv4, images: Any, n: int) -> dict[str, Any]:
    """For each head of a pretrained network the setting that did best, with its number of inner steps."""
    found: dict[str, Any] = {}
    for head, makers in HEADS.items():
        trials = [(label, *validated(make(copy.deepcopy(encoder)), images, n)) for label, make in makers.items()]
        label, val, steps = max(trials, key=lambda t: t[1])
        found[head] = {"setting": label, "val": val, "steps": steps, "trials": trials}
    return found


# ---------------------------------------------------------------- the runs

def run(name: str, how: dict[str, Any], seed: int, images: Any, shot: int, args: argparse.Namespace) -> dict[str, Any]:
    """A training and its test; at one shot on glyphs the smaller trainings of the curve as well."""
    setting = METHODS[name][how["setting"]]

    def at(budget: int, n: int) -> dict[str, Any]:
        learner, row = trained(setting, how["lr"], seed, images, shot, budget)
        return {"passes": row["updates"] * cost(learner, setting, shot), **row,
                "test": tested(learner, images, shot, n, how["steps"])}

    small = [at(args.passes // part, min(200, args.episodes)) for part in args.curve]
    return {**at(args.passes, args.episodes), "curve": small}


def run_pretrained(how: dict[str, Any], seed: int, images: Any, shots: tuple[int, ...], heads: dict[str, Any] | None,
                   args: argparse.Namespace) -> dict[str, Any]:
    """One pretrained network under every head, at each shot; `heads` None chooses their settings first."""
    learner, row = trained(METHODS["pretrained"][how["setting"]], how["lr"], seed, images, 1, args.passes)
    heads = heads or chosen_heads(learner.encoder, images, args.val)
    tests = {f"{head}, {shot}-shot": tested(HEADS[head][kept["setting"]](copy.deepcopy(learner.encoder)), images, shot,
                                            args.episodes, kept["steps"])
             for head, kept in heads.items() for shot in shots}
    return {**row, "passes": args.passes, "heads": heads, "tests": tests}


def seconds(hows: dict[str, dict[str, Any]], images: Any, budget: int) -> dict[str, Any]:
    """CPU seconds that `budget` passes take each method, one after another: those of the runs may have had company."""
    return {name: trained(METHODS[name][how["setting"]], how["lr"], 0, images, 1, budget)[1]["cpu_seconds"]
            for name, how in hows.items()}


Read = Callable[[str], dict[str, Any]]


def entries(read: Read, bank: str, shot: int, seeds: int) -> dict[str, list[dict[str, Any]]]:
    """The runs of every row of a table, one a seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in METHODS:
        if name != "pretrained":
            found[name] = [read(f"{bank}-{shot}shot-{name}-{s}") for s in range(seeds)]
            continue
        runs = [read(f"{bank}-pretrained-{s}") for s in range(seeds)]
        for head in HEADS:
            found[f"pretrained, {head}"] = [{**r, "curve": [], "test": r["tests"][f"{head}, {shot}-shot"]}
                                            for r in runs]
    return found


def scores(runs: Any) -> list[list[float]]:
    return [r["test"]["values"] for r in runs]


def row(runs: list[dict[str, Any]], rivals: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Mean over seeds with its interval over tasks, less each rival on the same tasks; its cost; its curve."""
    differences = {name: minus(scores(runs), values) for name, values in rivals.items()}
    return {**over_seeds(scores(runs)),
            "minus": {name: [d["mean"], d["ci95"], d["seeds"]] for name, d in differences.items()},
            **{key: [r.get(key) for r in runs] for key in ("passes", "updates", "cpu_seconds", "stopped")},
            "curve": [{"passes": points[0]["passes"], **over_seeds(scores(points))}
                      for points in zip(*(r.get("curve", []) for r in runs), strict=True)]}


def table(read: Read, banks: dict[str, Any], seeds: int) -> dict[str, Any]:
    """{"glyphs, 1-shot": {method: `row`}}, and the same of Omniglot and of five shots."""
    result: dict[str, Any] = {}
    for bank in banks:
        for shot in (1, 5):
            runs = entries(read, bank, shot, seeds if bank == "glyphs" else 1)
            runs["nearest pixel"] = [read(f"{bank}-{shot}shot-floor")]
            rivals = {name: scores(found) for name, found in runs.items()}
            result[f"{bank}, {shot}-shot"] = {name: row(found, rivals) for name, found in runs.items()}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*METHODS, "floor"], help="the runs of these alone, and no table")
    parser.add_argument("--no-omniglot", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--val", type=int, default=60, help="validation tasks of a trial")
    parser.add_argument("--curve", type=int, nargs="*", default=CURVE, help="parts of the passes: 1/16 and 1/4")
    options(parser)
    args = parser.parse_args()
    only = vars(args).pop("only")
    torch.set_num_threads(1)
    work = Work("league", args)
    banks = {name: make() for name, make in BANKS.items() if not (args.no_omniglot and name == "omniglot")}

    def read(key: str) -> dict[str, Any]:
        return json.loads((ROOT / "results" / "league" / f"{key}.json").read_text(encoding="utf-8"))

    def made(key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The file of one run, computed if it is not there; with --force computed once in this run."""
        if args.force or not (ROOT / "results" / "league" / f"{key}.json").exists():
            work.part(key, lambda: str(write(f"league/{key}", make())))
        return read(key)

    for name in only or [*METHODS, "floor"]:
        how, heads = {}, None
        if name != "floor":
            how = made(f"tuning-{name}", lambda: chosen(name, banks["glyphs"], args.passes, args.val))  # noqa: B023
        for bank, images in banks.items():
            seeds = args.seeds if bank == "glyphs" else 1
            if name == "pretrained":
                for s in range(seeds):
                    heads = made(f"{bank}-pretrained-{s}", lambda: run_pretrained(
                        how, s, images, (1, 5), heads, args))["heads"]  # noqa: B023
                continue
            for shot in (1, 5):
                if name == "floor":
                    made(f"{bank}-{shot}shot-floor", lambda: {
                        "test": tested(PixelFloor(), images, shot, args.episodes, None)})  # noqa: B023
                    continue
                few = argparse.Namespace(**vars(args) | ({} if (bank, shot) == ("glyphs", 1) else {"curve": ()}))
                for s in range(seeds):
                    made(f"{bank}-{shot}shot-{name}-{s}", lambda: run(name, how, s, images, shot, few))  # noqa: B023
    if not only:
        tuning = {name: read(f"tuning-{name}") for name in METHODS}
        quarter = args.passes // 4
        timing = made("timing", lambda: {"passes": quarter, "cpu_seconds": seconds(tuning, banks["glyphs"], quarter)})
        work.write({**work.spent(), "config": settings(args), "channels": CHANNELS, "steps_tried": STEPS,
                    "tuning": tuning, "timing": {key: timing[key] for key in ("passes", "cpu_seconds")},
                    "heads": read("glyphs-pretrained-0")["heads"], "settings": table(read, banks, args.seeds)})


if __name__ == "__main__":
    main()
