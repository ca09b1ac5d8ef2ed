"""The relatives of MAML: what each moves, and whether its meta-gradient is the one that it claims."""

import copy
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from metalib import (
    ANIL,
    FOMAML,
    MAML,
    Data,
    Episode,
    FewShot,
    ImplicitMAML,
    MetaSGD,
    Reptile,
    Sinusoids,
    TrainConfig,
    WithContext,
    certify_gradient,
    conv4,
    glyphs,
    load,
    meta_gradient,
    meta_test,
    meta_test_path,
    meta_train,
    mlp,
    save,
    seeded,
)
from metalib.functional import dot, relative_error
from metalib.learners import implicit

WAVES = Sinusoids(shot=5)


class Normed(nn.Module):
    """A smooth network with a normalisation layer, its body and its head."""

    def __init__(self, norm):
        super().__init__()
        self.first = nn.Linear(1, 8)
        self.norm = {"batch": nn.BatchNorm1d(8, track_running_stats=False), "layer": nn.LayerNorm(8)}[norm]
        self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 1)

    def features(self, x):
        return torch.tanh(self.second(torch.tanh(self.norm(self.first(x)))))

    def forward(self, x):
        return self.head(self.features(x))


NETS = {"plain": lambda: mlp(1, (12, 12), 1, activation="tanh"), "batch": lambda: Normed("batch"),
        "layer": lambda: Normed("layer")}
EXACT = {
    "ANIL": lambda net: ANIL(net, 0.05, 3),
    "MetaSGD": lambda net: MetaSGD(net, 0.05, 3),
    "rates of tensors": lambda net: MetaSGD(net, 0.05, 2, per="tensor"),
    "rates of steps": lambda net: MetaSGD(net, 0.05, 3, per="step"),
    "MAML++": lambda net: MetaSGD(net, 0.05, 3, per="tensor and step", step_losses=0.5),
    "step losses": lambda net: MAML(net, 0.05, 3, step_losses=1),
}


def built(make, seed=0):
    torch.manual_seed(seed)
    return make().double()


def images(way, query=3, dtype=torch.float64):
    """Two tasks of noise images, one example of each class in the support."""
    def data(k):
        x = torch.rand(2, way * k, 1, 16, 16, generator=seeded(k), dtype=torch.float64)
        return Data(x.to(dtype), torch.arange(way).repeat_interleave(k).expand(2, -1).clone(), way)

    return Episode(data(1), data(query))


def gradients(learner, episodes, map="loop"):
    meta_gradient(learner, episodes, map)
    return {k: p.grad.clone() for k, p in learner.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("norm", NETS)
@pytest.mark.parametrize("method", EXACT)
def test_the_meta_gradient_is_that_of_finite_differences(method, norm, seed):
    learner = built(lambda: EXACT[method](NETS[norm]()), seed)
    certificate = certify_gradient(learner, WAVES.sample(3, generator=seeded(seed)), smooth=True)
    assert certificate.vmap <= 1e-10 and certificate.loop <= 1e-10
    assert certificate.finite_difference <= 1e-6, certificate


@pytest.mark.parametrize("method", EXACT)
def test_finite_differences_hold_on_a_convolution_as_well(method):
    learner = built(lambda: EXACT[method](conv4(3, channels=4, image_size=16)))
    assert certify_gradient(learner, images(way=3)).passed


# --- ANIL --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("make", [lambda: mlp(1, (9, 7), 1), lambda: Normed("batch")])
def test_anil_is_maml_that_adapts_the_head(make, order):
    """The features that are computed once are those that MAML computes in every step."""
    net, episodes = built(make), WAVES.sample(3, generator=seeded(0))
    once, again = ANIL(net, 0.1, 3, order), MAML(net, 0.1, 3, order, adapts="head")
    for map in ("loop", "vmap"):
        assert relative_error(gradients(once, episodes, map), gradients(again, episodes, map)) < 1e-12


def test_the_body_gets_a_meta_gradient_and_does_not_move_in_adapt():
    learner, episode = ANIL(built(lambda: Normed("layer")), 0.1, 4), WAVES.sample(1, generator=seeded(0))
    before = {k: p.clone() for k, p in learner.named_parameters()}
    for phi in learner.path(episode.task(0).support):
        assert set(phi) == {"head.weight", "head.bias"}
    assert all(torch.equal(p, before[k]) for k, p in learner.named_parameters())
    g = gradients(learner, episode)
    assert all(float(g[f"net.{k}"].abs().max()) > 0 for k in ("first.weight", "norm.weight", "second.weight"))


def test_a_network_without_features_is_adapted_all_the_same():
    net = built(lambda: nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)))
    learner, support = ANIL(net, 0.1, 2), WAVES.sample(1, generator=seeded(0)).task(0).support
    assert set(learner.adapt(support)) == {"2.weight", "2.bias"}


