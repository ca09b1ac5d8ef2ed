"""The project's own promises: one list of dependencies, commands that exist, nothing of one machine in the files."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(r) for group in [PROJECT["dependencies"], *EXTRAS.values()] for r in group]
INSTALLED = [name for name in EXTRAS if name not in ("log", "bench")]  # by `make`; those two are for whoever asks
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(p) == 2 for p in pins), "constraints.txt holds exact versions, name==version"
    return {canonical(name): version for name, version in pins}


def tracked_text() -> list[tuple[str, str]]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True,
                            encoding="utf-8")
    if listed.returncode:
        pytest.skip("not a git checkout: the list of files is unknown")
    files = [ROOT / name for name in listed.stdout.splitlines()]
    text = []
    for file in files:
        try:
            text.append((str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")))
        except (UnicodeDecodeError, FileNotFoundError):
            continue
    return text


def test_requirements_are_lower_bounds_only():
    for r in REQUIREMENTS:
        operators = {s.operator for s in r.specifier}
        # Jupyter Book 2 does not read _config.yml: the one cap, on a tool of the book, not of the package.
        allowed = {">=", "<"} if r.name == "jupyter-book" else {">="}
        assert operators and operators <= allowed, f"{r}: a package states lower bounds; pins belong to constraints.txt"


def test_the_tested_versions_satisfy_the_lower_bounds():
    pins = constraints()
    for r in REQUIREMENTS:
        version = pins.get(canonical(r.name))
        assert version, f"{r.name} is in pyproject.toml but not in constraints.txt"
        assert r.specifier.contains(version, prereleases=True), f"{r} does not allow the tested {version}"


def test_constraints_hold_nothing_of_one_platform():
    for name, version in constraints().items():
        assert not re.match(r"nvidia|triton|cuda", name), f"{name} exists on some platforms only"
        assert Version(version).local is None, f"{name}=={version} is a local build"


def test_environment_yml_installs_the_same_extras_and_constraints():
    env = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = [d["pip"] for d in env["dependencies"] if isinstance(d, dict)]
    conda = [d for d in env["dependencies"] if isinstance(d, str)]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    assert pip == ["-c constraints.txt", f"-e .[{','.join(INSTALLED)}]"]


def test_make_installs_the_same_extras_and_constraints():
    assert f'-c constraints.txt -e ".[{",".join(INSTALLED)}]"' in MAKEFILE


def test_documented_make_commands_exist():
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
    for name in ("README.md", "CONTRIBUTING.md", "book/intro.md"):
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / name).read_text(encoding="utf-8"), re.M))
        assert named and named <= targets, f"{name} names {sorted(named - targets)}, which the Makefile does not have"


@pytest.mark.parametrize("command", [
    "jupyter-book build . --all -W -n --keep-going",
    "--nbval --nbval-sanitize-with tests/sanitize.cfg",
    "--dist loadscope",
    "--extra-keys \"metadata.language_info cell.metadata.execution\"",
])
def test_readme_gives_the_plain_commands_that_make_runs(command):
    joined = re.sub(r"\s*\\\n\s*", " ", MAKEFILE)
    assert command in joined and command in re.sub(r"\s*\\\n\s*", " ", (ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("unit, notebooks", [(0, 0), (1, 0), (0, 1), (2, 1), (139, 0)])
def test_make_test_runs_both_halves_reports_both_and_is_red_if_either_is(tmp_path, unit, notebooks):
    """With a Python that writes down what it was asked to run, and ends as it is told to."""
    python, asked = tmp_path / "bin/python", tmp_path / "asked"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$@" $ATEN_CPU_CAPABILITY "[$PYTHONWARNINGS]" >> {asked}\n'
                      f'case "$*" in *--nbval*) exit {notebooks};; *) exit {unit};; esac\n', encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / ".installed").touch()
    done = subprocess.run(["make", "test", f"VENV={tmp_path}"], cwd=ROOT, capture_output=True, encoding="utf-8",
                          env=os.environ | {"PYTHONWARNINGS": "error", "MAKEFLAGS": ""})
    first, second = asked.read_text(encoding="utf-8").splitlines()
    assert first.startswith("-m pytest -n 2 --dist loadfile tests") and "--nbval" in second and " book" in second
    assert first.endswith("[]") and second.endswith("[]")  # a user's own filters would turn warnings into errors
    if has_avx2():
        assert second.split()[-2] == "avx2", "stored by one CPU, checked with the arithmetic of another"
    verdict = [{0: "passed"}.get(code, "FAILED") for code in (unit, notebooks)]
    assert "make test: unit tests {}, notebooks {}".format(*verdict) in done.stdout
    assert (done.returncode != 0) == ("FAILED" in verdict)


def has_avx2() -> bool:
    try:
        return "avx2" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False


def test_ci_runs_the_notebooks_once():
    commands = re.findall(r"^(?:\w+=\S+ )*make (\S+)", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.M)
    assert commands == ["venv", "pdf", "test"]  # the PDF is made of the book


def unnamed_encodings(source: str) -> list[int]:
    """Lines that open text without saying how it is encoded: the machine's locale would decide."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and not any(k.arg == "encoding" for k in node.keywords):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            mode = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)][-1:]
            builtin = isinstance(node.func, ast.Name) and name == "open" and not (mode and "b" in mode[0])
            piped = any(k.arg in ("text", "universal_newlines") for k in node.keywords)
            if name in ("read_text", "write_text") or builtin or piped:
                found.append(node.lineno)
    return found


