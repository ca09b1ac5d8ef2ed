"""The table check x answer x verdict: what each check of a code exercise accepts and rejects, and what it says.

The right answers are the chapter's own solution, taken from its page, and others in other styles; the wrong ones are
plausible. Both kinds beside the book's stand in tests/answers/. `pytest -s -k table` prints the table.
"""

import ast
import functools
import importlib
import inspect
import re
import textwrap

import numpy as np
import pytest
import torch

from metalib.judging.checks import ch02
from metalib.judging.checks.asking import apart, named, number, off, pair, tensor, whole
from notebooks import CHAPTERS, DIVES, ROOT, code_cells, exercises, parse, read

MODULES = sorted(p.stem for p in (ROOT / "metalib/judging/checks").glob("ch*.py"))
CHECKS = [(module, name) for module in MODULES for name in
          re.findall(r"^def check_(\w+)",
                     (ROOT / f"metalib/judging/checks/{module}.py").read_text(encoding="utf-8"), re.M)]
checks = pytest.mark.parametrize("module, name", CHECKS, ids=[f"{m}-{n}" for m, n in CHECKS])


def check_of(module, name):
    return getattr(importlib.import_module(f"metalib.judging.checks.{module}"), f"check_{name}")


def chapter_of(module):
    return next(p for p in (*CHAPTERS, *DIVES) if p.stem.startswith(module.removeprefix("ch") + "_"))


@functools.cache
def published(module, name):
    """(the function, its source) of the solution that the chapter prints, with what the chapter's cells import."""
    nb = read(chapter_of(module))
    blocks = [block for e in exercises(nb) if e.solution
              for block in re.findall(r"^```python\n(.*?)^```", textwrap.dedent(e.solution), re.M | re.S)]
    (source,) = [block for block in blocks if re.search(rf"^def {name}\(", block, re.M)]
    wanted = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    names = {}
    for node in (n for cell in code_cells(nb) for n in parse(cell.source).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [a for a in node.names if (a.asname or a.name.split(".")[0]) in wanted]
            if node.names:
                exec(compile(ast.Module([node], []), "<imports>", "exec"), names)
    exec(compile(source, f"<the solution of {name}>", "exec"), names)
    return names[name], source


@functools.cache
def answers(module, name):
    """What each answer is called -> (the function, whether it is right)."""
    others = vars(importlib.import_module(f"answers.{module}"))
    found = {"the book's solution": (published(module, name)[0], True)}
    for key, f in others.items():
        kind, _, rest = key.partition("_")
        if kind in ("right", "wrong") and rest.startswith(name + "_"):
            found[f"{kind}: {rest.removeprefix(name + '_').replace('_', ' ')}"] = (f, kind == "right")
    return found


@functools.cache
def verdict(module, name, key):
    """None for accepted, else the sentence. Anything but an AssertionError goes through."""
    return sentence_of(check_of(module, name), answers(module, name)[key][0])


def sentence_of(check, answer):
    try:
        assert check(answer) is None
    except AssertionError as error:
        assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__), "one traceback"
        return str(error)
    return None


TABLE = [(m, n, key) for m, n in CHECKS for key in answers(m, n)]


def test_there_are_code_exercises():
    assert len(CHECKS) >= 10, "metalib/judging/checks/chNN.py with check_<name>(answer)"


@pytest.mark.filterwarnings("ignore:var")  # what a wrong answer does to a single task
@pytest.mark.parametrize("module, name, key", TABLE, ids=[f"{m}-{n}-{k}" for m, n, k in TABLE])
def test_a_right_answer_is_accepted_and_a_wrong_one_rejected(module, name, key):
    right, said = answers(module, name)[key][1], verdict(module, name, key)
    assert (said is None) == right, said


@checks
def test_every_check_is_tried_with_two_right_answers_and_five_wrong_ones_at_least(module, name):
    rights = [right for _, right in answers(module, name).values()]
    assert rights.count(True) >= 3 and rights.count(False) >= 7


def test_the_table_is_printed():
    for module, name, key in TABLE:
        said = verdict(module, name, key)
        does = (answers(module, name)[key][0].__doc__ or "as printed").splitlines()[0]
        print(f"{module} {name:16} {key:30} {'accepted' if said is None else 'rejected'}  {does}")
        if said:
            print(f"{'':24} {said}")


