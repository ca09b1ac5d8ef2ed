"""recipes/medical.py: its smoke run, on the real files, and what it claims of its own parts."""

import json

import pytest
import torch

from metalib import seeded
from metalib.learners.statistics import Statistics
from test_medical_data import real
from test_recipes import elsewhere, start  # noqa: F401


@real
def test_the_smoke_run_writes_a_whole_record(elsewhere, monkeypatch, one_thread):  # noqa: F811
    start(monkeypatch, elsewhere, "recipes/medical.py", "--smoke")
    record = json.loads((elsewhere / "results" / "medical.json").read_text(encoding="utf-8"))
    rows, names = record["table"], ["breast", "pneumonia", "referable", "retina", "blood"]
    assert {"pixels, cosine", "pixels, ridge", "statistics, ridge", "ProtoNet, prototypes", "ProtoNet, ridge",
            "pooled classifier, ridge", "letters, ridge", "untrained, ridge"} <= set(rows)
    for row in rows.values():
        assert list(row) == names
        assert {key for n in names for key in row[n]["5"]} == {"accuracy", "balanced accuracy", "loss", "AUROC", "ECE",
                                                               "chosen"}
    gap = record["minus"]["statistics, ridge"]["pixels, ridge"]["blood"]["5"]["accuracy"]["mean"]
    a, b = (rows[r]["blood"]["5"]["accuracy"]["mean"] for r in ("pixels, ridge", "statistics, ridge"))
    assert gap == pytest.approx(a - b, abs=1e-4) and set(record["heat"]) == set(names)
    assert {"statistics, by cell", "statistics, by smear"} < set(record["sham"])
    assert record["natural"]["prevalence"] == pytest.approx(42 / 156, abs=1e-4)
    assert record["config"]["smoke"] and record["command"].endswith("--smoke")


def test_thirty_statistics_are_thirty_and_do_not_see_where_things_are():
    x = torch.rand(5, 3, 12, 12, generator=seeded(0))
    z = Statistics()(x)
    assert z.shape == (5, 30) and torch.allclose(z[:, :3], x.mean((2, 3)))
    assert torch.allclose(z, Statistics()(x.flip(3)), atol=1e-6)
    assert torch.allclose(z[:, 6:21].view(5, 3, 5)[:, :, 2], x.flatten(2).quantile(0.5, 2), atol=0.03)
    assert torch.allclose(Statistics()(x + 0.25)[:, 3:6], z[:, 3:6], atol=1e-6)  # the SD does not see brightness
    assert (Statistics()(torch.full((1, 1, 8, 8), 0.3))[0, [1, 7, 8, 9]].abs() < 1e-6).all()  # flat: no SD, no steps
