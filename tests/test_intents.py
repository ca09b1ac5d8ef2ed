"""Chapter 15's recipe: its heads are metalib's, its measures are what they say, and its fragment runs."""

import argparse
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from conftest import ROOT
from metalib import Data, seeded
from metalib.data import clinc, root
from metalib.learners.head import RidgeHead, logistic
from metalib.learners.metric import ProtoNet

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def recipe():
    sys.path.insert(0, str(ROOT / "recipes"))
    try:
        import intents
        yield intents
    finally:
        sys.path.remove(str(ROOT / "recipes"))


def unit(*shape):
    return nn.functional.normalize(torch.randn(*shape, generator=seeded(0), dtype=torch.float64), dim=-1)


@pytest.fixture
def tasks(recipe):
    """Two tasks, 4-way 3-shot with 5 queries, of texts that are rows of `rows`."""
    rows = unit(64, 8)
    ids = torch.arange(64).view(2, 4, 8)
    return rows, ids, recipe.Tasks(recipe.dense(rows), ids[..., :3], ids[..., 3:])


def test_ridge_on_a_kernel_is_ridge_regression_on_its_vectors(recipe, tasks):
    rows, ids, kernel = tasks
    torch.set_default_dtype(torch.float64)
    try:
        scores = kernel.ridge(0.3)
    finally:
        torch.set_default_dtype(torch.float32)
    y = torch.eye(4, dtype=torch.float64).repeat_interleave(3, 0) - 0.25
    for t in range(2):
        z, q = rows[ids[t, :, :3].flatten()], rows[ids[t, :, 3:].flatten()]
        w = torch.linalg.solve(z.T @ z + 0.3 * torch.eye(8), z.T @ y)
        assert torch.allclose(scores[t], q @ w)


def test_its_decisions_are_those_of_metalib_s_heads(recipe, tasks):
    rows, ids, kernel = tasks
    for t in range(2):
        support = Data(rows[ids[t, :, :3].flatten()], torch.arange(4).repeat_interleave(3), 4)
        q = rows[ids[t, :, 3:].flatten()]
        head = RidgeHead(nn.Identity(), regularisation=100.0).double()  # strong: the constant feature then adds nothing
        ours = recipe.Tasks(recipe.dense(rows.float()), ids[t:t + 1, :, :3], ids[t:t + 1, :, 3:]).ridge(100.0)[0]
        assert torch.equal(head.predict(head.adapt(support), q).argmax(1), ours.argmax(1))
        near = ProtoNet(nn.Identity()).double()
        means = near.adapt(support)
        cosine = q @ nn.functional.normalize(means, dim=1).T
        assert torch.allclose(kernel.centroid()[t], cosine)


def test_a_sum_of_kernels_is_a_concatenation_of_vectors(recipe, tasks):
    rows, ids, kernel = tasks
    other = unit(64, 5)
    both = torch.cat([rows, 0.4 ** 0.5 * other], 1) / 1.4 ** 0.5
    made = recipe.Tasks(recipe.dense(both), ids[..., :3], ids[..., 3:])
    summed = kernel.plus(recipe.Tasks(recipe.dense(other), ids[..., :3], ids[..., 3:]), 0.4)
    assert torch.allclose(made.inner, summed.inner) and torch.allclose(made.outer, summed.outer)


def test_logistic_on_a_kernel_is_metalib_s_without_its_constant_feature(recipe, tasks):
    rows, ids, kernel = tasks
    y = torch.eye(4, dtype=torch.float64).repeat_interleave(3, 0)
    torch.set_default_dtype(torch.float64)
    try:
        scores = kernel.logistic(0.1, steps=300)
    finally:
        torch.set_default_dtype(torch.float32)
    for t in range(2):
        z, q = rows[ids[t, :, :3].flatten()], rows[ids[t, :, 3:].flatten()]
        assert torch.allclose(scores[t], q @ logistic(z, y, 0.1, 2000), atol=1e-6)


def test_intervals_are_student_s_over_units_and_not_over_tasks(recipe):
    row = recipe.row({"a": [0.5, 0.7], "b": [0.7, 0.7], "c": [0.9, 0.7]})
    assert row["mean"] == 0.7 and row["n"] == 3
    assert row["ci95"] == pytest.approx(4.302653 * 0.1 / 3 ** 0.5, abs=2e-5)


def test_auroc_and_false_accepts_are_counts(recipe):
    inside, outside = torch.tensor([[0.9, 0.8, 0.5, 0.4]]), torch.tensor([[0.85, 0.5, 0.1]])
    pairs = [(a > b) + 0.5 * (a == b) for a in inside[0] for b in outside[0]]
    assert float(recipe.auroc(inside, outside)) == pytest.approx(float(sum(pairs)) / 12)
    many = torch.arange(100.0)[None]  # the largest threshold that keeps 95 of 100 is 5
    assert float(recipe.accepted(many, torch.tensor([[4.0, 5.0, 6.0, 200.0]]))) == 0.75


