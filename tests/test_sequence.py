"""Black-box learners: what they read, in which order, and how far what they say follows from it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metalib import (
    Data,
    Episode,
    FewShot,
    LinearTasks,
    SequenceLearner,
    Sinusoids,
    TrainConfig,
    certify_gradient,
    glyphs,
    load,
    meta_gradient,
    meta_test,
    meta_train,
    save,
    seeded,
)
from metalib.functional import relative_error
from metalib.keys import shuffle
from metalib.learners.head import ridge
from metalib.learners.sequence import Attention, Recurrent, earlier

CORES = ("attention", "recurrent")
cores = pytest.mark.parametrize("core", CORES)
WAVES = Sinusoids(shot=6, query=4)


def built(core, in_dim=1, out_dim=1, seed=0, **options):
    torch.manual_seed(seed)
    return SequenceLearner(in_dim, out_dim, core, dim=8, layers=2, heads=2, **options).double()


@cores
@pytest.mark.parametrize("every_length", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_meta_gradient_is_that_of_finite_differences(core, every_length, seed):
    learner = built(core, seed=seed, every_length=every_length)
    certificate = certify_gradient(learner, WAVES.sample(3, generator=seeded(seed)), smooth=True)
    assert certificate.vmap <= 1e-10 and certificate.finite_difference <= 1e-6, certificate


@cores
def test_classes_and_an_encoder_are_certified_too(core):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Tanh())
    learner = built(core, 6, 3, encoder=encoder)
    episodes = FewShot(glyphs().split("val"), 3, 2, 2).sample(2, generator=seeded(0))
    certificate = certify_gradient(learner, episodes, smooth=True)
    assert certificate.passed and certificate.finite_difference <= 1e-6, certificate


# --- order -------------------------------------------------------------------------------------------------------

@cores
def test_the_order_of_the_support_says_nothing(core):
    """FewShot orders its support by class; a learner that reads an order would learn from that."""
    learner = built(core, 784, 5)
    support, query = FewShot(glyphs().split("val"), 5, 3, 2).sample(1, generator=seeded(0)).to(torch.float64).task(0)
    order = torch.randperm(15, generator=seeded(1))
    shuffled = Data(support.x[order], support.y[order], 5)
    with torch.no_grad():
        a, b = (learner.predict(learner.adapt(s), query.x) for s in (support, shuffled))
        assert torch.equal(a, b)
        losses = [learner(Episode(s, query)) for s in (support, shuffled)]
    assert losses[0] == losses[1]


@cores
def test_each_query_is_predicted_by_itself(core):
    learner, (support, query) = built(core), WAVES.sample(1, generator=seeded(0)).task(0)
    with torch.no_grad():
        phi = learner.adapt(support)
        together = learner.predict(phi, query.x)
        alone = torch.cat([learner.predict(phi, x[None]) for x in query.x])
    assert torch.allclose(together, alone, rtol=0, atol=1e-14)


@cores
def test_an_example_is_read_with_its_target_and_changes_the_answer(core):
    learner, (support, query) = built(core), WAVES.sample(1, generator=seeded(0)).task(0)
    with torch.no_grad():
        a = learner.predict(learner.adapt(support), query.x)
        y = support.y.clone()
        y[2] += 1
        b = learner.predict(learner.adapt(support._replace(y=y)), query.x)
    assert float((a - b).abs().max()) > 1e-6


@cores
def test_an_empty_support_gives_a_finite_prior_and_a_finite_gradient(core):
    learner, (support, query) = built(core), WAVES.sample(1, generator=seeded(0)).task(0)
    nothing = Data(support.x[:0], support.y[:0])
    prior = learner.predict(learner.adapt(nothing), query.x)
    assert bool(prior.isfinite().all())
    meta_gradient(learner, Episode(Data(nothing.x[None], nothing.y[None]), Data(query.x[None], query.y[None])))
    assert all(bool(p.grad.isfinite().all()) for p in learner.parameters())
    assert meta_test(learner, LinearTasks(1, shot=0), 30).mean > 0


# --- every length ------------------------------------------------------------------------------------------------

@cores
def test_every_length_is_what_one_gets_by_asking_at_every_length(core):
    """Example i is predicted from those read before it, and from nothing else."""
    learner, support = built(core), WAVES.sample(1, generator=seeded(3)).task(0).support
    with torch.no_grad():
        pairs, asked = learner.tokens(support.x, support.y), learner.tokens(support.x)
        memory, each = learner.body.replay(pairs, asked)
        for i in range(6):
            one = learner.body.ask(learner.body.read(pairs[:i]), asked[i:i + 1])
            assert torch.allclose(each[i:i + 1], one, rtol=0, atol=1e-13)
        for a, b in zip(memory, learner.body.read(pairs), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-14)


@cores
def test_the_loss_counts_every_prediction_once(core):
    learner, (support, query) = built(core), WAVES.sample(1, generator=seeded(3)).task(0)
    order = shuffle(support.x, support.y)
    x, y = support.x[order], support.y[order]
    with torch.no_grad():
        errors = [(learner.head(learner.body.ask(learner.body.read(learner.tokens(x[:i], y[:i])),
                                                 learner.tokens(x[i:i + 1]))) - y[i]).square().mean() for i in range(6)]
        errors += [*(learner.predict(learner.adapt(support), query.x) - query.y).square()[:, 0]]
        assert float(learner(Episode(support, query))) == pytest.approx(float(torch.stack(errors).mean()))


# --- the cores against PyTorch's own -----------------------------------------------------------------------------

@pytest.mark.parametrize("dtype, close", [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_the_recurrent_core_is_an_lstm(dtype, close):
    torch.manual_seed(0)
    ours, theirs = Recurrent(6, 2).to(dtype), nn.LSTM(6, 6, 2).to(dtype)
    with torch.no_grad():
        for i, gate in enumerate(ours.gates):
            getattr(theirs, f"weight_ih_l{i}").copy_(gate.weight[:, :6])
            getattr(theirs, f"weight_hh_l{i}").copy_(gate.weight[:, 6:])
            getattr(theirs, f"bias_ih_l{i}").copy_(gate.bias)
            getattr(theirs, f"bias_hh_l{i}").zero_()
        x = torch.randn(9, 6, dtype=dtype)
        expected, (h, c) = theirs(x[:, None])
        state = ours.read(x)
        for i in range(2):
            assert torch.allclose(state[i], torch.cat([h[i, 0], c[i, 0]]), rtol=0, atol=close)
        assert torch.allclose(ours.ask(ours.read(x[:8]), x[8:])[0], expected[8, 0], rtol=0, atol=close)


@pytest.mark.parametrize("dtype, close", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_attention_is_pytorch_s(dtype, close):
    """One block against multi-head attention with the same weights: row i sees the rows up to i."""
    torch.manual_seed(0)
    core, theirs = Attention(8, 1, 2).to(dtype), nn.MultiheadAttention(8, 2, batch_first=True).to(dtype)
    block = core.blocks[0]
    x = torch.randn(7, 8, dtype=dtype)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([block.query.weight, block.key.weight, block.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([block.query.bias, block.key.bias, block.value.bias]))
        theirs.out_proj.load_state_dict(block.out.state_dict())
        normed = block.before(x)
        mixed = theirs(normed, normed, normed, attn_mask=torch.ones(7, 7).triu(1).bool())[0]
        h = x + mixed
        expected = h + block.narrow(F.gelu(block.wide(block.between(h))))
        assert torch.allclose(block(x, x, earlier(7, x.device)), expected, rtol=0, atol=close)


@cores
@pytest.mark.parametrize("tasks", [1, 5])
def test_float32_is_float64_up_to_rounding(core, tasks):
    torch.manual_seed(0)
    learner = SequenceLearner(5, 1, core, dim=32, layers=2, heads=4)
    episodes, found = LinearTasks(5, 20).sample(tasks, generator=seeded(0)), {}
    for dtype in (torch.float64, torch.float32):
        learner.to(dtype)
        meta_gradient(learner, episodes.to(dtype))
        found[dtype] = {k: p.grad.clone() for k, p in learner.named_parameters()}
    assert relative_error(found[torch.float32], found[torch.float64]) < 1e-4


# --- training ----------------------------------------------------------------------------------------------------

def test_a_transformer_learns_in_context(tmp_path):
    """Far better than the prior, whose error is D + noise^2 = 2.25; its weights do not move."""
    torch.manual_seed(0)
    tasks = LinearTasks(2, 10, 10, dtype=torch.float32)
    learner = SequenceLearner(2, 1, dim=32, layers=2)
    meta_train(learner, tasks, TrainConfig(iterations=300, meta_batch=16, lr=2e-3))
    score = meta_test(learner, tasks, 100)
    assert score.mean < 1.2
    save(learner, tmp_path / "reader.pt")
    assert meta_test(load(tmp_path / "reader.pt"), tasks, 100).mean == score.mean


def test_the_closed_form_is_ridge_regression_and_no_learner_beats_it():
    episodes = LinearTasks(5, 20).sample(1, generator=seeded(0))
    (x, y, _), _ = episodes.task(0)
    w = ridge(x, y, 0.25)
    augmented = torch.cat([x, 0.5 * torch.eye(5, dtype=x.dtype)]), torch.cat([y, torch.zeros(5, 1, dtype=x.dtype)])
    assert torch.allclose(w, torch.linalg.lstsq(*augmented).solution, rtol=0, atol=1e-12)
    many, errors = LinearTasks(5, 20, 50).sample(400, generator=seeded(1)), {}
    for penalty in (0.025, 0.25, 2.5):
        errors[penalty] = sum(float((t.query.x @ ridge(t.support.x, t.support.y, penalty) - t.query.y).square().mean())
                              for t in map(many.task, range(400))) / 400
    assert min(errors, key=errors.get) == 0.25


def test_linear_tasks_have_the_moments_that_are_said():
    e = LinearTasks(3, 40, 40, noise=0.5).sample(400, generator=seeded(0))
    y = torch.cat([e.support.y, e.query.y], 1)
    assert float(y.square().mean()) == pytest.approx(3 + 0.25, rel=0.1)
    assert e.support.x.shape == (400, 40, 3) and e.support.y.shape == (400, 40, 1)
    residual = torch.stack([t.support.y - t.support.x @ ridge(t.support.x, t.support.y, 1e-9)
                            for t in map(e.task, range(400))])
    assert float(residual.square().sum() / (400 * 37)) == pytest.approx(0.25, rel=0.03)


@pytest.mark.parametrize("wrong, message", [
    ({"dim": 0}, "dim=0"), ({"shot": -1}, "shot=-1"), ({"query": 0}, "query=0"), ({"noise": -1}, "noise=-1"),
    ({"noise": math.nan}, "noise=nan"), ({"dtype": torch.int64}, "dtype=torch.int64"), ({"shot": 2.5}, "shot=2.5")])
def test_tasks_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        LinearTasks(**wrong)


@pytest.mark.parametrize("make, message", [
    (lambda: SequenceLearner(1, 1, "lstm"), "core='lstm': expected 'attention' or 'recurrent'"),
    (lambda: SequenceLearner(1, 1, dim=10, heads=4), "dim=10 and heads=4"),
    (lambda: SequenceLearner(1, 1, "recurrent", layers=0), "layers=0: expected a whole number, at least 1"),
    (lambda: SequenceLearner(1, 1, heads=0), "heads=0"), (lambda: SequenceLearner(2, 0), "out_dim=0"),
    (lambda: SequenceLearner(nn.Linear(1, 1), 1), "in_dim=Linear"),
    (lambda: meta_test(SequenceLearner(5, 1, dim=8), LinearTasks(), 3), "the network's weights torch.float32"),
    (lambda: meta_test(built("attention", 2), WAVES, 3), "an input has 1 numbers and in_dim=2: set in_dim=1"),
    (lambda: meta_test(built("recurrent", 1, 2), WAVES, 3), "the targets have 1 numbers or classes and out_dim=2"),
    (lambda: meta_test(built("attention", 784, 3),
                       FewShot(glyphs().split("val"), 5, dtype=torch.float64), 3), "out_dim=3: build the learner")])
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
