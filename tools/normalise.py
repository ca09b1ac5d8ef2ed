"""Give notebooks what every notebook of the book has, and change nothing else in them.

    python tools/normalise.py book/*.ipynb            # writes the files that differ and names them
    python tools/normalise.py --check book/*.ipynb    # only names them; the exit status is 1 if there are any

* The first code cell is the same everywhere: it finds metalib, its checks and records, or says what to install.
* What the book folds (the tags hide-input, hide-output, hide-cell) is folded in JupyterLab as well.
* nbformat 4.5 with cell ids: JupyterLab would write them, and call a notebook changed that was only opened.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FIRST = {
    "cell_type": "code",
    "execution_count": 1,
    "id": "first-cell",
    "metadata": {"mystnb": {"code_prompt_hide": "Fold it", "code_prompt_show": "Find metalib and the records"},
                 "tags": ["hide-input"]},
    "outputs": [],
    "source": ["try:  # find metalib, the exercises' checks and the records\n",
               '    import metalib.judging.records\n',
               'except ImportError as e:\n',
               '    raise ImportError("metalib is not here. In the book\'s source: `make wheel`, then "\n',
               '                      "`python -m pip install dist/metalib-*.whl`") from e'],
}
FOLDS = {"source_hidden": {"hide-input", "hide-cell"}, "outputs_hidden": {"hide-output", "hide-cell"}}


def normalised(nb: dict[str, Any]) -> dict[str, Any]:
    """The notebook as it should be. Its own cells are changed in place."""
    cells = [cell for cell in nb["cells"] if cell.get("id") != FIRST["id"]]
    at = next((i for i, cell in enumerate(cells) if cell["cell_type"] == "code"), len(cells))
    cells.insert(at, json.loads(json.dumps(FIRST)))
    for cell in cells:
        if cell["cell_type"] == "code":
            fold(cell["metadata"])
    number_ids(cells)
    nb["metadata"]["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return nb | {"cells": cells, "nbformat": 4, "nbformat_minor": 5}


def fold(metadata: dict[str, Any]) -> None:
    """Write JupyterLab's own marks from the book's tags."""
    tags, lab = set(metadata.get("tags", [])), metadata.pop("jupyter", {})
    lab = {key: value for key, value in lab.items() if key not in FOLDS}
    lab |= {key: True for key, folding in FOLDS.items() if tags & folding}
    if lab:
        metadata["jupyter"] = lab
    for old in ("collapsed", "scrolled"):  # what JupyterLab leaves behind when one looks at a notebook
        metadata.pop(old, None)


def number_ids(cells: list[dict[str, Any]]) -> None:
    """A cell without an id, or with one that another has, gets a new one."""
    seen: set[str] = set()
    for i, cell in enumerate(cells):
        if cell.get("id") in seen | {None}:
            cell["id"] = f"cell-{i}"
        seen.add(cell["id"])


def text(nb: dict[str, Any]) -> str:
    """A notebook as Jupyter writes it: keys in order, one space, a line break at the end."""
    return json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> int:
    check, paths = "--check" in sys.argv, [Path(name) for name in sys.argv[1:] if name != "--check"]
    different = [path for path in paths if text(normalised(json.loads(path.read_text(encoding="utf-8"))))
                 != path.read_text(encoding="utf-8")]
    for path in different:
        print(path)
        if not check:
            path.write_text(text(normalised(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    return int(check and bool(different))


if __name__ == "__main__":
    sys.exit(main())
