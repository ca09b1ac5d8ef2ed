"""What a reader sees, in a real browser: every built page, and chapter 1 in JupyterLab."""

import contextlib
import functools
import gzip
import http.server
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
from filelock import FileLock  # torch needs it as well
from fontTools.ttLib import TTFont

from notebooks import CHAPTERS, ROOT, exercises, read, tags
from patience import PATIENCE

pytestmark = pytest.mark.browser
SITE = ROOT / "_build/html"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
# (width, colour scheme, what axe looks for: everything, colours alone, nothing)
VIEWS = [(1400, "light", "all"), (1024, "light", ""), (768, "light", ""), (390, "light", "all"), (390, "dark", ""),
         (1400, "dark", "color-contrast")]
# Another machine's fonts are wider. This is more than any of them: the spacing that WCAG 1.4.12 asks a page to bear.
WIDER = "* { letter-spacing: .12em !important; word-spacing: .16em !important; }"


def missing(what: str) -> None:
    """Skip, unless the machine is meant to have a browser (as the one that runs .ci/run does)."""
    if os.environ.get("METALIB_REQUIRE_BROWSER"):
        pytest.fail(f"{what}, and METALIB_REQUIRE_BROWSER is set")
    pytest.skip(f"{what}: install Chromium to run the browser tests")


