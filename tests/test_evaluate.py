"""Scores: the arithmetic, the interval's coverage, the pairing, and that no query leaks into another."""

import math
import statistics

import pytest
import torch

from metalib import (
    MAML,
    ClassImages,
    Data,
    Episode,
    FewShot,
    Learner,
    PixelFloor,
    Pretrained,
    ProtoNet,
    Score,
    Sinusoids,
    compare,
    conv4,
    meta_test,
    meta_test_path,
    mlp,
    seeded,
)
from metalib.judging import evaluate
from metalib.judging.evaluate import predict_query


def bank(classes: int = 12, drawings: int = 8, size: int = 16) -> ClassImages:
    """Noisy random patterns, one a class: easy enough to score above chance, hard enough to make mistakes."""
    g = seeded(3)
    pattern = torch.rand(classes, 1, size, size, generator=g)
    images = 0.35 * pattern + 0.65 * torch.rand(classes, drawings, size, size, generator=g)
    return ClassImages.from_arrays((255 * images).round().to(torch.uint8).flatten(0, 1),
                                   torch.arange(classes).repeat_interleave(drawings))


TASKS = FewShot(bank(), way=3, shot=2, query=4, dtype=torch.float64)


def net(out_dim: int | None = None) -> conv4:
    return conv4(out_dim, channels=4, image_size=16)


def learner(name: str) -> Learner:
    """A small learner with batch norm, in float64."""
    torch.manual_seed(0)
    made = {"maml": lambda: MAML(net(3), inner_lr=0.3, steps=2), "protonet": lambda: ProtoNet(net()),
            "centroid": lambda: Pretrained(net(), classes=12),
            "linear": lambda: Pretrained(net(), "linear", steps=3)}
    return made[name]().double()


@pytest.fixture(autouse=True)
def one_thread():
    """With more threads each worker has its own copy of the learner, and a Recorder would not see its predictions."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


every = pytest.mark.parametrize("name", ["maml", "protonet", "centroid", "linear"])
batch_norm = pytest.mark.parametrize("name", ["maml", "protonet"])
either = pytest.mark.parametrize("transductive", [True, False])


class Changed:
    """Tasks with every episode changed by a function."""

    def __init__(self, tasks, change):
        self.tasks, self.change = tasks, change

    def sample(self, n, *, generator):
        return self.change(self.tasks.sample(n, generator=generator))


class Recorder(Learner):
    """Another learner, and a list of everything it predicted for queries."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.predictions = inner, []

    def adapt(self, support):
        return self.inner.adapt(support)

    def predict(self, phi, x):
        self.predictions.append(self.inner.predict(phi, x))
        return self.predictions[-1]


def one_task(seed: int = 0) -> Episode:
    return TASKS.sample(1, generator=seeded(seed)).task(0)


def predictions(model: Learner, episode: Episode, transductive: bool) -> torch.Tensor:
    with torch.no_grad():
        return predict_query(model, model.adapt(episode.support), episode, transductive)


# --- the arithmetic ---------------------------------------------------------------------------------


def test_score_agrees_with_the_statistics_module():
    values = [0.2, 0.55, 0.9, 0.75, 0.4, 0.85, 1.0]
    score = Score.of(torch.tensor(values, dtype=torch.float64))
    assert score.n == 7
    assert score.mean == pytest.approx(statistics.fmean(values), abs=1e-15)
    z = statistics.NormalDist().inv_cdf(0.975)
    assert score.ci95 == pytest.approx(z * statistics.stdev(values) / 7**0.5, rel=1e-4)


def test_one_task_has_no_interval():
    assert Score.of(torch.tensor([0.8])).ci95 == math.inf


def test_only_accuracy_prints_as_percent_and_always_with_its_protocol():
    values = torch.tensor([0.5, 0.7])
    assert str(Score.of(values)) == "60.0 +- 19.6 % (2 tasks, transductive)"
    assert str(Score.of(values, transductive=False)).endswith("(2 tasks, non-transductive)")
    assert str(Score.of(values, metric="MSE")) == "MSE 0.600 +- 0.196 (2 tasks, transductive)"
    difference = compare(Score.of(values), Score.of(values - 0.1))
    assert str(difference).startswith("+10.0 +- 0.0 points")


