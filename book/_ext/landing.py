"""The first page: chapter 0's game, ready at round 1, and the table of the chapters."""

import contextlib
import io
from pathlib import Path

import nbformat
from docutils import nodes
from docutils.statemachine import StringList
from numbering import BOOK, parts, written
from sphinx.util.docutils import SphinxDirective

READY = """<script>
document.querySelector(".metalib-landing .mg-main").click();  // past the questions: chapter 0 asks them
document.activeElement.blur();  // the reader has not touched it yet
</script>"""


def first_game():
    """The game as chapter 0 makes it: its code cells, run up to the one that makes `game`."""
    cells = nbformat.read(BOOK / "00_play.ipynb", as_version=4).cells
    names = {}
    with contextlib.chdir(BOOK), contextlib.redirect_stdout(io.StringIO()):
        for cell in cells:
            if cell.cell_type == "code" and "game" not in names:
                exec(compile(cell.source, "00_play.ipynb", "exec"), names)
    return names["game"]


class FirstRound(SphinxDirective):
    """The game of chapter 0 at its first round; its picture where scripts do not run."""

    def run(self):
        game = first_game()
        html = game.html()
        if "<img" not in html:  # the widget has no picture of its own
            self.env.first_round = game.png
            html += (f'\n<noscript><img src="../_static/first-round.png" alt="{game.alt}"></noscript>')
        return [nodes.raw("", f'<div class="metalib-landing">\n{html}\n{READY}\n</div>', format="html")]


class Chapters(SphinxDirective):
    """The chapters by parts: the files of _toc.yml; from chapters.yml what they promise, and what is planned."""

    def run(self):
        box = nodes.container(classes=["chapters"])
        self.table(box, written(), lambda n, entry: f"[]({Path(written()[n]).name}.ipynb)")
        planned = [n for part in parts() for n in part["chapters"] if n not in written()]
        if planned:
            box += nodes.raw("", '<details class="fold planned-chapters">\n<summary>Planned chapters, and what '
                             f'they are for ({len(planned)})</summary>\n', format="html")
            self.table(box, planned, lambda n, entry: f"[{entry['title']} (planned)]{{.planned}}")
            box += nodes.raw("", "</details>\n", format="html")
        marked = [node for node in box.findall(nodes.inline) if "planned" in node["classes"]]
        for n, node in zip(planned, marked, strict=True):
            node["names"].append(f"chapter-{n}")
            self.state.document.note_explicit_target(node)
        for file in (BOOK / "chapters.yml", BOOK / "00_play.ipynb"):
            self.env.note_dependency(str(file))
        return [box]

    def table(self, box, chosen, title):
        """Those chapters by their parts, as a table at the end of the box."""
        rows = ["| no. | chapter | afterwards you can |", "|--:|:--|:--|"]
        for part in parts():
            mine = {n: entry for n, entry in part["chapters"].items() if n in chosen}
            rows += [f"| | **{part['part']}** | |"] if mine else []
            rows += [f"| {n} | {title(n, entry)} | {entry['then']} |" for n, entry in mine.items()]
        self.state.nested_parse(StringList([*rows, ""], "chapters.yml"), 0, box)


def write_picture(app, error):
    png = getattr(app.env, "first_round", None)
    if error is None and png and app.builder.format == "html":
        Path(app.outdir, "_static", "first-round.png").write_bytes(png)


def setup(app):
    app.add_directive("first-round", FirstRound)
    app.add_directive("chapters", Chapters)
    app.connect("build-finished", write_picture)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
