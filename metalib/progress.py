"""The progress bar: seen in a terminal and a live notebook, silent in what is stored."""

from __future__ import annotations

import importlib.util
import os
import sys

import torch.distributed as dist
from tqdm.std import tqdm


def progress(total: int, what: str, initial: int = 0) -> tqdm:
    """A progress bar for anything longer than a few seconds.

    It shows in a terminal and in a live notebook, and stays quiet when output goes to a file and while notebooks are
    executed to be stored or checked (METALIB_QUIET=1), because a widget in a stored notebook loads scripts from a CDN.
    Of several processes only rank 0 shows one.
    """
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else int(os.environ.get("RANK", 0))
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    notebook = hasattr(shell, "kernel")  # a kernel that runs, not one that was merely imported, as pytest's plugin does
    quiet = bool(os.environ.get("METALIB_QUIET")) or not (notebook or sys.stderr.isatty()) or rank != 0
    bar = tqdm  # text; in a live notebook a widget, where ipywidgets is installed (tqdm.auto warns where it is not)
    if notebook and not quiet and importlib.util.find_spec("ipywidgets"):
        from tqdm.notebook import tqdm as bar
    return bar(total=total, desc=what, initial=initial, disable=quiet, leave=False, delay=2)
