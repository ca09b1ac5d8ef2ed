"""The checks of chapter 2's code exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import combinations, permutations, product
from typing import Any

import torch
from torch import Tensor

from metalib.data.glyphs import glyphs
from metalib.episode import Data, Episode
from metalib.functional import seeded
from metalib.judging.checks.asking import ask, demand, given, pair, tensor, whole
from metalib.tasks.few_shot import FewShot

SIGMAS = 6.5  # of a normal variable: 4e-11, so that some 100 tests raise a false alarm less than once in 10^8 runs


def check_draw(answer: Callable[..., Any]) -> None:
    """`answer(counts, way, shot, query, generator)` -> (classes (N,), examples (N, K+Q)) of a fair episode."""
    for counts, way, shot, query in (((5,), 1, 1, 1), ((2, 2), 2, 1, 1), ((4, 6, 5), 2, 2, 1), ((9, 7, 8, 6), 3, 1, 5)):
        with given(f"counts = {list(counts)}, way = {way}, shot = {shot}, query = {query}"):
            _draws(answer, counts, way, shot, query, 10)
    with given("16 classes of 4 examples, way = 5, shot = 1, query = 1"):
        classes, _ = _draws(answer, 16 * (4,), 5, 1, 1, 400)
        for n in range(5):
            _fair(classes[:, n:n + 1], [(c,) for c in range(16)], f"which class gets the label {n}")
    with given("counts = [30, 24], way = 2, shot = 2, query = 3"):
        classes, examples = _draws(answer, (30, 24), 2, 2, 3, 400)
        for c, j in product(range(2), range(5)):
            column = examples[classes == c][:, j:j + 1]
            _fair(column, [(i,) for i in range((30, 24)[c])], f"column {j} of the examples of class {c}")
    counts = (3, 6, 4, 5, 3)
    with given(f"counts = {list(counts)}, way = 3, shot = 1, query = 2"):
        _fair_columns(*_draws(answer, counts, 3, 1, 2, 1600), counts)
    counts = (2, 3, 3)
    with given(f"counts = {list(counts)}, way = 2, shot = 1, query = 1"):
        classes, examples = _draws(answer, counts, 2, 1, 1, 2000)
        _fair_columns(classes, examples, counts)
        for a, b in permutations(range(3), 2):  # everything at once
            rows = examples[(classes == torch.tensor([a, b])).all(1)].flatten(1)
            every = product(permutations(range(counts[a]), 2), permutations(range(counts[b]), 2))
            _fair(rows, [(*p, *q) for p, q in every],
                  f"what classes {a} and {b} show in one episode (is each drawn on its own?)")


def _draws(answer: Callable[..., Any], counts: tuple[int, ...], way: int, shot: int, query: int,
           n: int) -> tuple[Tensor, Tensor]:
    """n episodes, classes (n, N) and examples (n, N, K+Q), each of the right form and without repetition."""
    sizes = torch.tensor(counts)

    def one(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        classes, examples = pair(ask(answer, sizes, way, shot, query, generator), "(classes, examples)")
        return whole(classes, "classes (N,)", (way,)), whole(examples, "examples (N, K+Q)", (way, shot + query))

    demand(all(map(torch.equal, one(seeded(1)), one(seeded(1)))),
           "two generators with the same seed gave different episodes: draw from `generator` alone")
    generator = seeded(0)
    classes, examples = map(torch.stack, zip(*(one(generator) for _ in range(n))))
    demand(((classes >= 0) & (classes < len(counts))).all(), "a class lies outside 0..C-1, C = len(counts)")
    demand(_distinct(classes), "a class appears twice in one episode")
    demand(((examples >= 0) & (examples < sizes[classes][..., None])).all(),
           "an index lies outside its class: counts[c] is the size of class c")
    demand(_distinct(examples), "an example appears twice in a class, so that support and query can share it")
    return classes, examples


def _fair_columns(classes: Tensor, examples: Tensor, counts: tuple[int, ...]) -> None:
    """Each column alone, then together: which class carries a label; which examples come, and in which order."""
    way, columns = examples.shape[1:]
    for n in range(way):
        _fair(classes[:, n:n + 1], [(c,) for c in range(len(counts))], f"which class gets the label {n}")
    _fair(classes, permutations(range(len(counts)), way), f"the ordered choice of {way} classes")
    following = classes[:len(classes) // 2 * 2, 0].unflatten(0, (-1, 2))
    _fair(following, product(range(len(counts)), repeat=2), "which class has label 0 in one episode and in the next")
    for c, m in enumerate(counts):
        drawn = examples[classes == c]  # (n_c, K+Q)
        for j in range(columns):
            _fair(drawn[:, j:j + 1], [(i,) for i in range(m)], f"column {j} of the examples of class {c}")
        for j, k in combinations(range(columns), 2):
            _fair(drawn[:, [j, k]], permutations(range(m), 2), f"columns {j} and {k} of the examples of class {c}")
        _fair(drawn, permutations(range(m), columns), f"the ordered choice of {columns} examples of class {c}")
        for n in range(way):
            first = examples[:, n, :1][classes[:, n] == c]
            _fair(first, [(i,) for i in range(m)], f"the first example of class {c} when its label is {n}")


def _fair(rows: Tensor, outcomes: Iterable[tuple[int, ...]], what: str) -> None:
    """Demand that every outcome (of numbers below 100) is equally likely in rows (n, c): Pearson's chi-square."""
    radix = 100 ** torch.arange(rows.shape[1])
    outcomes = sorted(outcomes, key=lambda o: o[::-1])
    cells = (torch.tensor(outcomes) * radix).sum(1)  # increasing
    count = torch.bincount(torch.searchsorted(cells, (rows * radix).sum(1)), minlength=len(cells)).double()
    fair, k = len(rows) / len(cells), len(cells) - 1
    if k:
        limit = k * (1 - 2 / (9 * k) + SIGMAS * math.sqrt(2 / (9 * k))) ** 3  # Wilson and Hilferty (1931)
        worst = int((count - fair).abs().argmax())
        demand(float(((count - fair) ** 2).sum() / fair) <= limit, (
            f"not fair: {what}. {', '.join(map(str, outcomes[worst]))} came {int(count[worst])} times in {len(rows)} "
            f"draws, where equally likely outcomes come about {fair:.0f} times each"))


