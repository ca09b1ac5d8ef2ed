"""Figures that run in the page: plain JavaScript in the output, a picture where there is none."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any


class Widget:
    """One interactive figure: an HTML element, its data as JSON, and a script that ships with this package.

    The page needs no network, no kernel and no widget manager. `script` is a file beside this one that defines
    `function NAME(root, data) {...}` and fills the element `root`; NAME is the file's stem. Where HTML is not shown
    (print, GitHub, a terminal) the picture `png` stands in.

    Args:
        script: file name, for example "sine.js".
        data: what the script needs; numbers, strings, lists, dicts.
        alt: what the figure shows, in a sentence.
        png: the stand-in picture.
        parts: other files beside this one, which `script` calls.
    """

    def __init__(self, script: str, data: dict[str, Any], *, alt: str, png: bytes,
                 parts: tuple[str, ...] = ()) -> None:
        self.script, self.data, self.alt, self.png, self.parts = script, data, alt, png, parts

    def html(self) -> str:
        """The element, its data and its code."""
        name = self.script.removesuffix(".js")
        folder = files("metalib.figures.widgets")
        code = "\n".join((folder / f).read_text(encoding="utf-8") for f in (*self.parts, self.script))
        data = json.dumps(self.data, separators=(",", ":")).replace("</", "<\\/")
        alt = html.escape(self.alt)
        return (f'<div class="metalib-widget" data-widget="{name}" role="group" aria-label="{alt}"></div>\n'
                f"<script>\n(() => {{\nconst root = document.currentScript.previousElementSibling;\n{code}\n"
                f"{name}(root, {data});\n}})();\n</script>")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return ({"text/html": self.html(), "image/png": self.png, "text/plain": f"<figure: {self.alt}>"},
                {"image/png": {"alt": self.alt}})
