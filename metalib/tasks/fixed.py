"""Episodes that somebody has drawn already: a benchmark's own trials."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from metalib.episode import Episode, check_episodes, each, joined, rows
from metalib.tasks.protocol import check_request


class FixedEpisodes:
    """A list of episodes, in order: what a benchmark publishes so that everybody is tested on the same trials.

    `meta_test` goes through them from the first to the last, whatever its seed, and never further than the list goes:
    meta_test(learner, fixed, episodes=len(fixed)) is the whole of it. Training draws from them with replacement.

    Args:
        episodes: a meta-batch (T, M, ...), or a list of single tasks (M, ...), all of one shape; they are copied.

    Raises:
        ValueError: no episode, unlike shapes, or labels that `check_episodes` refuses.
    """

    def __init__(self, episodes: Episode | Sequence[Episode]) -> None:
        self.episodes = each(Tensor.clone, episodes) if isinstance(episodes, Episode) else stacked(list(episodes))
        check_episodes(self.episodes)
        self.way = self.episodes.support.way

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """n of the episodes, drawn with replacement."""
        check_request(n, generator)
        return rows(self.episodes, torch.randint(len(self), (n,), generator=generator))

    def in_order(self, start: int, stop: int) -> Episode:
        """Episodes start .. stop - 1."""
        return rows(self.episodes, torch.arange(start, min(stop, len(self))))

    def digest(self) -> str:
        """12 hexadecimal digits of SHA-256 over shapes, dtypes, bytes and way: the same on every machine."""
        sha = hashlib.sha256(repr(self.way).encode())
        for tensor in (*self.episodes.support[:2], *self.episodes.query[:2]):
            sha.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
            sha.update(tensor.cpu().contiguous().view(torch.uint8).numpy())
        return sha.hexdigest()[:12]

    def __len__(self) -> int:
        return self.episodes.tasks

    def __repr__(self) -> str:
        return f"FixedEpisodes({len(self)} episodes, way={self.way}, digest {self.digest()})"


def stacked(tasks: list[Episode]) -> Episode:
    """Single tasks (M, ...), all of one shape, as one meta-batch (T, M, ...)."""
    if not tasks:
        raise ValueError("no episodes: give at least one")
    for i, task in enumerate(tasks):
        if not isinstance(task, Episode):
            raise TypeError(f"entry {i} is a {type(task).__name__}; expected Episode(Data(x, y, way), Data(x, y, way))")
    return joined([each(lambda tensor: tensor[None], task) for task in tasks])
