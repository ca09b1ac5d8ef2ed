"""Progress: a bar in a terminal and a live notebook, a line now and then in a log, silence in what is stored."""

import io
import os
import sys
from html import escape

import torch.distributed as dist
from tqdm.std import tqdm

EVERY = 60  # seconds between two lines of a log


class LogLines(tqdm):
    """A bar as plain lines on stderr: about one a minute, none before.

    meta-train: 1200/6000, loss 1.234, 61 s
    """

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Print the line; the empty one in the end is left out."""
        if msg is None:
            elapsed = f"{self.format_dict['elapsed']:.0f} s"
            print(f"{self.desc}: {self.n}/{self.total}", *filter(None, [self.postfix]), elapsed, sep=", ",
                  file=sys.stderr, flush=True)


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


def progress(total: int, what: str, initial: int = 0) -> tqdm:
    """A progress bar for anything longer than a few seconds.

    It shows in a terminal and in a live notebook. Where stderr goes to a file or a pipe it is a plain line about once
    a minute, and nothing in a shorter run. It stays quiet while notebooks are executed to be stored or checked
    (METALIB_QUIET=1), because a widget in a stored notebook loads scripts from a CDN. Of several processes only rank 0
    shows one.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    notebook = hasattr(shell, "kernel")  # a kernel that runs, not one that was merely imported, as pytest's plugin does
    quiet, how = _quiet(), {"total": total, "desc": what, "initial": initial, "leave": False}
    if quiet or not notebook and sys.stderr.isatty():
        return tqdm(disable=quiet, delay=2, **how)
    how["file"] = io.StringIO()  # takes what else tqdm writes
    return Line(delay=2, **how) if notebook else LogLines(delay=EVERY, mininterval=EVERY, miniters=1, **how)
