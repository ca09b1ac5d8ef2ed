"""Every learner of the library that can be trained, once, small and in float64, with tasks that fit it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metalib import (
    ANIL,
    FOMAML,
    MAML,
    RL2,
    Bandits,
    BayesLinear,
    ClassData,
    Classify,
    DeepKernelGP,
    FewShot,
    ImplicitMAML,
    LaplaceMAML,
    Learner,
    LogisticHead,
    MatchingNet,
    MDPs,
    MetaSGD,
    Navigations,
    NeuralProcess,
    PolicyMAML,
    Pretrained,
    ProtoNet,
    RelationNet,
    Reptile,
    RidgeHead,
    SequenceLearner,
    Sinusoids,
    TrainConfig,
    mlp,
    seeded,
)

UNTRAINED = {"PixelFloor", "BanditRule"}  # have no weights
WAVES = Sinusoids(5, 4, noise=0.1)
POINTS = ClassData.from_arrays(torch.randn(48, 3, generator=seeded(0), dtype=torch.float64), torch.arange(48) % 6)
CLASSES = FewShot(POINTS, way=3, shot=2, query=3, dtype=torch.float64)
CONFIG = TrainConfig(iterations=4, meta_batch=4, lr=1e-2, seed=3, clip=1.0, schedule="cosine", checkpoint_every=1)


def wave() -> mlp:
    return mlp(1, (8, 8), 1, activation="tanh")


def encoder() -> mlp:
    return mlp(3, (8,), 6, activation="tanh")


def body() -> mlp:
    return mlp(1, (8,), 6, activation="tanh")


EVERY: dict[str, tuple[Callable[[], Learner], Any]] = {
    "MAML": (lambda: MAML(wave(), 0.05, 2), WAVES),
    "MAML, step losses": (lambda: MAML(wave(), 0.05, 2, step_losses=0.5), WAVES),
    "FOMAML": (lambda: FOMAML(wave(), 0.05), WAVES),
    "ANIL": (lambda: ANIL(wave(), 0.05), WAVES),
    "MetaSGD": (lambda: MetaSGD(wave(), 0.05), WAVES),
    "Reptile": (lambda: Reptile(wave(), 0.05, 3, batch=4), WAVES),
    "ImplicitMAML": (lambda: ImplicitMAML(wave(), 0.05, 4), WAVES),
    "ProtoNet": (lambda: ProtoNet(encoder(), temperature=0.5), CLASSES),
    "MatchingNet": (lambda: MatchingNet(encoder()), CLASSES),
    "MatchingNet, full context": (lambda: MatchingNet(encoder(), True, embedding_dim=6), CLASSES),
    "RelationNet": (lambda: RelationNet(encoder(), mlp(12, (8,), 1)), CLASSES),
    "RidgeHead": (lambda: RidgeHead(encoder()), CLASSES),
    "LogisticHead": (lambda: LogisticHead(encoder()), CLASSES),
    "Pretrained": (lambda: Pretrained(encoder(), classes=6, embedding_dim=6), Classify(POINTS, 8, dtype=torch.float64)),
    "NeuralProcess": (lambda: NeuralProcess(hidden=8, layers=2, attention=True, heads=2, latent=3), WAVES),
    "SequenceLearner, attention": (lambda: SequenceLearner(1, 1, dim=8, layers=1), WAVES),
    "SequenceLearner, recurrent": (lambda: SequenceLearner(3, 3, "recurrent", dim=8, layers=1), CLASSES),
    "BayesLinear": (lambda: BayesLinear(body(), 6), WAVES),
    "BayesLinear, evidence": (lambda: BayesLinear(body(), 6, objective="evidence"), WAVES),
    "DeepKernelGP": (lambda: DeepKernelGP(body()), WAVES),
    "LaplaceMAML": (lambda: LaplaceMAML(MAML(wave(), 0.05)), WAVES),
    "LaplaceMAML, classes": (lambda: LaplaceMAML(MAML(mlp(3, (8,), 3, activation="tanh"), 0.1), samples=4), CLASSES),
    "RL2": (lambda: RL2(2, features=3, dim=6, entropy=0.1), MDPs(3, 2, 3, 2, dtype=torch.float64)),
    "RL2, arms": (lambda: RL2(3, core="arms", dim=6), Bandits(3, 5, dtype=torch.float64)),
    "RL2, counts": (lambda: RL2(3, core="counts", dim=6), Bandits(3, 5, dtype=torch.float64)),
    "PolicyMAML": (lambda: PolicyMAML(mlp(2, (8,), 2, activation="tanh"), 0.05), Navigations(4, dtype=torch.float64)),
}


def made(name: str, seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    return EVERY[name][0]().double()