class Pooled(nn.Module):
    """Like torchvision's: `features` is a module, and the head reads what forward() makes of it."""

    def __init__(self):
        super().__init__()
        self.features, self.classifier = nn.Linear(1, 6), nn.Linear(6, 1)

    def forward(self, x):
        return self.classifier(torch.tanh(self.features(x)).square())


class Tied(nn.Module):
    """Its head is a weight of its body."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.head = nn.Linear(1, 1, bias=False), nn.Linear(1, 1), nn.Linear(1, 1, bias=False)
        self.head.weight = self.first.weight

    def features(self, x):
        return torch.tanh(self.inner(self.first(x)))

    def forward(self, x):
        return self.head(self.features(x))


@pytest.mark.parametrize("make", [Pooled, Tied])
def test_anil_calls_a_network_as_a_whole_where_its_head_does_not_read_its_features_alone(make):
    net, episodes = built(make), WAVES.sample(3, generator=seeded(0))
    for map in ("loop", "vmap"):
        pair = [gradients(learner, episodes, map) for learner in (ANIL(net, 0.1, 3), MAML(net, 0.1, 3, adapts="head"))]
        assert relative_error(*pair) < 1e-12


def test_anil_works_without_a_head_and_in_inference_mode_and_names_a_head_that_is_too_narrow():
    support = images(2, dtype=torch.float32).task(0).support
    embedding, classifier = conv4(channels=4, image_size=16), conv4(2, channels=4, image_size=16)
    assert all(k.startswith("blocks.3") for k in ANIL(embedding).adapt(support))
    with torch.inference_mode():
        inside = ANIL(classifier, 0.1, 2).adapt(support)
    assert relative_error(inside, ANIL(classifier, 0.1, 2).adapt(support)) == 0
    with pytest.raises(ValueError, match="2 outputs, which cannot tell 5 classes apart"):
        ANIL(classifier).adapt(images(5, dtype=torch.float32).task(0).support)


@pytest.mark.parametrize("way", [5, 10, 20])
def test_anil_in_float32_is_anil_in_float64(way):
    """Its kernels are those of MAML: an error of a few roundings, and no larger than MAML's head-only loop has."""
    torch.manual_seed(way)
    net, episodes = conv4(way, channels=8, image_size=16), images(way, query=15, dtype=torch.float32)
    exact = gradients(ANIL(net.double(), 0.4, 3), episodes.to(torch.float64))
    ours, general = (gradients(make(net.float()), episodes) for make in (
        lambda net: ANIL(net, 0.4, 3), lambda net: MAML(net, 0.4, 3, adapts="head")))
    assert relative_error(ours, exact) < 10 * relative_error(general, exact) + 1e-6


