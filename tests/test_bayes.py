"""Bayesian linear regression: its posterior and evidence are those of a dense Gaussian process, and of a sampler."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal
from torch.func import vmap

from metalib import (
    BayesLinear,
    Data,
    Episode,
    Normal,
    Sinusoids,
    TrainConfig,
    certify_gradient,
    load,
    meta_gradient,
    meta_test,
    meta_train,
    mlp,
    save,
    seeded,
)
from metalib.functional import relative_error
from metalib.learners.bayes import factor, log_density
from metalib.learners.head import ridge


class Waves(nn.Module):
    """(sin x, cos x): every wave is a head on these."""

    def forward(self, x):
        return torch.cat([x.sin(), x.cos()], 1)


def drawn(dim=4, outputs=1, seed=0, dtype=torch.float64, **options):
    """A learner whose prior is nothing special."""
    torch.manual_seed(seed)
    learner = BayesLinear(mlp(1, (8,), dim, activation="tanh"), dim, outputs, **options).to(dtype)
    with torch.no_grad():
        learner.prior_mean.normal_()
        learner.log_precision.uniform_(-1, 1)
    return learner


def points(M, outputs=1, seed=0, dtype=torch.float64):
    g = seeded(seed)
    x = 10 * torch.rand(M, 1, generator=g, dtype=torch.float64) - 5
    return Data(x.to(dtype), torch.randn(M, outputs, generator=g, dtype=torch.float64).to(dtype))


def both(a, b):
    return Data(torch.cat([a.x, b.x]), torch.cat([a.y, b.y]))


def dense(learner, support, x):
    """The predictive distribution at x by conditioning the joint normal of all targets, (mean, covariance)."""
    z = torch.cat([learner.encoder(torch.cat([support.x, x])), torch.ones(len(support.x) + len(x), 1)], 1).detach()
    joint = z @ torch.diag(torch.exp(-learner.log_precision.detach())) @ z.T
    joint = joint + learner.log_noise.detach().exp() ** 2 * torch.eye(len(z)).double()
    mean, K = z @ learner.prior_mean.detach(), len(support.x)
    A = joint[K:, :K] @ torch.linalg.inv(joint[:K, :K])
    return mean[K:] + A @ (support.y - mean[:K]), joint[K:, K:] - A @ joint[:K, K:]


def direct(learner, data):
    """log p(y | x) of PyTorch's own multivariate normal distribution."""
    mean, covariance = dense(learner, Data(data.x[:0], data.y[:0]), data.x)
    return sum(MultivariateNormal(mean[:, p], covariance).log_prob(data.y[:, p]) for p in range(data.y.shape[1]))


# --- the posterior and the evidence -------------------------------------------------------------------------------

@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("K", [0, 1, 5, 30])
def test_the_prediction_is_that_of_a_dense_gaussian_process(K, outputs):
    learner, support, x = drawn(outputs=outputs), points(K, outputs), points(7, seed=1).x
    got, (mean, covariance) = learner.predict(learner.adapt(support), x), dense(learner, support, x)
    torch.testing.assert_close(got.mean, mean, atol=1e-8, rtol=0)
    torch.testing.assert_close(got.std, covariance.diagonal().sqrt()[:, None].expand(-1, outputs), atol=1e-8, rtol=0)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("M", [1, 6, 30])
def test_the_evidence_is_the_density_of_a_multivariate_normal(M, outputs):
    learner, data = drawn(outputs=outputs), points(M, outputs)
    assert float(learner.log_evidence(data)) == pytest.approx(float(direct(learner, data)), abs=1e-8)


def test_the_evidence_of_one_target_is_its_predictive_density_and_that_of_nothing_is_zero():
    learner, support, one = drawn(), points(5), points(1, seed=3)
    phi = learner.adapt(support)
    alone = learner.predict(phi, one.x).log_prob(one.y).sum()
    assert float(learner.log_evidence(one, phi).detach()) == pytest.approx(float(alone.detach()), abs=1e-10)
    assert float(learner.log_evidence(points(0)).detach()) == 0


