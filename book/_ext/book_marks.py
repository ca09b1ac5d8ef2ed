"""What the pages of the book are marked up with: one kind of fold, languages, roles.

* A fold is a <details class="fold">: code, hints and solutions alike. It opens without a script; its label says what
  is inside: `mystnb.code_prompt_show` in the metadata of a code cell, "Hint", "Solution to Exercise 4.1 (...)".
* Chinese text says that it is Chinese, for voices and fonts.
* A figure of a notebook has 220 dots an inch and is shown at half of them, so that it is sharp.
* Roles that the stock pages give, and that the standard no longer knows, become those that it knows.
"""

import re
import struct
from html import escape
from pathlib import Path

from docutils import nodes

LABELS = {"Show code cell source": "Code", "Show code cell output": "Output", "Show code cell outputs": "Output",
          "Show code cell content": "Code and output"}
HAN, POINTS = r"[\u3400-\u9fff\uf900-\ufaff]+", r"[\u3000-\u303f\uff00-\uffef]*"
CHINESE = re.compile(f"{HAN}(?:{POINTS}{HAN})*{POINTS}")
TAG = re.compile(r"(<!--.*?-->|<(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>)", re.S)
NAME = re.compile(r"<(/?)([a-zA-Z][\w-]*)")
UNSPOKEN = {"script", "style", "title", "textarea", "option"}
ROLES = {' role="doc-biblioentry"': ' role="listitem"'}
# Of a long signature: one argument a line, marked up as descriptions of nothing.
ARGUMENTS = re.compile(r'<dl>\n((?:<dd><em class="sig-param">.*</dd>\n)+)</dl>')
EMPTY_HEADING = re.compile(r"<th(?: scope=\"col\")?( class=\"?[^\">]*\"?)?>(<p>\s*</p>)?</th>")
FIGURE = re.compile(r'(<img alt="[^"]*" src="(?:\.\./)*(_images/[0-9a-f]{64}\.png)") (/?)>')

# A heading of a table that is a formula and nothing else holds no text for axe: it gets its source as hidden text.
FORMULA_HEADING = re.compile(r'(<th[^>]*><p>)(<span class="math[^>]*>\\\((.*?)\\\)</span></p></th>)')


def open_fold(self, kind: str, label: str, **attributes) -> None:
    names = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    self.body.append(f'<details class="fold {kind}"{names}>\n<summary>{escape(label)}</summary>\n')


def visit_code(self, node):
    prompt = node["prompt_show"]
    open_fold(self, "fold-code " + " ".join(node["classes"]), LABELS.get(prompt, prompt))


def visit_solution(self, node):
    title = node.next_node(nodes.title)
    open_fold(self, "solution", re.sub(r"\s+", " ", title.astext()), id=node["ids"][0])
    title.parent.remove(title)


def visit_hint(self, node):
    self.body.append('<details class="fold hint">\n')


def visit_hint_title(self, node):
    self.body.append("<summary>")


def depart_hint_title(self, node):
    self.body.append("</summary>\n")


def close_fold(self, node):
    self.body.append("</details>\n")


def say_chinese(html: str) -> str:
    """Wraps each run of Chinese in <span lang="zh">, except where it is not text or says so already."""
    parts, inside = TAG.split(html), []
    for i, part in enumerate(parts):
        if i % 2:
            name = NAME.match(part)
            if name and inside and name[2] == inside[0]:
                inside = inside[:-1] if name[1] else inside if part.endswith("/>") else [*inside, name[2]]
            elif name and not inside and not name[1] and not part.endswith("/>"):
                if name[2] in UNSPOKEN or re.search(r'\slang="zh', part):
                    inside = [name[2]]
        elif not inside:
            parts[i] = CHINESE.sub(lambda run: f'<span lang="zh">{run[0]}</span>', part)
    return "".join(parts)


def finish(html: str) -> str:
    """What no template or node of the stock pages lets one say."""
    for stock, ours in ROLES.items():
        html = html.replace(stock, ours)
    html = FORMULA_HEADING.sub(r'\1<span class="visually-hidden">\3</span>\2', html)
    html = EMPTY_HEADING.sub(r"<td\1></td>", html)
    html = ARGUMENTS.sub(lambda found: f'<span class="sig-lines">\n{found[1]}</span>'.replace(
        "<dd>", '<span class="sig-line">').replace("</dd>", "</span>"), html)
    html = html.replace("<caption>", '<caption><span class="kept">').replace("</caption>", "</span></caption>")
    return say_chinese(html)


def sized(html: str, folder: Path) -> str:
    """Gives each figure that a notebook made its size on the page, in CSS pixels."""
    def with_size(found):
        width, height = struct.unpack(">II", (folder / found[2]).read_bytes()[16:24])
        return f'{found[1]} width="{width // 2}" height="{height // 2}" {found[3]}>'

    return FIGURE.sub(with_size, html)


def finish_pages(app, error):
    if error is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        if "_static" not in page.parts:
            text = page.read_text(encoding="utf-8")
            page.write_text(sized(finish(text), Path(app.outdir)), encoding="utf-8")


def take_over(app):
    from myst_nb.sphinx_ import HideCodeCellNode
    from sphinx_design.dropdown import dropdown_main, dropdown_title
    from sphinx_exercise.nodes import solution_node

    app.add_node(dropdown_main, override=True, html=(visit_hint, close_fold))
    app.add_node(dropdown_title, override=True, html=(visit_hint_title, depart_hint_title))
    app.add_node(HideCodeCellNode, override=True, html=(visit_code, close_fold))
    app.add_node(solution_node, override=True, html=(visit_solution, close_fold),
                 singlehtml=(visit_solution, close_fold))


def setup(app):
    app.connect("builder-inited", take_over)  # when every extension has said how it draws its nodes
    app.connect("build-finished", finish_pages, priority=950)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
