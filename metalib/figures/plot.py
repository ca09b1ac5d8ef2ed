"""Figures the chapters share. A function draws on an Axes (or makes one) and returns it; titles are the caller's."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metalib.data import import_torchvision
from metalib.data.images import ClassImages, class_rows, in_colour
from metalib.episode import Episode
from metalib.judging.evaluate import Score
from metalib.training.config import History

# Okabe and Ito's palette, distinguishable with any colour vision: blue, orange, green, vermilion, purple, sky, yellow.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")


def style() -> None:
    """The book's matplotlib settings: an opaque white page, readable in light and dark, and the palette above.

    4.4 inches wide and 10 points: on a phone, where the page is as wide as the figure, text is 11 pixels high.
    """
    plt.rcParams.update({
        "figure.figsize": (4.4, 3), "figure.dpi": 220, "figure.facecolor": "white", "savefig.facecolor": "white",
        "figure.constrained_layout.use": True, "axes.prop_cycle": plt.cycler(color=COLOURS), "axes.grid": True,
        "grid.alpha": 0.25, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10,
        "axes.titlesize": 10.5, "legend.frameon": False, "lines.linewidth": 1.8,
    })


def episode(episodes: Episode, t: int = 0, *, queries: int = 5, ink: bool | None = None) -> Figure:
    """The images of task t: one row a class, its support on the left of the line, some of its queries on the right.

    `ink` says whether bright is ink, to be shown dark, or light, to be shown as it is (photographs); None finds out,
    see `metalib.data.images.in_colour`.
    """
    if len(shape := tuple(episodes.support.x.shape[2:])) != 3:
        raise ValueError(f"an example has shape {shape}; plot.episode shows images (C, H, W)")
    rows = class_rows(episodes.task(t), queries, ink=ink)
    shot, shown, way = len(rows[0][0]), max(len(q) for _, q in rows), len(rows)
    side = min(0.75, 4.4 / (shot + shown))  # inches
    figure, axes = plt.subplots(way, shot + shown, figsize=(side * (shot + shown), 1.07 * side * way), squeeze=False)
    for n, (support, query) in enumerate(rows):
        for axis in axes[n]:
            axis.axis("off")
        for j, image in enumerate(torch.cat([support, query])):
            axes[n][j].imshow(image.permute(1, 2, 0).clamp(0, 1))
        axes[n][0].text(-0.35, 0.5, str(n), transform=axes[n][0].transAxes, va="center", ha="right")
    axes[0][0].set_title("support")
    axes[0][shot].set_title("query")
    return figure


def bank(images: ClassImages, *, classes: int = 10, examples: int = 12, ink: bool | None = None) -> Figure:
    """Look at your data first: a contact sheet of the first classes, one row a class, with its first examples.

    `ink` as in `episode`.
    """
    if not isinstance(images, ClassImages):
        raise TypeError(f"plot.bank shows the images of a ClassImages, not a {type(images).__name__}")
    classes, examples = min(classes, len(images)), min(examples, int(images.counts[:classes].min()))
    rows = images.starts[:classes, None] + torch.arange(examples, device=images.starts.device)  # (classes, examples)
    pictures = in_colour(images.images[rows.flatten()], ink=ink)
    sheet = import_torchvision().utils.make_grid(pictures, nrow=examples, padding=1, pad_value=1 - 96 / 255)
    figure, axis = plt.subplots(figsize=(4.4, classes * max(0.2, 2.8 / examples)), layout="constrained")
    axis.imshow((255 * sheet.permute(1, 2, 0)).round().byte(), aspect="auto")  # (H, W, 3)
    height = images.images.shape[-2] + 1
    axis.set_yticks([1 + height * (n + 0.5) for n in range(classes)], images.names[:classes])
    axis.set_xticks([])
    axis.grid(False)
    return figure


def accuracy_by_step(scores: Sequence[Score], *, label: str | None = None, axis: Axes | None = None) -> Axes:
    """Mean and 95 % interval at the inner steps of each score, as `meta_test_path` returns them; accuracies in %.

    Scores that do not all say their steps are taken to be those of 0, 1, ..., J.
    """
    steps = list(range(len(scores)))
    if all(s.steps is not None for s in scores):
        scores = sorted(scores, key=lambda s: s.steps)
        steps = [s.steps for s in scores]
    axis = axis or plt.subplots()[1]
    scale = 100 if scores[0].metric == "accuracy" else 1
    axis.errorbar(steps, [scale * s.mean for s in scores], [scale * s.ci95 for s in scores],
                  marker="o", capsize=3, label=label)
    axis.set(xlabel="inner steps J", xticks=steps,
             ylabel="query accuracy (%)" if scale == 100 else f"query {scores[0].metric}")
    return axis


def losses(history: History, *, window: int = 50, label: str | None = None, axis: Axes | None = None) -> Axes:
    """The meta-loss during training, averaged over `window` meta-iterations."""
    axis = axis or plt.subplots()[1]
    values = torch.tensor(history.losses, dtype=torch.float64)
    window = max(1, min(window, len(values)))
    smooth = values.unfold(0, window, 1).mean(1)
    axis.plot(range(window, len(values) + 1), smooth, label=label)
    axis.set(xlabel="meta-iteration", ylabel=f"meta-loss (mean of {window})")
    return axis
