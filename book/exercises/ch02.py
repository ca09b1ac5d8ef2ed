"""Checks for the exercises of chapter 2. A check raises AssertionError with a hint, or prints nothing."""

import torch

from metalib import Data, Episode, FewShot, glyphs, seeded


def check_draw(answer):
    """`answer(counts, way, shot, query, generator)` -> (classes (N,), examples (N, K+Q)) of a fair episode."""
    counts, way, shot, query = torch.tensor([3, 9, 4, 5, 3, 7]), 3, 1, 2
    generator = seeded(0)
    draws = [answer(counts, way, shot, query, generator) for _ in range(3000)]
    classes, examples = (torch.stack([torch.as_tensor(d[i]) for d in draws]) for i in (0, 1))
    assert classes.shape == (3000, way) and examples.shape == (3000, way, shot + query), (
        f"shapes {tuple(classes.shape[1:])} and {tuple(examples.shape[1:])}: expected (N,) and (N, K+Q)")
    a, b = (answer(counts, way, shot, query, seeded(1)) for _ in range(2))
    assert torch.equal(torch.as_tensor(a[1]), torch.as_tensor(b[1])), (
        "two generators with the same seed gave different episodes: draw only from `generator`")
    ordered = classes.sort(1).values
    assert bool((ordered[:, 1:] > ordered[:, :-1]).all()), "a class appears twice in one episode"
    drawn = examples.sort(2).values
    assert bool((drawn[..., 1:] > drawn[..., :-1]).all()), (
        "an example appears twice in a class: support and query can share an image")
    assert bool(((examples >= 0) & (examples < counts[classes][..., None])).all()), (
        "an index lies outside its class: classes have different sizes, and counts[c] is the size of class c")
    frequency = torch.stack([(classes[:, 0] == c).double().mean() for c in range(len(counts))])
    assert float((frequency - 1 / len(counts)).abs().max()) < 0.04, (
        "some classes carry label 0 more often than others: their order must be random")
    for c in range(len(counts)):  # the first column is the support
        m = int(counts[c])
        support = examples[..., 0][classes == c]
        frequency = torch.stack([(support == j).double().mean() for j in range(m)])
        assert float((frequency - 1 / m).abs().max()) < 0.08, (
            "within a class, some examples are drawn more often than others: all counts[c] must be equally likely")


def solution_draw(counts, way, shot, query, generator):
    classes = torch.randperm(len(counts), generator=generator)[:way]  # (N,): which classes, and their labels
    examples = [torch.randperm(int(counts[c]), generator=generator)[:shot + query] for c in classes]
    return classes, torch.stack(examples)  # (N, K+Q): the first K are the support


def wrong_draw_1(counts, way, shot, query, generator):
    """Sorted classes: a class's rank gives its label away."""
    classes, examples = solution_draw(counts, way, shot, query, generator)
    return classes.sort().values, examples


def wrong_draw_2(counts, way, shot, query, generator):
    """With replacement: the query can repeat the support."""
    classes = torch.randperm(len(counts), generator=generator)[:way]
    examples = [torch.randint(int(counts[c]), (shot + query,), generator=generator) for c in classes]
    return classes, torch.stack(examples)


def wrong_draw_3(counts, way, shot, query, generator):
    """One size for all: the later examples of large classes are never drawn."""
    classes = torch.randperm(len(counts), generator=generator)[:way]
    m = int(counts.min())
    return classes, torch.stack([torch.randperm(m, generator=generator)[:shot + query] for _ in classes])


def wrong_draw_4(counts, way, shot, query, generator):
    """The global generator: nobody can draw these episodes again."""
    classes = torch.randperm(len(counts))[:way]
    return classes, torch.stack([torch.randperm(int(counts[c]))[:shot + query] for c in classes])


def check_copied(answer):
    """`answer(episodes)` -> (T,): the fraction of each task's queries that are copies of its supports."""
    honest = FewShot(glyphs().split("test"), way=3, shot=2, query=4).sample(3, generator=seeded(0))
    value = torch.as_tensor(answer(honest)).double()
    assert value.shape == (3,), f"shape {tuple(value.shape)}: expected one fraction a task, (T,)"
    assert torch.equal(value, torch.zeros(3, dtype=torch.float64)), (
        "an honest episode has no copies: compare whole images, and only within one task")
    x = honest.query.x.clone()
    x[0, :3] = honest.support.x[0, 4]  # three queries, copies of one support image
    x[1] = honest.support.x[1, :1]  # every query
    x[2, :6] = honest.support.x[0]  # copies from another task, which this task's learner never saw
    support = honest.support.x.clone()
    support[0, 5] = support[0, 4]  # the support image is there twice
    planted = Episode(Data(support, honest.support.y, 3), Data(x, honest.query.y, 3))
    value = torch.as_tensor(answer(planted)).double()
    expected = torch.tensor([3 / 12, 1.0, 0.0], dtype=torch.float64)
    assert torch.allclose(value, expected, atol=1e-6), (
        f"on planted copies you gave {value.tolist()}, expected {expected.tolist()}: "
        "count queries, not pairs, and look only at the support of the same task")


def solution_copied(episodes):
    s, q = episodes.support.x.flatten(2), episodes.query.x.flatten(2)  # (T, NK, D), (T, NQ, D)
    same = (s[:, :, None] == q[:, None]).all(-1)  # (T, NK, NQ): is query j a copy of support i?
    return same.any(1).double().mean(-1)  # (T,)


def wrong_copied_1(episodes):
    """Counts pairs: a support image that is there twice counts twice."""
    s, q = episodes.support.x.flatten(2), episodes.query.x.flatten(2)
    return (s[:, :, None] == q[:, None]).all(-1).double().sum((1, 2)) / q.shape[1]


def wrong_copied_2(episodes):
    """Looks in the supports of every task."""
    s, q = episodes.support.x.flatten(2).flatten(0, 1), episodes.query.x.flatten(2)
    return (q[:, :, None] == s).all(-1).any(-1).double().mean(-1)


def wrong_copied_3(episodes):
    """Any pixel: paper is equal everywhere."""
    s, q = episodes.support.x.flatten(2), episodes.query.x.flatten(2)
    return (s[:, :, None] == q[:, None]).any(-1).any(1).double().mean(-1)
