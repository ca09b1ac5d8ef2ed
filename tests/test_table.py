"""A table says the same as HTML and as text, and refuses rows that do not fit."""

import re

import pytest
import torch

from conftest import ROOT
from metalib import Score, check, table
from test_browser import browser  # noqa: F401  (fixture)

ROWS = [["ProtoNet", "98.2 +- 0.2 %", -1.5], ["a < b & c", "<0.1", 12], ["none", None, ""]]


def test_text_is_aligned_and_numbers_stand_to_the_right():
    lines = str(table(ROWS, ["learner", "accuracy", "gain"], "On 600 tasks")).splitlines()
    assert lines[0] == "On 600 tasks" and set(lines[2]) == {"-"} and len(lines) == 6
    assert len({len(line) for line in lines[1:4]}) == 1, "every full line has the same width"
    assert lines[3].endswith("-1.5") and lines[4].endswith("  12") and lines[4].startswith("a < b & c ")


def test_html_has_the_same_cells_and_escapes_them():
    html = table(ROWS, ["learner", "accuracy", "gain"])._repr_html_()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    assert cells == ["ProtoNet", "98.2 ± 0.2 %", "-1.5", "a &lt; b &amp; c", "&lt;0.1", "12", "none", "", ""]
    assert html.count("<th") - html.count("<thead") == 3 and 'scope="col"' in html and "<caption>" not in html
    assert html.count("class=number") == 2 * 4, "two columns of numbers, head included"


def test_a_score_is_a_cell():
    score = Score.of(torch.ones(30), metric="accuracy", transductive=True, steps=None, seed=0, digest="")
    assert str(score) in str(table([["x", score]], ["learner", "score"]))


@pytest.mark.parametrize("rows", [[["a"]], [["a", "b"], ["a", "b", "c"]], [["a", "b"], []]])
def test_a_row_that_does_not_fit_is_named(rows):
    wrong = next(i for i, row in enumerate(rows) if len(row) != 2)
    with pytest.raises(ValueError, match=f"row {wrong} has {len(rows[wrong])} cells and head has 2 titles"):
        table(rows, ["x", "y"])


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="rows is empty"):
        table([], ["x"])


def test_a_checked_number_is_a_number_with_a_mark():
    number = check(0.9512, published=0.95, tol=0.01)
    made = table([["x", number], ["y", f"{100 * number:.1f} +- 2 (checked)"]], ["", "accuracy"])
    assert number == 0.95 and "  0.95 (checked)" in str(made) and "95.0 +- 2 (checked)" in str(made)
    html = made._repr_html_()
    assert html.count("✓</span>") == 2 and "(checked)" not in html and "95.0 ± 2 <span" in html


@pytest.mark.browser
def test_a_columns_title_sorts_the_rows_and_a_cell_without_a_number_stays_last(browser, tmp_path):  # noqa: F811
    rows = [["b", "9.5 +- 1", "+2"], ["C", "10 +- 2", "-3"], ["a", "", "+0.5"]]
    page = tmp_path / "page.html"
    both = "".join(table(rows, ["name", "x", "gain"], sortable=s)._repr_html_() for s in (True, False))
    script = (ROOT / "book/_static/book.js").read_text(encoding="utf-8")
    page.write_text(f"<!doctype html><article>{both}</article><script>{script}</script>", encoding="utf-8")
    with browser.new_context(has_touch=True) as context:
        tab = context.new_page()
        tab.goto(page.as_uri())
        order = lambda: "".join(tab.locator(".sortable tbody td:first-child").all_text_contents())  # noqa: E731
        assert tab.locator("th button").count() == 3, "only the table that asked for it"
        for title, expected, how in (("x", "Cba", "descending"), ("x", "bCa", "ascending"),
                                     ("gain", "baC", "descending"),
                                     ("name", "abC", "ascending"), ("name", "Cba", "descending")):
            tab.get_by_role("button", name=title, exact=True).tap()
            assert order() == expected and tab.locator(f"th[aria-sort={how}]").count() == 1
        tab.get_by_role("button", name="gain").focus()
        tab.keyboard.press("Enter")
        assert order() == "baC"