# --- learned rates -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_gradient_by_a_rate_is_the_one_that_the_chain_rule_gives(seed):
    """J = 1: d L_Q / d rho = - exp(rho) * grad L_S(theta) * grad L_Q(phi), number by number."""
    net, episode = built(NETS["plain"], seed), WAVES.sample(1, generator=seeded(seed))
    learner = MetaSGD(net, 0.05)
    with torch.no_grad():
        for rho in learner.log_rates:
            rho.add_(torch.randn(rho.shape, generator=seeded(seed), dtype=rho.dtype))
    g, (support, query) = gradients(learner, episode), episode.task(0)
    theta = dict(net.named_parameters())

    def slope(phi, data):
        loss = F.mse_loss(functional_call(net, phi, (data.x,)), data.y)
        return dict(zip(phi, torch.autograd.grad(loss, list(phi.values()))))

    inner = slope(theta, support)
    rates = {k: rho.exp() for k, rho in zip(theta, learner.log_rates)}
    phi = {k: (p - rates[k] * inner[k]).detach().requires_grad_() for k, p in theta.items()}
    outer = slope(phi, query)
    for i, k in enumerate(theta):
        assert torch.allclose(g[f"log_rates.{i}"], -rates[k] * inner[k] * outer[k], rtol=1e-9, atol=1e-14)


def test_equal_rates_are_maml_and_each_step_has_its_own():
    net, support = built(NETS["plain"]), WAVES.sample(1, generator=seeded(0)).task(0).support
    plain = MAML(net, 0.05, 3).path(support, 5)
    for per in ("weight", "tensor", "step", "tensor and step"):
        for a, b in zip(MetaSGD(net, 0.05, 3, per=per).path(support, 5), plain):
            assert relative_error(a, b) < 1e-12
    learner = MetaSGD(net, 0.05, 2, per="step").double()
    with torch.no_grad():
        rates = torch.tensor([math.log(0.05), -math.inf], dtype=torch.float64)
        learner.log_rates[0].copy_(rates)  # the second step, and all later ones: 0
    path = learner.path(support, 4)
    assert relative_error(path[1], plain[1]) < 1e-12 and relative_error(path[4], path[1]) == 0
    learner.steps = 4  # a setting like any other
    assert relative_error(learner.adapt(support), path[4]) == 0


def test_training_moves_the_rates_and_a_file_keeps_them(tmp_path):
    learner = MetaSGD(built(NETS["plain"]), 0.05, 2, per="tensor and step")
    meta_train(learner, WAVES, TrainConfig(iterations=20, lr=1e-2))
    assert all(float((rho.detach() - math.log(0.05)).abs().min()) > 1e-3 for rho in learner.log_rates)
    save(learner, tmp_path / "rates.pt")
    assert meta_test(load(tmp_path / "rates.pt"), WAVES, 30).mean == meta_test(learner, WAVES, 30).mean


@pytest.mark.parametrize("wrong", [{"inner_lr": 0}, {"per": "layer"}, {"step_losses": -1}, {"step_losses": 30}])
def test_what_cannot_be_learned_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MetaSGD(mlp(1, (4,), 1), **wrong)


# --- step losses -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("elapsed", "weights"), [(0.0, [1 / 3] * 3), (0.25, [1 / 6, 1 / 6, 2 / 3]), (0.5, [0, 0, 1]),
                                                  (1.0, [0, 0, 1])])
def test_the_loss_of_every_step_counts_early_and_the_last_alone_later(elapsed, weights):
    learner = MAML(built(NETS["plain"]), 0.05, 3, step_losses=0.5)
    episode = WAVES.sample(1, generator=seeded(0)).task(0)
    learner.elapsed.fill_(elapsed)
    losses = [F.mse_loss(learner.predict(phi, episode.query.x), episode.query.y)
              for phi in learner.path(episode.support)[1:]]
    expected = sum(w * v for w, v in zip(weights, losses))
    assert float(learner(episode).detach()) == pytest.approx(float(expected.detach()))


