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
    banks = {name: recipe.home(name, 0) for name in recipe.SETS}
    n = len(banks["icons"])
    assert n >= 140 and all(len(b) == n * len(recipe.SETS[name]) for name, b in banks.items())
    assert all(set(b.counts.tolist()) == {16} and b.base.unique().numel() == len(b) for b in banks.values())
    assert {g: banks["all three"].groups.count(g) for g in set(banks["all three"].groups)} == {
        f"domain {i}": n for i in range(3)}


def test_no_script_is_in_two_domains_and_no_training_alphabet_in_a_test(recipe):
    bank = recipe.drawn()["handwriting"]
    parts = {split: set(bank.split(split).groups) for split in ("train", "val", "test")}
    assert not set.union(*parts.values()) & set(recipe.LEFT_OUT)
    assert sum(map(len, parts.values())) == 50 - len(recipe.LEFT_OUT) == 35
    words = {"N'Ko": "N_Ko", "Canadian Aboriginal": "Aboriginal"}
    for split, alphabets in parts.items():
        for other in ("train", "val", "test"):
            scripts = set(recipe.drawn()["print"].split(other).groups)
            shared = [(a, s) for a in alphabets for s in scripts if words.get(s, s) in a]
            assert not shared, (split, other, shared)
    assert not {a.split("_(")[0] for a in parts["train"]} & {a.split("_(")[0] for a in parts["test"]}
    assert set(bank.split("train").groups) == {a for a in metalib.omniglot("background").split("train").groups
                                               if a not in recipe.LEFT_OUT}


def test_the_seven_training_sets_hold_what_they_say(recipe):
    for name, domains in recipe.SETS.items():
        names = set(recipe.home(name, 1).names)
        assert all(bool(names & set(recipe.drawn()[d].split("train").names)) == (d in domains) for d in recipe.DRAWN)


def test_unmoved_drawings_differ_in_the_place_alone(recipe):
    for name in ("print", "icons"):
        moved, still = recipe.columns()[name], recipe.columns()[f"{name}, unmoved"]
        assert moved.names == still.names and torch.equal(moved.labels, still.labels)
        x, y = (bank.images[:, 0].double() for bank in (moved, still))
        assert (x.sum((1, 2)) / y.sum((1, 2)) - 1).abs().mean() < 0.02  # the same drawings, as much ink
        at = torch.arange(28).double()
        place = [torch.stack([z.sum(2) @ at, z.sum(1) @ at], 1) / z.sum((1, 2))[:, None] for z in (x, y)]
        change = place[0] - place[1]
        assert change.abs().max() < 2.7 and 1 < change.std() < 1.6  # uniform to 2.2 pixels: 1.27


def test_cells_lie_on_paper_without_ink_and_smears_part_their_tasks(recipe):
    cells = recipe.columns()["blood cells"]
    x = cells.images[:, 0]
    border = torch.cat([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], 1)
    assert (border == 0).double().mean() >= 0.5 and (x.float().amax((1, 2)) > 20).double().mean() > 0.9
    assert set(recipe.APART.values()) == {"smear", "family"} and set(recipe.APART) <= set(recipe.columns())


def test_fixed_statistics_are_those_of_the_images_given(recipe):
    torch.manual_seed(0)
    net = metalib.conv4(channels=32)
    x = torch.rand(40, 1, 28, 28)
    with torch.no_grad():
        for block in net.blocks:
            block.scale.uniform_(-1, 1)
        expected, fixed = net.features(x), recipe.FixedStatistics(net, x)
        torch.testing.assert_close(fixed(x), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(fixed(x[:1]), fixed(x)[:1])
        assert (net.features(x[:5]) - expected[:5]).abs().max() > 0.1
    learner = metalib.ProtoNet(fixed)
    (sx, sy, way), (qx, _, _) = (half for half in metalib.FewShot(recipe.columns()["print"], query=5).sample(
        1, generator=torch.Generator().manual_seed(0)).task(0))
    with torch.no_grad():
        phi = learner.adapt(metalib.Data(sx, sy, way))
        torch.testing.assert_close(learner.predict(phi, qx)[:1], learner.predict(phi, qx[:1]))


def test_blurring_pixels_does_not_see_a_constant(recipe):
    x = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x[..., :10, :], x[..., -10:, :], x[..., :10], x[..., -10:] = 0, 0, 0, 0
    support, floor = metalib.Data(x[:4], torch.arange(4), 4), recipe.BlurredPixels(2.0)
    found = floor.predict(floor.adapt(support), x)
    torch.testing.assert_close(found[:4].diagonal(), torch.ones(4))
    assert float(floor.line.sum()) == pytest.approx(1)
    assert floor.predict(floor.adapt(support), x.roll(1, 3))[:4].diagonal().min() > 0.9


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
    methods = sum(len(sets) for *_, sets in recipe.METHODS.values()) + sum(map(len, recipe.FIXED.values()))
    assert len(found["rows"]) == 5 + methods and "classifier x10, fixed statistics: print" in found["rows"]
    basic = [c for c in columns if c not in recipe.DETAILS]
    for row, entries in found["rows"].items():
        details = row.startswith(("pixels", "random", "ProtoNet: ")) and "without" not in row
        assert list(entries) == (columns if details else basic)
    assert set(found["minus"]) == {"pixels", "pixels, centred", "pixels, sliding", "pixels, blurred"}
    assert found["left out"]["icons"].keys() == {"print", "handwriting", "all three", "icons"}
    assert set(found["lost by the shift"]["ProtoNet: print"]) == {"digits", "print", "icons"}
    assert found["image_passes"]["ProtoNet"] * 10 == found["image_passes"]["classifier x10"]
    assert set(found["tuning"]) == {*recipe.METHODS, "pixels, blurred"}
