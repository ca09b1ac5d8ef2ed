"""Chapter 12's figure: hide the treasure, and follow an agent that looks for it once and then knows where it is."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from metalib.figures.plot import COLOURS
from metalib.figures.widgets.widget import Widget, packed, picture, words

Place = tuple[int, int]


def figure(places: Sequence[Place], walks: Tensor, length: int = 10) -> Widget:
    """Choose a place for the treasure, then step: episode 1, in which it is found or not, then episode 2.

    The page shows recorded walks and computes nothing but the rewards: 1 for a step that ends at the treasure.

    Args:
        places: (row, column) of each state; state 0 is where an episode begins.
        walks: walks[g] are the states after each step with the treasure at state g + 1, (places - 1, 2 length).
        length: steps of an episode.

    Raises:
        ValueError: walks of another shape, or to a state that has no place.
    """
    n = len(places)
    if tuple(walks.shape) != (n - 1, 2 * length) or int(walks.min()) < 0 or int(walks.max()) >= n:
        raise ValueError(f"walks have shape {tuple(walks.shape)} and states {int(walks.min())} to {int(walks.max())}: "
                         f"expected ({n - 1}, {2 * length}), a walk for each treasure, and states 0 to {n - 1}")
    data = {"packed": packed(walks, "u1"), "length": length, "places": [list(place) for place in places]}
    return Widget("treasure.js", data, **words("treasure"), png=_png(places, walks, length), parts=("elements.js",))


def rewards(walk: Sequence[int], goal: int, length: int) -> tuple[int, int]:
    """(of episode 1, of episode 2): steps that end at the treasure."""
    return sum(s == goal for s in walk[:length]), sum(s == goal for s in walk[length:])


def _png(places: Sequence[Place], walks: Tensor, length: int) -> bytes:
    """Both episodes with the treasure in place 1, as the page begins; as wide as a phone."""
    goal, walk = 1, walks[0].tolist()
    figure, axes = plt.subplots(2, 1, figsize=(3.6, 6.6), facecolor="white", layout="constrained")
    for episode, axis in enumerate(axes):
        path = [0, *walk[length * episode:length * (episode + 1)]]
        _board(axis, places, path, goal)
        axis.set_title(f"episode {episode + 1}: reward {rewards(walk, goal, length)[episode]} of {length}", fontsize=10)
    return picture(figure, 110)


def _board(axis: Axes, places: Sequence[Place], path: list[int], goal: int) -> None:
    """The path with the number of each arrival; the treasure is a star."""
    rows, columns = (max(p[i] for p in places) + 1 for i in (0, 1))
    axis.plot(places[goal][1], places[goal][0], "*", markersize=34, color=COLOURS[1])
    axis.plot([places[s][1] for s in path], [places[s][0] for s in path], color=COLOURS[0], linewidth=1)
    for state, (row, column) in enumerate(places):
        visits = [str(t) for t, s in enumerate(path) if s == state]
        label = ", ".join(visits[:3]) + (" ..." if len(visits) > 3 else "")
        axis.text(column, row + 0.34, label, ha="center", va="center", fontsize=10)
        axis.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False))
    axis.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])