@pytest.mark.parametrize("first", [0, 1, 4, 9])
def test_a_posterior_is_the_prior_of_what_comes_next_and_the_evidence_adds_up(first):
    learner, a, b = drawn(outputs=2), points(first, 2, seed=1), points(9 - first, 2, seed=2)
    once, twice = learner.adapt(both(a, b)), learner.adapt(b, learner.adapt(a))
    for u, v in zip(once, twice, strict=True):
        torch.testing.assert_close(u, v, atol=1e-10, rtol=0)
    torch.testing.assert_close(learner.log_evidence(both(a, b)),
                               learner.log_evidence(a) + learner.log_evidence(b, learner.adapt(a)), atol=1e-9, rtol=0)


def test_with_a_prior_around_zero_the_mean_is_ridge_regression_of_strength_noise_squared_over_variance():
    learner = BayesLinear(Waves(), 2, precision=4.0, noise=0.5).double()
    support = points(6)
    z = torch.cat([support.x.sin(), support.x.cos(), torch.ones(6, 1)], 1)
    torch.testing.assert_close(learner.adapt(support).mean, ridge(z, support.y, 0.5**2 * 4), atol=1e-9, rtol=0)


def test_a_head_that_is_one_number_is_shrunk_by_chapter_1_s_weight():
    """mu ~ N(m, tau^2): the posterior has mean m + w (mean - m) and variance (1 - w) tau^2."""
    class Nothing(nn.Module):
        def forward(self, x):
            return x[:, :0]

    K, m, tau, noise = 4, 2.0, 1.5, 0.7
    learner = BayesLinear(Nothing(), 0).double()
    for p, number in ((learner.prior_mean, m), (learner.log_precision, -2 * math.log(tau)),
                      (learner.log_noise, math.log(noise))):
        p.data.fill_(number)
    data, w = points(K), tau**2 / (tau**2 + noise**2 / K)
    phi = learner.adapt(data)
    assert float(phi.mean) == pytest.approx(m + w * (float(data.y.mean()) - m), abs=1e-10)
    assert float(phi.covariance) == pytest.approx((1 - w) * tau**2, abs=1e-10)


def test_the_covariance_does_not_look_at_the_targets():
    learner, data = drawn(), points(5)
    a, b = learner.adapt(data), learner.adapt(data._replace(y=1000 * data.y))
    assert torch.equal(a.covariance, b.covariance) and not torch.equal(a.mean, b.mean)
    assert float(learner.log_evidence(data._replace(y=1000 * data.y))) < float(learner.log_evidence(data)) - 1000


def test_the_posterior_is_the_one_that_a_sampler_finds():
    """NUTS knows the model alone. Monte Carlo errors with the effective numbers of samples that Pyro states."""
    pyro = pytest.importorskip("pyro")
    from pyro import distributions
    from pyro.infer import MCMC, NUTS
    from pyro.ops.stats import effective_sample_size

    learner = BayesLinear(Waves(), 2, precision=0.15, noise=0.1).double()
    support = Sinusoids(3, 1, noise=0.1).sample(1, generator=seeded(0)).task(0).support
    z = torch.cat([support.x.sin(), support.x.cos(), torch.ones(3, 1)], 1)

    def model():
        w = pyro.sample("w", distributions.Normal(torch.zeros(3).double(), 0.15**-0.5).to_event(1))
        pyro.sample("y", distributions.Normal(z @ w, 0.1).to_event(1), obs=support.y[:, 0])

    pyro.set_rng_seed(0)
    sampler = MCMC(NUTS(model, full_mass=True), num_samples=500, warmup_steps=150, disable_progbar=True)
    sampler.run()
    w, phi = sampler.get_samples()["w"], learner.adapt(support)
    n, variance = effective_sample_size(w[None]), phi.covariance.detach().diagonal()
    assert bool((n > 200).all())
    assert bool(((w.mean(0) - phi.mean.detach()[:, 0]).abs() < 5 * (variance / n).sqrt()).all())
    assert bool(((w.var(0) / variance).log().abs() < 5 * (2 / n).sqrt()).all())