@either
def test_meta_test_is_the_mean_accuracy_of_a_plain_loop(transductive):
    model, g, expected = learner("protonet"), seeded(5), []
    for _ in range(9):
        episode = TASKS.sample(1, generator=g).task(0)
        f = model.encoder
        c = torch.stack([f(episode.support.x)[episode.support.y == n].mean(0) for n in range(3)])
        right = 0
        z = f(episode.query.x)
        for i, (x, y) in enumerate(zip(episode.query.x, episode.query.y, strict=True)):
            z_i = z[i] if transductive else f(torch.cat([episode.support.x, x[None]]))[-1]
            right += int((z_i - c).pow(2).sum(1).argmin() == y)
        expected.append(right / len(episode.query.y))
    score = meta_test(model, TASKS, episodes=9, seed=5, transductive=transductive)
    assert score.values.tolist() == pytest.approx(expected, abs=1e-12)
    assert score.metric == "accuracy" and score.seed == 5 and score.transductive is transductive


def test_float_targets_are_scored_by_mean_squared_error():
    torch.manual_seed(0)
    model, tasks, g = MAML(mlp(1, (8,), 1), inner_lr=0.01).double(), Sinusoids(), seeded(0)
    expected = []
    for _ in range(70):  # more than one chunk
        episode = tasks.sample(1, generator=g).task(0)
        with torch.no_grad():
            error = model.predict(model.adapt(episode.support), episode.query.x) - episode.query.y
        expected.append(float(error.pow(2).mean()))
    score = meta_test(model, tasks, episodes=70)
    assert score.metric == "MSE" and score.values.tolist() == pytest.approx(expected, rel=1e-10)


def test_no_episodes_is_an_error_that_names_the_argument():
    with pytest.raises(ValueError, match="episodes=0"):
        meta_test(PixelFloor(), TASKS, episodes=0)


# --- the interval -----------------------------------------------------------------------------------


def simulated_accuracies(mean, spread, replicates, n, g):
    """(replicates, n) task accuracies of 75 queries: each task has its own p_t, uniform in mean +- spread."""
    p = mean + spread * (2 * torch.rand(replicates, n, generator=g, dtype=torch.float64) - 1)
    return torch.binomial(torch.full_like(p, 75), p, generator=g) / 75


@pytest.mark.parametrize("mean, spread", [(0.5, 0.3), (0.5, 0.0), (0.7, 0.25), (0.9, 0.1), (0.97, 0.03), (0.97, 0.0)])
def test_the_95_percent_interval_covers_the_true_mean_93_to_97_percent_of_the_time(mean, spread):
    accuracies = simulated_accuracies(mean, spread, 4000, 600, seeded(int(100 * mean)))
    scores = [Score.of(values) for values in accuracies]
    covered = sum(abs(s.mean - mean) <= s.ci95 for s in scores) / len(scores)
    assert 0.93 <= covered <= 0.97, covered


def test_coverage_holds_for_skewed_task_difficulty():
    mean, g = 0.97, seeded(1)
    u = torch.rand(4000, 600, generator=g, dtype=torch.float64)
    p = u ** ((1 - mean) / mean)  # most tasks easy, a few hard; the mean is exact
    accuracies = torch.binomial(torch.full_like(p, 75), p, generator=g) / 75
    covered = sum(abs(s.mean - mean) <= s.ci95 for s in map(Score.of, accuracies)) / 4000
    assert 0.93 <= covered <= 0.97, covered


def test_counting_queries_as_if_they_were_tasks_does_not_cover():
    accuracies = simulated_accuracies(0.7, 0.25, 4000, 600, seeded(2))
    half = 1.96 * (accuracies.mean(1) * (1 - accuracies.mean(1)) / (600 * 75)).sqrt()
    covered = ((accuracies.mean(1) - 0.7).abs() <= half).double().mean()
    assert covered < 0.8, covered


