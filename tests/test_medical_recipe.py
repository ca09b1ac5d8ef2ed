"""recipes/medical.py: its smoke run, on the real files, and what it claims of its own parts."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from metalib import seeded
from metalib.judging.diagnosis import auroc
from metalib.learners.statistics import Statistics
from test_medical_data import real
from test_recipes import elsewhere, start  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]


@real
def test_the_smoke_run_writes_a_whole_record(elsewhere, monkeypatch, one_thread):  # noqa: F811
    start(monkeypatch, elsewhere, "recipes/medical.py", "--smoke")
    record = json.loads((elsewhere / "results" / "medical.json").read_text(encoding="utf-8"))
    rows, names = record["table"], ["breast", "pneumonia", "referable", "retina", "blood"]
    assert {"pixels, cosine", "pixels, ridge", "statistics, ridge", "ProtoNet, prototypes", "ProtoNet, ridge",
            "pooled classifier, ridge", "untrained, ridge"} == set(rows)
    for row in rows.values():
        assert list(row) == names and {key for n in names for key in row[n]["5"]} == {"accuracy", "loss", "AUROC"}
    gap = record["minus"]["statistics, ridge"]["pixels, ridge"]["blood"]["5"]["accuracy"]
    a, b = (rows[r]["blood"]["5"]["accuracy"]["mean"] for r in ("pixels, ridge", "statistics, ridge"))
    assert gap["mean"] == pytest.approx(a - b, abs=1e-4) and gap["ci95"] > gap["tasks_ci95"]
    assert set(record["heat"]) == set(record["report"]) == set(names)
    assert {"statistics, by cell", "statistics, by photograph"} < set(record["sham"])
    assert record["natural"]["prevalence"] == record["report"]["breast"]["prevalence"] == pytest.approx(42 / 156, 1e-3)
    assert record["audits"]["breast"]["passed"] and record["twins"]["breast"]["dropped"] > 0
    assert record["config"]["smoke"] and record["command"].endswith("--smoke")


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    return importlib.import_module("medical")


def test_the_source_that_is_left_out_neither_trains_nor_chooses(recipe):
    for out, (*two, third) in recipe.FOLDS.items():
        assert {out, *two, third} == set(recipe.SOURCES)


def test_left_out_is_the_ridge_without_that_example(recipe):
    g = seeded(0)
    z, y = torch.randn(10, 31, generator=g).double(), torch.nn.functional.one_hot(torch.arange(10) % 2, 2).double()
    found = recipe.left_out(z, y, 3.0)
    for i in range(10):
        rest = torch.arange(10) != i
        assert torch.allclose(found[i], z[i] @ recipe.ridge(z[rest], y[rest], 3.0), atol=1e-8)


def episodes(recipe, g, images, T=400, way=2):
    """Queries of each class from as many images, and no more than that matters."""
    query = torch.cat([torch.randint(images, (T, 15), generator=g) + c * images for c in range(way)], 1)
    target = torch.arange(way).repeat_interleave(15).expand(T, -1)
    turn = torch.rand(T, way, generator=g).argsort(1)  # labels are numbered afresh
    target = turn.argsort(1).gather(1, target)
    return recipe.Drawn(torch.zeros(1), query[:, :1], query[:, :1], query, target, query, turn, way)


def test_credits_are_what_the_metrics_are_the_mean_of(recipe):
    g = seeded(0)
    for way in (2, 3):
        d = episodes(recipe, g, 20, T=6, way=way)
        logits = torch.randn(6, 15 * way, way, generator=g).double().mul(2).round() / 2  # with ties
        for metric, credit in recipe.credits(logits, d).items():
            f = {"accuracy": lambda s, y: (s.argmax(1) == y).double().mean(), "AUROC": auroc.f,
                 "loss": torch.nn.functional.cross_entropy}[metric]
            assert torch.allclose(credit.mean(1).double(), torch.stack([f(s, y) for s, y in zip(logits, d.target)]))


def test_an_interval_over_few_test_images_is_as_wide_as_their_spread(recipe):
    g, means = seeded(0), []
    for _ in range(60):  # 12 test images of each class, each right or wrong whatever the task
        right = torch.bernoulli(torch.tensor([0.9, 0.5]).repeat_interleave(12), generator=g).double()
        d = episodes(recipe, g, 12)
        found = recipe.interval([recipe.sums(right[d.query], d)], d)
        means.append(found["mean"])
        spread = 1.96 * float(torch.stack([right[:12].var(), right[12:].var()]).mean() / 24) ** 0.5
        assert found["ci95"] == pytest.approx(spread, rel=0.1) and found["ci95"] > 4 * found["tasks_ci95"]
    assert 1.96 * float(torch.tensor(means).std()) == pytest.approx(spread, rel=0.5)


def test_thirty_statistics_are_thirty_and_do_not_see_where_things_are():
    x = torch.rand(5, 3, 12, 12, generator=seeded(0))
    z = Statistics()(x)
    assert z.shape == (5, 30) and torch.allclose(z[:, :3], x.mean((2, 3)))
    assert torch.allclose(z, Statistics()(x.flip(3)), atol=1e-6)
    assert torch.allclose(z[:, 6:21].view(5, 3, 5)[:, :, 2], x.flatten(2).quantile(0.5, 2), atol=0.03)
    assert torch.allclose(Statistics()(x + 0.25)[:, 3:6], z[:, 3:6], atol=1e-6)  # the SD does not see brightness
    assert (Statistics()(torch.full((1, 1, 8, 8), 0.3))[0, [1, 7, 8, 9]].abs() < 1e-6).all()  # flat: no SD, no steps
