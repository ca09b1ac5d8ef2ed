"""Matching and relation networks, ProtoNet's temperature: what they compute, one query and one example at a time."""

import copy
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
    ProtoNet,
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
from metalib.functional import relative_error, squared_distance
from metalib.keys import shuffle
from metalib.learners.matching import MatchingNet, RelationNet, unit
from metalib.training import checkpoint


class Vectors(nn.Module):
    """A smooth encoder with a normalisation layer: (M, 6) -> (M, 5), or maps (M, 3, 2, 2)."""

    def __init__(self, norm="none", maps=False):
        super().__init__()
        self.embedding_dim, self.maps = 5, maps
        self.first = nn.Linear(6, 8)
        self.norm = {"batch": nn.BatchNorm1d(8, track_running_stats=False), "layer": nn.LayerNorm(8),
                     "none": nn.Identity()}[norm]
        self.last = nn.Linear(8, 12 if maps else 5)

    def forward(self, x):
        z = self.last(torch.tanh(self.norm(self.first(x))))
        return z.unflatten(1, (3, 2, 2)) if self.maps else z


def on_maps():
    """A relation module for pairs of maps (P, 2 * 3, 2, 2)."""
    return nn.Sequential(nn.Conv2d(6, 4, 2, padding=1), nn.BatchNorm2d(4, track_running_stats=False), nn.Tanh(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))


def smooth():
    return mlp(10, (6,), 1, activation="tanh")


LEARNERS = {
    "matching": MatchingNet,
    "full context": lambda net: MatchingNet(net, full_context=True),
    "relation": lambda net: RelationNet(net, smooth()),
    "relation, cross-entropy": lambda net: RelationNet(net, smooth(), objective="cross-entropy"),
    "temperature": lambda net: ProtoNet(net, temperature=0.3),
}


def points(way=4, shot=2, query=3, tasks=3, seed=0, dtype=torch.float64):
    g = seeded(seed)

    def data(k):
        y = torch.arange(way).repeat_interleave(k).expand(tasks, -1).clone()
        return Data(torch.randn(tasks, way * k, 6, generator=g, dtype=torch.float64).to(dtype), y, way)

    return Episode(data(shot), data(query))


def built(make, seed=0):
    torch.manual_seed(seed)
    return make().double()


def logits(learner, support, x):
    return learner.predict(learner.adapt(support), x)


# --- the meta-gradient -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("name", LEARNERS)
def test_the_meta_gradient_is_that_of_finite_differences(name, norm):
    certificate = certify_gradient(built(lambda: LEARNERS[name](Vectors(norm))), points(), smooth=True)
    assert certificate.vmap <= 1e-10 and certificate.loop <= 1e-10
    assert certificate.finite_difference <= 1e-6, certificate


def test_and_with_a_relation_module_on_maps():
    learner = built(lambda: RelationNet(Vectors("batch", maps=True), on_maps()))
    certificate = certify_gradient(learner, points(), smooth=True)
    assert certificate.passed and certificate.vmap is not None and certificate.finite_difference <= 1e-6


@pytest.mark.parametrize("make", [MatchingNet, lambda net: MatchingNet(net, True), RelationNet,
                                  lambda net: ProtoNet(net, temperature=0.3)])
def test_finite_differences_hold_on_a_convolution_as_well(make):
    episodes = FewShot(glyphs().split("train"), 3, 2, 2).sample(2, generator=seeded(0))
    assert certify_gradient(built(lambda: make(conv4(channels=4))), episodes).passed