# --- the pairing ------------------------------------------------------------------------------------


def test_compare_is_the_mean_difference_task_by_task_and_narrower_than_two_intervals():
    a, b = (meta_test(learner(name), TASKS, episodes=60) for name in ("protonet", "centroid"))
    difference = compare(a, b)
    expected = [x - y for x, y in zip(a.values.tolist(), b.values.tolist(), strict=True)]
    assert difference.mean == pytest.approx(statistics.fmean(expected), abs=1e-12)
    assert difference.ci95 == pytest.approx(1.96 * statistics.stdev(expected) / 60**0.5, rel=1e-9)
    covariance = statistics.covariance(a.values.tolist(), b.values.tolist())
    assert covariance > 0 and difference.ci95 < math.hypot(a.ci95, b.ci95)
    assert difference.metric == "accuracy difference" and difference.digest == a.digest
    assert compare(b, a).mean == -difference.mean


@pytest.mark.parametrize("other", [
    {"seed": 1}, {"episodes": 21}, {"tasks": FewShot(bank(), way=3, shot=2, query=3, dtype=torch.float64)}])
def test_compare_refuses_scores_of_different_episodes(other):
    first = meta_test(PixelFloor(), TASKS, episodes=20)
    second = meta_test(PixelFloor(), **{"tasks": TASKS, "episodes": 20, **other})
    with pytest.raises(ValueError, match="different episodes.*same episodes= and seed="):
        compare(first, second)


def test_compare_refuses_two_metrics():
    values = torch.tensor([0.1, 0.2])
    with pytest.raises(ValueError, match="different episodes"):
        compare(Score.of(values, metric="MSE", digest="a"), Score.of(values, digest="a"))


# --- the episodes -----------------------------------------------------------------------------------


def test_a_seed_fixes_the_episodes_whatever_the_learner_and_the_protocol():
    floor = meta_test(PixelFloor(), TASKS, episodes=20, seed=4)
    for score in (meta_test(learner("maml"), TASKS, episodes=20, seed=4, steps=1),
                  meta_test(learner("protonet"), TASKS, episodes=20, seed=4, transductive=False)):
        assert score.digest == floor.digest
    assert meta_test(PixelFloor(), TASKS, episodes=20, seed=5).digest != floor.digest


def test_chunks_change_neither_the_episodes_nor_the_values(monkeypatch):
    model, tasks = ProtoNet(mlp(256, (8,), 6)).double(), TASKS
    chunked = meta_test(model, tasks, episodes=70)  # 64 + 6 under vmap
    
    looped = meta_test(model, tasks, episodes=70, map="loop")
    assert chunked.digest == looped.digest
    assert torch.equal(chunked.values, looped.values)


@either
def test_threads_change_neither_the_episodes_nor_the_values(transductive):
    model = learner("maml")
    alone = meta_test(model, TASKS, episodes=18, transductive=transductive)
    torch.set_num_threads(3)
    assert alone == (together := meta_test(model, TASKS, episodes=18, transductive=transductive))
    assert torch.equal(alone.values, together.values)


def test_the_first_tasks_of_a_long_test_are_the_tasks_of_a_short_one():
    long, short = (meta_test(learner("protonet"), TASKS, episodes=n) for n in (30, 12))
    assert torch.equal(long.values[:12], short.values)


def test_the_digest_sees_a_single_changed_label():
    def flip(episode):
        y = episode.query.y.clone()
        y[0, 0] = (y[0, 0] + 1) % 3
        return Episode(episode.support, episode.query._replace(y=y))

    assert meta_test(PixelFloor(), Changed(TASKS, flip), 5).digest != meta_test(PixelFloor(), TASKS, 5).digest


# --- leaks ------------------------------------------------------------------------------------------


