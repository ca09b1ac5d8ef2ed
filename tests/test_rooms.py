"""The house: a folder is a noun of the field, and arrows between rooms point one way."""

import ast
import subprocess
import sys

import pytest

from conftest import ROOT

PACKAGE = ROOT / "metalib"
# From the ground up: a module imports from its own floor and those below, never from one above.
FLOORS = [["arguments", "distributions", "episode", "functional", "keys", "progress"], ["fast"], ["learner", "nets"],
          ["data"], ["tasks"], ["learners"], ["judging"], ["training"], ["figures"]]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def name_of(path):
    parts = ("metalib", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """The modules of metalib that a file imports, wherever the import stands."""
    known = {name_of(p) for p in MODULES}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("metalib"))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "metalib":
            for alias in node.names:  # `from metalib.tasks import few_shot` is an arrow to the module
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: imports are absolute"


def room(module):
    return module.split(".")[1]


def test_every_room_has_a_floor():
    rooms = {p.stem for p in PACKAGE.iterdir() if p.is_dir() and (p / "__init__.py").exists() or p.suffix == ".py"}
    assert rooms - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_between_rooms_point_down(path):
    mine = name_of(path)
    up = [m for m in imports(path) if m == "metalib" or FLOOR[room(m)] > FLOOR[room(mine)]]
    assert not up, f"{mine} imports {up}, which stand above it"


def test_no_two_modules_import_each_other_in_a_circle():
    arrows = {name_of(p): set(imports(p)) for p in MODULES}
    below = {}  # module -> everything it reaches

    def reach(module, path):
        assert module not in path, f"a circle: {' -> '.join([*path, module])}"
        if module not in below:
            below[module] = set().union(*({m} | reach(m, (*path, module)) for m in arrows[module]))
        return below[module]

    for module in arrows:
        reach(module, ())


@pytest.mark.parametrize("module", ["metalib.figures.plot", "metalib.training.train", "metalib.judging.audit"])
def test_a_room_can_be_entered_first(module):
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, check=True)


def test_nothing_of_the_library_knows_the_book_the_recipes_or_the_benchmark():
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not named & {"book", "recipes", "bench", "tests"}, path
