"""How a page is found: by search (Chinese terms too), by what a link to it shows, and by the bibliography's labels."""

import copy
import re
from collections import Counter
from html import escape
from pathlib import Path

from docutils import nodes
from numbering import number, plain, promises, written
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels import BaseLabelStyle
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

CHINESE = re.compile(r"[\u3400-\u9fff]+(?:-[\u3400-\u9fff]+)*")
ABOUT = "An executable book on meta-learning, and metalib, the library it runs on: every number is a stored output."

UNTITLED = {"genindex": "Index", "search": "Search", "py-modindex": "Modules"}
VIEWPORT = re.compile(r'<meta[^>]*name="viewport"[^>]*>\s*')


class ChineseTerms(SphinxTransform):
    """The Chinese term that a glossary entry begins with leads to this entry, in the index and in the search."""

    default_priority = 600

    def apply(self):
        for item in self.document.findall(nodes.definition_list_item):
            index = next(iter(item.findall(addnodes.index)), None)
            if index is None or not isinstance(item.parent.parent, addnodes.glossary):
                continue
            sentence = item[-1].astext().split(".")[0]
            target = index["entries"][0][2]
            for term in CHINESE.findall(sentence):
                index["entries"].append(("single", term.removeprefix("又称"), target, "main", "中文"))


def describe(pagename, doctree):
    """What a page is about, in 200 characters at most."""
    n = number(pagename)
    if pagename in written().values():
        return f"Chapter {n}: afterwards you can {plain(promises()[n]['then'])}."
    if pagename.endswith("/intro"):
        return ABOUT
    paragraphs = [p.astext() for p in doctree.findall(nodes.paragraph)] if doctree else []
    text = " ".join(next((p for p in paragraphs if len(p) > 40), ABOUT).split())
    return text if len(text) <= 200 else text[:197].rsplit(" ", 1)[0] + " ..."


def describe_page(app, pagename, templatename, context, doctree):
    title = re.sub(r"<[^>]*>", "", str(context.get("title") or UNTITLED.get(pagename, app.config.html_title))).strip()
    if number(pagename) is not None:
        context["pagetitle"] = title  # the heading on paper
    title = title.replace("\"", "&quot;")  # already HTML, about to stand in an attribute
    about = escape(" ".join(plain(describe(pagename, doctree)).split()))
    base = app.config.html_baseurl.rstrip("/")
    picture = f"{base}/_static/screenshot.png" if base else context["pathto"]("_static/screenshot.png", 1)
    tags = {"og:title": title, "og:description": about, "og:site_name": escape(app.config.html_title),
            "og:type": "website" if pagename == app.config.root_doc else "article", "og:image": picture,
            "og:image:alt": "The first page: round 1 of the game",
            "twitter:card": "summary_large_image", "twitter:title": title,
            "twitter:description": about, "twitter:image": picture}
    if base:
        tags["og:url"] = f"{base}/{app.builder.get_target_uri(pagename)}"
    lines = [f'<meta name="description" content="{about}" />']
    lines += [f'<meta {"name" if key.startswith("twitter") else "property"}="{key}" content="{value}" />'
              for key, value in tags.items()]
    context["metatags"] = (context.get("metatags") or "") + "\n" + "\n".join(lines) + "\n"


def one_viewport(app, error):
    """Sphinx, docutils and the theme each write a viewport tag; the last one stays."""
    if error is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        more = len(VIEWPORT.findall(text)) - 1
        if more > 0:  # a page that an earlier build wrote has one already
            page.write_text(VIEWPORT.sub("", text, count=more), encoding="utf-8")


class AuthorYear(BaseLabelStyle):
    """Finn et al. (2017), as the text cites it; a and b where two would be the same."""

    def format_labels(self, sorted_entries):
        labels = [self.label(entry) for entry in sorted_entries]
        twice, seen = Counter(labels), Counter()
        for names, year in labels:
            seen[names, year] += 1
            letter = "abcdefgh"[seen[names, year] - 1] if twice[names, year] > 1 else ""
            yield f"{names} ({year}{letter})"

    def label(self, entry):
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        last = [re.sub(r"[{}]", "", " ".join([*p.prelast_names, *p.last_names])) for p in people]
        names = last[0] + " et al." if len(last) > 2 else " and ".join(last) or entry.fields.get("key", entry.key)
        return names, entry.fields.get("year", "n.d.")


class BookStyle(Plain):
    """Author and year as label; an arXiv number in the note becomes a link."""

    default_label_style = AuthorYear

    def format_entry(self, label, entry, *args, **kwargs):
        found = re.fullmatch(r"arXiv:(\S+)", entry.fields.get("note", ""))
        if found:
            entry = copy.deepcopy(entry)
            del entry.fields["note"]
            entry.fields["eprint"] = found[1]
        return super().format_entry(label, entry, *args, **kwargs)


def setup(app):
    register_plugin("pybtex.style.formatting", "book", BookStyle)
    app.add_transform(ChineseTerms)
    app.connect("html-page-context", describe_page, priority=900)
    app.connect("build-finished", one_viewport)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
