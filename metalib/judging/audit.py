"""What makes a few-shot number believable: the protocol, the floor it starts from, and checks for the usual leaks."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metalib.arguments import check_whole
from metalib.data import ClassData, ClassImages
from metalib.episode import Episode, joined
from metalib.functional import seeded
from metalib.judging.bias import example_bias, label_bias
from metalib.judging.evaluate import Score, meta_test
from metalib.judging.facts import Fact, both_sides, facts
from metalib.judging.overlap import digest_of, follows_generator, near_pairs, shared_with
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
        label_bias: how far labels are from independent of classes, in standard errors (below 5: nothing seen). Where
            only episodes are seen, of examples that come again in another episode; None if none does.
        episodes: how many episodes were audited.
        score: the result that the audit belongs to.
        shared_episodes: how many of the score's episodes (of the audited ones without a score) were drawn in training
            too; None if no training was given.
        seen_images: how many different examples of those episodes were drawn in training too, in whatever episode:
            classes on both sides of the split; None if no training was given.
        follows_generator: whether the tasks are drawn from the generator and from nothing else.
        what: what an example is called.
        near_images: (support, query) pairs of one class that differ by less than a twentieth of what such a pair
            usually differs by: an image saved twice, one more frame of a film. Only floats of 16 numbers and more are
            looked at, and images.
        facts: of each fact about the examples (`ClassData.about`), what it alone predicts, and who shares it.
        both_sides: what training and test share, groups (scripts) and values of facts that are strings (patients), in
            words; None if no training bank was given. Printed, not judged: Omniglot's published split shares a script.

    Twins and near pairs are printed, not judged: you know your data. No audit sees a copy that was turned, cropped or
    rescaled, nor one thing under two class names.
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
    seen_images: int | None = None
    follows_generator: bool = True
    what: str = "image"
    near_images: int = 0
    facts: tuple[Fact, ...] = ()
    both_sides: tuple[str, ...] | None = None

    @property
    def passed(self) -> bool:
        """No image in support and query, no class twice, labels independent of classes (within 5 standard errors), no
        fact that predicts them (likewise), tasks that follow their generator, and nothing that training has seen."""
        return (self.shared_images == 0 and not self.repeated_classes and (self.label_bias or 0) < 5
                and self.follows_generator and not self.shared_episodes and not self.seen_images
                and not any(fact.leaks for fact in self.facts))

    def __str__(self) -> str:
        shot, query = ("a varying number of" if n is None else n for n in (self.shot, self.query))
        a, same = self.what, "pixel-identical" if self.what == "image" else "identical"
        bank, more = f"{self.classes} classes, {self.images} {a}s", f"{self.repeated_classes} repeated classes"
        more, classes = f", {more},\n  {self.twin_images} {same} pairs", "classes"
        if self.classes is None:  # only episodes are seen
            unseen = "repeated classes" + (", labels that stick to a class" if self.label_bias is None else "")
            bank, classes = f"{self.images} different {a}s", f"{a}s that come again"
            more = f"\nnot looked at: {unseen} (episodes do not say which classes they hold)"
        lines = [f"{self.way}-way {shot}-shot, {query} queries per class, chance {100 * self.chance:.1f} %",
                 f"{bank}, digest {self.digest}", f"no-learning floor (cosine to the mean {a}): {self.floor}",
                 f"in {self.episodes} episodes: {self.shared_images} {a}s in support and query{more}"]
        if self.label_bias is not None:
            lines.append(f"labels independent of {classes}: {'yes' if self.label_bias < 5 else 'NO'} "
                         f"(largest bias {self.label_bias:.1f} standard errors)")
        if not self.follows_generator:
            lines.append("tasks follow their generator: NO (one seed draws different tasks, or every seed the same)")
        if self.shared_episodes is not None:
            lines.append(f"test episodes that training has seen: {self.shared_episodes}")
            lines.append(f"test {a}s that training has seen: {self.seen_images}")
        if self.score is not None:
            lines.append(f"result: {self.score}, seed {self.score.seed}, episodes {self.score.digest}")
        lines += map(str, self.facts)
        if self.both_sides is not None:
            lines.append(f"in training as well: {', '.join(self.both_sides) or 'no group'}")
        if self.near_images:
            lines.append(f"nearly identical pairs: {self.near_images}")
        passed = "audit passed" + (", but look at these pairs: are they copies?"
                                   if self.twin_images or self.near_images else "")
        return "\n".join([*lines, passed if self.passed else "AUDIT FAILED"])


def audit(tasks: Tasks, score: Score | None = None, *, episodes: int = 200, seed: int = 0,
          training: Iterable[Episode] | None = None, trained_on: ClassData | None = None) -> Audit:
    """Look at a task distribution the way a sceptical reader would.

    Args:
        tasks: the classification tasks that were evaluated. `FewShot` says which classes and examples it draws; of
            others, `FixedEpisodes` for example, only the episodes are seen.
        score: the result to print with it, of these tasks.
        episodes: how many episodes to inspect.
        seed: of those episodes.
        training: the meta-batches of training, from `training_episodes(tasks, config)`, to look for the test's among.
        trained_on: the bank that training drew from, to look for this bank's groups, patients and the like in.

    Returns:
        An `Audit`; print it, or assert its `passed`.

    Raises:
        ValueError: the tasks are regression, or have no support; the score is of other episodes than these tasks draw;
            `training` holds no meta-batch, as a generator does that was read before.
    """
    check_whole(1, episodes=episodes)
    if score is not None and score.digest and score.seed is not None:
        if (drawn := digest_of(tasks, score.n, score.seed)) != score.digest:
            raise ValueError(f"the score is of episodes {score.digest}, but with its seed {score.seed} these tasks "
                             f"draw {drawn}: give the tasks that meta_test was given")
    n, first = (score.n, score.seed) if score is not None and score.seed is not None else (episodes, seed)
    seen = (None, None) if training is None else shared_with(tasks, training, episodes=n, seed=first)
    follows = follows_generator(tasks, seed)
    found = tuple(facts(tasks, episodes, seed)) if hasattr(tasks, "sample_rows") else ()
    both = None if trained_on is None else both_sides(tasks, trained_on)
    looked = (_of_bank if isinstance(tasks, FewShot) else _of_episodes)(tasks, episodes, seed)
    return replace(looked, score=score, shared_episodes=seen[0], seen_images=seen[1], follows_generator=follows,
                   facts=found, both_sides=both)


def _of_bank(tasks: FewShot, episodes: int, seed: int) -> Audit:
    """What can be said of tasks that say which classes and examples of a bank they draw."""
    classes, examples = tasks.sample_indices(episodes, generator=seeded(seed))
    bank, K = tasks.images, tasks.shot
    rows = bank.starts.cpu()[classes][..., None] + examples  # (T, N, K+Q)
    support, query = rows[..., :K].flatten(1), rows[..., K:].flatten(1)
    shared = support[:, :, None] == query[:, None, :]  # (T, N*K, N*Q)
    content = _content_ids(bank.x)
    twins = (content[support][:, :, None] == content[query][:, None, :]) & ~shared
    shared, twins = int(shared.sum()), int(twins.sum())
    if type(tasks).sample is not FewShot.sample:  # what it returns need not be what the indices say
        shared = max(shared, _equal_pairs(tasks.sample(episodes, generator=seeded(seed)))[0] - twins)
    base = bank.base.cpu()[classes].sort(1).values
    return Audit(tasks.way, K, tasks.query, len(bank.counts), len(bank.x), bank.digest(), 1 / tasks.way,
                 meta_test(PixelFloor(), tasks, episodes, seed), shared, twins,
                 int((base[:, 1:] == base[:, :-1]).any(1).sum()), label_bias(classes, len(bank.counts)), episodes,
                 what="image" if isinstance(bank, ClassImages) else "example",
                 near_images=near_pairs(one_by_one(tasks, episodes, seeded(seed))))


def _of_episodes(tasks: Tasks, episodes: int, seed: int) -> Audit:
    """What can be said of tasks that show their episodes alone."""
    drawn = list(one_by_one(tasks, episodes, seeded(seed)))
    way = drawn[0].support.way if isinstance(drawn[0], Episode) else None
    if way is None:
        raise ValueError(f"{type(tasks).__name__} draws a {type(drawn[0]).__name__} without way=: audit looks at "
                         "classification, support and query of labels 0..way-1")
    floor = meta_test(PixelFloor(), tasks, episodes, seed)  # refuses what is no episode
    whole = joined(drawn)
    shared, content = _equal_pairs(whole)
    bias = example_bias(content, torch.cat([whole.support.y, whole.query.y], 1).cpu().long(), way)
    per_class = [torch.stack([(getattr(e, part).y.cpu() == n).sum() for e in drawn for n in range(way)]).unique()
                 for part in ("support", "query")]
    shot, query = (int(counts[0]) if len(counts) == 1 else None for counts in per_class)
    digest = tasks.digest() if hasattr(tasks, "digest") else floor.digest
    return Audit(way, shot, query, None, int(content.max()) + 1, digest, 1 / way, floor, shared, 0, None, bias,
                 len(drawn), what="example", near_images=near_pairs(drawn))


def _equal_pairs(whole: Episode) -> tuple[int, Tensor]:
    """(pairs of a support and a query example of one task that are equal in every number, an id per example (T, M))."""
    both = torch.cat([whole.support.x, whole.query.x], 1)
    content = _content_ids(both.flatten(0, 1)).unflatten(0, both.shape[:2])
    M = whole.support.x.shape[1]
    return int((content[:, :M, None] == content[:, None, M:]).sum()), content


def _content_ids(x: Tensor) -> Tensor:
    """An integer per example, equal exactly where the bytes are equal."""
    seen: dict[bytes, int] = {}
    flat = x.cpu().contiguous().view(torch.uint8).reshape(len(x), -1).numpy()
    return torch.tensor([seen.setdefault(row.tobytes(), len(seen)) for row in flat])
