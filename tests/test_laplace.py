"""MAML with a Laplace posterior over its last layer: exact where the truth is known, and learned where it is not."""

import math

import pytest
import torch
from torch import nn
from torch.func import vmap

from metalib import (
    ANIL,
    MAML,
    BayesLinear,
    Data,
    Episode,
    FewShot,
    LaplaceMAML,
    Sinusoids,
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
from metalib.episode import task_axis
from metalib.functional import relative_error


def regression(seed=0, **options):
    torch.manual_seed(seed)
    maml = MAML(mlp(1, (8, 6), 1, activation="tanh"), 0.05, 2, adapts="all")
    return LaplaceMAML(maml, **options).double()


def classes(way=3, seed=0, **options):
    torch.manual_seed(seed)
    return LaplaceMAML(MAML(mlp(784, (12, 4), way, activation="tanh"), 0.1, 2), **options).double()


def waves(shot=5, tasks=3):
    return Sinusoids(shot, 6, noise=0.1).sample(tasks, generator=seeded(0))


def letters(way=3, shot=2, tasks=3):
    return FewShot(glyphs().split("train"), way, shot, 2, dtype=torch.float64).sample(tasks, generator=seeded(0))


def test_for_a_linear_network_at_its_minimum_the_laplace_posterior_is_the_exact_one():
    """The inner loop stands still where the MAP is: phi from the exact posterior, and no step from there."""
    learner, (support, query) = regression(precision=1.0, noise=1.0), waves().task(0)
    body = nn.Sequential(*[m for layer in learner.maml.net.layers[:-1] for m in (layer, nn.Tanh())])
    exact = BayesLinear(body, 6, precision=1.0, noise=1.0).double()
    phi = exact.adapt(support)
    with torch.no_grad():
        learner.maml.net.layers[-1].weight.copy_(phi.mean[:6].T)
        learner.maml.net.layers[-1].bias.copy_(phi.mean[6])
    ours, right = learner.predict(learner.adapt(support, 0), query.x), exact.predict(phi, query.x)
    torch.testing.assert_close(ours.mean, right.mean, atol=1e-9, rtol=0)
    torch.testing.assert_close(ours.std, right.std, atol=1e-9, rtol=0)


def test_the_curvature_is_the_hessian_of_the_support_s_log_likelihood_in_the_last_layer():
    """Softmax regression: Gauss-Newton is the whole Hessian, which autograd takes of the loss itself."""
    learner, support = classes(precision=0.5, samples=80_000), letters().task(0).support
    phi = learner.maml.adapt(support)
    names = [k for k in phi if k.startswith("layers.2.")]
    flat = torch.cat([phi["layers.2.weight"].T, phi["layers.2.bias"][None]]).flatten().detach()  # as (D+1, N)

    def loss(w):
        w = w.view(5, 3)
        logits = learner.maml.predict({**phi, names[0]: w[:4].T, names[1]: w[4]}, support.x)
        return nn.functional.cross_entropy(logits, support.y, reduction="sum")

    hessian = torch.autograd.functional.hessian(loss, flat)
    draws = learner.adapt(support)["heads"].detach().flatten(1) - flat  # (samples, 15)
    covariance = torch.linalg.inv(hessian + 0.5 * torch.eye(15))
    error = float((draws.T @ draws / len(draws) - covariance).norm() / covariance.norm())
    assert error < 0.03, error


def test_draws_come_in_mirrored_pairs_so_that_their_mean_is_mamls_own_head():
    learner, support = classes(), letters().task(0).support
    phi = learner.adapt(support)
    head = torch.cat([phi["phi"]["layers.2.weight"].T, phi["phi"]["layers.2.bias"][None]])
    torch.testing.assert_close(phi["heads"].mean(0), head, atol=1e-12, rtol=0)


def test_the_classes_probabilities_sum_to_one_and_an_infinite_precision_is_plain_maml():
    learner, episode = classes(precision=1e12), letters().task(0)
    p = learner.predict(learner.adapt(episode.support), episode.query.x)
    torch.testing.assert_close(p.exp().sum(1), torch.ones(6).double())
    plain = learner.maml.predict(learner.maml.adapt(episode.support), episode.query.x).log_softmax(1)
    torch.testing.assert_close(p, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [6, 32, 100])
def test_in_float64_probabilities_sum_to_one_in_float64(samples):
    learner, episode = classes(way=4, samples=samples), letters(way=4, shot=1).task(1)
    p = learner.predict(learner.adapt(episode.support), episode.query.x).exp()
    torch.testing.assert_close(p.sum(1), torch.ones(8).double(), atol=1e-14, rtol=0)


@pytest.mark.parametrize("kind", ["regression", "classes"])
def test_a_task_with_broken_inputs_leaves_the_others_of_its_meta_batch_alone(kind):
    learner, episodes = (regression(), waves()) if kind == "regression" else (classes(), letters())
    alone = [learner(episodes.task(t)) for t in range(3)]
    episodes.support.x[0] = math.nan
    losses = vmap(learner, in_dims=(task_axis(episodes),))(episodes)
    assert bool(losses[0].isnan())
    torch.testing.assert_close(losses[1:], torch.stack(alone[1:]))


def test_a_smaller_precision_is_less_sure():
    episode = letters().task(0)
    entropies = []
    for precision in (100.0, 1.0, 0.01):
        p = classes(precision=precision)
        log_p = p.predict(p.adapt(episode.support), episode.query.x)
        entropies.append(float(-(log_p.exp() * log_p).sum(1).mean().detach()))
    assert entropies == sorted(entropies) and entropies[-1] > entropies[0] + 1e-3


@pytest.mark.parametrize("kind", ["regression", "classes", "convolution", "last layer"])
def test_the_meta_gradient_is_that_of_finite_differences(kind):
    if kind == "convolution":
        torch.manual_seed(0)
        learner = LaplaceMAML(MAML(conv4(3, channels=3, norm="layer"), 0.1, 1)).double()
        assert certify_gradient(learner, letters(tasks=2)).passed
        return
    learner, episodes = (regression(), waves()) if kind != "classes" else (classes(), letters())
    if kind == "last layer":
        learner = LaplaceMAML(ANIL(learner.maml.net, 0.05, 2)).double()
    certificate = certify_gradient(learner, episodes, smooth=True)
    assert certificate.vmap <= 1e-10 and certificate.loop <= 1e-10
    assert certificate.finite_difference <= 2e-6, certificate


def test_two_numbers_can_be_learned_alone_on_validation_tasks():
    """A frozen network with adapts="all": what is too sure or too unsure at first becomes right."""
    tasks = Sinusoids(10, 20, noise=0.1)
    learner = regression(precision=1e-3, noise=3.0)
    learner.maml.requires_grad_(False)
    before = {k: p.clone() for k, p in learner.maml.named_parameters()}
    first = meta_test(learner, tasks, 50, metric="NLL").mean
    meta_train(learner, tasks, TrainConfig(iterations=60, lr=0.1, meta_batch=8))
    assert meta_test(learner, tasks, 50, metric="NLL").mean < first - 0.05
    assert all(torch.equal(p, before[k]) for k, p in learner.maml.named_parameters())
    with pytest.raises(ValueError, match="nothing"):
        learner.maml.adapts = None
        learner.adapt(tasks.sample(1, generator=seeded(0)).task(0).support)


def test_in_float32_the_meta_gradient_keeps_its_digits():
    for learner, episodes in ((regression(), waves()), (classes(), letters())):
        meta_gradient(learner, episodes)
        exact = {k: p.grad.clone() for k, p in learner.named_parameters()}
        meta_gradient(learner.float(), episodes.to(torch.float32))
        assert relative_error({k: p.grad for k, p in learner.named_parameters() if k in exact}, exact) < 1e-3


def test_query_labels_reach_no_prediction_adapt_leaves_parameters_alone_and_a_file_keeps_all(tmp_path):
    learner, (S, Q) = classes(), letters().task(0)
    before = {k: p.clone() for k, p in learner.named_parameters()}
    a, b = (learner.predict(learner.adapt(e.support), e.query.x)
            for e in (Episode(S, Q), Episode(S, Q._replace(y=(Q.y + 1) % 3))))
    assert torch.equal(a, b) and all(torch.equal(p, before[k]) for k, p in learner.named_parameters())
    save(learner, tmp_path / "laplace.pt")
    again = load(tmp_path / "laplace.pt")
    assert torch.equal(again.predict(again.adapt(S), Q.x), a)
    order = torch.randperm(6, generator=seeded(0))
    c = learner.predict(learner.adapt(Data(S.x[order], S.y[order], 3)), Q.x)
    torch.testing.assert_close(a, c, atol=1e-9, rtol=0)


def test_mistakes_are_named_with_their_fix():
    net = mlp(1, (4,), 1)
    with pytest.raises(TypeError, match="a MAML"):
        LaplaceMAML(net)
    with pytest.raises(ValueError, match="loss=None"):
        LaplaceMAML(MAML(net, loss=nn.functional.mse_loss))
    with pytest.raises(ValueError, match="features"):
        LaplaceMAML(MAML(nn.Linear(3, 2)))
    for wrong in ({"samples": 3}, {"samples": 0}, {"precision": 0.0}, {"noise": math.inf}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LaplaceMAML(MAML(net), **wrong)
