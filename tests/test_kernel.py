"""A Gaussian process on learned features: GPyTorch's and a dense one agree, and a short support is no special case."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal
from torch.func import vmap

from metalib import (
    BayesLinear,
    Data,
    DeepKernelGP,
    Episode,
    FixedEpisodes,
    Sinusoids,
    certify_gradient,
    load,
    meta_gradient,
    meta_test,
    mlp,
    save,
    seeded,
)
from metalib.functional import relative_error


def drawn(kernel="both", outputs=1, seed=0, **options):
    """A learner with a trained one's arbitrary numbers."""
    torch.manual_seed(seed)
    learner = DeepKernelGP(mlp(1, (8,), 3, activation="tanh"), outputs, kernel=kernel, **options).double()
    with torch.no_grad():
        for p in (learner.log_scale, learner.log_length, learner.log_slope):
            if p is not None:
                p.uniform_(-0.5, 0.5)
        learner.mean.normal_()
    return learner


def points(M, outputs=1, seed=0):
    g = seeded(seed)
    x = 10 * torch.rand(M, 1, generator=g, dtype=torch.float64) - 5
    return Data(x, torch.randn(M, outputs, generator=g, dtype=torch.float64))


def dense(learner, support, x):
    """The joint normal of all targets entry by entry, conditioned by an inverse: (mean, covariance)."""
    with torch.no_grad():
        z = learner.encoder(torch.cat([support.x, x]))
        number = {k: float(p.exp()) for k, p in learner.named_parameters() if k.startswith("log_")}
        joint = number["log_noise"] ** 2 * torch.eye(len(z)).double()
        for i, a in enumerate(z):
            for j, b in enumerate(z):
                if "log_scale" in number:
                    far = float((a - b).square().sum()) / number["log_length"] ** 2
                    joint[i, j] += number["log_scale"] ** 2 * math.exp(-far / 2)
                if "log_slope" in number:
                    joint[i, j] += number["log_slope"] ** 2 * float(a @ b)
        K = len(support.x)
        A = joint[K:, :K] @ torch.linalg.inv(joint[:K, :K])
        return learner.mean + A @ (support.y - learner.mean), joint[K:, K:] - A @ joint[:K, K:]


@pytest.mark.parametrize("kernel", ["rbf", "linear", "both"])
@pytest.mark.parametrize(("K", "outputs"), [(0, 1), (1, 2), (6, 1), (6, 3)])
def test_prediction_and_evidence_are_those_of_a_dense_gaussian_process(K, outputs, kernel):
    learner, support, query = drawn(kernel, outputs), points(K, outputs), points(5, outputs, seed=1)
    got, (mean, covariance) = learner.predict(learner.adapt(support), query.x), dense(learner, support, query.x)
    torch.testing.assert_close(got.mean, mean, atol=1e-8, rtol=0)
    torch.testing.assert_close(got.std, covariance.diagonal().sqrt()[:, None].expand(-1, outputs), atol=1e-8, rtol=0)
    mean, covariance = dense(learner, Data(query.x[:0], query.y[:0]), query.x)
    right = sum(MultivariateNormal(mean[:, p], covariance).log_prob(query.y[:, p]) for p in range(outputs))
    assert float(learner.log_evidence(query)) == pytest.approx(float(right), abs=1e-8)


