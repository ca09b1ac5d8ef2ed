"""The few-shot game: N labelled drawings, one new drawing, and twenty rounds against the machines."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from metalib.episode import Episode
from metalib.figures.widgets.widget import Widget, light, picture
from metalib.learner import Learner


def picks(learner: Learner, rounds: Episode) -> Tensor:
    """The class that a learner gives to the first query of each round, (T,).

    It sees what the player sees: the support set and that one query, never the other queries (the protocol that
    `meta_test(..., transductive=False)` uses).
    """
    chosen = []
    with torch.no_grad():
        for t in range(rounds.tasks):
            support, query = rounds.task(t)
            phi = learner.adapt(support)
            logits = learner.predict(phi, torch.cat([support.x, query.x[:1]]))  # (N+1, N)
            chosen.append(logits[-1].argmax())
    return torch.stack(chosen)


def wilson(right: int, n: int, *, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a true rate p after `right` of n independent rounds: every p with

        |right/n - p| <= z sqrt(p (1 - p) / n)

    Raises:
        ValueError: not 0 <= right <= n, or n < 1.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    if not 0 <= right <= n or n < 1:
        raise ValueError(f"right={right}, n={n}: expected 0 <= right <= n and n >= 1")
    p, scale = right / n, 1 + z * z / n
    centre, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return (centre - half) / scale, (centre + half) / scale


class Game(Widget):
    """Rounds of N-way 1-shot classification to play in the page, with the mouse or the keys 1 to N.

    Its `png` shows the same rounds, to play with a pencil where scripts do not run; `key()` has the answers.
    When the game ends, every element of the page with the class `metalib-revisit` gets the reader's predictions and
    results: a page that asked for a prediction can come back to it.

    Args:
        rounds: T one-shot episodes of square one-channel images; only the first query of each is used.
        rivals: player -> its picks (T,), as `picks` returns them.
        scores: player -> its accuracy over many episodes, as text, shown at the end.
        scores_head: the heading of that column.
        names: what the query of each round is called, told after the answer.
        title, intro: what stands above the Start button.

    Raises:
        ValueError: not one shot, or a player with another number of picks.
    """

    def __init__(self, rounds: Episode, rivals: Mapping[str, Tensor], *, scores: Mapping[str, str] | None = None,
                 scores_head: str = "many episodes", names: Sequence[str] = (), title: str = "Which one is it?",
                 intro: str = "") -> None:
        support, query = rounds
        T, N = rounds.tasks, support.way
        if support.x.shape[1] != N:
            raise ValueError(f"{support.x.shape[1]} support drawings for {N} classes: the game is 1-shot, use shot=1")
        for who, chosen in rivals.items():
            if len(chosen) != T:
                raise ValueError(f"{who} has {len(chosen)} picks for {T} rounds: use picks(learner, rounds)")
        order = support.y.argsort(1)  # drawing i of the page is the example of class i
        self.support = torch.stack([support.x[t, order[t], 0] for t in range(T)])  # (T, N, H, W)
        self.query, self.answers = query.x[:, 0, 0], query.y[:, 0].tolist()  # (T, H, W)
        texts = [{"s": [pack(image) for image in self.support[t]], "q": pack(self.query[t]), "y": self.answers[t],
                  "n": names[t] if names else ""} for t in range(T)]
        players = [{"name": who, "picks": chosen.tolist(), "score": (scores or {}).get(who, "")}
                   for who, chosen in rivals.items()]
        data = {"rounds": texts, "rivals": players, "size": self.query.shape[-1], "long": scores_head, "title": title,
                "intro": intro}
        super().__init__("game.js", data, png=self._paper(), colours=4,  # ink on paper
                         alt=f"A game of {T} rounds: which of {N} drawings shows the same letter as a new drawing?")

    def _paper(self) -> bytes:
        """The rounds to play with a pencil: the query on the left of the line, its N candidates on the right.

        A small PNG: 16 greys are enough for drawings that have 16.
        """
        T, N = self.support.shape[:2]
        columns, big = 2 if T > 6 else 1, 12.0  # points: 11 pixels when two columns fill the width of a phone
        figure, axes = plt.subplots(-(-T // columns), columns * (N + 2), squeeze=False, layout="constrained",
                                    figsize=(0.36 * columns * (N + 2), 0.48 * -(-T // columns)), facecolor="white")
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0.03, hspace=0.03)
        for axis in axes.flat:
            axis.axis("off")
        for t in range(T):
            row, left = t % len(axes), (t // len(axes)) * (N + 2)
            for j, image in enumerate([self.query[t], None, *self.support[t]]):
                axis = axes[row, left + j]
                if image is not None:
                    axis.imshow(image.cpu(), cmap="gray_r", vmin=0, vmax=1)
                    axis.set_title("" if j == 0 or row % 5 else str(j - 1), fontsize=big, pad=2)  # the columns' numbers
                else:
                    axis.axvline(0.5, color="0.6", linewidth=1)
            axes[row, left].text(-0.15, 0.5, str(t + 1), transform=axes[row, left].transAxes, va="center", ha="right",
                                 fontsize=big, weight="bold")
        return light(picture(figure, 110), 16)

    def key(self) -> str:
        """The right answers, numbered as on paper: "1: 4   2: 1   ..."."""
        return "   ".join(f"{t + 1}: {y + 1}" for t, y in enumerate(self.answers))

    def html(self) -> str:
        """The widget, and what to do where scripts do not run."""
        fallback = "This game needs JavaScript. The same rounds are on paper below."
        return f"{super().html()}\n<noscript><p>{fallback}</p></noscript>"


def pack(image: Tensor) -> str:
    """An image (H, W) in [0, 1] as text in 16 greys: a hexadecimal digit a pixel, g to z for 1 to 20 pixels of paper.

    Not a PNG, because a PNG's bytes depend on the version of zlib, and stored pages are compared byte by byte.
    """
    text = []
    for level, run in itertools.groupby((image * 15).round().int().flatten().tolist()):
        length = len(list(run))
        if level:
            text.append(f"{level:x}" * length)
        else:
            text += ["z"] * (length // 20) + [chr(102 + length % 20)] * (length % 20 > 0)
    return "".join(text)