class Patient:
    """A browser whose pages wait for a slow machine."""

    def __init__(self, running) -> None:
        self.running = running

    def new_context(self, **options: object):
        context = self.running.new_context(**options)
        context.set_default_timeout(1000 * PATIENCE)
        return context

    def new_page(self, **options: object):
        page = self.running.new_page(**options)
        page.set_default_timeout(1000 * PATIENCE)
        return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Patient]:
    chromium = os.environ.get("METALIB_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not chromium:
        missing("Chromium is not installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed")
    with sync_playwright() as p:
        running = p.chromium.launch(executable_path=chromium, args=FLAGS, timeout=1000 * PATIENCE)
        yield Patient(running)
        running.close()


@pytest.fixture(scope="module")
def site() -> Path:
    """The built book; built here if it is missing or older than what it is made from."""
    sources = [ROOT / "_config.yml", ROOT / "_toc.yml"]
    sources += [p for top in ("book", "metalib") for p in (ROOT / top).rglob("*")
                if p.is_file() and p.suffix != ".pyc" and ".ipynb_checkpoints" not in p.parts]
    built = SITE / "searchindex.js"
    SITE.parent.mkdir(exist_ok=True)
    with FileLock(SITE.parent / ".lock"):  # with -n 2 one of the two builds it
        if not built.exists() or built.stat().st_mtime < max(p.stat().st_mtime for p in sources):
            builder = Path(sys.executable).with_name("jupyter-book")
            if not builder.exists():
                missing("the book is not built and jupyter-book is not installed")
            run = subprocess.run([builder, "build", ".", "--all", "-W", "-n", "--keep-going"], cwd=ROOT,
                                 capture_output=True, encoding="utf-8")
            assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    return SITE


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module", params=["http", "file"])
def address(request: pytest.FixtureRequest, site: Path) -> Iterator[str]:
    if request.param == "file":
        yield site.as_uri()
        return
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def pages(site: Path) -> list[str]:
    return sorted(str(p.relative_to(site)) for p in site.rglob("*.html") if "_static" not in p.parts)


# The scripts have run and the browser has laid the page out.
SETTLED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

# What is wider than its box has been found by the page's script.
MARKED = """() => [...document.querySelectorAll(".bd-article :is(pre, .output.text_html)")].every(
  box => !box.checkVisibility() || box.scrollWidth <= box.clientWidth + 1 || box.tabIndex === 0)"""

OPEN = """async () => {
  if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
  document.querySelectorAll("article details").forEach(fold => (fold.open = true));
}"""

# What is wider than its column scrolls, and one sees it: a fade at the edge, reached by the keyboard, with a name.
LOOK = """async () => {
  if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const root = document.documentElement;
  const up = e => e.parentElement;
  const inBox = e => up(e) && (getComputedStyle(up(e)).overflowX !== "visible" || inBox(up(e)));
  const wide = root.scrollWidth > innerWidth ? [...document.querySelectorAll("article *")].filter(
    e => e.getBoundingClientRect().right > innerWidth + 1 && !inBox(e)).map(e => e.outerHTML.slice(0, 120)) : [];
  const article = document.querySelector("article.bd-article"), wider = [], numbers = [];
  const style = article && getComputedStyle(article);
  const edge = article && article.getBoundingClientRect().right - parseFloat(style.paddingRight) + 1;
  const shows = box => box.matches(".scrolls") && box.tabIndex === 0 && box.getAttribute("role") === "group"
    && box.getAttribute("aria-label") && getComputedStyle(box).maskImage.includes("gradient");
  for (const e of article ? article.querySelectorAll("*") : []) {
    if (e.closest("mjx-math, mjx-assistive-mml, svg, .metalib-widget, .visually-hidden")) continue;
    if (!e.checkVisibility()) continue;
    const box = e.getBoundingClientRect(), math = e.matches("mjx-container") && e.firstElementChild;
    const inside = math ? math.getBoundingClientRect().width : e.scrollWidth;
    const hides = getComputedStyle(e).overflowX !== "visible" || math;
    const say = what => wider.push(`${what}: ${e.outerHTML.slice(0, 120)}`);
    if (hides && e.clientWidth > 0 && inside > e.clientWidth + 1 && !shows(e)) say("scrolls or is cut unseen");
    const beyond = box.width ? Math.round(box.right - edge) : 0;
    if (beyond > 0 && !e.parentElement.closest(".scrolls")) say(`${beyond} px beyond its column`);
    if (math && e.matches(".scrolls") && math.getBoundingClientRect().bottom > box.bottom + 1) say("cut below");
  }
  for (const number of document.querySelectorAll(".eqno")) {
    const a = number.getBoundingClientRect(), b = number.parentElement.querySelector("mjx-container");
    const box = b && b.getBoundingClientRect();
    if (b && a.left < box.right - 1 && a.top < box.bottom - 1) numbers.push(number.textContent);
  }
  const chinese = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), mute = [];
  for (let node; (node = chinese.nextNode());)
    if (/[\\u4e00-\\u9fff]/.test(node.data) && !node.parentElement.closest("[lang^=zh], script, style"))
      mute.push(node.data.slice(0, 60));
  return {
    wider: wider.slice(0, 5), numbersOverEquations: numbers, chineseThatDoesNotSaySo: mute,
    scroll: root.scrollWidth > innerWidth ? `${root.scrollWidth} px wide, e.g. ${wide[0]}` : "",
    noAlt: [...document.images].filter(i => !i.alt.trim() || i.alt.includes("_images/"))
      .map(i => i.outerHTML.slice(0, 160)),
    theme: root.dataset.theme,
    mathErrors: [...document.querySelectorAll("mjx-merror, .MathJax_Error")].map(e => e.textContent),
    rawMath: document.querySelectorAll(".math").length > 0 && document.querySelectorAll("mjx-container").length === 0,
  };
}"""


# An equation's glyphs hold no text, and the second token of a kind has the colours of the first. axe needs minutes for
# all 20,000 of a page: it is shown each kind once.
TRIM = """() => {
  document.querySelectorAll("mjx-math").forEach(math => math.replaceChildren());
  const tokens = [...document.querySelectorAll(":is(.highlight pre, .sig) span:not(:has(*))")];
  const kinds = tokens.map(t => `${t.className} ${getComputedStyle(t.closest("pre, .sig")).backgroundColor}`);
  tokens.forEach((token, i) => { if (kinds.indexOf(kinds[i]) < i) token.replaceWith(token.textContent); });
}"""
AXE = """async only => {
  const found = await axe.run(document, {resultTypes: ["violations"], ...(only === "all" ? {} : {runOnly: [only]})});
  return found.violations.map(v => `axe ${v.id}, ${v.nodes.length} times: ${v.nodes[0].html.slice(0, 160)} `
    + v.nodes[0].failureSummary);
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The rules of accessibility, as a script; it comes with a package."""
    package = importlib.util.find_spec("axe_playwright_python")
    if package is None:
        missing("axe-playwright-python is not installed")
    return Path(package.submodule_search_locations[0], "axe.min.js").read_text(encoding="utf-8")


def watch(page, base: str, problems: list[str]) -> None:
    """Collect console errors, failed requests, and requests to any other place."""
    def ours(url: str) -> bool:
        return url.startswith((base, "data:", "blob:", "about:"))

    def failed(request) -> None:
        if request.failure != "net::ERR_ABORTED":  # what a page still wanted when the test went on to the next one
            problems.append(f"failed request: {request.url} ({request.failure})")

    page.on("console", lambda m: problems.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(f"script: {e}"))
    page.on("request", lambda r: None if ours(r.url) else problems.append(f"external request: {r.url}"))
    page.on("requestfailed", failed)
    page.on("response", lambda r: problems.append(f"{r.status}: {r.url}") if r.status >= 400 else None)


def test_every_page_is_quiet_offline_fits_and_is_accessible(browser, site, address, axe):
    """Each page is loaded once and its folds are opened; then it is resized, switched to the other colours, set in
    wider letters, and asked by axe.

    Its size does not depend on where it comes from: from a file it is looked at once.
    """
    views = VIEWS if address.startswith("http") else [(1400, "light", "")]
    found, problems = {}, []
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    watch(page, address, problems)
    for name in pages(site):
        page.goto(f"{address}/{name}", wait_until="load")
        if name == "index.html":  # sends the reader on to the first page
            page.wait_for_url("**/book/intro.html")
        page.evaluate(OPEN)
        looked = {}
        for width, scheme, _ in views:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            looked[width, scheme] = look(page, scheme)
        page.add_style_tag(content=WIDER)
        page.set_viewport_size({"width": 390, "height": 900})
        looked["wider letters", scheme] = look(page, scheme)
        page.evaluate("document.head.lastElementChild.remove()")
        if any(asked for *_, asked in views):
            page.evaluate(axe)
        for width, scheme, asked in views:
            if asked:
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                page.evaluate(SETTLED)
                page.evaluate(TRIM)
                page.wait_for_function(MARKED)  # a busy machine lays out in its own time
                looked[width, scheme] += page.evaluate(AXE, asked)
        problems += [f"{width}, {scheme}: {fault}" for (width, scheme), wrong in looked.items() for fault in wrong]
        if problems:
            found[name] = problems.copy()
            problems.clear()
    context.close()
    assert not found, json.dumps(found, indent=1)
    assert len(pages(site)) > len(CHAPTERS) + 4


def look(page, scheme: str) -> list[str]:
    """What is wrong with a page when it has settled: a slow machine gets to look again."""
    for _ in range(20):
        wrong = faults(page.evaluate(LOOK), scheme)
        if not wrong:
            break
        page.wait_for_timeout(100)
    return wrong


def faults(look: dict, scheme: str) -> list[str]:
    """What is wrong with a page that looks like this."""
    wrong = [f"{key}: {value}" for key, value in look.items() if key != "theme" and value]
    if look["theme"] != scheme:
        wrong.append(f"theme {look['theme']} where the system asks for {scheme}")
    return wrong


def test_every_page_names_its_icon(site):
    """A browser asks for /favicon.ico, which is not there, as soon as a page that names none has loaded."""
    assert [name for name in pages(site)
            if not re.search(r'<link rel="(shortcut )?icon"', (site / name).read_text(encoding="utf-8"))] == []


# What MathJax loads for every equation, and the fonts that a command asks for.
MATHJAX = ["startup.js", "core.js", "input/tex.js", "output/chtml.js", "output/chtml/fonts/tex.js",
           "a11y/assistive-mml.js"]
FONTS = {"Main-Regular": "", "Math-Italic": "", "Size1-Regular": "", "Size2-Regular": "", "Size3-Regular": "",
         "Size4-Regular": "", "Zero": "", "AMS-Regular": r"\\mathbb|\\square|\\blacksquare|\\[lg]tr?sim",
         "Main-Bold": r"\\mathbf|\\boldsymbol|\\bf\b", "Math-BoldItalic": r"\\boldsymbol",
         "Calligraphic-Regular": r"\\mathcal|\\cal\b", "Typewriter-Regular": r"\\(mathtt|texttt)",
         "SansSerif-Regular": r"\\(mathsf|textsf)", "Fraktur-Regular": r"\\mathfrak", "Script-Regular": r"\\mathscr"}


def weight(page: Path) -> tuple[int, int]:
    """Bytes that a page brings over the line, compressed as a server does: without its own figures, and with them."""
    text, static = page.read_text(encoding="utf-8"), SITE / "_static"
    links = re.findall(r'<(?:script|link|img)\b[^>]*?\b(?:src|href)="(?!data:)([^":#?]+)', text)
    files = {(page.parent / name).resolve() for name in links if not name.endswith(".html")}
    files |= set((static / "vendor/fontawesome/webfonts").iterdir())
    if (static / "mathjax/startup.js").resolve() in files:
        fonts = [name for name, asked in FONTS.items() if re.search(asked, text)]
        files |= {static / "mathjax" / name for name in MATHJAX}
        files |= {static / f"mathjax/output/chtml/fonts/woff-v2/MathJax_{name}.woff" for name in fonts}
    figures = {f for f in files if f.parent.name == "_images"}
    assert not [f for f in files if not f.exists()], [f for f in files if not f.exists()]

    def sent(path: Path) -> int:
        return path.stat().st_size if path.suffix in (".woff", ".png") else len(gzip.compress(path.read_bytes(), 6))

    own = sent(page) + sum(map(sent, files - figures))
    return own, own + sum(map(sent, figures))


def test_pages_are_light(site):
    """A widget's picture, or a figure within the page's text, counts as the page."""
    weights = {name: weight(site / name) for name in pages(site) if name != "index.html"}
    heavy = {name: w for name, w in weights.items() if w[0] > 500_000 or w[1] > 1_500_000}
    assert not heavy, f"bytes without and with figures: {heavy}"


def test_every_icon_that_a_style_sheet_shows_is_in_a_font(site):
    """A box with a cross stood where a theorem and a warning have their signs."""
    fonts = [TTFont(path).getBestCmap() for path in (site / "_static").rglob("fa-*.woff")]
    there = set().union(*fonts)
    sheets = "".join(p.read_text(encoding="utf-8") for p in (site / "_static").rglob("*.css"))
    shown = {ord(c) for c in re.findall(r'--pst-icon-[\w-]+:\s*"(.)"', sheets)}
    shown |= {int(c, 16) for c in re.findall(r'content:\s*"\\\\?(f[0-9a-f]{3})"', sheets)}
    assert {0xF0F3, 0xF071} <= shown, "a theorem's bell, a warning's triangle"
    assert not shown - there, [hex(c) for c in shown - there]


def test_only_pages_with_mathematics_load_mathjax(site):
    for name in pages(site):
        text = (site / name).read_text(encoding="utf-8")
        assert ("mathjax/startup.js" in text) == bool(re.search(r'class="(amsmath )?math\b', text)), name


def test_hints_and_solutions_are_folded_in_the_book(browser, site):
    page = browser.new_page()
    for chapter in CHAPTERS:
        page.goto((site / f"book/{chapter.stem}.html").as_uri(), wait_until="load")
        page.evaluate(SETTLED)
        n = len(exercises(read(chapter)))
        shown = page.evaluate("""() => [...document.querySelectorAll(".solution")].filter(
            s => [...s.children].some(c => !c.matches("summary") && c.checkVisibility()
                 && c.getBoundingClientRect().height > 1)).length""")
        folded = page.evaluate("document.querySelectorAll('details.hint:not([open])').length")
        solutions = page.evaluate("document.querySelectorAll('.solution').length")
        assert (solutions, shown) == (n, 0), f"{chapter.name}: {solutions} solutions, {shown} unfolded"
        assert folded >= n, f"{chapter.name}: {folded} folded hints for {n} exercises"
    page.close()


def test_a_printed_page_is_whole(browser, site, tmp_path):
    """Titles keep their numbers, hints and solutions are open, folded code is left out, long lines of code wrap."""
    pypdf = pytest.importorskip("pypdf")
    from tools.pdf import print_pdf

    source = (site / f"book/{CHAPTERS[1].stem}.html").read_text(encoding="utf-8")
    long, folded = "the_start = 0  # " + "a long line " * 20 + "and its end", "folded away = 1"
    page = site / "book/printed.html"  # beside the others: its styles are found from there
    try:
        page.write_text(source.replace("</article>", f"<pre>{long}</pre><details class='fold fold-code'>"
                                       f"<summary>Plumbing</summary><pre>{folded}</pre></details></article>"),
                        encoding="utf-8")
        print_pdf(page, tmp_path / "page.pdf", browser)
    finally:
        page.unlink(missing_ok=True)
    printed = pypdf.PdfReader(tmp_path / "page.pdf")
    text = " ".join(" ".join(p.extract_text() for p in printed.pages).split())
    assert "and its end" in text and "folded away" not in text and "Plumbing" not in text
    assert re.search(r"^1\. \w", text) and re.search(r"\b1\.1\. ", text), f"titles without numbers: {text[:80]}"
    nb = exercises(read(CHAPTERS[1]))
    assert text.count("Solution to Exercise") == len(nb) and text.count("Hint") >= len(nb)
    opened = re.search(r"Solution to Exercise 1\.1 \([^)]*\) (.{20})", text)
    assert opened and "Exercise" not in opened[1], "a solution is printed shut"
    assert printed.outline and "Previous" not in text and "Click" not in text


def test_a_chapter_s_notebook_can_be_downloaded(browser, site):
    page = browser.new_page()
    page.goto((site / f"book/{CHAPTERS[1].stem}.html").as_uri())
    (link,) = page.evaluate("[...document.querySelectorAll('a.btn-download-source-button')].map(a => a.href)")
    assert json.loads(Path(urlparse(link).path).read_text(encoding="utf-8"))["cells"]
    page.close()


# --- JupyterLab ---------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def jupyterlab(folder: Path, home: Path) -> Iterator[str]:
    """JupyterLab as a newcomer has it: no settings but what this test needs to see every cell and no news."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    settings = home / "settings/@jupyterlab"
    for plugin, values in {"notebook-extension/tracker": {"windowingMode": "none"},
                           "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False}}.items():
        file = settings / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    env = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER") and k != "METALIB_QUIET"}
    env |= {"JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTER_DATA_DIR": str(home / "data"), "IPYTHONDIR": str(home / "ipython")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ServerApp.ip=127.0.0.1",
               "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    with open(home / "lab.log", "wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            for _ in range(2 * PATIENCE):
                if server.poll() is not None:
                    said = (home / "lab.log").read_text(encoding="utf-8", errors="replace")
                    pytest.fail(f"JupyterLab stopped: {said[-2000:]}")
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


RENDERED = """() => [...document.querySelectorAll(".jp-MarkdownCell .myst")].map(cell => {
  const copy = cell.cloneNode(true);
  const unhandled = [...copy.querySelectorAll(".unhandled")].map(e => e.textContent);
  copy.querySelectorAll("pre, code:not(.kind), math, .katex, annotation, script").forEach(e => e.remove());
  return {text: copy.textContent, unhandled,
          details: cell.querySelectorAll("details").length, open: cell.querySelectorAll("details[open]").length};
})"""


PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent)"
# JupyterLab renders tracebacks as it does warnings and progress bars, as stderr.
ERRORS = """[...document.querySelectorAll(
  "[data-mime-type='application/vnd.jupyter.stderr'], [data-mime-type='application/vnd.jupyter.error']"
)].map(e => e.textContent).filter(t => /Traceback|Warning|Error/.test(t)).map(t => t.slice(-500))"""


def test_a_newcomer_runs_chapter_1_in_jupyterlab(browser, tmp_path):
    pytest.importorskip("jupyterlab")
    chapter = next(p for p in CHAPTERS if p.stem.startswith("01"))
    nb = read(chapter)
    folder = tmp_path / "book"
    shutil.copytree(ROOT / "book", folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"))
    (tmp_path / "home").mkdir()
    with jupyterlab(folder, tmp_path / "home") as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{address}/lab/tree/{chapter.name}")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        page.wait_for_selector(".jp-MarkdownCell .myst")

        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        code = [c for c in nb.cells if c.cell_type == "code" and c.source.strip()]
        shown = [i for i, c in enumerate(code, 1) if not c.metadata.get("jupyter", {}).get("source_hidden")]
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            prompts = [re.sub(r"\D*(\d+|\*)?\D*", r"\1", p) for p in page.evaluate(PROMPTS)]
            errors = page.evaluate(ERRORS)
            if "*" not in prompts and (errors or str(shown[-1]) in prompts):
                break
            page.wait_for_timeout(1000)
        assert sorted(int(p) for p in prompts if p.isdigit()) == shown, (prompts, errors)  # a folded cell has none
        page.wait_for_timeout(1000)

        errors = page.evaluate(ERRORS)
        assert len(errors) == sum("raises-exception" in tags(c) for c in nb.cells), errors

        cells = page.evaluate(RENDERED)
        assert len(cells) == sum(c.cell_type == "markdown" for c in nb.cells)
        raw = [m.group(0) for c in cells for m in re.finditer(r":{3,}|`{3,}|\{[a-z][\w:-]*\}.{0,40}|\$\$", c["text"])]
        assert not raw, f"directives or roles shown as source: {raw}"
        assert not any(c["unhandled"] for c in cells), [c["unhandled"] for c in cells if c["unhandled"]]
        folded = 2 * len(exercises(nb))
        assert sum(c["details"] for c in cells) >= folded, "hints and solutions are not folded"
        assert sum(c["open"] for c in cells) == 0
        page.close()