@pytest.mark.parametrize("kernel", ["rbf", "linear", "both"])
def test_gpytorch_finds_the_same_prediction_and_evidence(kernel):
    gpytorch = pytest.importorskip("gpytorch")
    learner, support, x = drawn(kernel), points(6), points(5, seed=1).x
    rbf = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
    linear = gpytorch.kernels.LinearKernel()
    if learner.log_scale is not None:
        rbf.outputscale, rbf.base_kernel.lengthscale = (2 * learner.log_scale).exp(), learner.log_length.exp()
    if learner.log_slope is not None:
        linear.variance = (2 * learner.log_slope).exp()
    whole = {"rbf": rbf, "linear": linear, "both": rbf + linear}[kernel].double()

    class Exact(gpytorch.models.ExactGP):
        def __init__(self, z, y, likelihood):
            super().__init__(z, y, likelihood)
            self.mean, self.kernel = gpytorch.means.ConstantMean(), whole

        def forward(self, z):
            return gpytorch.distributions.MultivariateNormal(self.mean(z), self.kernel(z))

    with torch.no_grad():
        likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
        likelihood.noise = (2 * learner.log_noise).exp()
        model = Exact(learner.encoder(support.x), support.y[:, 0], likelihood).double()
        model.mean.constant = learner.mean.detach()[0]
        evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
        per_target = evidence(model(learner.encoder(support.x)), support.y[:, 0])
        model.eval()
        theirs = likelihood(model(learner.encoder(x)))
    ours = learner.predict(learner.adapt(support), x)
    torch.testing.assert_close(ours.mean[:, 0].detach(), theirs.mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.std[:, 0].detach(), theirs.stddev, atol=1e-6, rtol=0)
    assert float(learner.log_evidence(support).detach()) == pytest.approx(6 * float(per_target), abs=1e-6)


def test_the_linear_kernel_is_bayesian_linear_regression_without_its_constant():
    gp = drawn("linear")
    gp.mean.data.zero_()
    linear = BayesLinear(gp.encoder, 3).double()
    linear.log_precision.data[:3] = -2 * gp.log_slope.detach()
    linear.log_precision.data[3] = 60.0  # no weight for the constant
    linear.log_noise.data.copy_(gp.log_noise.detach())
    support, x = points(6), points(5, seed=1).x
    for a, b in zip(gp.predict(gp.adapt(support), x), linear.predict(linear.adapt(support), x)):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=0)


@pytest.mark.parametrize("objective", ["query", "evidence"])
@pytest.mark.parametrize("kernel", ["rbf", "both"])
@pytest.mark.parametrize("shot", [0, 5])
def test_the_meta_gradient_is_that_of_finite_differences(shot, kernel, objective):
    whole = Sinusoids(shot + 1, 5, noise=0.1).sample(3, generator=seeded(0))
    episodes = Episode(Data(whole.support.x[:, 1:], whole.support.y[:, 1:]), whole.query)
    certificate = certify_gradient(drawn(kernel, objective=objective), episodes, smooth=True)
    assert certificate.vmap <= 1e-10 and certificate.loop <= 1e-10
    assert certificate.finite_difference <= 2e-6, certificate


def test_an_empty_support_leaves_the_prior_which_is_finite():
    learner, x = drawn(), points(4).x
    got = learner.predict(learner.adapt(points(0)), x)
    assert torch.equal(got.mean, learner.mean.expand(4, 1))
    prior = (learner.prior_variance(learner.encoder(x)) + learner.variance).sqrt()
    torch.testing.assert_close(got.std[:, 0], prior)
    assert bool(got.std.isfinite().all())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.1, 1e-4])
def test_in_float32_twins_in_the_support_are_no_singular_matrix(noise, seed):
    """Each point twice and almost no noise: rounding takes what the noise adds, and the jitter gives it back."""
    learner = drawn("rbf", seed=seed, noise=noise)
    e = Sinusoids(8, 10, noise=0.1).sample(1, generator=seeded(seed)).task(0)
    support = Data(e.support.x.repeat(2, 1), e.support.y.repeat(2, 1))
    exact = learner.predict(learner.adapt(support), e.query.x)
    learner.float()
    got = learner.predict(learner.adapt(support._replace(x=support.x.float(), y=support.y.float())), e.query.x.float())
    assert bool(got.mean.isfinite().all()) and bool((got.std >= 0.999 * noise).all())
    if noise == 0.1:
        torch.testing.assert_close(got.mean.double(), exact.mean, rtol=0, atol=2e-3)
        torch.testing.assert_close(got.std.double(), exact.std, rtol=1e-2, atol=0)


