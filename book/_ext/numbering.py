"""A chapter has one number, that of its file: 04_mathematics_of_maml is chapter 4 in the sidebar, in its title, in the
links to it, in its equations, figures and exercises, and in the search. Its deep dive 04a_name is 4a: section 4a.1,
equation (4a.1).

Sphinx counts the chapters of the table of contents; here its count is replaced. In a text "chapter 4" becomes a link,
and "chapter 7", which book/chapters.yml plans and nobody has written, becomes "chapter 7 (planned)".
"""

import re
from functools import cache
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.transforms import SphinxTransform

BOOK = Path(__file__).parents[1]
NAMED = re.compile(r"\b[Cc]hapters?\s+(\d+)(?:(\s+(?:to|and)\s+)(\d+))?")
NOT_PROSE = (nodes.reference, addnodes.pending_xref, nodes.literal, nodes.literal_block, nodes.title, nodes.math,
             nodes.math_block, nodes.raw, nodes.comment)


def number(docname: str) -> int | None:
    """4 for book/04_mathematics_of_maml and its deep dive book/04a_name; None for a page of no chapter."""
    found = re.fullmatch(r"(?:.*/)?(\d\d)[a-z]?_[^/]*", docname)
    return int(found[1]) if found else None


def label(docname: str) -> str | None:
    """What a page is called: "4" for 04_mathematics_of_maml, "4a" for its deep dive 04a_name; None outside chapters."""
    found = re.fullmatch(r"(?:.*/)?(\d\d)([a-z]?)_[^/]*", docname)
    return f"{int(found[1])}{found[2]}" if found else None


@cache
def parts() -> list[dict]:
    """book/chapters.yml."""
    return yaml.safe_load((BOOK / "chapters.yml").read_text(encoding="utf-8"))


def promises() -> dict[int, dict]:
    """Chapter number -> what the reader can do then, and the title if it is planned."""
    return {n: entry for part in parts() for n, entry in part["chapters"].items()}


def written() -> dict[int, str]:
    """Chapter number -> the document that is this chapter."""
    return {number(path.stem): f"book/{path.stem}" for path in sorted(BOOK.glob("[0-9][0-9]_*.ipynb"))}


def plain(text: str) -> str:
    """Markdown without its roles: {term}`task distribution` is task distribution."""
    return re.sub(r"\{\w+\}`([^`<]*?)(?: <[^`]*)?`", r"\1", text)


def renumber(app, env):
    for docname, sections in env.toc_secnumbers.items():
        n = label(docname)
        if n is None:
            continue
        depth = 1 if n.isdigit() else 2  # Sphinx counts a deep dive as one more section of its chapter

        def own(old, n=n, depth=depth):
            return (n, *old[depth:]) if old else old

        env.toc_secnumbers[docname] = {anchor: own(old) for anchor, old in sections.items()}
        numbered = [env.titles[docname], *env.tocs[docname].findall(nodes.reference)]
        for node in numbered:
            if node.get("secnumber"):
                node["secnumber"] = own(node["secnumber"])
    return TocTreeCollector().assign_figure_numbers(env)  # figures, equations and exercises count within a chapter


class ChapterNames(SphinxTransform):
    """Links "chapter 4", and marks "chapter 7" as planned."""

    default_priority = 600

    def apply(self):
        here = next((n for n, docname in written().items() if docname == self.env.docname), None)
        for text in list(self.document.findall(nodes.Text)):
            ancestor, inside = text.parent, False
            while ancestor is not None and not inside:
                ancestor, inside = ancestor.parent, isinstance(ancestor, NOT_PROSE)
            if inside or not NAMED.search(text):
                continue
            paragraph = text.parent.astext()
            new, end = [], 0
            for found in NAMED.finditer(text):
                before = paragraph[:paragraph.find(found[0])]
                in_brackets = before.count("(") > before.count(")")
                new += [nodes.Text(text[end:found.start()]), *self.named(found, here, in_brackets)]
                end = found.end()
            text.parent.replace(text, [*new, nodes.Text(text[end:])])

    def named(self, found, here, in_brackets):
        first, last = int(found[1]), int(found[3] or found[1])
        words = [(first, found[0][:found.start(3) - found.start() - len(found[2])] if found[3] else found[0])]
        if found[3]:
            words.append((last, found[3]))
        planned = [n for n, _ in words if n not in written()]
        for n, word in words:
            if n in written():
                yield nodes.Text(word) if n == here else self.link(word, "doc", f"/{written()[n]}")
            else:
                if n not in promises():
                    raise LookupError(f"{self.env.docname}: chapter {n} is neither written nor planned in chapters.yml")
                yield self.link(word, "ref", f"chapter-{n}", "planned")
            if [n] == planned[-1:]:
                yield nodes.Text(", planned" if in_brackets else " (planned)")
            if found[3] and n == first:
                yield nodes.Text(found[2])

    def link(self, word, kind, target, *classes):
        inner = nodes.inline(word, word, classes=["std", f"std-{kind}", *classes])
        return addnodes.pending_xref(word, inner, refdoc=self.env.docname, refdomain="std", reftype=kind,
                                     reftarget=target, refexplicit=True, refwarn=True)


def setup(app):
    app.add_transform(ChapterNames)
    app.connect("env-get-updated", renumber, priority=900)  # after Sphinx has counted
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
