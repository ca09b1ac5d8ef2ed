"""Were the test episodes training episodes? The leak that no split of classes can prevent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch

from metalib.episode import Data, Episode
from metalib.functional import seeded
from metalib.tasks import Tasks
from metalib.tasks.protocol import one_by_one


def fingerprint(task: Episode) -> bytes:
    """16 bytes that two tasks share exactly if their tensors are equal; floats are rounded to 1e-6 (see `update`)."""
    digest = hashlib.sha256()
    update(digest, task)
    return digest.digest()[:16]


def update(digest: hashlib._Hash, episode: Episode) -> None:
    """Add an episode to a digest. Floats are rounded to 1e-6, because sin() may differ in the last bit by CPU."""
    for tensor in (*episode.support[:2], *episode.query[:2]):
        if tensor.is_floating_point():
            tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
            if tensor.numel() and tensor.abs().max() < 2**31 / 1e6:  # beyond, int32 overflows and 1e-6 is no digit
                tensor = (tensor * 1e6).round().to(torch.int64 if tensor.dtype == torch.float64 else torch.int32)
        digest.update(tensor.cpu().contiguous().numpy().tobytes())


def shared_episodes(tasks: Tasks, training: Iterable[Episode], *, episodes: int = 600, seed: int = 0) -> int:
    """How many of the episodes that `meta_test(..., tasks, episodes, seed)` draws are among those of training.

    Where training and test draw from one family of tasks (`Sinusoids`, say), only their random streams keep them
    apart: a generator with the same seed in both makes every test episode a training episode.

    Args:
        tasks: the test tasks.
        training: the meta-batches that training saw: `training_episodes(tasks, config)` draws them again.
        episodes, seed: of the test.
    """
    seen = {fingerprint(one) for batch in training for one in _tasks(batch)}
    return sum(fingerprint(*_tasks(one)) in seen for one in one_by_one(tasks, episodes, seeded(seed)))


def _tasks(batch: Episode) -> list[Episode]:
    return [Episode(*(Data(d.x[t], d.y[t], d.way) for d in batch)) for t in range(batch.tasks)]
