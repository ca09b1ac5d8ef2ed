"""What fewer bits do to the second-order meta-gradient, and which part of it kinks and the inner rate have.

    OMP_NUM_THREADS=1 python recipes/precision.py --force    # replaces what is there; --resume runs/precision continues

Needs no network, results/checkpoints/glyphs-maml.pt and about two CPU-minutes. Writes results/precision.json, from
which chapter 6 draws.

Every number is a cosine between the exact meta-gradient (float64) of one task and that of float32 with the factors of
its products rounded (`metalib.fast.rounded.Rounded`), or under bfloat16 autocast, over pairs of a network and a task.
Part 1: `conv4` as metalib ships it, untrained, and trained on glyphs, by J and bits. Part 2: five inner steps at 7
bits, by inner rate, for a plain Conv4 whose kinks are taken away one after the other (ReLU -> softplus, max-pooling ->
average pooling), everything else equal: the intervention that tells kinks from the rate. Then smooth activations that
bend more sharply.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from record import ROOT, Work, options
from torch import Tensor, nn

from metalib import MAML, Episode, FewShot, conv4, glyphs, load, meta_gradient, seeded
from metalib.fast.rounded import Rounded

BITS, STEPS, RATES = (4, 7, 10, 13, 23), (1, 2, 5), (0.4, 0.1, 0.02, 0.001)
KINKS = {"ReLU, max-pooling": (nn.ReLU, nn.MaxPool2d), "ReLU, average pooling": (nn.ReLU, nn.AvgPool2d),
         "softplus, max-pooling": (nn.Softplus, nn.MaxPool2d), "softplus, average pooling": (nn.Softplus, nn.AvgPool2d),
         "softplus(20 x) / 20, average pooling": (partial(nn.Softplus, beta=20), nn.AvgPool2d),  # smooth, and sharp
         "tanh, average pooling": (nn.Tanh, nn.AvgPool2d)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, help="of a network and a task, for every number")
    parser.add_argument("--channels", type=int, default=32, help="of the untrained conv4, as many as the trained has")
    options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work, images = Work("precision", args), glyphs()
    trained = load(ROOT / "results" / "checkpoints" / "glyphs-maml.pt").net
    nets = {"untrained": (lambda: conv4(5, channels=args.channels), images.split("train")),
            "trained": (lambda: trained, images.split("test"))}
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for name, (make, bank) in nets.items():
        for J in STEPS:
            found = work.part(f"{name} {J}", lambda: [  # noqa: B023 (used at once)
                [*rounded(MAML(net(), 0.4, J), task, BITS), autocast(MAML(net(), 0.4, J), task)]  # noqa: B023
                for net, task in pairs(make, bank, args.pairs)])  # noqa: B023
            curves.setdefault(name, {})[str(J)] = found
            print(name, f"J = {J}", medians(found), flush=True)
    kinks: dict[str, dict[str, list[float]]] = {}
    for name, parts in KINKS.items():
        for alpha in RATES:
            found = work.part(f"{name} {alpha}", lambda: [  # noqa: B023
                rounded(MAML(net(), alpha, 5), task, (7,))[0]  # noqa: B023
                for net, task in pairs(lambda: plain(*parts), images.split("train"), args.pairs)])  # noqa: B023
            kinks.setdefault(name, {})[str(alpha)] = found
            print(name, f"alpha = {alpha}", medians([[x] for x in found]), flush=True)
    work.write({**work.spent(), "pairs": args.pairs, "channels": args.channels, "bits": BITS, "alpha": 0.4,
                "rates": RATES, "curves": curves, "kinks": kinks})


def medians(rows: list[list[float]]) -> list[float]:
    return [round(m, 3) for m in torch.tensor(rows).median(0).values.tolist()]


def pairs(make: Callable[[], nn.Module], bank: object, n: int) -> list[tuple[Callable[[], nn.Module], Episode]]:
    """n pairs of a way to make a network, from a seed of its own, and a task."""
    def seeded_net(seed: int) -> Callable[[], nn.Module]:
        def net() -> nn.Module:
            torch.manual_seed(seed)
            return make()
        return net

    tasks = FewShot(bank, 5, 1, 5, dtype=torch.float64)
    return [(seeded_net(s), tasks.sample(1, generator=seeded(s))) for s in range(n)]


def plain(activation: Callable[[], nn.Module], pooling: type[nn.Module], channels: int = 16) -> nn.Module:
    """Conv4 of PyTorch's own layers, with this activation and this pooling."""
    blocks = [[nn.Conv2d(1 if i == 0 else channels, channels, 3, padding=1),
               nn.BatchNorm2d(channels, track_running_stats=False), activation(), pooling(2)] for i in range(4)]
    return nn.Sequential(*sum(blocks, []), nn.Flatten(), nn.Linear(channels, 5))


def gradient(learner: MAML, task: Episode, **options: object) -> Tensor:
    meta_gradient(learner, task, "loop", threads=1, **options)
    return torch.cat([p.grad.double().flatten() for p in learner.parameters()])


def rounded(learner: MAML, task: Episode, bits: tuple[int, ...]) -> list[float]:
    """Cosines of the meta-gradient of rounded factors with the exact one."""
    exact, found = gradient(learner.double(), task), []
    for b in bits:
        with Rounded(b):
            found.append(cosine(gradient(learner.float(), task.to(torch.float32)), exact))
    return found


def autocast(learner: MAML, task: Episode) -> float:
    """The same of precision="bf16", run for real: float32 with autocast."""
    exact = gradient(learner.double(), task)
    return cosine(gradient(learner.float(), task.to(torch.float32), precision="bf16"), exact)


def cosine(a: Tensor, b: Tensor) -> float:
    return round(float(F.cosine_similarity(a, b, dim=0)), 4)


if __name__ == "__main__":
    main()
