"""Train and test a learner on all of Omniglot (Vinyals' split), and write down what came out.

    python recipes/omniglot.py --learner protonet --way 5 --shot 1 --force    # replaces the committed record
    python recipes/omniglot.py --learner maml --way 5 --shot 1 --name mine --resume runs/mine.ckpt    # beside it
    python recipes/omniglot.py --learner pretrained --way 5 --shot 1 --name on-a-gpu --device cuda
    torchrun --nproc-per-node 2 recipes/omniglot.py --learner maml --way 5 --shot 1 --name two    # two processes, the
                                                                     # same run; with --device cuda, a GPU for each
    python recipes/omniglot.py --learner maml --way 5 --shot 1 --zero-head --train-way 20 --meta-batch 1 \\
        --inner-lr 1.6 --test-steps 1 --iterations 10000 --force
    python recipes/omniglot.py --evaluate                          # confirm every recorded score
    python recipes/omniglot.py --learner maml --way 5 --shot 1 --evaluate          # or one

`--zero-head` is MAML whose inner loop always begins with a head of zeros, which is not meta-learned (Kao, Chiu and
Chen, 2022). That is a change to the paper's method: the names of its results end in "-zero". Such a head treats all
labels alike, so training can have more classes than the tasks that it is for, and one checkpoint serves every setting,
as a metric learner's does, which has no head at all: `--checkpoint` tests a file that was trained in another setting.

Training classes are the 1,028 training characters in four rotations; validation and test characters are not rotated.
Every setting has a default per learner (`DEFAULTS`); results/omniglot-*.json holds the outcome.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from cost import passes
from record import ROOT, Work, checkpoint, device_name, options, score_fields, settings

from metalib import (
    MAML,
    Classify,
    ClassImages,
    FewShot,
    Learner,
    PixelFloor,
    Pretrained,
    ProtoNet,
    TrainConfig,
    check,
    conv4,
    load,
    meta_test,
    meta_train,
    omniglot,
    process_group,
    rank,
)
from metalib.fast.memory import keep_memory
from metalib.tasks import Tasks
from metalib.training.distributed import world_size

# train_way/train_query: of the training episodes; test_steps: inner steps at test time.
DEFAULTS = {
    "protonet": {"iterations": 6000, "meta_batch": 1, "train_way": 20, "train_query": 5, "lr": 2e-3},
    "maml": {"iterations": 7000, "meta_batch": 4, "train_way": None, "train_query": 5, "lr": 2e-3,
             "inner_lr": 0.4, "steps": 1, "test_steps": 3},
    "pretrained": {"iterations": 6000, "meta_batch": 1, "batch": 120, "lr": 1e-3},
}


def main() -> None:
    args = parse()
    keep_memory()
    if args.evaluate:
        return evaluate(name_of(args) if args.learner else "omniglot-*", args.device)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    name = name_of(args)
    own = None if args.checkpoint else checkpoint(name)  # the file that this run will save
    work = Work(name, args, *([own] if own else []))
    images = omniglot("vinyals", rotations=True)
    val, test = (FewShot(images.split(part), args.way, args.shot, 15) for part in ("val", "test"))
    if own:
        learner, trained = train(args, images.split("train"), val, work)
        if rank() != 0:  # of torchrun's processes, which all have the same learner now, one tests and writes
            return
    else:  # trained in another setting, tested in this one
        learner, trained = load(ROOT / "results" / "checkpoints" / args.checkpoint).to(args.device), {}
    # One query at a time passes the support along with every query: fewer tasks, so that it does not take hours.
    few = min(args.episodes, 600_000 // (15 * args.way * (args.way * args.shot + 1)))
    asked = {"test": lambda: meta_test(learner, test, args.episodes, steps=args.test_steps),
             "test_non_transductive": lambda: meta_test(learner, test, few, steps=args.test_steps, transductive=False),
             "floor": lambda: meta_test(PixelFloor(), test, args.episodes)}
    scores = {}
    for key, score in asked.items():
        scores[key] = work.part(key, lambda: score_fields(score()))  # noqa: B023 (used at once)
        print(f"{key}: {scores[key]['text']}", flush=True)
    work.write({"device": device_name(args.device), **trained, "learner": args.learner, "way": args.way,
                "shot": args.shot, "query": 15, "seed": args.seed, "split": "vinyals",
                "checkpoint": own.name if own else args.checkpoint, "config": settings(args), **scores},
               {own: learner} if own else {})


def train(args: argparse.Namespace, images: ClassImages, val: FewShot,
          work: Work) -> tuple[Learner, dict[str, Any]]:
    """The trained learner, and what its training took."""
    learner, tasks = build(args, images)
    config = TrainConfig(iterations=args.iterations, meta_batch=args.meta_batch, lr=args.lr, schedule="cosine", clip=10,
                         seed=args.seed, val_every=max(args.iterations // 5, 1), val_episodes=args.val_episodes,
                         checkpoint=work.state())
    with process_group(args.device) as device:
        history, processes = meta_train(learner.to(device), tasks, config, val), world_size()
    time = {}
    if rank() == 0:
        time = {**work.part("time", work.spent), "processes": processes}
        print(history, time, flush=True)
    return learner, {**time, "history": str(history), "image_passes": image_passes(args)}


def evaluate(pattern: str, device: str) -> None:
    """Test recorded checkpoints again; an error if one does not confirm its recorded score."""
    images = omniglot("vinyals", rotations=True).split("test")
    for path in sorted((ROOT / "results").glob(f"{pattern}.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        learner = load(ROOT / "results" / "checkpoints" / record.get("checkpoint", f"{path.stem}.pt")).to(device)
        score = meta_test(learner, FewShot(images, record["way"], record["shot"], record["query"]),
                          record["test"]["n"], steps=record["test"]["steps"])
        same = "the same" if score.digest == record["test"]["digest"] else "OTHER"
        print(f"{path.stem}: now {score}; recorded {record['test']['text']}, {same} episodes")
        check(score.mean, published=record["test"]["mean"], tol=0.002, what=path.stem)


def name_of(args: argparse.Namespace) -> str:
    """The name of a result: omniglot-LEARNER-NwKs, and what is unusual about it."""
    if args.name:
        return args.name
    return (f"omniglot-{args.learner}-{args.way}w{args.shot}s" + ("-zero" if args.zero_head else "")
            + (f"-seed{args.seed}" if args.seed else ""))


def build(args: argparse.Namespace, train: ClassImages) -> tuple[Learner, Tasks]:
    """The learner, and the tasks it trains on."""
    if args.learner == "pretrained":
        encoder = conv4(channels=args.channels)
        return Pretrained(encoder, "centroid", classes=len(train.names)), Classify(train, args.batch)
    tasks = FewShot(train, args.train_way or args.way, args.shot, args.train_query)
    if args.learner == "protonet":
        return ProtoNet(conv4(channels=args.channels)), tasks
    net = conv4(tasks.way, channels=args.channels)
    if args.zero_head:
        for p in net.head.parameters():
            torch.nn.init.zeros_(p).requires_grad_(False)
    # A head of zeros is frozen, which keeps the outer loop from moving it; the inner loop moves it in every task.
    return MAML(net, args.inner_lr, args.steps, adapts="all" if args.zero_head else None), tasks


def image_passes(args: argparse.Namespace) -> int:
    """Training compute, in images forward and backward through the network (see cost.py)."""
    if args.learner == "pretrained":
        per_task = args.batch
    else:
        way, maml = args.train_way or args.way, args.learner == "maml"
        per_task = passes(way * args.shot, way * args.train_query, steps=args.steps if maml else 1,
                          order=2 if maml else 1)
    return per_task * args.meta_batch * args.iterations


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learner", choices=DEFAULTS)
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=1)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--val-episodes", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1, help="tasks at a time, and threads within an operator")
    parser.add_argument("--episodes", type=int, default=1000, help="test tasks")
    parser.add_argument("--name", help="of the files in results/; by default it is made from the settings")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu", help="with torchrun, cuda is a GPU "
                        "for each process")
    parser.add_argument("--zero-head", action="store_true", help="MAML only: an inner loop begins with a head of zeros")
    parser.add_argument("--checkpoint", help="do not train: test this file of results/checkpoints in this setting")
    parser.add_argument("--evaluate", action="store_true", help="only confirm the recorded score")
    options(parser)
    for key in sorted({key for defaults in DEFAULTS.values() for key in defaults}):
        parser.add_argument(f"--{key.replace('_', '-')}", type=float if "lr" in key else int)
    args = parser.parse_args()
    if not args.learner and not args.evaluate:
        parser.error("--learner is needed to train")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[args.device]:
        parser.error(f"--device {args.device}: PyTorch finds no such device here; leave it out to run on the CPU")
    for key, value in DEFAULTS.get(args.learner, {}).items():
        if getattr(args, key) is None:
            setattr(args, key, value)
    return args


if __name__ == "__main__":
    main()
