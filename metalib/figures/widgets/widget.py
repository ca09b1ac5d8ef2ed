"""Figures that run in the page: plain JavaScript in the output, a picture where there is none."""

import base64
import html
import io
import json
from importlib.resources import files
from string import Template
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

HERE = files("metalib.figures.widgets")


def picture(figure: Figure, dpi: int) -> bytes:
    """The figure as a PNG; it is closed then."""
    figure.savefig(file := io.BytesIO(), format="png", dpi=dpi)
    plt.close(figure)
    return file.getvalue()


def text(file: str) -> str:
    """A file that lies beside this one: a script, or data."""
    return (HERE / file).read_text(encoding="utf-8")


def words(figure: str, **numbers: int) -> dict[str, str]:
    """What a figure says in whole sentences, kept in words.json, with these numbers in their places."""
    return {what: sentence.format(**numbers) for what, sentence in json.loads(text("words.json"))[figure].items()}


def base64_of(numbers: Tensor, dtype: str) -> str:
    """Numbers as base64, which the page unpacks: "<f4" is little-endian float32, "u1" uint8, as NumPy names them."""
    return base64.b64encode(numbers.detach().cpu().numpy().astype(dtype).tobytes()).decode("ascii")


def packed(numbers: Tensor, dtype: str) -> str:
    """Numbers that a network made, for the page: like a picture's, their bits differ from machine to machine."""
    return f"data:application/octet-stream;base64,{base64_of(numbers, dtype)}"


def light(png: bytes, colours: int) -> bytes:
    """The picture with a palette of so many colours: a third of the size, or less."""
    file = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.save(file, "png", optimize=True)
    return file.getvalue()


class Widget:
    """One interactive figure: an HTML element, its data as JSON, and a script that ships with this package.

    The page needs no network, no kernel and no widget manager. `script` is a file beside this one that defines
    `function NAME(root, data) {...}` and fills the element `root`; NAME is the file's stem. Where HTML is not shown
    (GitHub, a terminal) the picture `png` stands in. Where it is shown and scripts do not run (a notebook that is not
    trusted, a page without JavaScript) the same picture stands inside the element: the script takes its place.

    Args:
        script: file name, for example "sine.js".
        data: what the script needs; numbers, strings, lists, dicts.
        alt: what the figure shows, in a sentence.
        png: the stand-in picture; None takes the one that lies beside the script (tools/pictures.py drew it), of the
            figure as it begins without arguments.
        parts: other files beside this one, which `script` calls.
        colours: how many the picture inside the element has.
    """

    def __init__(self, script: str, data: dict[str, Any], *, alt: str, png: bytes | None = None,
                 parts: tuple[str, ...] = (), colours: int = 128) -> None:
        self.script, self.data, self.alt, self.parts, self.colours = script, data, alt, parts, colours
        self.png = png or (HERE / script.replace(".js", ".png")).read_bytes()

    def html(self) -> str:
        """The element with its picture, its data and its code."""
        code = "\n".join(map(text, (*self.parts, self.script)))
        data = json.dumps(self.data, separators=(",", ":")).replace("</", "<\\/")
        picture = base64.b64encode(light(self.png, self.colours)).decode()
        return Template(text("widget.html").strip()).substitute(
            name=self.script.removesuffix(".js"), alt=html.escape(self.alt), picture=picture, code=code, data=data)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return ({"text/html": self.html(), "image/png": self.png, "text/plain": f"<figure: {self.alt}>"},
                {"image/png": {"alt": self.alt}})
