"""Heads that are solved for every task: the solution is the one that the equation says, and so is its meta-gradient."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import vmap

from metalib import (
    Data,
    Episode,
    FewShot,
    TrainConfig,
    certify_gradient,
    conv4,
    glyphs,
    load,
    meta_gradient,
    meta_test,
    meta_train,
    mlp,
    save,
    seeded,
)
from metalib.functional import one_hot, relative_error
from metalib.learners.head import LogisticHead, RidgeHead, logistic, ridge
from metalib.training import checkpoint

HEADS = {"ridge": RidgeHead, "logistic": LogisticHead}


def points(way, shot, dim=6, query=3, tasks=3, seed=0, dtype=torch.float64):
    """Classes are noisy points in the plane of a few numbers."""
    g = seeded(seed)
    centre = torch.randn(tasks, way, dim, generator=g, dtype=torch.float64)

    def data(k):
        y = torch.arange(way).repeat_interleave(k).expand(tasks, -1).clone()
        x = centre[:, y[0]] + 0.5 * torch.randn(tasks, way * k, dim, generator=g, dtype=torch.float64)
        return Data(x.to(dtype), y, way)

    return Episode(data(shot), data(query))


class Normed(nn.Module):
    """A smooth encoder with a normalisation layer: (M, 6) -> (M, D)."""

    def __init__(self, norm, width):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = {"batch": nn.BatchNorm1d(8, track_running_stats=False), "layer": nn.LayerNorm(8),
                     "none": nn.Identity()}[norm]
        self.last = nn.Linear(8, width)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


def built(make, seed=0):
    torch.manual_seed(seed)
    return make().double()


def augmented(z, y, strength):
    """Ridge regression by PyTorch's least squares: sqrt(lambda) I under the data, zeros under the targets."""
    D = z.shape[1]
    rows = torch.cat([z, math.sqrt(strength) * torch.eye(D, dtype=z.dtype)])
    return torch.linalg.lstsq(rows, torch.cat([y, torch.zeros(D, y.shape[1], dtype=y.dtype)])).solution


# --- ridge regression --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("strength", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize(("M", "D"), [(5, 33), (25, 33), (32, 33), (33, 33), (34, 33), (150, 33)])
def test_the_ridge_head_is_least_squares_of_the_augmented_system_in_both_forms(M, D, strength):
    g = seeded(M)
    z = torch.randn(M, D, generator=g, dtype=torch.float64)
    y = one_hot(torch.arange(M) % 5, 5).double()
    assert float((ridge(z, y, strength) - augmented(z, y, strength)).abs().max()) < 1e-8


@pytest.mark.parametrize("shot", [1, 8])
def test_adapt_solves_for_the_embeddings_and_a_constant_and_predict_scales_and_shifts(shot):
    learner = built(lambda: RidgeHead(Normed("none", 12), regularisation=0.3, temperature=7, bias=0.5))
    support, query = points(4, shot).task(0)
    z, q = (F.pad(learner.encoder(x), (0, 1), value=1.0) for x in (support.x, query.x))
    W = augmented(z, F.one_hot(support.y).double(), 0.3)
    torch.testing.assert_close(learner.adapt(support), W, atol=1e-7, rtol=0)
    torch.testing.assert_close(learner.predict(learner.adapt(support), query.x), 7 * q @ W + 0.5, atol=1e-5, rtol=0)


def test_the_smaller_system_is_the_one_that_is_solved(monkeypatch):
    sizes, solve = [], torch.linalg.solve_ex
    monkeypatch.setattr(torch.linalg, "solve_ex", lambda A, b: sizes.append(len(A)) or solve(A, b))
    for M in (5, 9, 40):
        ridge(torch.randn(M, 9), torch.randn(M, 3), 1.0)
        logistic(torch.randn(M, 9), torch.randn(M, 3), 1.0, 3)
    assert sizes == [5, 5, 9, 9, 9, 9]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("way", "shot"), [(5, 1), (5, 5), (10, 5), (20, 5)])
def test_the_small_system_in_float32_is_as_good_as_the_large_one(way, shot, seed):
    """Of positive features, as a ReLU leaves them: the error of Z Z^T is not worse than that of Z^T Z."""
    M, D = way * shot, 129
    z = torch.randn(M, D, generator=seeded(seed), dtype=torch.float64).relu()
    y, eye = one_hot(torch.arange(M) % way, way).double(), torch.eye(D)
    exact, z32, y32 = augmented(z, y, 1.0), z.float(), y.float()
    ours = ridge(z32, y32, 1.0)
    plain = torch.linalg.solve(z32.T @ z32 + eye, z32.T @ y32)
    errors = [float((w.double() - exact).norm() / exact.norm()) for w in (ours, plain)]
    assert errors[0] < 5 * errors[1] + 1e-6


# --- logistic regression -----------------------------------------------------------------------------------------