# --- the meta-gradient --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("objective", ["query", "evidence"])
@pytest.mark.parametrize("shot", [0, 3, 12])
def test_the_meta_gradient_is_that_of_finite_differences(shot, objective):
    whole = Sinusoids(shot + 1, 5, noise=0.1).sample(3, generator=seeded(0))
    episodes = Episode(Data(whole.support.x[:, 1:], whole.support.y[:, 1:]), whole.query)
    certificate = certify_gradient(drawn(objective=objective), episodes, smooth=True)
    assert certificate.vmap <= 1e-10 and certificate.loop <= 1e-10
    assert certificate.finite_difference <= 2e-6, certificate


def test_the_two_objectives_are_the_two_likelihoods():
    episode = Sinusoids(4, 5, noise=0.1).sample(1, generator=seeded(0)).task(0)
    query, evidence = drawn(), drawn(objective="evidence")
    phi = query.adapt(episode.support)
    torch.testing.assert_close(query(episode), -query.predict(phi, episode.query.x).log_prob(episode.query.y).mean())
    torch.testing.assert_close(9 * evidence(episode), -direct(evidence, both(*episode)), atol=1e-8, rtol=0)


def test_training_finds_the_prior_and_the_noise_that_drew_the_tasks_and_a_file_keeps_them(tmp_path):
    """Heads (u, v) of waves with A = 1 have variance 1/2 and mean (0, 2 / pi): empirical Bayes on known features."""
    tasks = Sinusoids(5, 5, amplitude=(1.0, 1.0), phase=(0.0, 2 * math.pi), noise=0.2)
    learner = BayesLinear(Waves(), 2, noise=0.5, objective="evidence").double()
    meta_train(learner, tasks, TrainConfig(iterations=250, meta_batch=32, lr=0.05, schedule="cosine"))
    m, C = learner.prior()
    assert float(learner.log_noise.detach().exp()) == pytest.approx(0.2, rel=0.03)
    assert C.detach().diagonal()[:2].tolist() == pytest.approx([0.5, 0.5], rel=0.1) and float(C.detach()[2, 2]) < 0.01
    assert float(m.detach().abs().max()) < 0.1
    score = meta_test(learner, tasks, 100, metric="coverage")
    assert 0.85 < score.mean < 0.95
    learner = drawn(noise=0.3, objective="evidence")
    save(learner, tmp_path / "bayes.pt")
    again = load(tmp_path / "bayes.pt")
    assert torch.equal(again.prior_mean, learner.prior_mean) and again.objective == "evidence"


# --- float32, and one bad task ------------------------------------------------------------------------------------

