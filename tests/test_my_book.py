"""`make lab`: a reader's own copy says what the book says, and keeps what the reader wrote when the book changes."""

import copy
import importlib.util
import json
import re
import subprocess
import sys

import nbformat
import pytest

from conftest import ROOT
from notebooks import PAGES

SPEC = importlib.util.spec_from_file_location("my_book", ROOT / "tools/my_book.py")
my_book = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(my_book)

NAMES = {"eq|eq-09-a": "(9.1)", "eq-09-a": "9.1", "numref|fig-09-b": "Fig. 9.2", "fig-09-b": "Fig. 9.2",
         "cite:t|finn2017maml": "Finn et al. [2017]", "cite:p|a2001,b2002": "[A, 2001, B, 2002]"}


def cell(name, source, kind="markdown", **metadata):
    extra = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"id": name, "cell_type": kind, "metadata": metadata, "source": my_book.lines(source)} | extra


@pytest.mark.parametrize("written, said", [
    ("as {eq}`eq-09-a` says", "as (9.1) says"),
    ("{numref}`fig-09-b` shows", "Fig. 9.2 shows"),
    ("{cite:t}`finn2017maml` show", r"Finn et al. \[2017\] show"),
    ("so {cite:p}`a2001,b2002`", r"so \[A, 2001, B, 2002\]"),
    ("a {term}`task`, {term}`support sets <support set>`", "a task, support sets"),
    ("{py:func}`metalib.meta_test`", "`metalib.meta_test`"),
    ("$$\nx = 1\n$$ (eq-09-a)", "$$\nx = 1 \\tag{9.1}\n$$"),
    ("$$ x = 1 $$ (eq-09-a)", "$$\nx = 1 \\tag{9.1}\n$$"),
])
def test_references_and_equations_say_what_the_book_says(written, said):
    assert my_book.spoken(written, NAMES) == said


def test_a_figure_has_its_caption_and_number_below_it():
    figure = {"figure": {"caption": "It bends, see {eq}`eq-09-a`.", "name": "fig-09-b"}}
    nb = {"cells": [cell("draw", "plt.show()", "code", mystnb=figure)], "metadata": {}}
    below = my_book.readable(nb, NAMES)["cells"][1]
    assert "".join(below["source"]) == "*Fig. 9.2* It bends, see (9.1)." and below["id"] == "draw-caption"


BASE = [cell("a", "one"), cell("b", "two"), cell("c", "three"), cell("d", "four")]


def after(mine, book):
    cells, both = my_book.merged(BASE, mine, book)
    return [("".join(c["source"])) for c in cells], both


def change(cells, **new):
    """A copy in which the cells that are named have another source; None takes a cell out."""
    return [c | {"source": my_book.lines(new.get(c["id"]) or "".join(c["source"]))} for c in copy.deepcopy(cells)
            if new.get(c["id"], "") is not None]


def test_what_nobody_changed_follows_the_book():
    assert after(BASE, change(BASE, b="TWO", d=None)) == (["one", "TWO", "three"], [])


def test_what_the_reader_changed_stays_and_other_cells_follow_the_book():
    assert after(change(BASE, a="mine"), change(BASE, b="TWO")) == (["mine", "TWO", "three", "four"], [])


def test_where_both_changed_a_cell_the_reader_s_stays_and_is_named():
    assert after(change(BASE, b="mine"), change(BASE, b="TWO")) == (["one", "mine", "three", "four"], ["b"])
    assert after(change(BASE, b="same"), change(BASE, b="same")) == (["one", "same", "three", "four"], [])


def test_a_cell_of_the_reader_s_own_stays_where_it_stood_and_a_deleted_one_stays_away():
    mine = change(BASE, c=None)
    mine.insert(2, cell("own", "a note"))
    book = [cell("new", "zero"), *change(BASE, c="THREE")]
    assert after(mine, book) == (["zero", "one", "two", "a note", "four"], [])


def test_a_cell_that_the_book_drops_stays_if_the_reader_changed_it():
    assert after(change(BASE, c="mine"), change(BASE, c=None)) == (["one", "two", "mine", "four"], [])


def test_outputs_of_the_reader_stay_as_long_as_the_book_leaves_the_cell_alone():
    was = [cell("x", "1 + 1", "code"), cell("y", "2 + 2", "code")]
    mine, book = copy.deepcopy(was), copy.deepcopy(was)
    for c in mine:
        c["execution_count"] = 7
    book[1]["source"] = ["2 + 3"]
    cells, _ = my_book.merged(was, mine, book)
    assert [c["execution_count"] for c in cells] == [7, None]


@pytest.fixture
def small_book(tmp_path):
    book = tmp_path / "book"
    (book / "_static").mkdir(parents=True)
    (tmp_path / "numbers.json").write_text(json.dumps({"00_play": NAMES}), encoding="utf-8")

    def publish(*cells):
        nb = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (book / "00_play.ipynb").write_text(json.dumps(nb), encoding="utf-8")
        run = subprocess.run([sys.executable, ROOT / "tools/my_book.py", "--book", book, "--copy", tmp_path / "mine",
                              "--numbers", tmp_path / "numbers.json"], capture_output=True, encoding="utf-8")
        assert run.returncode == 0, run.stderr
        nb = nbformat.read(tmp_path / "mine/00_play.ipynb", as_version=4)
        nbformat.validate(nb)
        return nb, run.stdout

    return publish, tmp_path / "mine/00_play.ipynb"


def test_a_copy_is_made_changed_and_brought_up_to_date_and_a_second_time_changes_nothing(small_book):
    publish, path = small_book
    nb, said = publish(cell("a", "see {eq}`eq-09-a`"), cell("b", "1 + 1", "code"))
    assert [c.source for c in nb.cells] == ["see (9.1)", "1 + 1"] and not said
    nb.cells[1].source = "1 + 2"
    nbformat.write(nb, path)
    for _ in range(2):
        nb, said = publish(cell("a", "look at {eq}`eq-09-a`"), cell("b", "1 + 1", "code"))
        assert [c.source for c in nb.cells] == ["look at (9.1)", "1 + 2"] and not said
    nb, said = publish(cell("a", "look"), cell("b", "1 + 0", "code"))
    assert [c.source for c in nb.cells] == ["look", "1 + 2"] and "cell b: you and the book both changed it" in said


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_nothing_of_the_book_s_own_notation_is_left_in_a_copy_once_the_book_is_built(path):
    built = ROOT / "_build/numbers.json"
    if not built.exists():
        pytest.skip("the book is not built: `make book` writes the numbers")
    names = json.loads(built.read_text(encoding="utf-8"))[path.stem]
    nb = my_book.readable(json.loads(path.read_text(encoding="utf-8")), names)
    text = "\n".join("".join(c["source"]) for c in nb["cells"] if c["cell_type"] == "markdown")
    assert not re.findall(r"\{(?:eq|numref|cite:\w|term|py:\w+)\}`[^`]*`|\$\$ *\([\w-]+\)", text)
    assert not re.findall(r"\b(?:eq|fig)-\d\d-\w+", text), "a label without its number: build the book again"
    page = ROOT / f"_build/html/book/{path.stem}.html"
    shown = set(re.findall(r'<span class="caption-number">(Fig.*?) </span>', page.read_text(encoding="utf-8")))
    assert {n for label, n in names.items() if label.startswith("fig-")} == shown, "figures are numbered as on the page"
