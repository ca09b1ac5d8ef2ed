"""A chapter goes with its reader: a downloaded notebook, a wheel, an empty folder."""

import ast
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

import metalib
from conftest import ROOT
from notebooks import CHAPTERS, PAGES, code_cells, parse, read, reads, slice_of
from patience import PATIENCE

SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
MEGABYTES = 30  # of a wheel
ALONE = ("00_", "02_", "04b_")  # the pages that are run without the checkout
chapters = pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)


# ---------------------------------------------------------------- where the records are

def test_a_record_and_a_checkpoint_of_the_checkout_are_found_by_name():
    assert metalib.record("joint") == json.loads((ROOT / "results/joint.json").read_text(encoding="utf-8"))
    assert metalib.checkpoint("play-protonet") == ROOT / "results/checkpoints/play-protonet.pt"
    assert "joint" in metalib.records()
    some = metalib.records("omniglot-*")
    assert some == sorted(some) and "omniglot-maml-5w1s" in some and "joint" not in some


@pytest.mark.parametrize("find", [metalib.record, metalib.checkpoint])
def test_a_record_that_is_missing_is_named_with_where_records_come_from(find):
    with pytest.raises(FileNotFoundError, match="results.*nosuch.* is missing.*make wheel.*make records"):
        find("nosuch")


@chapters
def test_a_chapter_reads_no_file_beside_itself(path):
    """No path leads out of the notebook's folder, and nothing is imported from there: it would not be downloaded."""
    for cell in code_cells(read(path)):
        for node in ast.walk(parse(cell.source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"\.\./|\bresults/", node.value), f"metalib.record(name) finds it: {node.value}"
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"), "import from metalib"


# ---------------------------------------------------------------- what the wheel carries

def wanted() -> set[str]:
    """The files of results/ that chapters read."""
    committed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, encoding="utf-8")
    if committed.returncode:
        pytest.skip("not a git checkout: which records are committed is unknown")
    names, found = [name.removeprefix("results/") for name in committed.stdout.splitlines()], set()
    for pattern in set().union(*(reads(read(path)) for path in PAGES)):
        matching = set(fnmatch.filter(names, pattern))
        assert matching, f"a chapter reads results/{pattern}, and nothing of that name is committed"
        found |= matching
    return found


def test_the_wheel_lists_every_package():
    packages = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "metalib").rglob("__init__.py")}
    assert set(SETUP["packages"]) == packages | set(SETUP["package-dir"]), "pyproject.toml, [tool.setuptools] packages"


def test_the_wheel_lists_what_chapters_read_and_nothing_else():
    data = SETUP["package-data"]
    listed = {*data["metalib.recorded"], *(f"checkpoints/{name}" for name in data["metalib.recorded.checkpoints"])}
    assert listed == wanted(), "pyproject.toml, [tool.setuptools.package-data]"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built as `make wheel` builds it, from the project's own files: no folder build/ of an earlier day."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("metalib", "results"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-prose"):
        shutil.copy(ROOT / name, folder / "source")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir",
                    str(folder), str(folder / "source")], check=True, timeout=PATIENCE)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel):
    """The wheel unpacked into a folder of its own, and how to run Python with it and without the checkout."""
    target = wheel.parent / "installed"
    zipfile.ZipFile(wheel).extractall(target)
    return os.environ | {"PYTHONPATH": str(target)}


def test_the_wheel_has_the_library_its_checks_and_the_records_and_is_small(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name.removeprefix("metalib/recorded/") for name in names if name.startswith("metalib/recorded/")}
    assert inside == wanted()
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "metalib").rglob("*.*")
               if p.suffix in (".py", ".js", ".png")}
    assert modules <= set(names) and "metalib/judging/checks/ch04.py" in modules
    assert {name.split("/")[0].split("-")[0] for name in names} == {"metalib"}
    assert wheel.stat().st_size < MEGABYTES * 1e6


def test_the_wheel_finds_its_own_records_in_an_empty_folder(installed, tmp_path):
    code = ("import metalib, pathlib\nprint(len(metalib.records()), metalib.record('joint')['command'])\n"
            "print(metalib.load(metalib.checkpoint('play-protonet')).__class__.__name__)\n"
            "try:\n    metalib.record('sine')\nexcept FileNotFoundError as error:\n    print(error)\n")
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=installed, capture_output=True,
                         encoding="utf-8")
    assert run.returncode == 0, run.stderr
    first, second, third = run.stdout.splitlines()
    assert first.startswith(f"{sum('/' not in name for name in wanted())} python recipes/joint.py")
    assert second == "ProtoNet"
    assert "is missing" in third and "make records" in third


