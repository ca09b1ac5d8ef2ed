"""Reading the chapters as data, for the tests of the book."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
EXERCISE = re.compile(r"^(:{3,}|`{3,})\{exercise\}[ ]*(.*)\n:label:[ ]*(\S+)\n((?:.*\n)*?)\1[ ]*$", re.M)
SOLUTION = r"^(:{3,}|`{3,})\{solution\}[ ]*%s[ ]*\n:class: dropdown[ ]*\n((?:.*\n)*?)\1[ ]*$"
CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))


@dataclass(frozen=True)
class Exercise:
    label: str
    title: str
    kind: str
    has_hint: bool
    solution: str | None


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(nb: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [c for c in nb.cells if c.cell_type == "code" and c.source.strip()]


def parse(source: str) -> ast.Module:
    """The cell as Python; IPython's own lines become `pass`."""
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M))


def tags(cell: nbformat.NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def exercises(nb: nbformat.NotebookNode) -> list[Exercise]:
    """The exercises of a chapter, in the form that CONTRIBUTING.md gives."""
    found = []
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            continue
        for m in EXERCISE.finditer(cell.source):
            label, rest = m.group(3), cell.source[m.end():]
            rest = re.split(r"^[:`]{3,}\{exercise\}", rest, flags=re.M)[0]
            kind = re.search(r"\*\*([A-Z][a-z ]+)\.\*\*", m.group(4))
            solution = re.search(SOLUTION % re.escape(label), rest + "\n", re.M)
            found.append(Exercise(label, m.group(2).strip(), kind.group(1) if kind else "",
                                  bool(re.search(r"^[:`]{3,}\{dropdown\}[ ]*Hint", rest, re.M)),
                                  solution.group(2) if solution else None))
    return found