def test_in_float32_the_meta_gradient_keeps_its_digits():
    learner, episodes = drawn(noise=0.1), Sinusoids(10, 20, noise=0.1).sample(4, generator=seeded(0))
    meta_gradient(learner, episodes)
    exact = {k: p.grad.clone() for k, p in learner.named_parameters()}
    meta_gradient(learner.float(), episodes.to(torch.float32))
    assert relative_error({k: p.grad for k, p in learner.named_parameters()}, exact) < 2e-3


def test_a_task_with_broken_inputs_leaves_the_others_of_its_meta_batch_alone():
    episodes, learner = Sinusoids(4, 5, noise=0.1).sample(3, generator=seeded(0)), drawn()
    alone = [learner(episodes.task(t)) for t in range(3)]
    episodes.support.x[1] = math.inf
    losses = vmap(learner, in_dims=(Episode(Data(0, 0, None), Data(0, 0, None)),))(episodes)
    torch.testing.assert_close(losses[[0, 2]], torch.stack([alone[0], alone[2]]))


def test_with_an_encoder_on_batch_statistics_a_query_depends_on_those_beside_it_unless_it_is_asked_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 6), nn.BatchNorm1d(6), nn.Tanh())
    tasks = Sinusoids(5, 6, noise=0.1)
    for make in (lambda: DeepKernelGP(net), lambda: BayesLinear(net, 6)):
        learner = make().double()
        few, many = ([meta_test(learner, FixedEpisodes(tasks.sample(2, generator=seeded(0))._replace(query=query)), 2,
                                transductive=together, metric=lambda p, y: p.mean[0, 0]).values
                      for together in (True, False)]
                     for whole in [tasks.sample(2, generator=seeded(0)).query]
                     for query in (whole._replace(x=whole.x[:, :2], y=whole.y[:, :2]), whole))
        assert not torch.allclose(few[0], many[0], atol=1e-3), "predicted together"
        torch.testing.assert_close(few[1], many[1], atol=1e-12, rtol=0)


def test_query_labels_reach_no_prediction_and_adapt_leaves_the_parameters_alone(tmp_path):
    learner = drawn()
    before = {k: p.clone() for k, p in learner.named_parameters()}
    S, Q = Sinusoids(4, 5).sample(1, generator=seeded(0)).task(0)
    a, b = (learner.predict(learner.adapt(e.support), e.query.x)
            for e in (Episode(S, Q), Episode(S, Q._replace(y=Q.y + 1))))
    assert torch.equal(a.mean, b.mean) and torch.equal(a.std, b.std)
    assert all(torch.equal(p, before[k]) for k, p in learner.named_parameters())
    save(learner, tmp_path / "gp.pt")
    again = load(tmp_path / "gp.pt")
    assert torch.equal(again.predict(again.adapt(S), Q.x).std, a.std) and again.kernel == "both"


@pytest.mark.parametrize(("wrong", "match"), [
    ({"kernel": "cosine"}, "kernel='cosine'"), ({"outputs": 0}, "outputs=0"), ({"length": 0.0}, "length"),
    ({"scale": -1.0}, "scale"), ({"noise": math.nan}, "noise"), ({"objective": "both"}, "objective")])
def test_arguments_out_of_range_are_refused(wrong, match):
    with pytest.raises(ValueError, match=match):
        DeepKernelGP(mlp(1, (4,), 3), **wrong)


def test_other_mistakes_are_named_with_their_fix():
    with pytest.raises(TypeError, match="a network"):
        DeepKernelGP(3)
    with pytest.raises(ValueError, match="outputs="):
        drawn().adapt(points(3, 2))
    with pytest.raises(ValueError, match=r"nn.Flatten\(\)"):
        DeepKernelGP(nn.Unflatten(1, (1, 1))).double().adapt(points(3))
