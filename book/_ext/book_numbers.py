"""Write down what the book calls things, for copies of the chapters that are read in JupyterLab: `make lab`.

_build/numbers.json holds, for every chapter, what each reference says ({"cite:t|finn2017maml": "Finn et al. [2017]"})
and the number of every labelled equation and figure ({"fig-04-adapt": "Fig. 4.1"}), as Sphinx resolved them.
"""

import json
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref


def said(app, docname):
    """{role|target: text} of one page, and {label: number} of its equations and figures."""
    env, found = app.env, {}
    tree, numbered = env.get_doctree(docname), env.toc_fignumbers.get(docname, {})
    for node in tree.findall(pending_xref):
        domain, role, target = node.get("refdomain"), node["reftype"], node["reftarget"]
        if domain in ("std", "math", "cite"):
            link = env.domains[domain].resolve_xref(env, docname, app.builder, role, target, node, node[0])
            if link is not None:
                name = f"{domain}:{role}" if domain == "cite" else role
                found[f"{name}|{target}"] = link.astext()
    for equation in tree.findall(nodes.math_block):
        if equation.get("label"):
            number = numbered.get("displaymath", {}).get(f"equation-{equation['label']}")
            whole = env.config.math_numfig and env.config.numfig and number
            found[equation["label"]] = ".".join(map(str, number)) if whole else str(equation["number"])
    for figure in tree.findall(nodes.figure):
        for name, number in ((i, numbered.get("figure", {}).get(i)) for i in figure["ids"]):
            if number:
                found[name] = env.config.numfig_format["figure"] % ".".join(map(str, number))
    return found


def write(app, error):
    if error is None and app.builder.format == "html":
        names = sorted(name for name in app.env.found_docs if Path(app.env.doc2path(name)).suffix == ".ipynb")
        Path(app.outdir).with_name("numbers.json").write_text(
            json.dumps({Path(name).name: said(app, name) for name in names}, indent=1, ensure_ascii=False) + "\n",
            encoding="utf-8")


def setup(app):
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