def test_a_copy_of_the_library_without_records_says_where_they_come_from(tmp_path):
    shutil.copytree(ROOT / "metalib", tmp_path / "metalib", ignore=shutil.ignore_patterns("__pycache__"))
    run = subprocess.run([sys.executable, "-c", "import metalib; metalib.record('joint')"], cwd=tmp_path,
                         env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, encoding="utf-8")
    assert re.search("FileNotFoundError: no records.*make wheel.*make records", run.stderr), run.stderr


def test_a_checkout_s_records_come_first_for_a_notebook_that_stands_in_one(installed, tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/record.py").touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "results/mine.json").write_text('{"a": 1}', encoding="utf-8")
    (tmp_path / "book").mkdir()
    run = subprocess.run([sys.executable, "-c", "import metalib; print(metalib.records(), metalib.record('mine'))"],
                         cwd=tmp_path / "book", env=installed, capture_output=True, encoding="utf-8")
    assert run.stdout == "['mine'] {'a': 1}\n", run.stderr


# ---------------------------------------------------------------- the first cell, and a notebook alone

@chapters
def test_a_notebook_is_normalised(path):
    run = subprocess.run([sys.executable, ROOT / "tools/normalise.py", "--check", path], capture_output=True)
    assert run.returncode == 0, f"python tools/normalise.py book/{path.name}"


def test_the_first_code_cell_is_the_same_everywhere_short_and_folded():
    first = [code_cells(read(path))[0] for path in PAGES]
    assert {json.dumps(cell, sort_keys=True) for cell in first} == {json.dumps(first[0], sort_keys=True)}
    assert len(first[0].source.splitlines()) <= 5 and first[0].metadata["jupyter"] == {"source_hidden": True}
    assert first[0].metadata["tags"] == ["hide-input"] and "records" in first[0].metadata["mystnb"]["code_prompt_show"]


def ipython(cells, folder, env):
    """Run cells one after another as a notebook would, without a kernel: what a page prints, and its first error."""
    script = folder / "run.py"
    script.write_text(
        "import json, sys\nimport matplotlib\nmatplotlib.use('agg')\n"
        "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell.instance()\n"
        "for source in json.load(open('cells.json', encoding='utf-8')):\n"
        "    done = shell.run_cell(source, store_history=True)\n"
        "    if not done.success:\n        sys.exit(f'{source}\\n{done.error_before_exec or done.error_in_exec}')\n",
        encoding="utf-8")
    (folder / "cells.json").write_text(json.dumps(cells), encoding="utf-8")
    return subprocess.run([sys.executable, script.name], cwd=folder, env=env, capture_output=True, encoding="utf-8",
                          timeout=PATIENCE)


def test_without_metalib_the_first_cell_says_what_to_install(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['metalib'] = None\n", encoding="utf-8")
    run = ipython([code_cells(read(CHAPTERS[0]))[0].source], tmp_path, os.environ | {"PYTHONPATH": str(tmp_path)})
    assert run.returncode == 1
    assert re.search(r"metalib is not here.*make wheel.*pip install dist/metalib-", run.stderr), run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", ALONE)
def test_a_downloaded_notebook_runs_in_an_empty_folder_with_only_the_wheel(number, installed, tmp_path):
    """Every import, every cell that reads a record or a checkpoint, and the cells that those need."""
    nb = read(next(path for path in PAGES if path.stem.startswith(number)))
    cells = code_cells(nb)
    reading = re.compile(r"metalib\.(record|records|checkpoint)\b")
    wanted = [bool(reading.search(c.source)) for c in cells]
    assert reads(nb), "a chapter that reads no record shows nothing here"
    sources = slice_of(cells, wanted)
    run = ipython(["import metalib; print(metalib.__file__)", *sources], tmp_path, installed)
    assert run.returncode == 0, run.stderr + run.stdout[-2000:]
    where = run.stdout.splitlines()[0]
    assert where.startswith(installed["PYTHONPATH"]), f"the wheel's metalib is what runs, not {where}"