@pytest.mark.parametrize("name", LEARNERS)
def test_the_support_is_a_set_and_no_query_label_is_read(name):
    learner = built(lambda: LEARNERS[name](Vectors("batch")))
    before = copy.deepcopy(learner.state_dict())
    support, query = points(shot=3).task(0)
    ours = logits(learner, support, query.x)
    order = torch.randperm(12, generator=seeded(1))
    again = logits(learner, Data(support.x[order], support.y[order], 4), query.x)
    torch.testing.assert_close(ours, again, atol=1e-12, rtol=1e-12)
    assert all(torch.equal(p, before[k]) for k, p in learner.state_dict().items())
    losses = [learner(Episode(support, query._replace(y=y))) for y in (query.y, query.y.flip(0))]
    assert not torch.equal(*losses) and torch.equal(ours, logits(learner, support, query.x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_full_context_works_on_an_encoder_in_half_precision(dtype):
    learner, half = built(lambda: MatchingNet(Vectors(), True, temperature=3.0)), points().task(0).to(dtype)
    episode = half.to(torch.float64)  # the same numbers, so the same order
    exact = logits(learner, episode.support, episode.query.x).detach().softmax(-1)
    again = logits(learner.to(dtype), half.support, half.query.x).detach().double().softmax(-1)
    assert float((again - exact).abs().max()) < 0.01


@pytest.mark.parametrize("map", ["loop", "vmap"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", LEARNERS)
def test_float32_and_bfloat16_are_the_same_gradient_with_fewer_digits(name, precision, map):
    learner, episodes = built(lambda: LEARNERS[name](Vectors())).float(), points(dtype=torch.float32)
    meta_gradient(learner, episodes, map, precision=precision)
    ours = {k: p.grad.double() for k, p in learner.named_parameters()}
    meta_gradient(learner.double(), episodes.to(torch.float64), map)
    exact = {k: p.grad for k, p in learner.named_parameters()}
    assert relative_error(ours, exact) < {"float32": 1e-4, "bf16": 0.2}[precision]


@pytest.mark.parametrize("name", LEARNERS)
def test_another_way_and_shot_at_test(name):
    learner = built(lambda: LEARNERS[name](Vectors()))
    for way, shot in ((2, 1), (5, 1), (9, 5)):
        support, query = points(way, shot).task(0)
        assert logits(learner, support, query.x).shape == (3 * way, way)


@pytest.mark.parametrize("make", [lambda: MatchingNet(conv4(channels=4)), lambda: MatchingNet(conv4(channels=4), True),
                                  lambda: RelationNet(conv4(channels=4)),
                                  lambda: ProtoNet(conv4(channels=4), temperature=0.5)])
def test_a_file_keeps_them(make, tmp_path, monkeypatch):
    learner, tasks = make(), FewShot(glyphs().split("train"), 3, 1, 2)
    meta_train(learner, tasks, TrainConfig(iterations=3, lr=1e-2))
    monkeypatch.setitem(checkpoint.KNOWN, type(learner).__name__, type(learner))
    save(learner, tmp_path / "learner.pt")
    again = load(tmp_path / "learner.pt")
    assert all(torch.equal(p, again.state_dict()[k]) for k, p in learner.state_dict().items())
    assert meta_test(again, tasks, 5).mean == meta_test(learner, tasks, 5).mean


# --- ProtoNet's temperature --------------------------------------------------------------------------------------

def test_without_a_temperature_protonet_is_what_it_was_to_the_last_bit():
    torch.manual_seed(0)
    learner, (support, query) = ProtoNet(conv4(channels=8)), FewShot(glyphs().split("val"), 5, 2, 3).sample(
        1, generator=seeded(0)).task(0)
    means = torch.stack([learner.encoder(support.x)[support.y == n] for n in range(5)]).sum(1) / 2
    assert torch.equal(logits(learner, support, query.x), -squared_distance(learner.encoder(query.x), learner.adapt(
        support))) and torch.allclose(learner.adapt(support), means)
    assert [k for k, _ in learner.named_parameters() if not k.startswith("encoder")] == []


def test_a_temperature_multiplies_the_logits_and_is_learned():
    encoder, (support, query) = built(Vectors), points().task(0)
    plain, learner = ProtoNet(encoder), ProtoNet(encoder, temperature=0.25)
    torch.testing.assert_close(logits(learner, support, query.x), 0.25 * logits(plain, support, query.x))
    meta_gradient(learner, points())
    assert abs(float(learner.log_temperature.grad)) > 1e-4
    with pytest.raises(ValueError, match="temperature=0"):
        ProtoNet(encoder, temperature=0)


# --- matching networks -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shot", [1, 3])
def test_a_query_is_labelled_by_its_attention_over_the_examples(shot):
    learner, (support, query) = built(lambda: MatchingNet(Vectors(), temperature=3)), points(shot=shot).task(0)
    p = logits(learner, support, query.x).softmax(1)
    z, g = learner.encoder(query.x), learner.encoder(support.x)
    for i in range(len(z)):
        a = (3 * F.cosine_similarity(z[i : i + 1], g)).softmax(0)
        for n in range(4):
            torch.testing.assert_close(p[i, n], a[support.y == n].sum(), rtol=1e-6, atol=1e-9)


def test_full_context_is_the_lstm_of_pytorch_over_the_shuffled_support():
    """A bidirectional nn.LSTM with the same weights; our cell has one bias where PyTorch's has two."""
    learner, (support, query) = built(lambda: MatchingNet(Vectors(), True, reads=2)), points().task(0)
    context, lstm = learner.context, nn.LSTM(5, 5, bidirectional=True).double()
    with torch.no_grad():
        for suffix, cell in (("", context.there), ("_reverse", context.back)):
            getattr(lstm, f"weight_ih_l0{suffix}").copy_(cell.weight[:, :5])
            getattr(lstm, f"weight_hh_l0{suffix}").copy_(cell.weight[:, 5:])
            getattr(lstm, f"bias_ih_l0{suffix}").copy_(cell.bias)
            getattr(lstm, f"bias_hh_l0{suffix}").zero_()
    g, directions, member = learner.adapt(support)
    order = [int((member[i] * torch.arange(4)).sum()) for i in range(8)]
    assert order != sorted(order), "the sampler's order, class by class, is not what the LSTM reads"
    assert sorted(order) == [0, 0, 1, 1, 2, 2, 3, 3]
    z = learner.encoder(support.x)
    rows = shuffle(support.x, support.y)
    both = lstm(z[rows])[0]
    torch.testing.assert_close(g, z[rows] + both[:, :5] + both[:, 5:])
    cell = nn.LSTMCell(15, 5).double()  # of a query: reads z, h and what it has attended to
    h, c = learner.encoder(query.x), torch.zeros(12, 5, dtype=torch.float64)
    f = h
    with torch.no_grad():
        cell.weight_ih.copy_(context.query.weight)
        cell.bias_ih.copy_(context.query.bias)
        for part in (cell.weight_hh, cell.bias_hh):
            part.zero_()
    for _ in range(2):
        a = (h @ g.T).softmax(1)
        out, c = cell(torch.cat([f, h, a @ g], 1), (torch.zeros_like(c), c))
        h = f + out
    a = (30 * F.cosine_similarity(h[:, None], g[None], dim=2)).softmax(1)
    torch.testing.assert_close(logits(learner, support, query.x).softmax(1), a @ member.double(), rtol=1e-6, atol=1e-9)


def test_with_full_context_an_embedding_depends_on_the_others_and_a_query_on_no_other_query():
    learner, (support, query) = built(lambda: MatchingNet(Vectors(), True)), points().task(0)
    g = learner.adapt(support)[0]
    other = support._replace(x=torch.cat([support.x[:-1], support.x[-1:] + 1]))
    moved = torch.cdist(g, learner.adapt(other)[0]).min(1).values
    assert bool((moved > 1e-6).all()), "all of them have moved, not one"
    phi = learner.adapt(support)
    one_by_one = torch.cat([learner.predict(phi, x[None]) for x in query.x])
    torch.testing.assert_close(learner.predict(phi, query.x), one_by_one)


@pytest.mark.parametrize("full_context", [False, True])
def test_zero_embeddings_and_an_absent_class_have_finite_gradients(full_context):
    learner, episode = MatchingNet(Vectors(), full_context), points(dtype=torch.float32).task(0)
    support, query = episode
    with torch.no_grad():
        learner.encoder.last.weight.zero_()
        learner.encoder.last.bias.zero_()
    learner(Episode(support._replace(y=support.y.clamp(max=2)), query._replace(y=query.y.clamp(max=2)))).backward()
    assert all(bool(p.grad.isfinite().all()) and float(p.grad.abs().max()) < 1e3 for p in learner.parameters())
    p = logits(learner, support._replace(y=support.y.clamp(max=2)), query.x).softmax(1)
    assert bool((p[:, 3] == 0).all()) and torch.allclose(p.sum(1), torch.ones(len(p)))


def test_a_row_of_zeros_has_no_direction_and_a_gradient_that_is_no_explosion():
    z = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    (g,) = torch.autograd.grad(unit(z).sum(), z)
    assert torch.allclose(unit(z), torch.tensor([[0.6, 0.8], [0.0, 0.0]])) and float(g.abs().max()) <= 1
    (theirs,) = torch.autograd.grad(F.normalize(z, dim=1).sum(), z)
    assert float(theirs.abs().max()) > 1e11


@pytest.mark.parametrize("name", LEARNERS)
def test_a_task_of_nan_does_not_touch_the_others_of_its_batch(name):
    learner, (support, query) = built(lambda: LEARNERS[name](Vectors("batch"))), points()
    support.x[1] = math.nan
    phi = vmap(lambda x, y: learner.adapt(Data(x, y, 4)))(support.x, support.y)
    all_at_once = vmap(learner.predict)(phi, query.x)
    for t in (0, 2):
        torch.testing.assert_close(all_at_once[t], logits(learner, Episode(support, query).task(t).support, query.x[t]))
    assert bool(all_at_once[1].isnan().any())


# --- relation networks -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("maps", [False, True])
def test_every_pair_of_class_and_query_is_scored_by_itself(maps):
    relation = nn.Sequential(nn.Conv2d(6, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4, 1)) if maps else smooth()
    learner, (support, query) = built(lambda: RelationNet(Vectors(maps=maps), relation)), points(shot=3).task(0)
    z, s = learner.encoder(query.x), learner.encoder(support.x)
    ours = logits(learner, support, query.x)
    for i in range(len(z)):
        for n in range(4):
            pair = torch.cat([s[support.y == n].mean(0), z[i]])[None]
            torch.testing.assert_close(ours[i, n], learner.relation(pair)[0, 0])


def test_the_objective_is_the_papers_squared_error_or_cross_entropy_or_ones_own():
    episode = points().task(0)
    support, query = episode
    learner = built(lambda: RelationNet(Vectors(), smooth()))
    scores = logits(learner, support, query.x)
    squared = (scores.sigmoid() - F.one_hot(query.y)).square().sum() / len(query.y)
    torch.testing.assert_close(learner(episode), squared)
    learner.objective = "cross-entropy"
    torch.testing.assert_close(learner(episode), F.cross_entropy(scores, query.y))
    learner.objective, learner.loss = "squared error", F.multi_margin_loss
    torch.testing.assert_close(learner(episode), F.multi_margin_loss(scores, query.y))


@pytest.mark.parametrize("encoder", [lambda: mlp(784, (9,), 7), lambda: conv4(channels=8),
                                     lambda: conv4(3, channels=8)])
@pytest.mark.parametrize("make", [lambda net: MatchingNet(net, True), RelationNet])
def test_the_width_of_what_an_encoder_returns_is_found(make, encoder):
    support = FewShot(glyphs().split("train"), 3, 1, 1).sample(1, generator=seeded(0)).task(0).support
    assert logits(make(encoder()), support, support.x).shape == (3, 3)


def test_mistakes_are_named_with_their_fix():
    support = points().task(0).support
    unsaid = nn.Sequential(nn.Linear(6, 5), nn.Tanh())
    with pytest.raises(ValueError, match="embedding_dim="):
        MatchingNet(unsaid, full_context=True)
    with pytest.raises(ValueError, match="relation="):
        RelationNet(unsaid)
    assert MatchingNet(unsaid, True, embedding_dim=5).adapt(points(dtype=torch.float32).task(0).support)
    with pytest.raises(ValueError, match="embedding_dim=5"):
        MatchingNet(unsaid, True, embedding_dim=7).adapt(points(dtype=torch.float32).task(0).support)
    with pytest.raises(ValueError, match="relation="):
        RelationNet(nn.Flatten())
    for wrong in ({"temperature": 0}, {"reads": 0}, {"full_context": F.nll_loss}, {"full_context": "no"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MatchingNet(conv4(), **wrong)
    with pytest.raises(ValueError, match="objective='hinge'"):
        RelationNet(conv4(), objective="hinge")
    with pytest.raises(ValueError, match="one number each"):
        logits(built(lambda: RelationNet(Vectors(), mlp(10, (4,), 2))), support, support.x)
    for learner in (MatchingNet(nn.Unflatten(1, (2, 3))), RelationNet(nn.Unflatten(1, (2, 3)), smooth())):
        with pytest.raises(ValueError, match=r"nn.Flatten\(\)"):
            learner.adapt(support)
    for learner in (MatchingNet(Vectors()), RelationNet(Vectors())):
        with pytest.raises(ValueError, match=r"labels \(M,\)"):
            learner.adapt(support._replace(y=support.y[:, None]))