def test_training_says_how_far_it_is(tmp_path):
    """Resumed half-way it goes on from the same share: bit for bit what one run gives."""
    seen = []

    class Seen(MAML):
        def forward(self, episode):
            seen.append(float(self.elapsed))
            return super().forward(episode)

    def run(iterations, **more):
        learner = Seen(built(NETS["plain"]), 0.05, 2, step_losses=0.8)
        config = TrainConfig(iterations=iterations, meta_batch=1, map="loop", **more)
        meta_train(learner, WAVES, config)
        return learner

    run(5)
    assert seen == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert "elapsed" not in Seen(mlp(1, (4,), 1), step_losses=1).state_dict(), "a file needs no clock"
    assert not hasattr(MAML(mlp(1, (4,), 1)), "elapsed")


# --- Reptile -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("map", ["loop", "vmap"])
@pytest.mark.parametrize("norm", NETS)
@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_reptile_with_one_step_is_joint_training(norm, map, rate):
    net, episodes = built(NETS[norm]), WAVES.sample(3, generator=seeded(0))
    ours = gradients(Reptile(net, rate, 1), episodes, map)
    losses = []
    for t in range(3):
        support, query = episodes.task(t)
        losses.append(F.mse_loss(net(torch.cat([support.x, query.x])), torch.cat([support.y, query.y])))
    joint = dict(zip(ours, torch.autograd.grad(torch.stack(losses).mean(), list(net.parameters()))))
    assert relative_error(ours, joint) < 1e-12


@pytest.mark.parametrize("batch", [None, 4, 15, 7])
def test_reptile_points_from_the_end_of_plain_training_to_its_start(batch):
    net, episode = built(NETS["plain"]), WAVES.sample(1, generator=seeded(2))
    learner = Reptile(net, 0.03, 5, batch=batch)
    g, task = gradients(learner, episode), episode.task(0)
    trained = copy.deepcopy(net)
    sgd = torch.optim.SGD(trained.parameters(), lr=0.03)
    data = Data(torch.cat([task.support.x, task.query.x]), torch.cat([task.support.y, task.query.y]))
    for part in learner.minibatches(data):
        assert len(part.y) == (batch or 15)
        sgd.zero_grad()
        loss = F.mse_loss(trained(part.x), part.y)
        loss.backward()
        sgd.step()
    expected = {f"net.{k}": (p - q).detach() / 0.03 for (k, p), q in zip(net.named_parameters(), trained.parameters())}
    assert relative_error(g, expected) < 1e-12
    assert float(meta_gradient(learner, episode)) == pytest.approx(float(loss.detach()))


def test_minibatches_go_round_all_examples_and_know_no_order():
    task = FewShot(glyphs().split("val"), 5, 2, 3).sample(1, generator=seeded(0)).task(0)
    data = Data(torch.cat([task.support.x, task.query.x]), torch.cat([task.support.y, task.query.y]), 5)
    learner = Reptile(mlp(784, (4,), 5), 0.1, 5, batch=5)
    parts = learner.minibatches(data)
    rows = torch.cat([p.x for p in parts]).flatten(1)
    assert len(rows.unique(dim=0)) == len(data.x.flatten(1).unique(dim=0)), "a round is every example once"
    order = torch.randperm(25, generator=seeded(1))
    again = learner.minibatches(Data(data.x[order], data.y[order], 5))
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(parts, again))
    assert max(int((p.y == n).sum()) for p in parts for n in range(5)) < 5, "no minibatch of one class"


