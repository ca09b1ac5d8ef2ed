"""Each code exercise's check accepts the published solution and rejects plausible wrong answers, with a message."""

import importlib.util
import inspect
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from notebooks import CHAPTERS, ROOT, code_cells, exercises, read

MODULES = sorted((ROOT / "book/exercises").glob("ch[0-9][0-9].py"))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"exercises_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


CASES = [(path, name.removeprefix("check_")) for path in MODULES
         for name in re.findall(r"^def (check_\w+)", path.read_text(encoding="utf-8"), re.M)]
cases = pytest.mark.parametrize("path, name", CASES, ids=[f"{p.stem}-{n}" for p, n in CASES])


def test_there_are_code_exercises():
    assert CASES, "book/exercises/chNN.py with check_<name>(answer)"


@cases
def test_the_check_accepts_the_solution(path, name):
    module = load(path)
    assert getattr(module, f"check_{name}")(getattr(module, f"solution_{name}")) is None


@cases
def test_the_check_rejects_plausible_wrong_answers_with_a_message(path, name):
    module = load(path)
    wrong = [f for n, f in vars(module).items() if re.fullmatch(rf"wrong_{name}_\d+", n)]
    assert len(wrong) >= 2, f"wrong_{name}_1 and wrong_{name}_2 at least"
    for answer in wrong:
        with pytest.raises(AssertionError) as error:
            getattr(module, f"check_{name}")(answer)
        assert len(str(error.value)) > 15, f"{answer.__name__}: the message must help the reader"


@cases
def test_the_published_solution_is_the_one_that_was_checked(path, name):
    (chapter,) = [p for p in CHAPTERS if p.stem.startswith(path.stem.removeprefix("ch"))]
    source = inspect.getsource(getattr(load(path), f"solution_{name}")).replace(f"solution_{name}", name)
    published = [block for e in exercises(read(chapter)) if e.solution
                 for block in re.findall(r"^```python\n(.*?)^```", textwrap.dedent(e.solution), re.M | re.S)]
    assert textwrap.dedent(source).strip() in [block.strip() for block in published], \
        f"no solution in {chapter.name} is the code of solution_{name}, with the name {name}"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_every_code_exercise_has_its_check_in_the_chapter(chapter):
    nb = read(chapter)
    asked = [e.label for e in exercises(nb) if e.kind == "Code"]
    number = chapter.stem[:2]
    imports = [m for c in code_cells(nb) for m in re.findall(rf"from exercises\.ch{number} import (.+)", c.source)]
    imported = {n.strip() for names in imports for n in names.split(",") if n.strip().startswith("check_")}
    assert len(imported) >= len(asked), f"{asked} ask for code; imported checks: {sorted(imported)}"
    assert imported <= {f"check_{n}" for p, n in CASES if p.stem == f"ch{number}"}
