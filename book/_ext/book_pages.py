"""What the stock theme needs before its pages are quiet, small and offline.

* Thebe (live code from a CDN) is never used here, but its scripts are on every page and log an error: drop them.
* MathJax comes whole (25 MB) from sphinx-mathjax-offline: keep what a page can ask for (TeX input, CHTML output).
"""

import shutil
from pathlib import Path

# Everything that tex-chtml.js may load while it runs, relative to _static/mathjax.
MATHJAX_KEPT = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")


def drop_thebe(app, pagename, templatename, context, doctree):
    for key in ("script_files", "css_files"):
        context[key] = [f for f in context.get(key, []) if "thebe" not in str(getattr(f, "filename", f) or "")]
    # Thebe's settings are an inline script without a file name: recognise them by what they declare.
    context["script_files"] = [
        f for f in context["script_files"] if "THEBE" not in str(getattr(f, "attributes", {}).get("body", ""))
    ]


def prune_mathjax(app, error):
    root = Path(app.outdir) / "_static" / "mathjax"
    if error is not None or not root.is_dir():
        return
    kept = [root / name for name in MATHJAX_KEPT]
    for path in sorted(root.rglob("*"), reverse=True):  # children before their folder
        if any(path == k or k in path.parents or path in k.parents for k in kept):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def setup(app):
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", prune_mathjax, priority=900)  # after the extension that copies it
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
