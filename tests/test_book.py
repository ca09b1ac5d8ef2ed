"""Every chapter is what CONTRIBUTING.md asks for, and what it publishes cannot rot without turning `make test` red."""

import ast
import base64
import configparser
import copy
import re
import struct
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

import metalib
from notebooks import CHAPTERS, PAGES, ROOT, code_cells, exercises, parse, read, tags
from patience import PATIENCE

WIDGET = "application/vnd.jupyter.widget-view+json"
SHOWING = {"print", "display", "metalib.show", "plt.show", "show"}
IGNORING = re.compile(r"#\s*(NBVAL|PYTEST_VALIDATE)_|^%%capture", re.M)
NBVAL = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval",
         f"--nbval-cell-timeout={PATIENCE}", f"--nbval-kernel-startup-timeout={PATIENCE}",
         "--nbval-sanitize-with", str(ROOT / "tests/sanitize.cfg"), "--rootdir"]
chapters = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
pages = pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)


def test_the_book_has_its_first_part():
    assert [p.stem[:2] for p in CHAPTERS][:6] == ["00", "01", "02", "03", "04", "05"]


def test_every_chapter_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [p["file"] for part in toc["parts"] for c in part["chapters"] for p in (c, *c.get("sections", []))]
    assert [f for f in listed if re.match(r"book/(\d\d|refresher)", f)] == [f"book/{p.stem}" for p in PAGES]


def length(nb: nbformat.NotebookNode) -> tuple[int, int]:
    """(words, shown lines of code) of a page; exercises, display mathematics and folded cells apart."""
    words = lines = 0
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            apart = r"^(:{3,})\{(?:exercise|dropdown|solution)\}.*?^\1\s*$|\$\$.*?\$\$"
            prose = re.sub(apart, "", cell.source, flags=re.M | re.S)
            words += len(prose.split())
        elif not tags(cell) & {"hide-input", "hide-cell"}:
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
    return words, lines


@pages
def test_a_page_is_no_longer_than_one_sitting(path):
    words, lines = length(read(path))
    assert words <= 3000 and lines <= 250, f"{words} words and {lines} shown lines of code: move a part to a deep dive"


@pages
def test_code_and_outputs_fit_the_page(path):
    """88 columns; what is wider is a table (`metalib.table`), whose HTML the page lays out."""
    wide = []
    for cell in code_cells(read(path)):
        texts = [cell.source, *(o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs
                                if "text/html" not in o.get("data", {}))]
        wide += [line for text in texts for line in text.splitlines() if len(line) > 88]
    assert not wide, f"{len(wide)} lines of more than 88 columns: {wide[:3]}"


@pages
def test_the_text_of_a_figure_can_be_read_on_a_phone(path):
    """At 10 points and at most 4.5 inches text is 11 pixels high on a page of 360 pixels: see `metalib.plot.style`."""
    for cell in code_cells(read(path)):
        small = re.findall(r"""\b(?:font|label)size=(?:\d(?![\d])|["']\S*small)""", cell.source)
        assert not small, f"text below 10 points: {small}"
        for out in cell.outputs:
            data = out.get("data", {})
            if "image/png" in data and "text/html" not in data:
                width = struct.unpack(">I", base64.b64decode(data["image/png"])[16:20])[0]
                assert width <= 1000, f"a figure {width} dots wide at 220 an inch: stack its panels\n{cell.source}"


@pages
def test_the_header_is_honest_about_the_time(path):
    """200 words a minute, and ten shown lines of code."""
    words, lines = length(nb := read(path))
    minutes = words / 200 + lines / 10
    said = int(re.search(r"(?i)takes:?\*\*:? (\d+) minutes to read", nb.cells[0].source)[1])
    assert abs(said / minutes - 1) <= 0.2, f"the header says {said} minutes, the rule {minutes:.0f}"


def shows(cell: nbformat.NotebookNode) -> bool:
    """Whether the cell certainly displays something when it runs."""
    body = parse(cell.source).body
    calls = [ast.unparse(s.value.func) for s in body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)]
    last = body[-1] if body else None
    bare = isinstance(last, ast.Expr) and isinstance(last.value, ast.Name | ast.Attribute | ast.BinOp | ast.Tuple)
    return bare or bool(SHOWING & set(calls))


def publication_faults(nb: nbformat.NotebookNode) -> list[str]:
    """Why the outputs stored in a notebook could not be trusted, or could not be shown offline."""
    faults = []
    if not any(c.outputs for c in code_cells(nb)):
        faults.append("no stored outputs: run `make notebooks`")
    if "widgets" in nb.metadata or "language_info" in nb.metadata:
        faults.append("not normalised: run `make notebooks`")
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        at = f"cell {i}"
        if cell.execution_count is None or (shows(cell) and not cell.outputs):
            faults.append(f"{at}: its output is missing")
        if "execution" in cell.metadata:
            faults.append(f"{at}: not normalised")
        if any(t.startswith("nbval") for t in tags(cell)) or IGNORING.search(cell.source):
            faults.append(f"{at}: ignores its output")
        for out in cell.outputs:
            data = out.get("data", {})
            if out.output_type == "error" and "raises-exception" not in tags(cell):
                faults.append(f"{at}: a stored error, {out.ename}")
            if out.get("name") == "stderr":
                faults.append(f"{at}: a stored warning: {out.text[:80]}")
            if WIDGET in data:
                faults.append(f"{at}: a widget, which needs scripts from a CDN")
            if re.search(r"""(src|href)=["']https?:""", str(data.get("text/html", ""))):
                faults.append(f"{at}: its HTML asks for a file from the network")
            if "image/png" in data and "text/html" not in data:
                mystnb = cell.metadata.get("mystnb", {})
                if not mystnb.get("figure", {}).get("caption") or not mystnb.get("image", {}).get("alt"):
                    faults.append(f"{at}: a figure without caption or alt text (cell metadata mystnb)")
    return faults