def own_task(learner, K, M, seed):
    """A task that the learner's own prior draws."""
    x, g = points(K + M, seed=seed).x, seeded(seed)
    with torch.no_grad():
        m, C = learner.prior()
        w = m + C.sqrt() @ torch.randn(m.shape, generator=g, dtype=torch.float64)
        noise = learner.log_noise.exp() * torch.randn(K + M, 1, generator=g, dtype=torch.float64)
        y = torch.cat([learner.encoder(x), torch.ones(K + M, 1)], 1) @ w + noise
    return Episode(Data(x[:K], y[:K]), Data(x[K:], y[K:]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("noise", "limit"), [(0.1, 5e-3), (0.01, 0.3)])
@pytest.mark.parametrize("K", [5, 20, 40])
def test_in_float32_the_posterior_and_its_gradient_keep_their_digits(K, noise, limit, seed):
    """33 features whose prior alone says +-6: at noise=0.01 its variance is 300,000 times the noise's."""
    learner = drawn(dim=32, seed=seed, noise=noise)
    task = own_task(learner, K, 20, seed)

    def measured(task):
        meta_gradient(learner, Episode(*(Data(x[None], y[None]) for x, y, _ in task)))
        normal = learner.predict(learner.adapt(task.support), task.query.x)
        return normal, {k: p.grad.clone() for k, p in learner.named_parameters()}

    (exact, right), _ = measured(task), learner.float()
    normal, gradient = measured(task.to(torch.float32))
    assert relative_error(gradient, right) < limit
    assert float(((normal.mean.double() - exact.mean) / exact.std).abs().max()) < limit, "in standard deviations"
    assert float((normal.std.double() / exact.std - 1).abs().max()) < limit / 10
    assert bool((normal.std >= 0.999 * noise).all())


def test_noise_that_float32_cannot_resolve_gives_finite_predictions():
    learner = drawn(dim=32, noise=0.1)
    learner.log_noise.data.fill_(-16.0)
    S, Q = own_task(learner, 40, 20, 0).to(torch.float32)
    normal = learner.float().predict(learner.adapt(S), Q.x)
    assert bool(normal.mean.isfinite().all() and (normal.std > 0).all() and normal.std.isfinite().all())


def test_one_bad_matrix_among_good_ones_is_a_nan_of_its_own_and_no_exception():
    K = torch.eye(3).repeat(3, 1, 1)
    K[1] = -K[1]
    L = vmap(lambda K: factor(K, torch.tensor(0.01)))(K)
    assert bool(L[[0, 2]].isfinite().all()) and bool(L[1].isnan().all())
    assert vmap(log_density)(torch.ones(3, 3, 1), L).isnan().tolist() == [False, True, False]


def test_a_task_with_broken_inputs_leaves_the_others_of_its_meta_batch_alone():
    episodes = Sinusoids(4, 5, noise=0.1).sample(3, generator=seeded(0))
    learner = drawn()
    alone = [learner(episodes.task(t)) for t in range(3)]
    episodes.support.x[1] = math.nan
    losses = vmap(learner, in_dims=(Episode(Data(0, 0, None), Data(0, 0, None)),))(episodes)
    assert bool(losses[1].isnan())
    torch.testing.assert_close(losses[[0, 2]], torch.stack([alone[0], alone[2]]))


# --- what it is a function of, and what could go wrong ------------------------------------------------------------

def test_adapt_is_a_function_of_the_support_as_a_set_and_leaves_the_parameters_alone():
    learner, support, x = drawn(), points(6), points(4, seed=1).x
    before = {k: p.clone() for k, p in learner.named_parameters()}
    order = torch.randperm(6, generator=seeded(0))
    a, b = (learner.predict(learner.adapt(s), x) for s in (support, Data(support.x[order], support.y[order])))
    torch.testing.assert_close(a.mean, b.mean, atol=1e-10, rtol=0)
    torch.testing.assert_close(a.std, b.std, atol=1e-10, rtol=0)
    assert isinstance(a, Normal) and all(torch.equal(p, before[k]) for k, p in learner.named_parameters())
    (S, Q) = Sinusoids(4, 5).sample(1, generator=seeded(0)).task(0)
    same = [learner.predict(learner.adapt(e.support), e.query.x)
            for e in (Episode(S, Q), Episode(S, Q._replace(y=Q.y + 1)))]
    assert torch.equal(same[0].mean, same[1].mean) and torch.equal(same[0].std, same[1].std)


@pytest.mark.parametrize(("wrong", "match"), [
    ({"dim": -1}, "dim=-1"), ({"outputs": 0}, "outputs=0"), ({"precision": 0.0}, "precision"),
    ({"noise": -1.0}, "noise"), ({"objective": "elbo"}, "query"),
    ({"objective": "evidence", "loss": lambda p, y: 0}, "loss=None")])
def test_arguments_out_of_range_are_refused(wrong, match):
    with pytest.raises(ValueError, match=match):
        BayesLinear(mlp(1, (4,), 3), **{"dim": 3, **wrong})


def test_other_mistakes_are_named_with_their_fix():
    with pytest.raises(TypeError, match="a network"):
        BayesLinear("mlp", 3)
    learner = drawn()
    with pytest.raises(ValueError, match="4 features with dim=5"):
        BayesLinear(mlp(1, (8,), 4), 5).double().adapt(points(3))
    with pytest.raises(ValueError, match=r"y\[:, None\]"):
        learner.adapt(points(3)._replace(y=torch.zeros(3).double()))
    with pytest.raises(ValueError, match="RidgeHead"):
        learner.adapt(Data(points(3).x, torch.tensor([[0], [1], [2]]), 3))
