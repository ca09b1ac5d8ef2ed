"""Chapter 14's recipe: what it compares is equal, and it runs from end to end on a fragment."""

import importlib.util
import json
import sys

import pytest
import torch

import metalib
from conftest import ROOT
from test_omniglot import real

pytest.importorskip("sklearn")
pytestmark = [real, pytest.mark.skipif(importlib.util.find_spec("qtawesome") is None, reason="no qtawesome")]


@pytest.fixture(scope="module")
def recipe():
    sys.path.insert(0, str(ROOT / "recipes"))
    import domains

    return domains


def test_every_training_set_has_equally_many_classes_and_drawings_of_a_domain(recipe):
    banks = {name: recipe.home(name, 0) for name in recipe.HOMES}
    n = len(banks["icons"])  # with quarter turns
    assert n >= 4 * 140 and [len(b) for b in banks.values()] == [n, n, n, 3 * n]
    assert all(set(b.counts.tolist()) == {16} for b in banks.values())
    assert {g: banks["all three"].groups.count(g) for g in set(banks["all three"].groups)} == {
        f"domain {i}": n for i in range(3)}


def test_no_script_that_print_tests_is_in_the_handwriting(recipe):
    alphabets = set(recipe.drawn()["handwriting"].groups)
    assert not alphabets & set(recipe.IN_PRINT) and len(alphabets) == 46
    tested = {"Georgian", "Hebrew", "Lao", "N'Ko"}
    assert set(recipe.drawn()["print"].split("test").groups) == tested
    assert not [a for a in alphabets if any(word in a for word in ("Georgian", "Hebrew", "Lao", "N_Ko", "Cyrillic"))
                and a in recipe.columns()["handwriting"].groups]


def test_centring_undoes_a_shift(recipe):
    still, moved = (recipe.centred(recipe.columns()[name]).images for name in ("digits", "shifted digits"))
    assert torch.equal(still, moved)


def test_sliding_finds_what_was_moved_and_without_reach_is_the_pixel_floor(recipe):
    x = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    x[..., :4, :], x[..., -4:, :], x[..., :4], x[..., -4:] = 0, 0, 0, 0
    support = metalib.Data(x, torch.arange(6), 6)
    moved = x.roll((3, -4), (2, 3))
    sliding, still = recipe.SlidingPixels(), recipe.SlidingPixels(0)
    found = sliding.predict(sliding.adapt(support), moved)
    torch.testing.assert_close(found.diagonal(), torch.ones(6))
    floor = metalib.PixelFloor()
    torch.testing.assert_close(still.predict(still.adapt(support), moved), floor.predict(floor.adapt(support), moved))


def test_the_smoke_run_writes_every_table(recipe, tmp_path, monkeypatch):
    import record

    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "recipes" / "domains.py"), "--smoke"])
    recipe.main()
    found = json.loads((tmp_path / "results" / "domains-smoke.json").read_text(encoding="utf-8"))
    columns = list(recipe.columns())
    assert len(found["rows"]) == 4 + sum(len(sets) for *_, sets in recipe.METHODS.values())
    assert all(list(row) == columns for table in ("rows", "minus pixels", "group minus batch") for row in
               found[table].values())
    assert found["image_passes"]["ProtoNet"] * 10 == found["image_passes"]["classifier x10"]
    assert set(found["tuning"]) == set(recipe.METHODS)
