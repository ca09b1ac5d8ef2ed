"""A table says the same as HTML and as text, and refuses rows that do not fit."""

import re

import pytest
import torch

from metalib import Score, check, table

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