@checks
def test_what_a_check_says_names_the_input_and_neither_shows_the_answer_nor_prints_one_number_twice(module, name):
    lines = {line.strip() for line in published(module, name)[1].splitlines() if len(line.strip()) > 15}
    for key, (_, right) in answers(module, name).items():
        if right:
            continue
        said = verdict(module, name, key)
        assert "This was with " in said and said.endswith(".") and len(said) > 60, said
        assert "?." not in said and "\n" not in said, said
        assert not [line for line in lines if line in said], said
        assert "nan" not in said or "nan" in key, said
        for twice in (r"expected (\S+?),? got \1\b", r"\+- (\d\S*), \D*\1\b", r"(\d+\.\d{3,})\b.*\bnot \1\b"):
            assert not re.search(twice, said), said


STUBS = {"pass": lambda *args: None, "ellipsis": lambda *args: ..., "not a function": torch.zeros(3), "nothing": None}
MISFITS = {
    "too few arguments": lambda: 0, "raises": lambda *args: 1 / 0, "asserts": lambda *args: [][0],
    "a string": lambda *args: "0.5", "a dict": lambda *args: {"a": 1}, "an object": lambda *args: object(),
    "an empty list": lambda *args: [], "an empty tensor": lambda *args: torch.zeros(0),
    "two Nones": lambda *args: (None, None),
    "two nans": lambda *args: (float("nan"), float("nan")), "a nan": lambda *args: torch.tensor(float("nan")),
    "ragged": lambda *args: [[1], [1, 2]], "three": lambda *args: (1, 2, 3), "complex": lambda *args: (1j, 1j),
    "two strings": lambda *args: ("1", "2"), "an array of objects": lambda *args: np.array([None, {}]),
    "a set": lambda *args: {1, 2}, "infinite": lambda *args: 2 * (float("inf"),), "a number": lambda *args: 1.0,
}


@checks
@pytest.mark.parametrize("kind", STUBS)
def test_an_untouched_stub_gets_a_sentence(module, name, kind):
    said = sentence_of(check_of(module, name), STUBS[kind])
    assert "stub" in said if kind in ("pass", "ellipsis") else "your function itself" in said, said


@checks
@pytest.mark.parametrize("kind", MISFITS)
def test_what_no_answer_can_be_gets_a_sentence(module, name, kind):
    said = sentence_of(check_of(module, name), MISFITS[kind])
    assert said and "This was with " in said and "\n" not in said and "<lambda> at" not in said, said


def test_an_exception_in_the_answer_is_told_with_its_line():
    def paired(a, b):
        return a.mean() - b.nonsense()

    said = sentence_of(check_of("ch03", "paired"), paired)
    assert said.startswith("paired raised AttributeError") and "`return a.mean() - b.nonsense()`" in said


def test_an_answer_that_changes_what_it_was_given_is_told_so():
    def paired(a, b):
        a -= b
        return a.mean(), 1.96 * a.std() / len(a) ** 0.5

    assert "changed what it was given" in sentence_of(check_of("ch03", "paired"), paired)


@checks
def test_right_answers_are_right_with_float64_by_default_and_two_threads(module, name):
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.set_default_dtype(torch.float64)
        for key, (answer, right) in answers(module, name).items():
            if right:
                assert sentence_of(check_of(module, name), answer) is None, key
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


@checks
def test_a_check_is_quiet_and_leaves_pytorch_s_own_seed_alone(module, name, capsys):
    before = torch.get_rng_state()
    check_of(module, name)(published(module, name)[0])
    assert torch.equal(torch.get_rng_state(), before)
    assert capsys.readouterr() == ("", "")


@checks
def test_nothing_in_a_module_of_checks_passes_as_an_answer(module, name):
    here = importlib.import_module(f"metalib.judging.checks.{module}")
    for f in [f for f in vars(here).values() if inspect.isfunction(f) and f.__module__ == here.__name__]:
        assert sentence_of(check_of(module, name), f), f.__name__
        assert not f.__name__.startswith(("solution", "right", "wrong"))


