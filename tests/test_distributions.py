"""A prediction that says how sure it is: its loss, its metrics, and the evaluation that scores it."""

import math

import pytest
import torch
from torch import nn

from metalib import (
    Learner,
    Metric,
    Normal,
    Sinusoids,
    TrainConfig,
    certify_gradient,
    compare,
    coverage,
    meta_test,
    meta_train,
    seeded,
)
from metalib.distributions import mixed
from metalib.functional import default_loss


class Line(Learner):
    """Ridge regression through the origin, as sure as its residuals are small."""

    def __init__(self):
        super().__init__()
        self.log_ridge, self.log_std = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def adapt(self, support):
        return (support.x * support.y).sum() / (support.x.square().sum() + self.log_ridge.exp())

    def predict(self, phi, x):
        return Normal(phi * x, self.log_std.exp().expand_as(x))


def test_log_prob_is_that_of_torch_distributions():
    g = seeded(0)
    mean, y, std = (torch.randn(7, 2, generator=g, dtype=torch.float64) for _ in range(3))
    ours, theirs = Normal(mean, std.exp()), torch.distributions.Normal(mean, std.exp())
    assert torch.allclose(ours.log_prob(y), theirs.log_prob(y), rtol=1e-13, atol=0)
    assert torch.allclose(default_loss(ours, y), -theirs.log_prob(y).mean())
    for level in (0.5, 0.9, 0.99):
        inside = (theirs.cdf(y) - 0.5).abs() <= level / 2
        assert torch.equal(ours.inside(y, level), inside)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"mean \(3, 1\), std \(3, 1\) and targets \(3,\)"):
        Normal(torch.zeros(3, 1), torch.ones(3, 1)).log_prob(torch.zeros(3))
    for f in (Normal.inside, coverage(0.5).f):  # a broadcast would compare all with all
        with pytest.raises(ValueError, match="make the three shapes equal"):
            f(Normal(torch.zeros(6, 1), torch.ones(6, 1)), torch.zeros(6))


@pytest.mark.parametrize("level", [95, -0.5, math.nan])
def test_an_interval_holds_a_probability(level):
    with pytest.raises(ValueError, match="expected a probability"):
        Normal(torch.zeros(2, 1), torch.ones(2, 1)).inside(torch.zeros(2, 1), level)


@pytest.mark.parametrize("where", ["mean", "std", "y"])
def test_a_nan_is_neither_inside_nor_outside(where):
    parts = {"mean": torch.zeros(5, 2), "std": torch.ones(5, 2), "y": torch.zeros(5, 2)}
    assert float(coverage(0.8).f(Normal(parts["mean"], parts["std"]), parts["y"])) == 1
    parts[where][3, 1] = math.nan
    assert math.isnan(coverage(0.8).f(Normal(parts["mean"], parts["std"]), parts["y"]))


@pytest.mark.parametrize("where, number", [("mean", math.inf), ("std", math.inf), ("std", 0.0), ("std", -2.0),
                                           ("y", -math.inf)])
def test_an_overflow_or_a_width_that_is_none_is_neither_inside_nor_outside(where, number):
    parts = {"mean": torch.zeros(3, 4), "std": torch.ones(3, 4), "y": torch.zeros(3, 4)}
    parts[where][1, 2] = number
    assert math.isnan(coverage(0.5).f(Normal(parts["mean"], parts["std"]), parts["y"]))


def test_a_mixture_has_the_mean_and_variance_of_its_samples():
    parts = Normal(torch.tensor([[[0.0]], [[4.0]]]), torch.tensor([[[1.0]], [[3.0]]]))
    m = mixed(parts)
    assert float(m.mean) == 2.0 and float(m.std.square()) == pytest.approx(1 / 2 * (1 + 9) + 4)