def _distinct(rows: Tensor) -> Tensor:
    ordered = rows.sort(-1).values
    return (ordered[..., 1:] > ordered[..., :-1]).all()


def check_copied(answer: Callable[..., Any]) -> None:
    """`answer(episodes)` -> (T,): the fraction of each task's queries that are copies of its supports."""
    honest = FewShot(glyphs().split("test"), way=3, shot=2, query=4, dtype=torch.float32).sample(3, generator=seeded(0))
    _copied(answer, honest, [0, 0, 0], "three honest tasks, whose query drawings are all new")
    s = torch.rand(3, 4, 2, 3, 4, generator=seeded(1), dtype=torch.float32)  # (T, NK, C, H, W): 24 numbers an image
    new = torch.rand(3, 24, 2, 3, 4, generator=seeded(2), dtype=torch.float32)  # (T, NQ, C, H, W)
    pixel = torch.eye(24, dtype=torch.float32).reshape(24, 2, 3, 4)  # every single one
    turned = torch.stack([s[0, 0].flip(1), s[0, 1].flip(2), s[0, 2].flip(0), s[0, 3].roll(1, 2)])
    for t, queries, copies, words in (
            (0, s[0, 3:], 1, "one copy of the last support image"),
            (1, s[1, [0, 1, 1, 1, 3]], 5, "five copies, three of them of one support image"),
            (2, s[2, :1].expand(24, -1, -1, -1), 24, "nothing but copies"),
            (0, s[1], 0, "copies of another task's support images"),
            (1, new[1, 20:], 0, "queries that are there twice, and in no support"),
            (2, s[2, 0] + 1e-3 * pixel, 0, "queries that differ from a support image in one pixel"),
            (2, s[2, 0] + 2e-6 * pixel, 0, "queries that differ from a support image by 0.000002 in one pixel"),
            (0, turned, 0, "support images mirrored or shifted, with the same ink")):
        x = new.clone()
        x[t, :len(queries)] = queries
        _copied(answer, _episodes(s, x), [copies if i == t else 0 for i in range(3)], f"{words}, in task {t} of 3")
    twice, x = s.clone(), new.clone()
    twice[0, 1], x[0, 5:7] = s[0, 0], s[0, 0]
    _copied(answer, _episodes(twice, x), [2, 0, 0], "two copies of a support image that is there twice, in task 0 of 3")
    _copied(answer, _episodes(s[:1], s[:1, [1, 2, 0]]), [3], "one task, nothing but copies of other classes' images")


def _episodes(support: Tensor, query: Tensor) -> Episode:
    def labelled(x: Tensor) -> Data:
        return Data(x, (torch.arange(x.shape[1]) % 2).expand(x.shape[:2]), 2)

    return Episode(labelled(support), labelled(query))


def _copied(answer: Callable[..., Any], episodes: Episode, copies: list[int], words: str) -> None:
    queries = episodes.query.x.shape[1]
    with given(words):
        got = tensor(ask(answer, episodes), "the fractions of copies (T,)", (len(copies),))
        for t, right in enumerate(copies):
            high = "large" if float(got[t]) > right / queries else "small"
            demand(abs(float(got[t]) - right / queries) <= 1e-6, (
                f"your fraction for task {t}, with its {queries} queries, is {float(got[t]):.6g}, which is too {high}: "
                "count queries, not pairs; compare whole images, exactly, and only within one task"))