def test_a_fair_draw_is_called_unfair_less_than_once_in_a_million_runs(monkeypatch):
    calls, fair = [], ch02._fair
    monkeypatch.setattr(ch02, "_fair", lambda *args: (calls.append(args[2]), fair(*args)))
    ch02.check_draw(published("ch02", "draw")[0])
    tail = float(torch.special.erfc(torch.tensor(ch02.SIGMAS / 2**0.5, dtype=torch.float64))) / 2
    assert len(calls) > 60 and len(calls) * tail < 1e-7


def test_the_statistic_of_fair_draws_stays_well_below_its_limit(monkeypatch):
    monkeypatch.setattr(ch02, "SIGMAS", 4.75)  # 1e-6 a test: what 20 x 60 tests of fair draws stay below
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        classes = torch.rand(4000, 6, generator=g).argsort(1)[:, :3]
        examples = torch.rand(4000, 3, 5, generator=g).argsort(2)[..., :3]
        ch02._fair_columns(classes, examples, (5,) * 6)


@pytest.mark.parametrize("chapter", [*CHAPTERS, *DIVES], ids=lambda p: p.stem)
def test_every_code_exercise_has_its_check_in_the_chapter(chapter):
    nb = read(chapter)
    asked = [e.label for e in exercises(nb) if e.kind == "Code"]
    module = "ch" + chapter.stem.split("_")[0]
    imported = {a.name for c in code_cells(nb) for node in parse(c.source).body
                if isinstance(node, ast.ImportFrom) and node.module == f"metalib.judging.checks.{module}"
                for a in node.names}
    assert len(imported) == len(asked), f"{asked} ask for code; imported checks: {sorted(imported)}"
    assert imported == {f"check_{n}" for m, n in CHECKS if m == module}


@checks
def test_the_reader_s_cell_runs_as_it_stands_and_its_check_answers_in_a_sentence(module, name):
    (cell,) = [c for c in code_cells(read(chapter_of(module))) if f"import check_{name}" in c.source]
    names = {}
    exec(cell.source, names)  # the check's line is commented out
    (line,) = re.findall(rf"^# (check_{name}\({name}\))", cell.source, re.M)
    with pytest.raises(AssertionError, match="stub"):
        exec(line, names)


# --- What the checks share ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("value", [
    [1, 2], (1.0, 2), np.array([1, 2], np.float32), torch.tensor([1, 2], dtype=torch.int8), range(1, 3),
    [torch.tensor(1), np.float64(2)], torch.ones(2, requires_grad=True) + 0, (np.int32(1), True)])
def test_numbers_are_read_from_any_style(value):
    t = tensor(value, "it", (2,))
    assert t.dtype == torch.float64 and not t.requires_grad and float(t[0]) == 1


@pytest.mark.parametrize("read_it, value", [
    (tensor, "1"), (tensor, None), (tensor, {1: 2}), (tensor, [[1], [2, 3]]), (tensor, 1j), (tensor, [None]),
    (whole, [0.5]), (whole, [float("nan")]), (number, [1, 2]), (number, "x"), (pair, (1, 2, 3)), (pair, 3.0),
    (pair, torch.tensor(1.0)), (pair, {"a": 1, "b": 2})])
def test_what_is_no_number_is_named(read_it, value):
    with pytest.raises(AssertionError, match="it should be"):
        read_it(value, "it")


def test_names_and_shapes_of_a_dict_are_demanded():
    like = {"a": torch.zeros(2), "b": torch.zeros(())}
    assert list(named({"b": 1, "a": (1, 2)}, like, "it")) == ["a", "b"]
    for value, why in (({"a": [1, 2]}, "names"), ({"a": [1], "b": 1}, "shape"), ([1, 2], "dict")):
        with pytest.raises(AssertionError, match=why):
            named(value, like, "it")


def test_two_numbers_are_printed_so_that_they_differ():
    assert apart(0.0042270, 0.0042271) == ("0.004227", "0.0042271")
    assert apart(1.0, 2.0) == ("1", "2")
    assert off(1.02, 1) == "is 2 % too large" and off(3.0, 1) == "is 3 times too large"
    assert off(0.1, 1) == "is 10 times too small" and off(-1, 1) == "has the wrong sign"
    assert off(float("nan"), 1) == "is nan" and off(0.0, 1) == "is 0"