# --- implicit MAML -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("seed", "strength", "J"), [(0, 1.0, 600), (1, 2.0, 300), (2, 4.0, 200)])
def test_the_implicit_gradient_is_that_through_the_solved_inner_problem(seed, strength, J):
    """Against an unrolled loop that is long enough to have arrived, differentiated step by step."""
    net = built(lambda: mlp(1, (6,), 1, activation="tanh"), seed)
    episode = Sinusoids(shot=8, amplitude=(0.5, 1.5)).sample(1, generator=seeded(seed))
    learner = ImplicitMAML(net, 0.1, J, strength=strength, cg_steps=40)
    ours, (support, query) = gradients(learner, episode), episode.task(0)
    theta = dict(net.named_parameters())
    phi = theta
    for _ in range(J):
        loss = F.mse_loss(functional_call(net, phi, (support.x,)), support.y) + 0.5 * strength * sum(
            (phi[k] - theta[k]).square().sum() for k in theta)
        g = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
        phi = {k: p - 0.1 * g_k for (k, p), g_k in zip(phi.items(), g)}
    outer = F.mse_loss(functional_call(net, phi, (query.x,)), query.y)
    exact = {f"net.{k}": g for k, g in zip(theta, torch.autograd.grad(outer, list(theta.values())))}
    assert relative_error(ours, exact) < 1e-6
    assert float(learner(episode.task(0)).detach()) == pytest.approx(float(outer.detach()), rel=1e-9)


@pytest.mark.parametrize("norm", NETS)
def test_the_implicit_gradient_is_the_same_at_once_and_in_a_loop(norm):
    learner = ImplicitMAML(built(NETS[norm]), 0.02, 6, strength=4.0, cg_steps=3)
    certificate = certify_gradient(learner, WAVES.sample(3, generator=seeded(0)), smooth=True)
    assert certificate.consistent and not certificate.passed and "not verified" in str(certificate)


def test_it_says_how_wrong_it_is_at_its_settings():
    net = built(lambda: mlp(1, (6,), 1, activation="tanh"))
    task = Sinusoids(shot=8, amplitude=(0.5, 1.5)).sample(1, generator=seeded(0)).task(0)
    errors = [ImplicitMAML(net, 0.1, J, strength=2.0, cg_steps=c).gradient_error(task, steps=200)
              for J, c in ((2, 1), (16, 5), (200, 100))]
    assert errors[0] > errors[1] > errors[2] and errors[2] == 0
    learner = ImplicitMAML(net, 0.02, 3, strength=2.0)
    learner.gradient_error(task)
    assert (learner.steps, learner.cg_steps) == (3, 5), "its settings are as before"


@pytest.mark.parametrize("J", [3, 40])
def test_implicit_maml_keeps_one_iterate_however_many_steps_it_takes(J, monkeypatch):
    learner = ImplicitMAML(built(NETS["plain"]), 0.02, J, strength=2.0)
    support, made = WAVES.sample(1, generator=seeded(0)).task(0).support, []
    step = implicit.descend

    def watched(*args):
        phi = step(*args)
        made.append(weakref.ref(next(iter(phi.values()))))
        return phi

    monkeypatch.setattr(implicit, "descend", watched)
    phi = learner.adapt(support)
    assert len(made) == J and sum(ref() is not None for ref in made) == 1
    path = learner.path(support)
    assert sum(ref() is not None for ref in made[J:]) == J, "path is for looking at all of them"
    assert all(torch.equal(phi[k], path[-1][k]) for k in phi)


def test_theta_holds_phi_as_strongly_as_it_is_told():
    net, support = built(NETS["plain"]), WAVES.sample(1, generator=seeded(0)).task(0).support
    theta = dict(net.named_parameters())
    moved = []
    for strength in (0.1, 1.0, 10.0):
        phi = ImplicitMAML(net, 0.01, 500, strength=strength).adapt(support)
        moved.append(float(sum((phi[k] - theta[k]).square().sum() for k in theta).detach()))
    assert moved[0] > moved[1] > moved[2]


@pytest.mark.parametrize("wrong", [{"strength": 0}, {"strength": -1}, {"cg_steps": -1}, {"cg_steps": 1.5},
                                   {"cg_steps": 0}])
def test_an_inner_problem_that_forgets_theta_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ImplicitMAML(mlp(1, (4,), 1), **wrong)


