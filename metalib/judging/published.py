"""A published number, measured again."""

from __future__ import annotations


def check(value: float, *, published: float, tol: float, what: str = "value") -> None:
    """Print the published value, and raise if today's measurement is further from it than `tol`.

    A number that float32 training made differs a little from one CPU to the next. Printing the published value keeps
    the page the same everywhere, and the comparison keeps it honest: it fails when the code no longer produces it.

    Raises:
        AssertionError: |value - published| > tol, or value is not finite.
    """
    if not abs(float(value) - published) <= tol:
        raise AssertionError(f"{what}: measured {float(value):.4g}, published {published:.4g}, further apart than "
                             f"{tol:g}; if a change in the code meant this, update published=")
    print(f"{what}: {published:g} (re-measured within {tol:g})")
