"""Episodes per processor-second: 5-way 1-shot with 15 queries a class, each character in one of four rotations.

All three samplers draw from the same images, which are in memory, and hand out float images in [0, 1] with labels.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from metalib import ClassImages, FewShot, glyphs, seeded

WAY, SHOT, QUERY = 5, 1, 15
SAMPLERS = ("metalib", "learn2learn", "PyTorch")


class Images(Dataset):
    """A bank as a dataset of (float image (1, H, W), label); index (i, r) turns image i by r quarter turns."""

    def __init__(self, bank: ClassImages) -> None:
        self.images, self.labels = bank.images.float() / 255, bank.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Tensor, int]:
        if isinstance(item, int):
            return self.images[item], self.labels[item]
        i, turns = item
        return torch.rot90(self.images[i], turns, (1, 2)), self.labels[i]


class Episodes(Sampler):
    """The usual batch sampler of few-shot codebases: one batch of indices is one episode."""

    def __init__(self, bank: ClassImages) -> None:
        self.starts, self.counts = bank.starts.tolist(), bank.counts.tolist()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        while True:
            batch = []
            for c in random.sample(range(len(self.starts)), WAY):
                turns = random.randrange(4)
                batch += [(self.starts[c] + i, turns) for i in random.sample(range(self.counts[c]), SHOT + QUERY)]
            yield batch


def by_metalib(bank: ClassImages, n: int) -> Callable[[], Any]:
    tasks, g = FewShot(bank.with_rotations(), WAY, SHOT, QUERY), seeded(0)
    return lambda: tasks.sample(n, generator=g)


def by_pytorch(bank: ClassImages, n: int) -> Callable[[], Any]:
    batches = iter(DataLoader(Images(bank), batch_sampler=Episodes(bank)))
    return lambda: [next(batches) for _ in range(n)]


def by_learn2learn(bank: ClassImages, n: int) -> Callable[[], Any]:
    """The transforms of learn2learn.vision.benchmarks.omniglot_benchmark."""
    import learn2learn as l2l

    data = l2l.data.MetaDataset(Images(bank))
    turn = l2l.vision.transforms.RandomClassRotation(data, [0.0, 90.0, 180.0, 270.0])
    tasks = l2l.data.TaskDataset(data, num_tasks=-1, task_transforms=[
        l2l.data.transforms.FusedNWaysKShots(data, n=WAY, k=SHOT + QUERY), l2l.data.transforms.LoadData(data),
        l2l.data.transforms.RemapLabels(data), l2l.data.transforms.ConsecutiveLabels(data), turn])
    return lambda: [tasks.sample() for _ in range(n)]


def episodes_per_second(name: str, n: int, seconds: float) -> dict[str, float]:
    """The rate of one sampler, n episodes a call, for about `seconds`; the median over calls of processor time."""
    make = {"metalib": by_metalib, "learn2learn": by_learn2learn, "PyTorch": by_pytorch}[name]
    draw, times, end = make(glyphs().split("train"), n), [], time.perf_counter() + seconds
    draw()  # warm-up
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.process_time()
        draw()
        times.append(time.process_time() - begin)
    return {"n": n, "per_cpu_second": n / sorted(times)[len(times) // 2]}
