"""Keep a reader's own copy of the chapters, to work in, beside the book: what `make lab` opens.

    python tools/my_book.py        # makes my-book/, or brings it up to date; --book, --copy and --numbers name others

* In the copy, citations, figure and equation numbers and captions are those of the book (_build/numbers.json, which a
  build of the book writes), because JupyterLab shows a notebook without the rest of the book.
* What the reader wrote is kept. Cell by cell, by its id: a cell that the reader changed or added stays, one that the
  reader deleted stays away, all others follow the book. my-book/.book/ holds what the book gave last time.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROLE = re.compile(r"\{([a-z]+(?::[a-z]+)?)\}`([^`]+)`")
EQUATION = re.compile(r"\$\$[ \n](.*?)\$\$[ ]*\(([\w-]+)\)", re.S)
Cell = dict[str, Any]


# ---------------------------------------------------------------- what the book calls things

def spoken(text: str, names: dict[str, str]) -> str:
    """Markdown in which references say what they say in the book, and equations have its numbers."""
    def reference(match: re.Match[str]) -> str:
        role, target = match.groups()
        if role.startswith("py:"):
            return f"`{target.removeprefix('~')}`"
        shown, _, inner = target.partition("<")
        key = inner.rstrip("> ") if inner else target
        if role == "term":
            return shown.strip()
        whole = names.get(f"{role}|{key}") or ", ".join(
            names.get(f"{role}|{part.strip()}", part.strip()) for part in key.split(","))
        return whole.replace("[", "\\[").replace("]", "\\]")

    def equation(match: re.Match[str]) -> str:
        body, label = match.groups()
        return f"$$\n{body.rstrip()} \\tag{{{names[label]}}}\n$$" if label in names else match.group()

    return ROLE.sub(reference, EQUATION.sub(equation, text))


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def readable(nb: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A chapter for JupyterLab: references spoken, a caption under every figure, the metadata that it would write."""
    cells = []
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown":
            cell = cell | {"source": lines(spoken("".join(cell["source"]), names))}
        cells.append(cell)
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        if figure.get("caption"):
            caption = f"*{names.get(figure.get('name', ''), '')}* {spoken(figure['caption'], names)}"
            cells.append({"cell_type": "markdown", "id": f"{cell['id']}-caption", "metadata": {},
                          "source": lines(caption)})
    return nb | {"cells": cells, "metadata": nb["metadata"] | {"kernelspec": KERNEL, "language_info": LANGUAGE}}


# With these JupyterLab has nothing to add when a kernel starts, and does not call the notebook changed.
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "version": ".".join(map(str, sys.version_info[:3])), "mimetype": "text/x-python",
            "codemirror_mode": {"name": "ipython", "version": sys.version_info[0]}, "pygments_lexer": "ipython3",
            "nbconvert_exporter": "python", "file_extension": ".py"}


# ---------------------------------------------------------------- whose a cell is

def source(cell: Cell) -> str:
    return "".join(cell["source"])


def merged(base: list[Cell], mine: list[Cell], book: list[Cell]) -> tuple[list[Cell], list[str]]:
    """(cells, ids of cells that the reader and the book both changed: the reader's is kept)."""
    was, own, now = ({cell["id"]: cell for cell in cells} for cells in (base, mine, book))
    both, result = [], []

    def changed(cell: Cell) -> bool:
        return cell["id"] not in was or source(cell) != source(was[cell["id"]])

    for cell in book:
        name = cell["id"]
        if name not in own:
            if name not in was:  # new in the book
                result.append(cell)
        elif cell == was.get(name):  # as before: the reader's, with its outputs
            result.append(own[name])
        elif changed(own[name]) and source(own[name]) != source(cell):
            result.append(own[name])
            if name in was and source(cell) != source(was[name]):
                both.append(name)
        else:
            result.append(cell)
    for i, cell in enumerate(mine):  # what the book does not have: after the cell that it stood after
        if cell["id"] not in now and changed(cell):
            before = next((c["id"] for c in reversed(mine[:i]) if c["id"] in {r["id"] for r in result}), None)
            at = next((k + 1 for k, r in enumerate(result) if r["id"] == before), 0)
            result.insert(at, cell)
    return result, both


def update(chapter: Path, copy: Path, names: dict[str, str]) -> None:
    """One chapter: the first time a copy, later the three-way merge."""
    book = readable(json.loads(chapter.read_text(encoding="utf-8")), names)
    mine, base, fresh = copy / chapter.name, copy / ".book" / chapter.name, book
    if mine.exists() and base.exists():
        kept, last = (json.loads(path.read_text(encoding="utf-8")) for path in (mine, base))
        cells, both = merged(last["cells"], kept["cells"], book["cells"])
        fresh = book | {"cells": cells}
        for name in both:
            print(f"{chapter.name}, cell {name}: you and the book both changed it; yours is kept")
    elif mine.exists():
        print(f"{mine} is not a copy that this made; it is left alone")
        return
    write(fresh, mine)
    write(book, base)


def write(nb: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--book", type=Path, default=ROOT / "book")
    parser.add_argument("--copy", type=Path, default=ROOT / "my-book")
    parser.add_argument("--numbers", type=Path, default=ROOT / "_build" / "numbers.json")
    args = parser.parse_args()
    if not args.numbers.exists():
        sys.exit(f"{args.numbers} is missing: `make book` writes it")
    numbers = json.loads(args.numbers.read_text(encoding="utf-8"))
    for chapter in sorted(args.book.glob("*.ipynb")):
        update(chapter, args.copy, numbers.get(chapter.stem, {}))
    shutil.copytree(args.book / "_static", args.copy / "_static", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