@pytest.mark.parametrize("map", ["vmap", "loop"])
@pytest.mark.parametrize("transductive", [True, False])
def test_several_metrics_in_one_pass_are_those_of_a_plain_loop(map, transductive):
    learner, tasks = Line().double(), Sinusoids(noise=0.1)
    mse, nll, inside, half, own = meta_test(
        learner, tasks, 40, seed=3, map=map, transductive=transductive,
        metric=["MSE", "NLL", "coverage", coverage(0.5), lambda p, y: (p.mean - y).abs().max()])
    assert [s.metric for s in (mse, nll, inside, half)] == ["MSE", "NLL", "coverage of 90 %", "coverage of 50 %"]
    generator = seeded(3)
    for t in range(40):
        support, query = tasks.sample(1, generator=generator).task(0)
        with torch.no_grad():
            p = learner.predict(learner.adapt(support), query.x)
        z = (query.y - p.mean) / p.std
        assert float(mse.values[t]) == pytest.approx(float((p.mean - query.y).square().mean()))
        assert float(nll.values[t]) == pytest.approx(float((z.square() / 2 + p.std.log()).mean())
                                                     + math.log(2 * math.pi) / 2)
        assert float(inside.values[t]) == float((z.abs() <= 1.6448536269514722).double().mean())
        assert float(half.values[t]) == float((z.abs() <= 0.6744897501960817).double().mean())
        assert float(own.values[t]) == pytest.approx(float((p.mean - query.y).abs().max()))
    assert meta_test(learner, tasks, 40, seed=3, metric="NLL").mean == pytest.approx(nll.mean)
    assert compare(nll, nll).mean == 0


def test_the_noise_of_the_targets_is_learned_and_validated_by_its_likelihood():
    learner, tasks = Line().double(), Sinusoids(noise=0.1)
    assert certify_gradient(learner, tasks.sample(3, generator=seeded(0)), smooth=True).passed
    before = meta_test(learner, tasks, 100, metric="NLL").mean
    history = meta_train(learner, tasks, TrainConfig(iterations=60, lr=0.05, metric="NLL", val_every=20,
                                                     val_episodes=50), val_tasks=Sinusoids(noise=0.1))
    means = [mean for _, mean, _ in history.validations]
    assert history.best_iteration == 20 * (1 + means.index(min(means))), "less is better"
    assert meta_test(learner, tasks, 100, metric="NLL").mean < before


def test_more_is_better_where_a_metric_says_so():
    assert Metric("hits", lambda p, y: (p == y).sum(), better=1).better == 1
    with pytest.raises(ValueError, match="metric='coverage': expected one of"):
        meta_train(Line(), Sinusoids(), TrainConfig(iterations=1, metric="coverage"))
    with pytest.raises(ValueError, match="expected one of"):
        meta_train(Line(), Sinusoids(), TrainConfig(iterations=1, metric=["MSE", "NLL"]))
    for metric in ({"MSE", "NLL"}, [["MSE"]], nn.MSELoss):
        with pytest.raises(ValueError, match="or a list of them"):
            meta_test(Line().double(), Sinusoids(), 3, metric=metric)
    with pytest.raises(TypeError, match="expected a name and a function"):
        Metric(lambda p, y: (p - y).abs().mean(), "MAE")


@pytest.mark.parametrize("metric", ["NLL", "coverage", coverage(0.5)])
def test_a_prediction_that_does_not_say_how_sure_it_is_has_no_likelihood(metric):
    class Point(Line):
        def predict(self, phi, x):
            return phi * x

    with pytest.raises(ValueError, match="say how sure they are"):
        meta_test(Point().double(), Sinusoids(), 30, metric=metric)


@pytest.mark.parametrize("level", [0, 1, -0.1, 90, "0.9"])
def test_a_level_is_a_probability(level):
    with pytest.raises(ValueError, match="expected a probability between 0 and 1"):
        coverage(level)


def test_noise_is_added_to_the_same_tasks():
    quiet, loud = (Sinusoids(shot=200, query=200, noise=n).sample(5, generator=seeded(1)) for n in (0.0, 0.3))
    for a, b in zip(quiet, loud):
        assert torch.equal(a.x, b.x) and float((b.y - a.y).std()) == pytest.approx(0.3, rel=0.1)
    both = torch.cat([(b.y - a.y) for a, b in zip(quiet, loud)], 1).flatten(1)
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.25, "each task has its own noise"
    for noise in (-0.1, math.nan, "much"):
        with pytest.raises(ValueError, match="noise="):
            Sinusoids(noise=noise)
