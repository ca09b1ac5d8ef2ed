"""Reading the chapters as data, for the tests of the book."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
EXERCISE = re.compile(r"^(:{3,}|`{3,})\{exercise\}[ ]*(.*)\n:label:[ ]*(\S+)\n((?:.*\n)*?)\1[ ]*$", re.M)
SOLUTION = r"^(:{3,}|`{3,})\{solution\}[ ]*%s[ ]*\n:class: dropdown[ ]*\n((?:.*\n)*?)\1[ ]*$"
RECORDED = {"metalib.record": "{}.json", "metalib.records": "{}.json", "metalib.checkpoint": "checkpoints/{}.pt"}
CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))
DIVES = sorted((ROOT / "book").glob("[0-9][0-9][a-z]_*.ipynb"))  # a deep dive stands under its chapter
PAGES = [*sorted([*CHAPTERS, *DIVES], key=lambda p: (p.stem[:2], p.stem[2] != "_", p.stem)),
         ROOT / "book/refresher.ipynb"]


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


def reads(nb: nbformat.NotebookNode) -> set[str]:
    """The files of results/ that a chapter reads, a * for what it computes: {"joint.json", "checkpoints/honest-*.pt"}.

    It calls metalib.record, metalib.records or metalib.checkpoint, or a short name that it gave to one of them, by
    an assignment or an import. A name that is a variable says nothing here: it comes from metalib.records(pattern),
    which stands in the same chapter.
    """
    trees, short, found = [parse(c.source) for c in code_cells(nb)], {}, set()
    for node in (n for tree in trees for n in ast.walk(tree)):
        if isinstance(node, ast.Assign) and ast.unparse(node.value) in RECORDED:
            short[ast.unparse(node.targets[0])] = ast.unparse(node.value)
        elif isinstance(node, ast.ImportFrom) and node.module == "metalib":
            short |= {name.asname or name.name: f"metalib.{name.name}" for name in node.names}
    for node in (n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Call) and n.args):
        form = RECORDED.get(short.get(name := ast.unparse(node.func), name))
        if form and isinstance(node.args[0], ast.Constant | ast.JoinedStr):
            parts = getattr(node.args[0], "values", [node.args[0]])
            found.add(form.format("".join(p.value if isinstance(p, ast.Constant) else "*" for p in parts)))
    return found


def slice_of(cells: list[nbformat.NotebookNode], wanted: list[bool]) -> list[str]:
    """The sources of the wanted cells, of earlier cells that define what those use, and the imports of the others."""
    needed, kept = set(), []
    for cell, want in zip(reversed(cells), reversed(wanted), strict=True):
        stored, used, imports = set(), set(), []
        for node in ast.walk(parse(cell.source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                stored.add(node.name)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                imports.append(ast.unparse(node))
            elif isinstance(node, ast.arg):
                stored.add(node.arg)
            elif isinstance(node, ast.Name):
                (stored if isinstance(node.ctx, ast.Store) else used).add(node.id)
        if want or stored & needed:
            needed = needed - stored | used - stored
            kept.append(cell.source)
        elif imports:
            kept.append("\n".join(imports))
    return kept[::-1]
