"""Progress: a bar in a terminal and a live notebook, a line now and then in a log, silence in what is stored."""

import contextlib
import io
import os
import sys
from html import escape
from time import monotonic

import torch.distributed as dist
from tqdm.std import tqdm

EVERY = 60  # seconds between two lines of a log


class LogLines(contextlib.AbstractContextManager):
    """The part of tqdm's interface that metalib uses, as plain lines on stderr: about one a minute, none before.

    meta-train: 1200/6000, loss 1.234, 61 s
    """

    disable = False

    def __init__(self, total: int, what: str, initial: int = 0) -> None:
        self.total, self.what, self.n, self.postfix = total, what, initial, ""
        self.start = self.printed = monotonic()

    def update(self, n: int = 1) -> None:
        """n more are done."""
        self.n += n
        now = monotonic()
        if now - self.printed >= EVERY:
            self.printed = now
            said = [f"{self.what}: {self.n}/{self.total}", *filter(None, [self.postfix]), f"{now - self.start:.0f} s"]
            print(", ".join(said), file=sys.stderr, flush=True)

    def set_postfix_str(self, s: str, refresh: bool = True) -> None:
        """What to say beside the count; `refresh` is tqdm's, and a line comes when it is time."""
        self.postfix = s

    def __exit__(self, *error: object) -> None:
        """Nothing is left open."""


class Line(tqdm):
    """A bar as one line of HTML, for a live notebook: when it is done, nothing of it is left.

    On stderr, where tqdm writes, a notebook keeps the blanks that a bar was wiped with: a red stripe in the page.
    (tqdm's own bar for notebooks needs ipywidgets.)
    """

    handle = None

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the line, in place of the last one; an empty one in the end."""
        from IPython.display import HTML, display

        line = HTML(f"<pre>{escape(text)}</pre>" if (text := str(self) if msg is None else msg) else "")
        if self.handle is None:
            self.handle = display(line, display_id=True)
        else:
            self.handle.update(line)


def say(text: str) -> None:
    """A line on stderr, where progress would show: what somebody who watches should know."""
    if not _quiet():
        print(text, file=sys.stderr, flush=True)


def _quiet() -> bool:
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else int(os.environ.get("RANK", 0))
    return bool(os.environ.get("METALIB_QUIET")) or sys.stderr is None or rank != 0


def progress(total: int, what: str, initial: int = 0) -> tqdm | LogLines:
    """A progress bar for anything longer than a few seconds.

    It shows in a terminal and in a live notebook. Where stderr goes to a file or a pipe it is a plain line about once
    a minute, and nothing in a shorter run. It stays quiet while notebooks are executed to be stored or checked
    (METALIB_QUIET=1), because a widget in a stored notebook loads scripts from a CDN. Of several processes only rank 0
    shows one.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    notebook = hasattr(shell, "kernel")  # a kernel that runs, not one that was merely imported, as pytest's plugin does
    quiet = _quiet()
    if not quiet and not notebook and not sys.stderr.isatty():
        return LogLines(total, what, initial)
    bar, file = (Line, io.StringIO()) if notebook and not quiet else (tqdm, None)  # the file takes what else it writes
    return bar(total=total, desc=what, initial=initial, disable=quiet, leave=False, delay=2, file=file)
