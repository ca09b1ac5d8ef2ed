"""A published number, measured again."""


class Checked(float):
    """A published number that was measured again just now: as text "0.95 (checked)", in a table 0.95 with a tick."""

    what = ""

    def __str__(self) -> str:
        return f"{float(self):g} (checked)"

    def __repr__(self) -> str:
        return f"{self.what}: {self}" if self.what else str(self)


def check(value: float, *, published: float, tol: float, what: str = "") -> Checked:
    """The published value, or an error if today's measurement is further from it than `tol`.

        |value - published| <= tol

    A number that float32 training made differs a little from one CPU to the next. Showing the published value keeps
    the page the same everywhere, and the comparison keeps it honest: it fails when the code no longer produces it.

    Args:
        value: what was measured now.
        published: what is shown.
        tol: how far apart they may be; measure it with other seeds of the rounding, never guess it.
        what: its name, for the error, and where a cell ends with it: "accuracy: 0.95 (checked)".

    Returns:
        `published`, a float whose text is "0.95 (checked)"; `f"{number:.1f}"` formats it without the mark.

    Raises:
        AssertionError: |value - published| > tol, or value is not finite.
    """
    if not abs(float(value) - published) <= tol:
        raise AssertionError(f"{what or 'value'}: measured {float(value):.4g}, published {published:.4g}, further "
                             f"apart than {tol:g}; if a change in the code meant this, update published=")
    shown = Checked(published)
    shown.what = what
    return shown
