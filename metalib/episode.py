"""What a learner sees: a support set to adapt on and a query set to be judged on."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


class Data(NamedTuple):
    """Labelled examples.

    Attributes:
        x: inputs, (M, ...) for one task, (T, M, ...) for a meta-batch.
        y: targets, integer class indices 0..way-1 or floats, (M,) or (M, D); one more leading axis T for a meta-batch.
        way: the number of classes N, a plain int that is never mapped over; None for regression.
    """

    x: Tensor
    y: Tensor
    way: int | None = None


class Episode(NamedTuple):
    """One task's data, or a meta-batch of them when the tensors carry a leading task axis T.

    Attributes:
        support: what `adapt` reads (N*K examples).
        query: what the meta-loss is measured on (N*Q examples).
    """

    support: Data
    query: Data

    def task(self, t: int) -> Self:
        """Task `t` of a meta-batch, without the task axis; images with their channels innermost in memory."""
        return one_task(self, t)

    def to(self, *args: torch.device | torch.dtype | str) -> Self:
        """Move to a device, or cast the floating-point tensors to a dtype; integer labels keep theirs."""
        return moved(self, *args)

    def split(self, size: int) -> list[Self]:
        """Meta-batches of at most `size` tasks each."""
        return parts(self, size)

    @property
    def tasks(self) -> int:
        """T, the number of tasks in a meta-batch."""
        return self.support.x.shape[0]


def each(f: Callable[..., Any], episode: Any, *others: Any) -> Any:
    """f of every tensor in an episode, or in any named tuple of tensors and plain values; the rest is as it was.

    With others of the same form, f gets one tensor of each.
    """
    return tree_map(lambda first, *rest: f(first, *rest) if isinstance(first, Tensor) else first, episode, *others)


def rows(episode: Any, index: int | slice | Tensor) -> Any:
    """tensor[index] of every tensor: one task by its number, or several."""
    return each(lambda tensor: tensor[index.to(tensor.device) if isinstance(index, Tensor) else index], episode)


def parts(episode: Any, size: int) -> list[Any]:
    """Meta-batches of at most `size` tasks each."""
    return [rows(episode, slice(i, i + size)) for i in range(0, count(episode), size)]


def joined(batches: list[Any]) -> Any:
    """Meta-batches, in order, as one.

    Raises:
        ValueError: tasks of unlike shapes, or another way: their numbers would not be those of one kind of task.
    """
    first, *others = ([tuple(v.shape[1:]) if isinstance(v, Tensor) else v for v in tree_leaves(e)] for e in batches)
    for i, other in enumerate(others, 1):
        if other != first:
            raise ValueError(f"tasks differ: task {i} has shapes {other}, task 0 {first} (of an Episode, x, y and way "
                             "of support and query). Make one Tasks or FixedEpisodes for each shape and way")
    return each(lambda *tensors: torch.cat(tensors), *batches)


def one_task(episode: Any, t: int) -> Any:
    """Task `t` of a meta-batch, without the task axis; images with their channels innermost in memory."""
    return each(lambda tensor: _channels_last(tensor[t]), episode)


def moved(episode: Any, *args: torch.device | torch.dtype | str) -> Any:
    """On another device, or its floating-point tensors of another dtype; integers keep theirs."""
    return each(lambda tensor: _to(tensor, *args), episode)


def tensors(episode: Any) -> list[Tensor]:
    """Its tensors, in order."""
    return [t for t in tree_leaves(episode) if isinstance(t, Tensor)]


def count(episode: Any) -> int:
    """T, the number of tasks in a meta-batch."""
    return tensors(episode)[0].shape[0]


def is_tasks(episode: Any) -> bool:
    """Whether it can be a meta-batch: an `Episode`, or any named tuple that holds tensors."""
    return isinstance(episode, tuple) and hasattr(episode, "_fields") and bool(tensors(episode))


def task_axis(episode: Any) -> Any:
    """Which entries carry the task axis, in the form that torch.vmap's `in_dims` takes: the tensors."""
    return tree_map(lambda entry: 0 if isinstance(entry, Tensor) else None, episode)


TASK_AXIS = task_axis(Episode(Data(torch.empty(0), torch.empty(0)), Data(torch.empty(0), torch.empty(0))))  # of any