# --- context -----------------------------------------------------------------------------------------------------

def test_a_context_is_all_that_moves_and_it_starts_from_zero():
    learner = MAML(WithContext(built(lambda: mlp(4, (12,), 1, activation="tanh")), 3).double(), 0.3, 3,
                   adapts="context")
    episodes = WAVES.sample(3, generator=seeded(0))
    path = learner.path(episodes.task(0).support)
    assert [*path[0]] == ["context"] and float(path[0]["context"].abs().max()) == 0
    assert float(path[3]["context"].detach().abs().min()) > 0
    certificate = certify_gradient(learner, episodes, smooth=True)
    assert certificate.passed and certificate.finite_difference <= 1e-6
    assert "net.context" not in gradients(learner, episodes), "the start is zero for ever"


@pytest.mark.parametrize("net, dim, message", [(nn.Linear(3, 1), 0, "dim=0"), (nn.Linear(3, 1), 1.5, "dim=1.5"),
                                               (3, nn.Linear(3, 1), "a network")])
def test_a_context_that_could_not_move_is_refused(net, dim, message):
    with pytest.raises((TypeError, ValueError), match=message):
        WithContext(net, dim)


# --- all of them -------------------------------------------------------------------------------------------------

ALL = {**EXACT, "FOMAML": lambda net: FOMAML(net, 0.05, 3), "Reptile": lambda net: Reptile(net, 0.05, 3),
       "implicit": lambda net: ImplicitMAML(net, 0.02, 6, strength=4.0, cg_steps=3)}


@pytest.mark.parametrize("method", ALL)
def test_training_makes_every_one_of_them_better(method):
    learner = built(lambda: ALL[method](mlp(1, (20, 20), 1)))
    tasks = Sinusoids(amplitude=(1.0, 3.0), phase=(0.0, 1.0))
    before = meta_test_path(learner, tasks, learner.steps, 100)[-1].mean
    history = meta_train(learner, tasks, TrainConfig(iterations=120, lr=5e-3))
    assert meta_test(learner, tasks, 100).mean < 0.8 * before
    assert sum(history.losses[-20:]) < sum(history.losses[:20]), "the history shows a loss that training lowers"


@pytest.mark.parametrize("method", ALL)
def test_query_labels_do_not_reach_the_predictions(method):
    learner, (support, query) = built(lambda: ALL[method](NETS["layer"]())), WAVES.sample(
        1, generator=seeded(0)).task(0)
    with torch.no_grad():
        a = learner.predict(learner.adapt(support), query.x)
        learner(Episode(support, query._replace(y=query.y + 1)))
        assert torch.equal(a, learner.predict(learner.adapt(support), query.x))


def test_what_does_not_move_gets_no_meta_gradient_from_reptile():
    learner = Reptile(built(NETS["plain"]), 0.05, 3, adapts="head")
    g = gradients(learner, WAVES.sample(2, generator=seeded(0)))
    size = {k: float(dot({k: v}, {k: v})) for k, v in g.items()}
    assert [k for k, v in size.items() if v] == ["net.layers.2.weight", "net.layers.2.bias"]


@pytest.mark.parametrize("map", ["loop", "vmap"])
@pytest.mark.parametrize("make", [lambda net, rate: Reptile(net, rate, 4, batch=3),
                                  lambda net, rate: ImplicitMAML(net, rate, 4)])
def test_a_rate_that_is_a_parameter_gets_no_gradient_from_a_surrogate(make, map):
    net, episodes = built(NETS["plain"]), WAVES.sample(2, generator=seeded(1))
    rate = nn.Parameter(torch.tensor(0.02, dtype=torch.float64))
    learnt, plain = gradients(make(net, rate), episodes, map), gradients(make(net, 0.02), episodes, map)
    assert float(learnt.pop("inner_lr")) == 0 and relative_error(learnt, plain) < 1e-12
