"""Chapter 7's figure: drag a support point, and the cells of the nearest mean move."""

import copy
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from metalib.episode import Data, Episode
from metalib.fast.private import call
from metalib.figures.plot import COLOURS
from metalib.figures.widgets.widget import Widget, packed, picture
from metalib.functional import class_means
from metalib.learners.metric import ProtoNet

NAMES = ("circles", "squares", "triangles")
SIDES = ((-4.0, 6.5), (-3.0, 4.5))  # the window of the toy
STAR = (-0.9, 1.2)
ACROSS = (1, (6.0, 0.0))  # the circle that the picture drags, and where to
TOY = Data(torch.tensor([[-3.1, -0.7], [-1.7, -0.2], [-2.6, 1.1], [-0.7, -1.2], [1.4, -0.4], [0.4, 1.0],
                         [-0.9, 3.3], [0.8, 3.8], [0.3, 2.5]], dtype=torch.float64),
           torch.arange(3).repeat_interleave(3), way=3)


def plane(learner: ProtoNet, episode: Episode) -> tuple[Tensor, Tensor, float]:
    """The plane through the three prototypes of a task: its support (3K, 2) and query points (3Q, 2), and tau.

    The embeddings, in float64, are projected orthogonally. What a projection leaves out of |f(x) - c_n|^2 is the
    squared distance of f(x) from the plane, the same for all three n; the softmax does not see it. So the
    probabilities, and the cells, are the network's own.

    Raises:
        TypeError: the learner is no ProtoNet.
        ValueError: a task that is not 3-way, or prototypes on one line.
    """
    if not isinstance(learner, ProtoNet):
        raise TypeError(f"expected a ProtoNet, whose cells these are; got {type(learner).__name__}")
    if episode.support.way != 3 or episode.support.y.ndim != 1:
        raise ValueError(f"way={episode.support.way}, labels {tuple(episode.support.y.shape)}: expected one 3-way task")
    learner, episode = copy.deepcopy(learner).double(), episode.to(torch.float64)
    with torch.no_grad():
        z, q = (call(learner.encoder, {}, data.x) for data in episode)
    c = class_means(z, episode.support.y, 3)
    first, second = c[1] - c[0], c[2] - c[0]  # class 1 lies to the right of class 0, and class 2 above both
    across = first / first.norm()
    above = second - (second @ across) * across
    if not float(above.norm()) > 1e-6 * float(second.norm()):
        raise ValueError("the three prototypes lie on one line: they span no plane")
    axes = torch.stack([across, above / above.norm()], 1)  # (D, 2)
    tau = 1.0 if learner.log_temperature is None else float(learner.log_temperature.detach().exp())
    return ((z - c.mean(0)) @ axes).cpu(), ((q - c.mean(0)) @ axes).cpu(), tau


