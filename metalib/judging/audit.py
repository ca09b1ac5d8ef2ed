"""What makes a few-shot number believable: the protocol, the floor it starts from, and checks for the usual leaks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from metalib.episode import Episode
from metalib.functional import seeded
from metalib.judging.evaluate import Score, meta_test
from metalib.judging.overlap import shared_episodes
from metalib.learners.metric import PixelFloor
from metalib.tasks import FewShot


@dataclass(frozen=True)
class Audit:
    """The block that stands beside every result in the book.

    Attributes:
        way, shot, query: N, K, Q.
        classes, images: how many there are to draw from.
        digest: fingerprint of the classes' names and images.
        chance: 1/N.
        floor: accuracy of the cosine to the mean raw support image, on the audit's own episodes.
        shared_images: (support, query) pairs in the audited episodes that are the same image of the bank.
        twin_images: pairs that are different entries with identical pixels: duplicates in the data.
        repeated_classes: episodes in which two labels are the same class, or two rotations of one character.
        label_bias: how far labels are from independent of classes, in standard errors (below 5: nothing seen).
        episodes: how many episodes were audited.
        score: the result that the audit belongs to.
        shared_episodes: how many of the score's episodes (of the audited ones without a score) were drawn in training
            too; None if no training was given.
    """

    way: int
    shot: int
    query: int
    classes: int
    images: int
    digest: str
    chance: float
    floor: Score
    shared_images: int
    twin_images: int
    repeated_classes: int
    label_bias: float
    episodes: int
    score: Score | None = None
    shared_episodes: int | None = None

    @property
    def passed(self) -> bool:
        """No image in support and query, no class twice, labels independent of classes (within 5 standard errors), and
        no test episode that training has seen."""
        return (self.shared_images == 0 and self.repeated_classes == 0 and self.label_bias < 5
                and not self.shared_episodes)

    def __str__(self) -> str:
        lines = [f"{self.way}-way {self.shot}-shot, {self.query} queries per class, chance {100 * self.chance:.1f} %",
                 f"{self.classes} classes, {self.images} images, digest {self.digest}",
                 f"no-learning floor (cosine to the mean image): {self.floor}",
                 f"in {self.episodes} episodes: {self.shared_images} images in support and query, "
                 f"{self.repeated_classes} repeated classes, {self.twin_images} pixel-identical pairs",
                 f"labels independent of classes: {'yes' if self.label_bias < 5 else 'NO'} "
                 f"(largest bias {self.label_bias:.1f} standard errors)"]
        if self.shared_episodes is not None:
            lines.append(f"test episodes that training has seen: {self.shared_episodes}")
        if self.score is not None:
            lines.append(f"result: {self.score}, seed {self.score.seed}, episodes {self.score.digest}")
        return "\n".join([*lines, "audit passed" if self.passed else "AUDIT FAILED"])


def audit(tasks: FewShot, score: Score | None = None, *, episodes: int = 200, seed: int = 0,
          training: Iterable[Episode] | None = None) -> Audit:
    """Look at a task distribution the way a sceptical reader would.

    Args:
        tasks: the few-shot tasks that were evaluated.
        score: the result to print with it.
        episodes: how many episodes to inspect.
        seed: of those episodes.
        training: the meta-batches of training, from `training_episodes(tasks, config)`, to look for the test's among.

    Returns:
        An `Audit`; print it, or assert its `passed`.
    """
    classes, examples = tasks.sample_indices(episodes, generator=seeded(seed))
    bank, K = tasks.images, tasks.shot
    rows = bank.starts.cpu()[classes][..., None] + examples  # (T, N, K+Q)
    support, query = rows[..., :K].flatten(1), rows[..., K:].flatten(1)
    shared = support[:, :, None] == query[:, None, :]  # (T, N*K, N*Q)
    content = _content_ids(bank.images)
    twins = (content[support][:, :, None] == content[query][:, None, :]) & ~shared
    base = bank.base.cpu()[classes].sort(1).values
    n, first = (score.n, score.seed) if score is not None and score.seed is not None else (episodes, seed)
    seen = None if training is None else shared_episodes(tasks, training, episodes=n, seed=first)
    return Audit(tasks.way, K, tasks.query, len(bank.counts), len(bank.images), bank.digest(), 1 / tasks.way,
                 meta_test(PixelFloor(), tasks, episodes, seed), int(shared.sum()), int(twins.sum()),
                 int((base[:, 1:] == base[:, :-1]).any(1).sum()), _label_bias(classes, len(bank.counts)),
                 episodes, score, seen)


def _content_ids(images: Tensor) -> Tensor:
    """An integer per image, equal exactly where the pixels are equal."""
    seen: dict[bytes, int] = {}
    flat = images.flatten(1).cpu().numpy()
    return torch.tensor([seen.setdefault(row.tobytes(), len(seen)) for row in flat])


def _label_bias(classes: Tensor, n_classes: int) -> float:
    """Does a class predict its label? The larger of two distances from "not at all", in standard errors.

    The mean label over tenths of the classes sees labels that drift with the class index (sorted classes). The sum
    over classes of chi-squared statistics sees labels that stick to a class; with m draws of a class its mean is
    N - 1 and its variance 2 (N - 1) (m - 1) / m, for every m.
    """
    T, N = classes.shape
    if N == 1:
        return 0.0
    label = torch.arange(N, dtype=torch.float64).expand(T, N)
    tenth = (classes * min(10, n_classes)) // n_classes
    mean, std = (N - 1) / 2, ((N * N - 1) / 12) ** 0.5
    z = [(label[tenth == d].mean() - mean).abs() * (tenth == d).sum().sqrt() / std for d in tenth.unique()]
    counts = torch.zeros(n_classes, N, dtype=torch.float64)  # how often class c carried label n
    counts.index_put_((classes, label.long()), torch.ones(T, N, dtype=torch.float64), accumulate=True)
    m = counts.sum(1)
    counts, m = counts[m > 1], m[m > 1]  # one draw of a class says nothing
    if len(m):
        excess = ((counts - m[:, None] / N).pow(2).sum(1) / (m / N) - (N - 1)).sum()
        z.append(excess.clamp(min=0) / (2 * (N - 1) * (m - 1) / m).sum().sqrt())
    return float(torch.stack(z).max())
