"""Chapter 12's figure: hide the treasure, and follow an agent that looks for it once and then knows where it is."""

from collections.abc import Sequence

from torch import Tensor

from metalib.figures.widgets.widget import Widget, packed, words

Place = tuple[int, int]


def figure(places: Sequence[Place], walks: Tensor, length: int = 10) -> Widget:
    """Choose a place for the treasure, then step: episode 1, in which it is found or not, then episode 2.

    The page shows recorded walks and computes nothing but the rewards: 1 for a step that ends at the treasure. The
    picture for where scripts do not run is of chapter 12's agent.

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
    return Widget("treasure.js", data, **words("treasure"), parts=("elements.js",))


def rewards(walk: Sequence[int], goal: int, length: int) -> tuple[int, int]:
    """(of episode 1, of episode 2): steps that end at the treasure."""
    return sum(s == goal for s in walk[:length]), sum(s == goal for s in walk[length:])