def test_padding_changes_no_embedding(recipe):
    torch.manual_seed(0)
    ids = torch.tensor([[5, 6, 7, 0, 0, 0], [8, 9, 0, 0, 0, 0]])
    for net in (recipe.Bag(20), recipe.Transformer(20)):
        alone = torch.cat([net(ids[:1, :3]), net(ids[1:, :2])])
        assert torch.allclose(net(ids), alone, atol=1e-6)
        assert not torch.allclose(net(ids), net(ids.flip(0)))
    order = recipe.Transformer(20)
    assert not torch.allclose(order(ids[:, [1, 0, 2, 3, 4, 5]]), order(ids), atol=1e-4)  # it reads the order


def has_real_data():
    folders = [Path(os.environ.get("METALIB_DATA") or root.user_folder()), root.user_folder()]
    return all(any((f / "clinc150" / n).is_file() for f in folders) for n in clinc.MD5)


@pytest.mark.slow
@pytest.mark.skipif(not has_real_data(), reason="CLINC150 is not in the data root (METALIB_DATA)")
def test_its_fragment_runs_and_writes_every_row(recipe, tmp_path, monkeypatch):
    import record

    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "recipes" / "intents.py"), "--smoke"])
    recipe.main()
    found = json.loads((tmp_path / "results" / "intents-smoke.json").read_text(encoding="utf-8"))
    assert "CC BY 3.0" in found["source"]
    learners, episodes = recipe.LEARNERS, sum(spec[1] == "episodes" for spec in recipe.LEARNERS.values())
    rows = {key for key in found["domains"] if "AUROC" not in key and "false" not in key and "turned" not in key
            and "kept" not in key}
    assert len(rows) == 2 * (7 + 2 * len(learners) + episodes + 1)  # what is fixed, networks, the untrained one
    for split, n in (("domains", 3), ("siblings, with", 3), ("siblings, without", 3)):
        assert all(0 <= row["mean"] <= 1 and row["n"] == n == len(row["units"]) for row in found[split].values())
    assert set(found["siblings, with"]) == set(found["siblings, without"]) <= rows
    assert [key for key in found["siblings, with"]["5-shot: TF-IDF, ridge"]["units"]] == [
        f"fold 0, set {third}" for third in range(3)]
    assert len([key for key in found["domains"] if "AUROC" in key]) == 2 * 2 * 3
    assert found["audit"]["domains"]["shared"] == [] and len(found["audit"]["intents"]["shared"]) >= 8
    assert set(found["longer"]["5-shot"]) == {"TF-IDF, ridge", *learners}


@pytest.mark.skipif(not has_real_data(), reason="CLINC150 is not in the data root (METALIB_DATA)")
def test_only_the_siblings_differ_between_the_two_trainings(recipe, monkeypatch):
    monkeypatch.setattr(recipe.Fold, "exam", lambda *_: {})
    monkeypatch.setattr(recipe, "Source", lambda corpus, classes: classes)
    corpus, args = recipe.Corpus(40), argparse.Namespace(episodes=2, val_episodes=2)
    tested = []
    for number in range(3):
        fold = recipe.Fold(corpus, number, args)
        assert len(fold.source) == 90 and list(fold.units["val"]) == [
            d for d, part in clinc.FOLDS[number].items() if part == "val"]
        for classes, train in zip(fold.sets.values(), fold.with_siblings, strict=True):
            domains = {corpus.bank.groups[c] for c in classes}
            swapped = set(train) - set(fold.source)
            assert len(classes) == 15 and len(domains) == 3 and domains == set(fold.units["test"])
            assert len(set(train)) == 90 and not set(train) & set(classes) and not set(fold.source) & set(classes)
            assert len(swapped) == 30 and {corpus.bank.groups[c] for c in swapped} == domains
            assert not (set(train) | set(fold.source)) & set(*fold.units["val"].values())
            tested += classes
    assert len(set(tested)) == len(tested) == 135


@pytest.mark.skipif(not has_real_data(), reason="CLINC150 is not in the data root (METALIB_DATA)")
def test_the_audit_reports_siblings_of_a_random_split_and_none_of_whole_domains(recipe):
    found = recipe.leaks(16)
    assert found["domains"]["shared"] == () and "in training as well: no group" in found["domains"]["text"]
    assert len(found["intents"]["shared"]) >= 8 and "banking" in found["intents"]["text"]
    assert sum(found["domains"]["siblings"]) == 0 < min(found["intents"]["siblings"])
