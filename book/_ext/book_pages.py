"""What the stock theme and autodoc need before the pages are quiet, small, offline and linked.

* Thebe (live code from a CDN) is never used here, but its scripts are on every page and log an error: drop them.
  So do the scripts of a second kind of fold (togglebutton): a fold is a <details> (book_marks.py).
* Docstrings are written to be read in an editor: an indented block is an equation or code, `this` is code. Say so in
  reStructuredText before it is parsed.
* The site's address leads to the first page by a redirect that has no icon: a browser that is slow to follow it asks
  for /favicon.ico. Write one that has an icon, a language, a title, and a link for who is not redirected.
* A type is documented under its public name, metalib.Episode, and annotated by the module that holds it,
  metalib.episode.Episode: link the second to the first.
"""

import re
from html import escape as escape_html
from pathlib import Path

SECTIONS = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")
COLUMNS = re.compile(r"\S {3,}\S")  # words set in columns: a table


def drop_scripts(app, pagename, templatename, context, doctree):
    def wanted(file):
        settings = (getattr(file, "attributes", None) or {}).get("body") or ""
        return not re.search("thebe|togglebutton", f"{getattr(file, 'filename', file)}{settings}".lower())

    for key in ("script_files", "css_files"):
        context[key] = [file for file in context.get(key, []) if wanted(file)]


def write_front_door(app, error):
    if error is not None or app.builder.format != "html" or app.config.master_doc == "index":
        return
    page, icon = app.builder.get_target_uri(app.config.master_doc), Path(app.config.html_favicon).name
    Path(app.outdir, "index.html").write_text(
        f'<!doctype html>\n<html lang="{app.config.language}"><head><meta charset="utf-8">\n'
        f'<link rel="icon" href="_static/{icon}">\n<meta http-equiv="refresh" content="0; url={page}">\n'
        f'<title>{escape_html(app.config.html_title)}</title></head>\n'
        f'<body><a href="{page}">{escape_html(app.config.html_title)}</a></body></html>\n', encoding="utf-8")


def escape(line):
    """`code` becomes ``code``; what would be markup outside it is escaped."""
    parts = re.split(r"(``[^`]+``|`[^`]+`)", line)
    for i, part in enumerate(parts):
        if i % 2:
            glued = re.match(r"\w", parts[i + 1])  # a literal must not end right before a letter
            parts[i] = f"``{part.strip('`')}``" + ("\\ " if glued else "")
        else:
            parts[i] = re.sub(r"([*|])", r"\\\1", re.sub(r"(\w)_(?!\w)", r"\1\\_", part))
    return "".join(parts)


def read_docstring(app, what, name, obj, options, lines):
    out, section, literal, table = [], False, False, False
    for i, line in enumerate(lines):
        first = bool(line.strip()) and (i == 0 or not lines[i - 1].strip())  # of a paragraph
        indented = line.startswith("    ")
        if line.strip() and not indented:
            section, literal = bool(SECTIONS.match(line)), False
        if first:
            table = not section and not indented and COLUMNS.search(line) is not None
            if table or (indented and not section and not literal):
                out += [".. code-block:: text", ""]
                literal = literal or indented
        out.append(f"    {line}" if table else line if literal else escape(line))
    lines[:] = out
    if what == "attribute":
        app.env.temp_data["docstring"] = list(out)


def keep_attribute(app, what, name, obj, options, lines):
    """Napoleon reads "Seconds: wall time" under an attribute as a type and a description; it is a sentence."""
    if what == "attribute":
        lines[:] = app.env.temp_data["docstring"]


def link_public_name(app, env, node, contnode):
    target = node.get("reftarget", "")
    name = target.rpartition(".")[2]
    if node.get("refdomain") != "py" or not name or target == f"metalib.{name}":
        return None
    if "." in target and not target.startswith("metalib."):
        return None
    found = env.get_domain("py").objects.get(f"metalib.{name}")
    if found is None:
        return None
    from sphinx.util.nodes import make_refnode

    return make_refnode(app.builder, node.get("refdoc", env.docname), found.docname, found.node_id, contnode)


def setup(app):
    app.connect("html-page-context", drop_scripts, priority=900)
    app.connect("build-finished", write_front_door, priority=100)  # before the table of contents writes its own
    app.connect("autodoc-process-docstring", read_docstring, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", keep_attribute, priority=900)  # after it
    app.connect("missing-reference", link_public_name)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