def test_text_is_utf_8_whatever_the_locale():
    texts = [(name, text) for name, text in tracked_text() if name.endswith(".py")]
    assert len(texts) > 60
    found = {name: lines for name, text in texts if (lines := unnamed_encodings(text))}
    assert not found, f"name encoding=\"utf-8\" at {found}"


@pytest.mark.parametrize("code, found", [
    ("Path(p).read_text()", [1]), ("p.write_text(x)", [1]), ("open(p)", [1]), ("x = 1\nopen(p, 'w')", [2]),
    ("run(c, text=True)", [1]), ("open(p, 'rb')", []), ("open(p, encoding='utf-8')", []), ("log.open(p)", [])])
def test_an_unnamed_encoding_is_noticed(code, found):
    assert unnamed_encodings(code) == found


def test_every_public_name_has_an_api_entry():
    import metalib

    page = (ROOT / "book/api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"auto(?:class|function)::\s+metalib\.(\w+)$", page, re.M))
    documented |= set(re.findall(r"automodule::\s+metalib\.figures\.(\w+)$", page, re.M))
    assert set(metalib.__all__) <= documented, f"add to book/api.md: {sorted(set(metalib.__all__) - documented)}"


def test_classes_stand_in_the_api_as_classes_and_functions_as_functions():
    import inspect

    import metalib

    page = (ROOT / "book/api.md").read_text(encoding="utf-8")
    for directive, name in re.findall(r"auto(class|function)::\s+metalib\.(\w+)$", page, re.M):
        assert inspect.isclass(getattr(metalib, name)) == (directive == "class"), f"{name} stands as a {directive}"


def test_the_version_is_the_same_everywhere():
    import metalib

    version = PROJECT["version"]
    assert metalib.__version__ == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)


def test_the_licences_are_there():
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert "CC-BY-4.0" in (ROOT / "LICENSE-prose").read_text(encoding="utf-8")


def test_no_repository_address_is_invented():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert "repository" not in config and "launch_buttons" not in config
    assert not any(config["html"][f"use_{b}_button"] for b in ("issues", "repository", "edit_page"))
    assert config["sphinx"]["config"]["html_theme_options"]["use_download_button"]


def test_execution_is_off_so_pages_show_the_stored_outputs():
    assert yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["execute"]["execute_notebooks"] == "off"


def test_no_file_names_a_path_of_one_machine():
    places = [f"/{top}/" for top in ("work", "root", "tmp", "home", "Users", "opt")]
    pattern = re.compile(r"(?<![\w.~}])(" + "|".join(places) + r")\w")
    found = [f"{name}: {m.group(0)}" for name, text in tracked_text() for m in pattern.finditer(text)]
    assert not found, found


def test_nothing_is_left_to_do():
    marks = "|".join(["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error"])
    words = re.compile(rf"\b(?:{marks})s?\b")  # a whole word: a picture's base64 may hold any four letters
    found = [name for name, text in tracked_text() if words.search(text)]
    assert not found, found


def test_a_module_fits_in_a_reader_s_head():
    lines = {p.name: len(p.read_text(encoding="utf-8").splitlines()) for p in (ROOT / "metalib").rglob("*.py")}
    long = {name: n for name, n in lines.items() if n > 250}
    assert not long, f"over 250 lines: {long}"


def test_importing_metalib_needs_no_more_than_it_declares():
    """What a module imports at its top is a dependency, the standard library or metalib itself."""
    declared = {canonical(Requirement(r).name) for r in PROJECT["dependencies"]} | {"metalib"}
    names = {"PIL": "pillow", "contourpy": "matplotlib", "fontTools": "matplotlib"}  # which cannot do without them
    optional = {"metalib/tasks/gym.py": "rl"}  # a module of an extra, which nobody else imports
    for path in (ROOT / "metalib").rglob("*.py"):
        extra = EXTRAS.get(optional.get(path.relative_to(ROOT).as_posix()), [])
        allowed = declared | {canonical(Requirement(r).name) for r in extra}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) else [])
            tops = {m.split(".")[0] for m in modules} - set(sys.stdlib_module_names)
            missing = {t for t in tops if canonical(names.get(t, t)) not in allowed}
            assert not missing, f"{path.name} imports {missing}: declare it, or import it where it is used"
