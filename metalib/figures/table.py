"""A table of results: HTML on a page, aligned text elsewhere."""

import html
from collections.abc import Sequence
from typing import Any


class Table:
    """What `table` returns; a notebook shows it, `str` gives the text."""

    def __init__(self, head: list[str], rows: list[list[str]], title: str, sortable: bool = False) -> None:
        self.head, self.rows, self.title, self.sortable = head, rows, title, sortable

    def numeric(self, column: int) -> bool:
        """Whether a column is set to the right: nothing in it but numbers, signs and units."""
        cells = [row[column] for row in self.rows if row[column]]
        return bool(cells) and all(cell.lstrip("+-<> ")[:1].isdigit() for cell in cells)

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        right = [self.numeric(i) for i in range(len(self.head))]
        lines = ["  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right)).rstrip()
                 for row in (self.head, *self.rows)]
        return "\n".join([*([self.title] if self.title else []), lines[0], "-" * max(map(len, lines)), *lines[1:]])

    def _repr_html_(self) -> str:
        def line(cells: list[str], tag: str) -> str:
            scope = ' scope="col"' if tag == "th" else ""
            number = [" class=number" if self.numeric(i) else "" for i in range(len(cells))]
            return "<tr>" + "".join(f"<{tag}{scope}{n}>{marked(c)}</{tag}>" for c, n in zip(cells, number)) + "</tr>"

        caption = f"<caption>{marked(self.title)}</caption>" if self.title else ""
        body = "\n".join(line(row, "td") for row in self.rows)
        kind = "metalib-table sortable" if self.sortable else "metalib-table"
        return (f'<table class="{kind}">{caption}\n<thead>{line(self.head, "th")}</thead>\n'
                f"<tbody>\n{body}\n</tbody></table>")


def marked(cell: str) -> str:
    """Text as HTML: "+-" is ±, and the "(checked)" of `metalib.check` a tick."""
    tick = '<span class="checked" title="measured again when this page was checked">✓</span>'
    return html.escape(cell).replace("+-", "±").replace("(checked)", tick)


def table(rows: Sequence[Sequence[Any]], head: Sequence[str], title: str = "", *,
          sortable: bool = False) -> Table:
    """A table of results that fits a phone: the last expression of a cell shows it.

        table([[name, score] for name, score in scores.items()], ["learner", "accuracy"])

    Args:
        rows: one sequence for each row. Cells are shown by `str`, "+-" as ±, the mark of `check` as a tick; round
            numbers first, because the text is compared when the notebook is checked.
        head: the columns' titles. A column that holds nothing but numbers is set to the right.
        title: a line above the table.
        sortable: on a page of the book, a column's title sorts the rows by that column.

    Raises:
        ValueError: no row, or one whose length is not that of `head`.
    """
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not cells:
        raise ValueError("rows is empty: a table needs one row at least")
    for i, row in enumerate(cells):
        if len(row) != len(head):
            raise ValueError(f"row {i} has {len(row)} cells and head has {len(head)} titles: {row}")
    return Table([str(title) for title in head], cells, title, sortable)
