"""What a hospital asks for, against closed forms and scikit-learn."""

import math

import pytest
import torch

from metalib import FewShot, PixelFloor, compare, meta_test, seeded
from metalib.data.phantoms import phantoms
from metalib.judging.diagnosis import auroc, balanced_accuracy, calibration_error


def predictions(n, way, seed):
    g = seeded(seed)
    y = torch.randint(way, (n,), generator=g)
    logits = (2 * torch.randn(n, way, generator=g) + torch.eye(way)[y]).mul(4).round() / 4  # with ties
    return logits.double(), y


@pytest.mark.parametrize("way, seed", [(2, 0), (2, 1), (3, 2), (5, 3)])
def test_they_are_scikit_learn_s(way, seed):
    metrics = pytest.importorskip("sklearn.metrics")
    logits, y = predictions(80, way, seed)
    assert float(balanced_accuracy.f(logits, y)) == pytest.approx(metrics.balanced_accuracy_score(y, logits.argmax(-1)))
    p = logits.softmax(-1).numpy()
    theirs = metrics.roc_auc_score(y, (logits[:, 1] - logits[:, 0]) if way == 2 else p, multi_class="ovr")
    assert float(auroc.f(logits, y)) == pytest.approx(theirs, abs=1e-3 if way > 2 else 1e-12)  # p's ties are rounded


def test_a_rule_that_always_says_healthy_scores_chance_at_any_prevalence():
    y = torch.tensor([0] * 19 + [1])
    logits = torch.tensor([[3.0, -1.0]]).expand(20, 2)
    assert float(balanced_accuracy.f(logits, y)) == 0.5 and float(auroc.f(logits, y)) == 0.5
    assert float(balanced_accuracy.f(logits, torch.zeros(20, dtype=torch.long))) == 1  # of the one class that is there


def test_two_normal_scores_have_the_auroc_of_the_closed_form():
    g, d, n = seeded(0), 1.2, 4000
    y = torch.arange(n) % 2
    logits = torch.stack([torch.zeros(n), torch.randn(n, generator=g) + d * y], 1)
    expected = 0.5 * (1 + math.erf(d / 2))  # Phi(d / sqrt 2)
    assert abs(float(auroc.f(logits, y)) - expected) < 0.02
    assert float(auroc.f(1000 * logits, y)) == pytest.approx(float(auroc.f(logits, y)))  # the order alone counts
    assert float(auroc.f(-logits, y)) == pytest.approx(1 - float(auroc.f(logits, y)))


def test_a_calibrated_rule_has_little_error_and_a_bold_one_what_it_is_too_bold_by():
    g, n = seeded(0), 40_000
    p = 0.5 + 0.5 * torch.rand(n, generator=g, dtype=torch.float64)
    y = (torch.rand(n, generator=g, dtype=torch.float64) < p).long()
    logits = torch.stack([torch.zeros(n), (p / (1 - p)).log()], 1)
    assert float(calibration_error().f(logits, y)) < 0.01
    sure = torch.tensor([[0.0, 50.0]]).expand(10, 2)
    wrong = torch.tensor([1] * 7 + [0] * 3)
    assert float(calibration_error().f(sure, wrong)) == pytest.approx(0.3)
    half = torch.tensor([[0.0, math.log(3.0)]]).expand(10, 2)  # says 0.75, is right in 7 of 10
    assert float(calibration_error(4).f(half, wrong)) == pytest.approx(0.05)
    # Two bins whose errors have opposite signs do not cancel; one bin hides them.
    two = torch.tensor([[0.0, math.log(0.6 / 0.4)]] * 2 + [[0.0, math.log(9.0)]] * 2)
    y = torch.tensor([1, 1, 1, 0])  # 0.6 -> 1.0 and 0.9 -> 0.5
    assert float(calibration_error(10).f(two, y)) == pytest.approx((0.8 + 0.8) / 4)
    assert float(calibration_error(1).f(two, y)) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="bins"):
        calibration_error(0)


@pytest.mark.parametrize("metric", [balanced_accuracy, auroc, calibration_error()])
def test_what_says_nothing_is_no_number(metric):
    assert math.isnan(float(metric.f(torch.tensor([[0.0, 1.0], [math.nan, 0.0]]), torch.tensor([0, 1]))))


@pytest.mark.parametrize("map", ["vmap", "loop"])
def test_they_are_metrics_of_meta_test(map):
    tasks = FewShot(phantoms(slides=10, size=8), 2, 5, 10)
    wanted = [balanced_accuracy, auroc, calibration_error(), "accuracy"]
    scores = meta_test(PixelFloor(), tasks, 20, metric=wanted, map=map)
    assert [s.metric for s in scores] == ["balanced accuracy", "AUROC", "calibration error", "accuracy"]
    assert torch.allclose(scores[0].values, scores[3].values)  # the query is balanced
    assert compare(scores[1], scores[1]).mean == 0 and 0 <= scores[2].mean <= 1