def objective(w, z, y, strength):
    return F.cross_entropy(z @ w, y, reduction="sum") + 0.5 * strength * w.square().sum()


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("M", [5, 20, 60])
def test_the_logistic_objective_falls_with_every_step_and_ends_where_its_gradient_is_zero(M, strength):
    z = torch.randn(M, 20, generator=seeded(M), dtype=torch.float64)
    y = torch.arange(M) % 5
    path = [logistic(z, one_hot(y, 5).double(), strength, steps) for steps in range(12)]
    losses = [float(objective(w, z, y, strength)) for w in path]
    assert losses[0] == pytest.approx(M * math.log(5)) and all(a > b for a, b in zip(losses, losses[1:]))
    w = logistic(z, one_hot(y, 5).double(), strength, 3000).requires_grad_()
    (g,) = torch.autograd.grad(objective(w, z, y, strength), w)
    assert float(g.abs().max()) < 1e-8


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("steps", [1, 5, 20])
def test_the_steps_on_one_number_an_example_are_the_steps_on_the_weights(steps, dtype):
    """NK <= D runs on W = Z^T A. Against Newton steps with Böhning's matrix, written out on W in float64."""
    z = torch.randn(10, 33, generator=seeded(0), dtype=torch.float64).relu()
    y = one_hot(torch.arange(10) % 5, 5).double()
    w = torch.zeros(33, 5, dtype=torch.float64)
    for _ in range(steps):
        w = w - torch.linalg.inv(z.T @ z / 2 + 0.5 * torch.eye(33)) @ (z.T @ ((z @ w).softmax(1) - y) + 0.5 * w)
    ours = logistic(z.to(dtype), y.to(dtype), 0.5, steps).double()
    assert float((ours - w).norm() / w.norm()) < (1e-11 if dtype == torch.float64 else 5e-6)


def test_ten_steps_are_nearly_there_and_meta_test_may_take_more():
    tasks = FewShot(glyphs().split("val"), 5, 5, 3)
    learner = LogisticHead(conv4(channels=8))
    support = tasks.sample(1, generator=seeded(0)).task(0).support
    ten, all_of_them = learner.adapt(support), learner.adapt(support, 500)
    assert float((ten - all_of_them).detach().norm() / all_of_them.detach().norm()) < 0.1
    assert meta_test(learner, tasks, 5, steps=50).steps == 50


# --- the meta-gradient -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("width", [3, 30])
@pytest.mark.parametrize("head", HEADS)
def test_the_meta_gradient_is_that_of_finite_differences(head, width, norm):
    learner = built(lambda: HEADS[head](Normed(norm, width)))
    certificate = certify_gradient(learner, points(4, 2), smooth=True)
    assert certificate.vmap <= 1e-10 and certificate.loop <= 1e-10
    assert certificate.finite_difference <= 1e-6, certificate


@pytest.mark.parametrize("head", HEADS)
def test_finite_differences_hold_on_a_convolution_as_well(head):
    episodes = FewShot(glyphs().split("train"), 3, 2, 2).sample(2, generator=seeded(0))
    assert certify_gradient(built(lambda: HEADS[head](conv4(channels=4))), episodes).passed


@pytest.mark.parametrize("head", HEADS)
def test_the_regularisation_and_the_temperature_are_learned(head, tmp_path, monkeypatch):
    learner = built(lambda: HEADS[head](Normed("layer", 12)))
    episodes = points(5, 1)
    meta_gradient(learner, episodes)
    assert all(abs(float(p.grad)) > 1e-6 for p in (learner.log_regularisation, learner.log_temperature))
    tasks = FewShot(glyphs().split("train"), 5, 1, 2, dtype=torch.float64)
    learner = built(lambda: HEADS[head](mlp(784, (16,), 8)))
    start = {k: p.clone() for k, p in learner.named_parameters() if p.ndim == 0}
    meta_train(learner, tasks, TrainConfig(iterations=15, lr=1e-2))
    assert all(abs(float((learner.get_parameter(k) - p).detach())) > 1e-3 for k, p in start.items() if k != "shift")
    monkeypatch.setitem(checkpoint.KNOWN, HEADS[head].__name__, HEADS[head])
    save(learner, tmp_path / "head.pt")
    again = load(tmp_path / "head.pt")
    assert meta_test(again, tasks, 10).mean == meta_test(learner, tasks, 10).mean
    assert again.regularisation == learner.regularisation, "where it started; the weight is what it is now"


def test_one_shift_of_all_logits_is_invisible_to_a_softmax_and_not_to_another_loss():
    episodes = points(4, 2)
    learner = built(lambda: RidgeHead(Normed("none", 12)))
    meta_gradient(learner, episodes)
    assert abs(float(learner.shift.grad)) < 1e-15
    learner.loss = lambda p, y: (p - one_hot(y, 4).to(p.dtype)).square().mean()
    meta_gradient(learner, episodes)
    assert abs(float(learner.shift.grad)) > 1e-3


