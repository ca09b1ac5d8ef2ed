"""What makes a few-shot number believable: the protocol, the floor it starts from, and checks for the usual leaks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from metalib.data import ClassImages
from metalib.episode import Episode
from metalib.functional import seeded
from metalib.judging.evaluate import Score, meta_test
from metalib.judging.overlap import shared_episodes
from metalib.learners.metric import PixelFloor
from metalib.tasks import FewShot, Tasks
from metalib.tasks.protocol import one_by_one


@dataclass(frozen=True)
class Audit:
    """The block that stands beside every result in the book.

    Attributes:
        way, shot, query: N, K, Q; K or Q is None where classes differ in it.
        classes, images: how many there are to draw from; classes is None where only episodes are seen.
        digest: fingerprint of the classes' names and examples, or of the fixed episodes.
        chance: 1/N.
        floor: accuracy of the cosine to the mean raw support example, on the audit's own episodes.
        shared_images: (support, query) pairs in the audited episodes that are the same example of the bank; where only
            episodes are seen, pairs that are equal in every number.
        twin_images: pairs that are different entries with identical content: duplicates in the data.
        repeated_classes: episodes in which two labels are the same class, or two rotations of one character; None where
            only episodes are seen.
        label_bias: how far labels are from independent of classes, in standard errors (below 5: nothing seen); None
            where only episodes are seen.
        episodes: how many episodes were audited.
        score: the result that the audit belongs to.
        shared_episodes: how many of the score's episodes (of the audited ones without a score) were drawn in training
            too; None if no training was given.
        what: what an example is called.
    """

    way: int
    shot: int | None
    query: int | None
    classes: int | None
    images: int
    digest: str
    chance: float
    floor: Score
    shared_images: int
    twin_images: int
    repeated_classes: int | None
    label_bias: float | None
    episodes: int
    score: Score | None = None
    shared_episodes: int | None = None
    what: str = "image"

    @property
    def passed(self) -> bool:
        """No image in support and query, no class twice, labels independent of classes (within 5 standard errors), and
        no test episode that training has seen."""
        return (self.shared_images == 0 and not self.repeated_classes and (self.label_bias or 0) < 5
                and not self.shared_episodes)

    def __str__(self) -> str:
        shot, query = ("a varying number of" if n is None else n for n in (self.shot, self.query))
        a, same = self.what, "pixel-identical" if self.what == "image" else "identical"
        lines = [f"{self.way}-way {shot}-shot, {query} queries per class, chance {100 * self.chance:.1f} %",
                 f"{self.classes} classes, {self.images} {a}s, digest {self.digest}",
                 f"no-learning floor (cosine to the mean {a}): {self.floor}",
                 f"in {self.episodes} episodes: {self.shared_images} {a}s in support and query, "
                 f"{self.repeated_classes} repeated classes, {self.twin_images} {same} pairs"]
        if self.label_bias is None:  # only episodes are seen
            lines[1] = f"{self.images} different {a}s, digest {self.digest}"
            lines[3] = f"in {self.episodes} episodes: {self.shared_images} {a}s in support and query"
            lines.append("not looked at: repeated classes, labels that stick to a class (episodes do not say which "
                         "classes they hold)")
        else:
            lines.append(f"labels independent of classes: {'yes' if self.label_bias < 5 else 'NO'} "
                         f"(largest bias {self.label_bias:.1f} standard errors)")
        if self.shared_episodes is not None:
            lines.append(f"test episodes that training has seen: {self.shared_episodes}")
        if self.score is not None:
            lines.append(f"result: {self.score}, seed {self.score.seed}, episodes {self.score.digest}")
        return "\n".join([*lines, "audit passed" if self.passed else "AUDIT FAILED"])


def audit(tasks: Tasks, score: Score | None = None, *, episodes: int = 200, seed: int = 0,
          training: Iterable[Episode] | None = None) -> Audit:
    """Look at a task distribution the way a sceptical reader would.

    Args:
        tasks: the classification tasks that were evaluated. `FewShot` says which classes and examples it draws; of
            others, `FixedEpisodes` for example, only the episodes are seen.
        score: the result to print with it.
        episodes: how many episodes to inspect.
        seed: of those episodes.
        training: the meta-batches of training, from `training_episodes(tasks, config)`, to look for the test's among.

    Returns:
        An `Audit`; print it, or assert its `passed`.

    Raises:
        ValueError: the tasks are regression, or have no support.
    """
    n, first = (score.n, score.seed) if score is not None and score.seed is not None else (episodes, seed)
    seen = None if training is None else shared_episodes(tasks, training, episodes=n, seed=first)
    if not isinstance(tasks, FewShot):
        return _of_episodes(tasks, score, episodes, seed, seen)
    classes, examples = tasks.sample_indices(episodes, generator=seeded(seed))
    bank, K = tasks.images, tasks.shot
    rows = bank.starts.cpu()[classes][..., None] + examples  # (T, N, K+Q)
    support, query = rows[..., :K].flatten(1), rows[..., K:].flatten(1)
    shared = support[:, :, None] == query[:, None, :]  # (T, N*K, N*Q)
    content = _content_ids(bank.x)
    twins = (content[support][:, :, None] == content[query][:, None, :]) & ~shared
    base = bank.base.cpu()[classes].sort(1).values
    return Audit(tasks.way, K, tasks.query, len(bank.counts), len(bank.x), bank.digest(), 1 / tasks.way,
                 meta_test(PixelFloor(), tasks, episodes, seed), int(shared.sum()), int(twins.sum()),
                 int((base[:, 1:] == base[:, :-1]).any(1).sum()), _label_bias(classes, len(bank.counts)),
                 episodes, score, seen, "image" if isinstance(bank, ClassImages) else "example")


def _of_episodes(tasks: Tasks, score: Score | None, episodes: int, seed: int, seen: int | None) -> Audit:
    """What can be said of tasks that show their episodes alone."""
    drawn = list(one_by_one(tasks, episodes, seeded(seed)))
    way = drawn[0].support.way
    if way is None:
        raise ValueError(f"{type(tasks).__name__} draws regression tasks (way=None): audit looks at classification")
    floor = meta_test(PixelFloor(), tasks, episodes, seed)  # refuses what is no episode
    support_x, query_x = (torch.cat([getattr(e, part).x.cpu() for e in drawn]) for part in ("support", "query"))
    T, M = support_x.shape[:2]
    content = _content_ids(torch.cat([support_x, query_x], 1).flatten(0, 1)).unflatten(0, (T, -1))
    shared = content[:, :M, None] == content[:, None, M:]  # (T, M, M')
    per_class = [torch.stack([(getattr(e, part).y.cpu() == n).sum() for e in drawn for n in range(way)]).unique()
                 for part in ("support", "query")]
    shot, query = (int(counts[0]) if len(counts) == 1 else None for counts in per_class)
    digest = tasks.digest() if hasattr(tasks, "digest") else floor.digest
    return Audit(way, shot, query, None, int(content.max()) + 1, digest, 1 / way, floor, int(shared.sum()), 0, None,
                 None, len(drawn), score, seen, "example")


def _content_ids(x: Tensor) -> Tensor:
    """An integer per example, equal exactly where the bytes are equal."""
    seen: dict[bytes, int] = {}
    flat = x.cpu().contiguous().view(torch.uint8).reshape(len(x), -1).numpy()
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
