"""What a page weighs: only the icons that are shown, only the parts of MathJax that set these equations.

* The stock theme loads 1.5 MB of script for a dozen icons. The script goes; its style sheet draws the same icons with a
  font, cut here to the icons that the pages and the style sheets name.
* MathJax's one-file build holds a menu that is turned off: load its parts without it (a page without mathematics loads
  none of them), and keep nothing else.
"""

import re
import shutil
from pathlib import Path

from fontTools import subset

PARTS = ["input/tex", "output/chtml", "a11y/assistive-mml"]  # startup.js loads core.js and these
MATHJAX_KEPT = ("startup.js", "core.js", "input/tex.js", "input/tex/extensions", "output/chtml.js",
                "output/chtml/fonts/tex.js", "output/chtml/fonts/woff-v2", "a11y/assistive-mml.js")
ICON_SCRIPT = re.compile(r'\s*<script src="[^"]*scripts/fontawesome\.js[^"]*"></script>')
MATH = re.compile(r'class="(amsmath )?math\b')
MATH_SCRIPTS = re.compile(r"\s*<script>window\.MathJax.*</script>|\s*<script [^>]*mathjax/startup\.js[^>]*></script>")
ICON_RULE = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"(?:\\[0-9a-f]+|.)"\}')
FONT_FILE = re.compile(r'url\(([^)]*/fa-(\w+)-\d+)\.woff2\) format\("woff2"\),url\([^)]*\) format\("truetype"\)')
GLYPH = re.compile(r"\\([ef][0-9a-f]{3})\b")


def load_parts(app, config):
    config.mathjax_path = "mathjax/startup.js"
    config.mathjax3_config = {**config.mathjax3_config, "loader": {"load": PARTS}}


def trim_pages(static: Path, pages: list[Path]) -> None:
    shown = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        shown |= set(re.findall(r"\bfa-[\w-]+", text))
        text = ICON_SCRIPT.sub("", text)
        page.write_text(text if MATH.search(text) else MATH_SCRIPTS.sub("", text), encoding="utf-8")
    scripts = [p for p in static.rglob("*.js") if p.name != "fontawesome.js" and "mathjax" not in p.parts]
    shown |= {name for script in scripts for name in re.findall(r"\bfa-[\w-]+", script.read_text(encoding="utf-8"))}

    def used(rule: re.Match) -> str:
        return rule[0] if shown & set(re.findall(r"fa-[\w-]+", rule[1])) else ""

    theme = static / "styles/pydata-sphinx-theme.css"
    css = FONT_FILE.sub(r'url(\1.woff) format("woff")', ICON_RULE.sub(used, theme.read_text(encoding="utf-8")))
    theme.write_text(css, encoding="utf-8")
    sheets = [sheet.read_text(encoding="utf-8") for sheet in static.rglob("*.css")]
    glyphs = {int(code, 16) for sheet in sheets for code in GLYPH.findall(sheet)}
    glyphs |= {ord(letter) for sheet in sheets for letter in sheet if 0xE000 <= ord(letter) < 0xF900}  # unescaped ones
    for font in (static / "vendor/fontawesome/webfonts").glob("*.ttf"):
        options = subset.Options(flavor="woff", layout_features=[], name_IDs=[], notdef_outline=True)
        cut = subset.load_font(font, options)
        cutter = subset.Subsetter(options)
        cutter.populate(unicodes=glyphs)
        cutter.subset(cut)
        subset.save_font(cut, font.with_suffix(".woff"), options)
        font.unlink()
        font.with_suffix(".woff2").unlink()


def join_sheets(static: Path) -> None:
    """The theme's sheet holds what it imports: one request less, and whoever reads the sheets need not find it."""
    theme = static / "styles/theme.css"
    basic = (static / "basic.css").read_text(encoding="utf-8").replace("url(", "url(../")
    css = theme.read_text(encoding="utf-8").replace('@import "../basic.css";', basic)
    theme.write_text(css, encoding="utf-8")


def prune_mathjax(root: Path) -> None:
    kept = [root / name for name in MATHJAX_KEPT]
    for path in sorted(root.rglob("*"), reverse=True):  # children before their folder
        if any(path == k or k in path.parents or path in k.parents for k in kept):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def trim(app, error):
    if error is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    trim_pages(static, [p for p in Path(app.outdir).rglob("*.html") if static not in p.parents])
    join_sheets(static)
    prune_mathjax(static / "mathjax")
    for unused in [*(static / "scripts").glob("fontawesome.js*"), *static.rglob("*.map")]:
        unused.unlink(missing_ok=True)


def setup(app):
    app.connect("config-inited", load_parts, priority=900)  # after the extension that has MathJax
    app.connect("build-finished", trim, priority=900)  # after it has copied it
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
