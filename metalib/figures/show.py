"""Show the package's own source on a page, so that the book never pastes a copy of it."""

import inspect
import textwrap
from collections.abc import Callable


class Source:
    """The source text of one function or class, shown as code in a notebook and as text elsewhere."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from pygments import highlight  # which every notebook has (IPython needs it), and metalib alone has not
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        return highlight(self.text, PythonLexer(), HtmlFormatter(cssclass="highlight metalib-source"))


def show(thing: Callable[..., object] | type, *, docstring: bool = False) -> Source:
    """The source of a function, method or class of metalib, as it runs.

    Args:
        thing: what to show.
        docstring: whether to keep the docstring, which the API page shows anyway.
    """
    text = textwrap.dedent(inspect.getsource(thing))
    doc = getattr(thing, "__doc__", None)
    if not docstring and doc:
        start = text.find('"""')
        end = text.find('"""', start + 3) + 3
        text = text[:start].rstrip() + "\n" + text[end:].lstrip("\n")
    return Source(text.rstrip())