def figure(learner: ProtoNet | None = None, episode: Episode | None = None) -> Widget:
    """Drag a support point: the mean of its class goes along by 1/K of the way, and the cells follow.

    Without arguments the points are a toy, `TOY`: one circle dragged across the squares shows what one mean cannot do,
    and two means for the circles, or the nearest example, show the cure. With a learner and a 3-way task they are the
    task's embeddings in the plane of its prototypes (see `plane`), and its queries are judged. A support point is
    dragged within that plane, so the mean stays in it, and the cells stay those of the network with that one
    embedding moved. The page computes cells and probabilities itself (tests/test_widget_cells.py compares them).

    Args:
        learner: a ProtoNet, whose embedding is drawn; it is left as it is.
        episode: one 3-way task, without the task axis.

    Raises:
        TypeError, ValueError: one of the two without the other; see `plane`.
    """
    if (learner is None) != (episode is None):
        raise ValueError("a learner needs one 3-way task, and a task a learner: expected both or neither")
    if learner is None or episode is None:
        moved = TOY.x.clone()
        moved[ACROSS[0]] = torch.tensor(ACROSS[1], dtype=torch.float64)
        return _widget(
            TOY, Data(TOY.x[:0], TOY.y[:0]), 1.0, STAR, SIDES,
            {"at the start": TOY.x, "one circle has crossed the squares": moved},
            question="Each large mark is the mean of its class, and a class’s cell is where its mean is the nearest. "
                     "Where do the cells go when one circle crosses the squares?",
            invite="Drag one circle to the far side of the squares.",
            alt="Three classes of three points in a plane, their means, and the cells of the nearest mean, with "
                "straight borders. One can drag a point: one circle on the far side of the squares draws its mean "
                "among them, and the cells no longer fit.")
    z, q, tau = plane(learner, episode)
    everything = torch.cat([z, q])
    low, high = everything.min(0).values, everything.max(0).values
    middle, half = (low + high) / 2, (high - low) * 0.54
    half[1] = half[1].clamp(0.55 * half[0], 1.1 * half[0])  # not too flat; a taller one shows more to the sides
    half[0] = half[0].maximum((high - low)[1] * 0.54 / 1.1)
    sides = tuple((float(m - h), float(m + h)) for m, h in zip(middle, half, strict=True))
    support = Data(z, episode.support.y.cpu(), way=3)
    two = torch.cdist(q, class_means(z, support.y, 3)).pow(2).sort(1).values
    star = q[(two[:, 1] - two[:, 0]).argmin()].tolist()  # the query that is the closest call
    return _widget(
        support, Data(q, episode.query.y), tau, star, sides, {"the network's cells": z},
        question=f"The network’s own cells: {len(z)} support drawings of three characters, and {len(q)} queries (small "
                 "marks), in the plane of the three means. How many queries can you lose by dragging one drawing?",
        invite="Drag one support point far into another class: its mean goes a part of the way.",
        alt=f"The embeddings of a real task, three characters, in the plane of their means: {len(z)} support points, "
            f"{len(q)} queries, and the three cells. One can drag a support point and see which queries are lost.")


def _widget(support: Data, query: Data, tau: float, star: Any, sides: Any, pictures: dict[str, Tensor], *,
            question: str, invite: str, alt: str) -> Widget:
    """The figure of a support and a query in the plane, with a picture of each of `pictures`' supports."""
    numbers = torch.tensor([tau, *sides[0], *sides[1], *star, *support.x.flatten(), *query.x.flatten()],
                           dtype=torch.float64)
    data = {"packed": packed(numbers, "<f8"), "labels": support.y.tolist(), "classes": 3, "names": NAMES,
            "queries": query.y.tolist(), "question": question, "invite": invite}
    return Widget("cells.js", data, alt=alt, png=_png(support.y, query, sides, pictures), parts=("elements.js",),
                  colours=32)


def _png(labels: Tensor, query: Data, sides: Any, pictures: dict[str, Tensor]) -> bytes:
    """Cells, one picture below the other; as wide as a phone, so that its text stays legible."""
    (x0, x1), (y0, y1) = sides
    height = 0.3 + len(pictures) * (0.3 + 3.4 * (y1 - y0) / (x1 - x0))  # inches
    figure, axes = plt.subplots(len(pictures), 1, figsize=(3.6, height), facecolor="white", layout="constrained",
                                squeeze=False)
    grid = torch.meshgrid(*(torch.linspace(*side, 300, dtype=torch.float64) for side in sides), indexing="xy")
    for axis, (title, points) in zip(axes[:, 0], pictures.items(), strict=True):
        means = class_means(points, labels, 3)
        cell = torch.cdist(torch.stack(grid, -1).flatten(0, 1), means).argmin(1).reshape(300, 300)
        axis.contourf(*grid, cell, levels=[-0.5, 0.5, 1.5, 2.5], colors=COLOURS[:3], alpha=0.2, antialiased=False)
        axis.contour(*grid, cell, levels=[0.5, 1.5], colors="black", linewidths=0.8, antialiased=False)
        for n, shape in enumerate("os^"):
            axis.plot(*points[labels == n].T, shape, color=COLOURS[n], markersize=6)
            axis.plot(*means[n], shape, color=COLOURS[n], markersize=13, markeredgecolor="black", markeredgewidth=1.5)
        for (a, b), n in zip(query.x.tolist(), query.y.tolist(), strict=True):
            axis.plot(a, b, "os^"[n], color=COLOURS[n], markersize=3)
        axis.set(xlim=(x0, x1), ylim=(y0, y1), xticks=[], yticks=[], aspect="equal")
        axis.set_title(title, fontsize=10)
    axes[-1, 0].set_xlabel("large marks: the means of the classes", fontsize=10)
    return picture(figure, 110)