@pages
def test_a_chapter_stores_all_its_outputs_and_ignores_none(path):
    assert publication_faults(read(path)) == []


@pages
def test_a_code_cell_fits_on_a_screen(path):
    long = {i: n for i, c in enumerate(read(path).cells)
            if c.cell_type == "code" and (n := len(c.source.splitlines())) > 25}
    assert not long, f"cells of more than 25 lines: {long}"


@pages
def test_a_chapter_redefines_no_public_name_of_metalib(path):
    public = set(metalib.__all__)
    for cell in code_cells(read(path)):
        for node in ast.walk(parse(cell.source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name not in public, f"{node.name} is metalib's: import it"


@pages
def test_a_chapter_has_one_title_and_sections(path):
    text = "\n".join(re.sub(r"^(`{3,}).*?^\1", "", c.source, flags=re.M | re.S)
                     for c in read(path).cells if c.cell_type == "markdown")
    assert len(re.findall(r"^# ", text, re.M)) == 1, "one first-level heading, the title"
    assert re.search(r"^## ", text, re.M)


@chapters
def test_a_chapter_ends_with_exercises_that_have_hints_and_solutions(path):
    found = exercises(read(path))
    assert len(found) >= 4, f"{len(found)} exercises in the form that CONTRIBUTING.md gives"
    assert len({e.kind for e in found}) >= 4, f"kinds: {[e.kind for e in found]}"
    for e in found:
        assert e.kind and e.title, f"{e.label}: a title, and its kind as the first bold word"
        assert e.has_hint, f"{e.label}: no hint"
        assert e.solution and len(e.solution.split()) >= 8, f"{e.label}: no full solution"


@pages
def test_labels_carry_the_chapter_s_number(path):
    assert all(e.label.startswith(f"ex-{path.stem[:2]}-") for e in exercises(read(path)))


def test_sanitizing_touches_no_number():
    config = configparser.ConfigParser()
    config.read(ROOT / "tests/sanitize.cfg", encoding="utf-8")
    result = "97.1 +- 0.3 % (600 tasks, transductive)  relative error 1.2e-15  [[0.5, -3]]"
    for section in config.sections():
        assert re.sub(config[section]["regex"], config[section]["replace"], result) == result


# --- What the gate catches: shown on copies -----------------------------------------------------------------------

def beginning(path: Path) -> nbformat.NotebookNode | None:
    """A chapter up to its first printed number: quick to run, and with something to falsify."""
    nb, kept = read(path), []
    for cell in nb.cells:
        kept.append(cell)
        if cell.cell_type == "code" and any(re.search(r"\d", o.get("text", "")) for o in cell.outputs):
            return nbformat.v4.new_notebook(cells=kept, metadata=nb.metadata)
    return None


@pytest.fixture(scope="module")
def short():
    starts = [nb for p in CHAPTERS if (nb := beginning(p))]
    if not starts:
        pytest.fail("no chapter prints a number")
    return min(starts, key=lambda nb: sum(len(c.source) for c in code_cells(nb)))


def nbval(nb: nbformat.NotebookNode, folder: Path, env: dict | None = None) -> subprocess.CompletedProcess:
    """Run a copy where a chapter would be: one folder below the results."""
    (folder / "book").mkdir(exist_ok=True)
    if not (folder / "results").exists():
        (folder / "results").symlink_to(ROOT / "results")
    nbformat.write(nb, folder / "book" / "copy.ipynb")
    return subprocess.run([*NBVAL, str(folder), str(folder / "book" / "copy.ipynb")], env=env, capture_output=True,
                          encoding="utf-8")


def test_an_unchanged_copy_is_green(short, tmp_path):
    run = nbval(short, tmp_path)
    assert run.returncode == 0, run.stdout


def test_a_falsified_number_turns_the_gate_red(short, tmp_path):
    nb = copy.deepcopy(short)
    out = next(o for c in reversed(nb.cells) for o in c.get("outputs", []) if re.search(r"\d", o.get("text", "")))
    out["text"] = re.sub(r"\d", lambda d: str((int(d.group()) + 1) % 10), out["text"], count=1)
    run = nbval(nb, tmp_path)
    assert run.returncode == 1 and "1 failed" in run.stdout, run.stdout


def test_a_notebook_that_raises_turns_the_gate_red(short, tmp_path):
    nb = copy.deepcopy(short)
    code_cells(nb)[0].source += "\nraise RuntimeError('broken')"
    run = nbval(nb, tmp_path)
    assert run.returncode == 1 and "failed" in run.stdout, run.stdout


@chapters
def test_a_stripped_notebook_is_noticed(path):
    nb = read(path)
    for cell in code_cells(nb):
        cell.outputs, cell.execution_count = [], None
    assert any("no stored outputs" in f for f in publication_faults(nb))


@chapters
def test_a_single_missing_output_is_noticed(path):
    nb = read(path)
    cell = next(c for c in code_cells(nb) if c.outputs and shows(c))
    cell.outputs = []
    assert any("its output is missing" in f for f in publication_faults(nb))


@pytest.mark.parametrize("mark", ["tag", "comment"])
def test_a_cell_that_ignores_its_output_is_noticed(mark):
    nb = read(CHAPTERS[0])
    cell = code_cells(nb)[0]
    if mark == "tag":
        cell.metadata["tags"] = ["nbval-ignore-output"]
    else:
        cell.source = "# NBVAL_IGNORE" + "_OUTPUT\n" + cell.source
    assert any("ignores its output" in f for f in publication_faults(nb))