def check_episodes(episodes: Any) -> None:
    """Refuse a meta-batch whose numbers would come out wrong without an error: on whole batches, where values are seen.

    With `way` = N, labels are the integers 0..N-1, and each of them stands in the support of every task, unless the
    support is empty (plain classification, `Classify`). Without `way`, targets are floats. There is a query.

    Of tasks that are no support and query (an environment, say) nothing is known but that each tensor has a row a task;
    what has a method `check()` is asked.

    Raises:
        ValueError: what was found in which task, and the fix.
    """
    if not isinstance(episodes, Episode):
        shapes = [tuple(t.shape) for t in tensors(episodes)]
        if any(not shape or shape[0] != shapes[0][0] for shape in shapes):
            raise ValueError(f"{type(episodes).__name__} holds tensors of shapes {shapes[:6]}: expected a leading task "
                             "axis T, the same in all; a single task gets it by each(lambda t: t[None], task)")
        if callable(check := getattr(episodes, "check", None)):
            check()
        return
    support, query = episodes
    if support.way != query.way:
        raise ValueError(f"the support has way={support.way} and the query way={query.way}: give both the same")
    for part, (x, y, way) in zip(("support", "query"), episodes):
        if x.shape[:1] != support.y.shape[:1] or x.shape[:2] != y.shape[:2] or way is not None and y.ndim != 2:
            expected = "(T, M, ...) and (T, M)" if way is not None else "(T, M, ...) and (T, M, ...)"
            raise ValueError(f"{part}.x has shape {tuple(x.shape)} and {part}.y {tuple(y.shape)}: expected {expected}, "
                             "T tasks and one target an example")
        if y.is_floating_point() or y.is_complex():
            if way is not None:
                raise ValueError(f"{part}.y holds {y.dtype} with way={way}: make it y.long(), or leave way=None")
        elif way is None:
            raise ValueError(f"{part}.y holds {y.dtype} and way is None: for classification give the number of "
                             "classes, Data(x, y, way=N); for regression make the targets floats (y.float())")
        elif y.dtype == torch.bool:
            raise ValueError(f"{part}.y holds {y.dtype}: labels are integers (y.long())")
    if len(query.y) == 0:
        raise ValueError("the meta-batch holds no task: draw at least one, tasks.sample(n) with n >= 1")
    if query.y.shape[1] == 0:
        raise ValueError("the query is empty: a task needs at least one query example to be judged on")
    if support.way is not None:
        _check_labels(support.y.long(), query.y.long(), support.way)


def check_support(support: Data) -> None:
    """Refuse to adapt to nothing: the mean over no examples is NaN, or a class at the origin."""
    if len(support.y) == 0:
        raise ValueError("the support is empty: Classify tasks are for pretraining (`Pretrained`), FewShot for others")


def _check_labels(support: Tensor, query: Tensor, way: int) -> None:
    """One question to the device while all is well."""
    y = torch.cat([support, query], 1)  # (T, M)
    outside = (y < 0) | (y >= way)
    present = torch.zeros(len(y), way, dtype=torch.bool, device=y.device).scatter_(1, support.clamp(0, way - 1), True)
    absent = ~present if support.shape[1] else ~present[:0]  # (T, N)
    if not bool(outside.any() | absent.any()):
        return
    if bool(outside.any()):
        t = int(outside.any(1).nonzero()[0, 0])
        raise ValueError(f"task {t} has labels {y[t].unique().tolist()[:12]}, with way={way} they are 0..{way - 1}: "
                         "number the classes anew in each task, e.g. with torch.unique(y, return_inverse=True)")
    t, n = absent.nonzero()[0].tolist()
    raise ValueError(f"the support of task {t} has no example of class {n}, but way={way}: give every class one, or "
                     "lower way= and number the classes 0..way-1 without a gap")


def _to(t: Tensor, *args: torch.device | torch.dtype | str) -> Tensor:
    for a in args:
        if isinstance(a, torch.dtype) and not a.is_floating_point:  # images in [0, 1] would all become 0
            raise ValueError(f"Episode.to({a}): expected a device or a floating-point dtype")
    keep = not t.is_floating_point()
    return t.to(*(a for a in args if not (keep and isinstance(a, torch.dtype)))) if args else t


def _channels_last(x: Tensor) -> Tensor:
    """Images (M, C, H, W) in the layout that CPU convolutions want; anything else as it is.

    With one channel the strides are ambiguous and `.contiguous(memory_format=torch.channels_last)` does nothing, after
    which every layer runs in the slow layout; a view through (M, H, W, 1) settles them.
    """
    if x.ndim != 4:
        return x
    M, C, H, W = x.shape
    return x.reshape(M, H, W, 1).permute(0, 3, 1, 2) if C == 1 else x.contiguous(memory_format=torch.channels_last)
