"""What is there twice: test episodes that were training episodes, which no split of classes prevents; near copies."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from metalib.episode import Data, Episode, count, is_tasks, rows, tensors
from metalib.functional import seeded
from metalib.tasks import Tasks
from metalib.tasks.protocol import one_by_one


def fingerprint(task: Episode) -> bytes:
    """16 bytes that two tasks share exactly if their tensors are equal; floats are rounded to 1e-6 (see `update`)."""
    digest = hashlib.sha256()
    update(digest, tuple(tensors(task)))
    return digest.digest()[:16]


def update(digest: "hashlib._Hash", episode: Episode) -> None:
    """Add an episode to a digest. Floats are rounded to 1e-6, because sin() may differ in the last bit by CPU.

    Not where all are below 1e-3, which this would make alike, or some above 2147, where int32 overflows. What is no
    tensor counts as well, as a bandit's horizon (labels say the way of an `Episode`).
    """
    if not isinstance(episode, Episode):
        digest.update(repr([leaf for leaf in tree_leaves(episode) if not isinstance(leaf, Tensor)]).encode())
    for tensor in tensors(episode):
        if tensor.is_floating_point():
            tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
            if tensor.numel() and 1e-3 <= tensor.abs().max() < 2**31 / 1e6:  # else 1e-6 is all, or no digit
                tensor = (tensor * 1e6).round().to(torch.int64 if tensor.dtype == torch.float64 else torch.int32)
        digest.update(tensor.cpu().contiguous().numpy().tobytes())


def shared_episodes(tasks: Tasks, training: Iterable[Episode], *, episodes: int = 600, seed: int = 0) -> int:
    """How many of the episodes that `meta_test(..., tasks, episodes, seed)` draws are among those of training.

    Where training and test draw from one family of tasks (`Sinusoids`, say), only their random streams keep them
    apart: a generator with the same seed in both, one task at a time, makes every test episode a training episode.

    Args:
        tasks: the test tasks.
        training: the meta-batches that training saw: `training_episodes(tasks, config)` draws them again.
        episodes, seed: of the test.

    Raises:
        TypeError, ValueError: `training` is no meta-batches, or none is left in it.
    """
    return shared_with(tasks, training, episodes=episodes, seed=seed)[0]


def shared_with(tasks: Tasks, training: Iterable[Episode], *, episodes: int, seed: int) -> tuple[int, int]:
    """(`shared_episodes`, how many different examples of those test episodes are in an episode of training)."""
    seen, seen_rows = set(), set()
    for batch in _batches(training):
        for one in _tasks(batch):
            seen.add(fingerprint(one))
            seen_rows |= _rows(one)
    test = [_tasks(one)[0] for one in one_by_one(tasks, episodes, seeded(seed))]
    rows = set().union(*map(_rows, test))
    return sum(fingerprint(one) in seen for one in test), len(rows & seen_rows)


def digest_of(tasks: Tasks, episodes: int, seed: int) -> str:
    """The digest of a `Score` of these episodes."""
    sha = hashlib.sha256()
    for one in one_by_one(tasks, episodes, seeded(seed)):
        update(sha, one)
    return sha.hexdigest()[:12]


def follows_generator(tasks: Tasks, seed: int) -> bool:
    """Whether one seed draws one task again and again, and not every seed the same one; lists of tasks need none."""
    def first(seed: int) -> bytes:
        return fingerprint(*_tasks(next(one_by_one(tasks, 1, seeded(seed)))))

    return hasattr(tasks, "in_order") or (first(seed) == first(seed) and len({first(s) for s in range(8)}) > 1)


def near_pairs(drawn: Iterable[Episode]) -> int:
    """Pairs of a support and a query example of one class, not equal, much nearer than such pairs usually are."""
    distances = []
    for task in (one for batch in drawn for one in _tasks(batch)):
        (s, s_y, way), (q, q_y, _) = ((d.x.cpu().flatten(1), d.y.cpu(), d.way) for d in task)
        if not s.is_floating_point() or s.shape[1] < 16:  # ids have no distance, and a plane is soon full
            return 0
        for n in range(way):
            pair = s[s_y == n].double(), q[q_y == n].double()
            distances.append(torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist").flatten())
    d = torch.cat(distances)
    return int(((d > 0) & (d < d.median() / 20)).sum())


def _batches(training: Iterable[Episode]) -> Iterable[Episode]:
    if hasattr(training, "sample") or not isinstance(training, Iterable):
        raise TypeError(f"training= is a {type(training).__name__}; expected the meta-batches that training drew: "
                        "training_episodes(tasks, config)")
    batches = iter([training] if is_tasks(training) else training)
    if (first := next(batches, None)) is None:
        raise ValueError("training= holds no meta-batch: training_episodes() is used up after one pass, call it again")
    yield first
    yield from batches


def _rows(task: Episode) -> set[bytes]:
    """8 bytes for each example of a task, whatever precision its numbers were drawn in; an environment has none."""
    flat = [(d.x.float() if d.x.is_floating_point() else d.x).cpu().flatten(1).numpy()
            for d in task if isinstance(d, Data)]
    return {hashlib.blake2b(row.tobytes(), digest_size=8).digest() for part in flat for row in part}


def _tasks(batch: Episode) -> list[Episode]:
    return [rows(batch, t) for t in range(count(batch))]