@pytest.mark.parametrize("map", ["loop", "vmap"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("head", HEADS)
def test_the_head_is_solved_in_float32_whatever_the_encoder_computes_in(head, precision, map):
    episodes = points(5, 5, dtype=torch.float32)
    torch.manual_seed(0)
    learner = HEADS[head](mlp(6, (16,), 12))
    meta_gradient(learner, episodes, map, precision=precision)
    ours = {k: p.grad.double() for k, p in learner.named_parameters() if k.startswith("encoder")}
    meta_gradient(learner.double(), episodes.to(torch.float64), map)
    exact = {k: learner.get_parameter(k).grad for k in ours}
    assert relative_error(ours, exact) < {"float32": 1e-4, "bf16": 0.2}[precision]


# --- what a head is a function of --------------------------------------------------------------------------------

@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_a_function_of_the_support_as_a_set_and_of_no_query_label(head):
    learner = built(lambda: HEADS[head](Normed("batch", 12)))
    before = {k: p.clone() for k, p in learner.named_parameters()}
    support, query = points(4, 3).task(0)
    logits = learner.predict(learner.adapt(support), query.x)
    order = torch.randperm(12, generator=seeded(0))
    shuffled = learner.predict(learner.adapt(Data(support.x[order], support.y[order], 4)), query.x)
    torch.testing.assert_close(logits, shuffled, atol=1e-10, rtol=0)
    assert all(torch.equal(p, before[k]) for k, p in learner.named_parameters())
    tasks = [Episode(support, Data(query.x, y, 4)) for y in (query.y, query.y.flip(0))]
    assert torch.equal(*(learner.predict(learner.adapt(t.support), t.query.x) for t in tasks))


@pytest.mark.parametrize("head", HEADS)
def test_a_head_trained_at_one_way_and_shot_predicts_at_another(head):
    learner = built(lambda: HEADS[head](Normed("none", 12)))
    for way, shot in ((2, 1), (5, 1), (9, 5)):
        support, query = points(way, shot).task(0)
        assert learner.predict(learner.adapt(support), query.x).shape == (3 * way, way)


# --- what could go wrong -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("bad", ["nan", "infinite", "all the same"])
@pytest.mark.parametrize("shot", [1, 5])
@pytest.mark.parametrize("head", HEADS)
def test_a_bad_task_does_not_touch_the_others_of_its_batch(head, shot, bad):
    learner = HEADS[head](nn.Flatten(), regularisation=1e-30, temperature=1.0)
    support, query = points(4, shot, dim=12, tasks=3, dtype=torch.float32)
    good = [learner.predict(learner.adapt(Episode(support, query).task(t).support), query.x[t]) for t in (0, 2)]
    support.x[1] = {"nan": math.nan, "infinite": math.inf, "all the same": 1.0}[bad]
    phi = vmap(lambda x, y: learner.adapt(Data(x, y, 4)))(support.x, support.y)
    logits = vmap(learner.predict)(phi, query.x)
    for t, alone in zip((0, 2), good):
        torch.testing.assert_close(logits[t], alone, rtol=1e-3, atol=1e-3)
    if bad == "all the same":
        assert bool(logits[1].isfinite().all()), "a singular system in float32 is held by its jitter"


def test_an_exactly_singular_system_is_reported_by_no_exception():
    z = torch.ones(3, 2, 4)
    z[1] = 0
    w = vmap(lambda z: ridge(z, torch.eye(2), 0.0))(z)
    assert bool(w[0].isfinite().all()) and bool(w[2].isfinite().all()) and not bool(w[1].isfinite().all())


@pytest.mark.parametrize("head", HEADS)
def test_zero_embeddings_and_an_absent_class_have_finite_gradients(head):
    learner = HEADS[head](nn.Linear(6, 4))
    with torch.no_grad():
        learner.encoder.weight.zero_()
        learner.encoder.bias.zero_()
    support, query = points(3, 2, dtype=torch.float32).task(0)
    learner(Episode(support._replace(y=support.y.clamp(max=1)), query)).backward()
    assert all(bool(p.grad.isfinite().all()) for p in learner.parameters())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("wrong", [{"regularisation": 0}, {"temperature": -1}, {"regularisation": math.nan}])
def test_what_has_no_solution_is_refused(head, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HEADS[head](mlp(6, (4,), 3), **wrong)


def test_other_mistakes_are_named_with_their_fix():
    with pytest.raises(ValueError, match="steps=0"):
        LogisticHead(mlp(6, (4,), 3), steps=0)
    with pytest.raises(TypeError, match="a network"):
        RidgeHead("conv4")
    support = points(3, 1).task(0).support
    with pytest.raises(ValueError, match=r"way=N"):
        RidgeHead(nn.Flatten()).adapt(support._replace(way=None))
    with pytest.raises(ValueError, match=r"labels \(M,\)"):
        RidgeHead(nn.Flatten()).adapt(support._replace(y=support.y[:, None]))
    with pytest.raises(ValueError, match=r"nn.Flatten\(\)"):
        RidgeHead(nn.Unflatten(1, (2, 3))).adapt(support)