@every
def test_changing_query_labels_leaves_every_prediction_bit_identical(name):
    def wrong(episode):
        return Episode(episode.support, episode.query._replace(y=(episode.query.y + 1) % 3))

    plain, changed = Recorder(learner(name)), Recorder(learner(name))
    a, b = meta_test(plain, TASKS, 6), meta_test(changed, Changed(TASKS, wrong), 6)
    assert len(plain.predictions) == 6
    assert all(torch.equal(p, q) for p, q in zip(plain.predictions, changed.predictions, strict=True))
    assert not torch.equal(a.values, b.values)


@every
@either
def test_permuting_queries_permutes_predictions(name, transductive):
    model, episode = learner(name), one_task()
    order = torch.randperm(len(episode.query.y), generator=seeded(1))
    shuffled = Episode(episode.support, Data(episode.query.x[order], episode.query.y[order], 3))
    before, after = (predictions(model, e, transductive) for e in (episode, shuffled))
    assert torch.allclose(after, before[order], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(after, before, rtol=1e-3)


@batch_norm
def test_without_transduction_a_prediction_does_not_change_when_other_queries_do(name):
    model, episode = learner(name), one_task()
    x = episode.query.x.clone()
    x[1:] = one_task(seed=9).query.x[1:]
    changed = Episode(episode.support, episode.query._replace(x=x))
    inductive, again = (predictions(model, e, False)[0] for e in (episode, changed))
    assert torch.equal(inductive, again)
    together, moved = (predictions(model, e, True)[0] for e in (episode, changed))
    assert not torch.allclose(together, moved, rtol=1e-3), "batch norm over the queries should have shown"


def test_a_classifier_that_knows_only_the_identity_of_an_image_is_at_chance():
    class Identity(Learner):
        """The class it memorised for an image, modulo N: worth nothing, as labels are drawn afresh."""

        def adapt(self, support):
            return torch.arange(support.way)

        def predict(self, phi, x):
            codes = (255 * x).round().flatten(1).sum(1).long()  # the image's identity
            return (codes[:, None] % len(phi) == phi).double()

    score = meta_test(Identity(), TASKS, episodes=1000)
    assert abs(score.mean - 1 / 3) <= 2 * score.ci95
    assert score.ci95 < 0.02


@every
@either
def test_meta_test_leaves_parameters_buffers_and_gradients_untouched(name, transductive):
    model = learner(name)
    model.register_buffer("counter", torch.zeros(()))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    meta_test(model, TASKS, episodes=2, transductive=transductive)
    for mode in (True, False):
        model.train(mode).adapt(one_task().support)
    assert "counter" in before and model.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_meta_test_restores_the_training_mode_even_after_an_error(training):
    model = learner("protonet").train(training)
    meta_test(model, TASKS, episodes=1)
    assert model.training is training and model.encoder.training is training
    with pytest.raises(ValueError):
        meta_test(model, TASKS, episodes=1, steps=3)
    assert model.training is training


# --- inner steps ------------------------------------------------------------------------------------


def test_steps_overrides_the_learners_own_number():
    model = learner("maml")
    score = meta_test(model, TASKS, episodes=8, steps=4)
    model.steps = 4
    own = meta_test(model, TASKS, episodes=8)
    assert torch.equal(score.values, own.values) and score.steps == 4 and own.steps is None


def test_steps_for_a_learner_without_inner_steps_is_an_error_that_names_the_fix():
    with pytest.raises(ValueError, match="ProtoNet has no inner steps: leave steps=None"):
        meta_test(learner("protonet"), TASKS, episodes=1, steps=2)
    with pytest.raises(ValueError, match="ProtoNet has no inner steps"):
        meta_test_path(learner("protonet"), TASKS, 2)


@either
def test_meta_test_path_is_meta_test_after_each_inner_step(transductive):
    model = learner("maml")
    path = meta_test_path(model, TASKS, 3, episodes=6, seed=2, transductive=transductive)
    assert [s.steps for s in path] == [0, 1, 2, 3]
    for j, score in enumerate(path):
        single = meta_test(model, TASKS, episodes=6, seed=2, steps=j, transductive=transductive)
        assert torch.equal(score.values, single.values) and score == single
    assert path[0].values.tolist() != path[3].values.tolist()
