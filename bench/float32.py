"""How far a float32 meta-gradient is from the float64 one: metalib's conv4 beside PyTorch's own layers.

    OMP_NUM_THREADS=1 python -m bench.float32 --force    # about 9 minutes; --seeds 3 for a look, --resume runs/float32

A float64 test sees whether a formula is right, not how its sums are taken. So here the same second-order gradient of
one task (glyphs, 64 channels, random weights) is computed in float32 by metalib, and by PyTorch's layers in both memory
formats, of which NCHW is the more exact; each is compared with PyTorch's layers in float64. A seed is a network and an
episode. Errors are |g - g64| / |g64| over all parameters.

One reaches 1e-3 where a ReLU or a maximum is so close to its kink that rounding decides it, in any implementation
(`KINKS` takes the kinks away, one after the other, and the tail goes with the last of them), which is why the median
counts: metalib's is to be at most 5 times that of PyTorch in NCHW, or 1e-4, whichever is larger (`bar`).

Writes results/float32.json.
"""

from __future__ import annotations

import argparse
import copy
from statistics import median

import torch
from torch import nn

from bench.rows import Row, draw, error, metalib_net, reference, standard_net, start
from metalib import MAML, Episode, meta_gradient
from recipes.record import Work, options

CASES = {
    "5-way": Row(way=5, tasks=1),
    "10-way": Row(way=10, tasks=1),
    "20-way": Row(way=20, tasks=1),
    "5-way 5-shot": Row(way=5, shot=5, tasks=1),
    "5-way, first order": Row(way=5, tasks=1, order=1),
    "20-way, first order": Row(way=20, tasks=1, order=1),
    "5-way, 5 inner steps": Row(way=5, tasks=1, steps=5),
    "20-way, 5 inner steps": Row(way=20, tasks=1, steps=5),
}

KINKS = {  # of PyTorch's layers, in NCHW, 20-way: what stands in the place of ReLU and of max-pooling
    "ReLU, max-pooling": (nn.ReLU, nn.MaxPool2d), "ReLU, average pooling": (nn.ReLU, nn.AvgPool2d),
    "softplus, max-pooling": (nn.Softplus, nn.MaxPool2d), "softplus, average pooling": (nn.Softplus, nn.AvgPool2d)}


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    work, results = Work("float32", args), {}
    for name in args.cases:
        found = work.part(name, lambda: [errors(CASES[name], seed) for seed in range(args.seeds)])  # noqa: B023
        all_of = {who: [f[who] for f in found] for who in found[0]}
        medians = {who: median(values) for who, values in all_of.items()}
        results[name] = {**CASES[name].settings(), "bar": bar(all_of["PyTorch"]), "median": medians, "errors": all_of}
        print(f"{name:22}" + ", ".join(f"{who} {value:.1e}" for who, value in medians.items())
              + ("" if medians["metalib"] <= results[name]["bar"] else ": ABOVE THE BAR"), flush=True)
    kinks = {}
    for name, parts in KINKS.items():
        kinks[name] = work.part(name, lambda: [of_layers(parts, seed) for seed in range(args.seeds)])  # noqa: B023
        print(f"{name:28}" + " ".join(f"{e:.0e}" for e in sorted(kinks[name])), flush=True)
    work.write({"seeds": args.seeds, **work.spent(), "cases": results, "kinks": kinks})


def errors(row: Row, seed: int, map: str = "auto") -> dict[str, float]:
    """The float32 error of each implementation, for the network and the episodes of this seed."""
    net, episodes = problem(row, seed)
    right = reference(copy.deepcopy(net).double(), episodes.to(torch.float64), row)
    channels_last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    learner = MAML(metalib_net(row), row.inner_lr, row.steps, row.order)
    with torch.no_grad():
        for p, w in zip(learner.parameters(), net.parameters(), strict=True):
            p.copy_(w)
    meta_gradient(learner, episodes, map)
    return {"metalib": error([p.grad for p in learner.parameters()], right),
            "PyTorch": error(reference(net, episodes, row), right),
            "PyTorch, channels_last": error(reference(channels_last, episodes, row), right)}


def of_layers(parts: tuple[type[nn.Module], type[nn.Module]], seed: int) -> float:
    """The float32 error of PyTorch's layers with this activation and this pooling, 20-way."""
    row = CASES["20-way"]
    net, episodes = problem(row, seed, *parts)
    right = reference(copy.deepcopy(net).double(), episodes.to(torch.float64), row)
    return error(reference(net, episodes, row), right)


def problem(row: Row, seed: int, activation: type[nn.Module] = nn.ReLU,
            pooling: type[nn.Module] = nn.MaxPool2d) -> tuple[nn.Module, Episode]:
    """PyTorch's network with the weights of this seed, and the episodes."""
    torch.manual_seed(seed)
    net = standard_net(row, activation=activation, pooling=pooling)
    start(net, seed)
    return net, draw(row, seed)


def bar(theirs: list[float]) -> float:
    """What metalib's median error may be, given the errors of PyTorch's own layers in NCHW."""
    return max(5 * median(theirs), 1e-4)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--seeds", type=int, default=12)
    options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
