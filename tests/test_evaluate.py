"""Scores: the arithmetic, the interval's coverage, the pairing, and that no query leaks into another."""

import copy
import math
import statistics

import numpy as np
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
    TrainConfig,
    compare,
    conv4,
    meta_gradient,
    meta_test,
    meta_test_path,
    meta_train,
    mlp,
    seeded,
)
from metalib.functional import transformed
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
    t = 2.4469  # Student's, 6 degrees of freedom: below 30 tasks the normal quantile promises too much
    assert score.ci95 == pytest.approx(t * statistics.stdev(values) / 7**0.5, rel=1e-3)
    values = torch.rand(30, generator=seeded(0), dtype=torch.float64)
    assert Score.of(values).ci95 == pytest.approx(z * statistics.stdev(values.tolist()) / 30**0.5, rel=1e-4)


@pytest.mark.parametrize("n", [2, 5, 20, 29])
def test_few_tasks_have_the_interval_of_student(n):
    values = torch.randn(20000, n, generator=seeded(n), dtype=torch.float64)
    covered = sum(abs(s.mean) <= s.ci95 for s in map(Score.of, values)) / len(values)
    assert abs(covered - 0.95) < 0.005, covered  # 1.96 covers 70 % with two tasks


def test_one_task_has_no_interval():
    score = Score.of(torch.tensor([0.8]))
    assert score.ci95 == math.inf and str(score) == "80.0 +- inf % (1 task, transductive)"


def test_only_accuracy_prints_as_percent_and_always_with_its_protocol():
    values = torch.tensor([0.5, 0.7]).repeat(50)
    assert str(Score.of(values)) == "60.0 +- 2.0 % (100 tasks, transductive)"
    assert str(Score.of(values, transductive=False)).endswith("(100 tasks, non-transductive)")
    assert str(Score.of(values, metric="MSE")) == "MSE 0.600 +- 0.020 (100 tasks, transductive)"
    difference = compare(Score.of(values, digest="a"), Score.of(values - 0.1, digest="a"))
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
    for number in (0, 2.5, "20"):
        with pytest.raises(ValueError, match=f"episodes={number!r}"):
            meta_test(PixelFloor(), TASKS, episodes=number)
    with pytest.raises(ValueError, match="transductive='no'"):
        meta_test(PixelFloor(), TASKS, 5, transductive="no")


@pytest.mark.parametrize("values, text", [
    ([3e-7, 5e-7], "MSE 4e-07 +- 1.3e-06"), ([2e-4, 2e-4], "MSE 0.0002 +- 0.000"), ([0.0, 0.0], "MSE 0.000 +- 0.000"),
    ([0.0006, 0.0006], "MSE 0.001 +- 0.000"), ([1.5, 1.5], "MSE 1.500 +- 0.000")])
def test_a_small_number_prints_its_digits_and_every_other_as_before(values, text):
    assert str(Score.of(torch.tensor(values, dtype=torch.float64), metric="MSE")).startswith(text + " (")


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


def test_compare_refuses_scores_that_do_not_say_which_episodes_they_are_of():
    values = torch.tensor([0.1, 0.2, 0.4])
    for second in (Score.of(values), Score.of(values, digest="a")):
        with pytest.raises(ValueError, match=r"do not say which.*Score.of\(digest=\)"):
            compare(Score.of(values), second)


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


def test_chunks_change_neither_the_episodes_nor_the_values():
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


# --- what cannot be scored is refused ---------------------------------------------------------------


class Fixed(Learner):
    """Predicts a function of the inputs, whatever the support set says."""

    def __init__(self, f, loss=None):
        super().__init__(loss)
        self.f = f

    def adapt(self, support):
        return support.x

    def predict(self, phi, x):
        return self.f(x)


class Made:
    """Tasks with x (T, 6, 2) standard normal and y = f(x); labels of the support, which `Fixed` ignores, in turn."""

    def __init__(self, f, way=None):
        self.f, self.way = f, way

    def sample(self, n, *, generator):
        support, query = torch.randn(2, n, 6, 2, generator=generator)
        y = self.f(support) if self.way is None else torch.arange(6).expand(n, 6) % self.way  # every class is there
        return Episode(Data(support, y, self.way), Data(query, self.f(query), self.way))


maps = pytest.mark.parametrize("map", ["auto", "vmap", "loop"])


def first(x):
    return x[..., 0]


def labels(x):
    return (x[..., 0] > 0).long()


def logits(x):
    return torch.stack([-x[..., 0], x[..., 0]], -1)


@maps
@pytest.mark.parametrize("predict, y, shapes", [
    (lambda x: x[..., :1], first, r"predictions \(6, 1\), targets \(6,\)"),
    (first, lambda x: x[..., :1], r"predictions \(6,\), targets \(6, 1\)"),
    (lambda x: x[:1], lambda x: x, r"predictions \(1, 2\), targets \(6, 2\)")])
def test_targets_that_would_broadcast_against_the_predictions_are_refused_with_both_shapes(predict, y, shapes, map):
    own = Fixed(predict, loss=lambda p, y: (p.reshape(-1) - y.reshape(-1)).pow(2).mean())
    with pytest.raises(ValueError, match=shapes):
        meta_test(own, Made(y), 5, map=map)


@maps
@pytest.mark.parametrize("predict, y, way, message", [
    (first, lambda x: x[..., 0].round().long(), None, "way is None.*way=N.*y.float()"),
    (lambda x: x[..., :1], labels, 2, r"logits of shape \(6, 2\).*predictions have shape \(6, 1\)"),
    (logits, labels, 3, r"logits of shape \(6, 3\).*predictions have shape \(6, 2\)"),
    (first, labels, 2, r"predictions have shape \(6,\)"),
    (lambda x: logits(x[:-1]), labels, 2, r"predictions have shape \(5, 2\)"),
    (logits, lambda x: labels(x) + 1, 2, r"labels \[0, 1, 2\], with way=2 they are 0..1"),
    (logits, lambda x: -labels(x), 2, r"labels \[-1, 0, 1\], with way=2"),
    (lambda x: (first(x), first(x)), first, None, "predicts a tuple.*metric='loss'"),
    (lambda x: {"mean": first(x)}, labels, 2, "predicts a dict.*metric='loss'")])
def test_what_has_no_accuracy_or_error_is_refused_with_the_fix(predict, y, way, message, map):
    with pytest.raises(ValueError, match=message):
        meta_test(Fixed(predict), Made(y, way), 5, map=map)


def test_labels_of_the_support_are_looked_at_too():
    tasks = Changed(Made(labels, 2), lambda e: e._replace(support=e.support._replace(y=e.support.y + 2)))
    with pytest.raises(ValueError, match=r"labels \[0, 1, 2, 3\], with way=2"):
        meta_test(Fixed(logits), tasks, 5)


def test_more_logits_than_classes_count_as_wrong_where_they_win():
    def three(x):
        return torch.cat([logits(x), torch.full_like(x[..., :1], -9.0)], -1)

    assert meta_test(Fixed(three), Made(labels, 2), 5).mean == 1.0
    assert meta_test(Fixed(lambda x: three(x).neg()), Made(labels, 2), 5).mean == 0.0


@maps
@pytest.mark.parametrize("predict, y, way", [(logits, labels, 2), (first, first, None)])
def test_a_nan_is_neither_right_nor_wrong_and_is_reported(predict, y, way, map):
    def now_and_then(x):
        out = predict(x)
        return torch.where(x.sum() > 4, torch.nan, out)

    good, lost = (meta_test(Fixed(f), Made(y, way), 80, map=map) for f in (predict, now_and_then))
    bad = int(lost.values.isnan().sum())
    assert 0 < bad < 40 and math.isnan(lost.mean) and math.isnan(lost.ci95)
    assert torch.equal(lost.values[~lost.values.isnan()], good.values[~lost.values.isnan()])
    assert f"nan: {bad} of 80 values are not finite" in str(lost)
    assert f"nan: {bad} of 80" in str(compare(lost, good))


@maps
def test_a_metric_is_a_name_the_learners_own_loss_or_a_function(map):
    def worst(prediction, y):
        return (prediction[0] - y).abs().max()

    pair = Fixed(lambda x: (first(x) + 1, first(x)), loss=lambda p, y: (p[0] - y).pow(2).mean() + 2)
    for transductive in (True, False):
        kind = {"transductive": transductive, "map": map}
        score = meta_test(pair, Made(first), 40, metric="loss", **kind)
        assert score.metric == "loss" and str(score).startswith("loss 3.000 +-")
        score = meta_test(pair, Made(first), 40, metric=worst, **kind)
        assert score.metric == "worst" and score.mean == pytest.approx(1.0)
    assert meta_test(Fixed(logits), Made(labels, 2), 3, metric="accuracy", map=map).mean == 1.0
    assert meta_test(Fixed(first), Made(first), 3, metric="MSE", map=map).mean == 0.0


@pytest.mark.parametrize("metric, message", [("f1", "metric='f1': expected one of"), ("MSE", "float targets"),
                                             (lambda p, y: p.argmax(-1) == y, r"returned shape \(6,\)")])
def test_a_metric_that_means_nothing_is_refused(metric, message):
    with pytest.raises(ValueError, match=message):
        meta_test(Fixed(logits), Made(labels, 2), 3, metric=metric)


# --- it takes the way that training took ------------------------------------------------------------


class Net(torch.nn.Module):
    """An embedding of rows of images, or logits, by layers that vmap cannot go through."""

    def __init__(self, kind, out):
        super().__init__()
        self.kind, self.body = kind, torch.nn.Linear(16, 8)
        self.rnn = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(kind, lambda *_, **__: None)(8, 8, batch_first=True)
        self.table = torch.nn.Embedding(4, 8) if kind == "embedding" else None
        self.out = torch.nn.Linear(8, out)

    def forward(self, x):
        z = torch.tanh(self.body(x.squeeze(1)))  # (M, 16, 8)
        if self.rnn is not None:
            z = self.rnn(z)[0]
        elif self.table is not None:
            z = z + self.table(torch.tensor([int(v) for v in (x.flatten(1).sum(1) % 4)]))[:, None]
        elif self.kind == "in place":
            both = torch.zeros(z.shape, dtype=z.dtype)
            both[:] = z
            z = both
        elif self.kind == "if":
            z = 2 * z if z.sum() > 0 else z
        elif self.kind == "item":
            z = z / z.detach().abs().max().item()
        elif self.kind == "dropout":
            z = torch.nn.functional.dropout(z, 0.2, self.training)
        return self.out(z.mean(1))


class ByAutograd(MAML):
    """MAML as many write it, which needs gradients to be recorded."""

    def path(self, support, steps=None):
        phi = dict(self.net.named_parameters())
        iterates = [phi]
        for _ in range(self.steps if steps is None else steps):
            g = torch.autograd.grad(self.support_loss(phi, support), list(phi.values()), create_graph=True)
            phi = {k: p - self.inner_lr * g_k for (k, p), g_k in zip(phi.items(), g, strict=True)}
            iterates.append(phi)
        return iterates


kinds = pytest.mark.parametrize("kind", ["lstm", "gru", "embedding", "in place", "if", "item", "dropout"])
makers = pytest.mark.parametrize("make", [lambda net: MAML(net(3), 0.1), lambda net: ProtoNet(net(5)),
                                          lambda net: ByAutograd(net(3), 0.1)])


@kinds
@makers
def test_what_vmap_cannot_go_through_trains_validates_and_is_tested(kind, make, tmp_path):
    torch.manual_seed(0)
    model = make(lambda out: Net(kind, out)).double()
    config = TrainConfig(iterations=2, meta_batch=2, val_episodes=3, val_every=1, checkpoint=tmp_path / "state.pt")
    history = meta_train(model, TASKS, config, TASKS)
    assert len(history.validations) == 2 and all(math.isfinite(v[1]) for v in history.validations)
    for transductive in (True, False):
        by_default, looped = (meta_test(model, TASKS, 4, transductive=transductive, map=m) for m in ("auto", "loop"))
        assert torch.equal(by_default.values, looped.values) and by_default == looped
    if hasattr(model, "path"):
        path, again = (meta_test_path(model, TASKS, 1, 3, map=m) for m in ("auto", "loop"))
        assert [s.mean for s in path] == [s.mean for s in again]


@pytest.mark.parametrize("kind", ["lstm", "in place", "if", "item"])
def test_an_explicit_vmap_that_cannot_go_names_the_loop(kind):
    model = ProtoNet(Net(kind, 5)).double()
    episodes = TASKS.sample(2, generator=seeded(0))
    for run in (lambda: meta_test(model, TASKS, 2, map="vmap"), lambda: meta_gradient(model, episodes, "vmap"),
                lambda: predict_query(model, model.adapt(one_task().support), one_task(), False, "vmap")):
        with pytest.raises(RuntimeError, match="(?s)of ProtoNet with map='vmap'.*Set map='loop'"):
            run()
    assert all(p.grad is None for p in model.parameters())


def test_a_failed_vmap_is_tried_once_a_learner_and_leaves_nothing_behind(monkeypatch):
    tried = []

    class Counting(ProtoNet):
        def adapt(self, support):
            tried.append(transformed())
            return super().adapt(support)

    model, episodes = Counting(Net("item", 5)).double(), TASKS.sample(3, generator=seeded(0))
    meta_gradient(model, episodes)
    assert any(tried)
    whole = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    for learner in (model, copy.deepcopy(model)):  # the copy finds out for itself
        tried.clear()
        for _ in range(2):
            meta_gradient(learner, episodes)
        # twice three tasks one after another, within the loop's own gradient; a first try only for the copy
        assert len(tried) == 6 + (learner is not model)
        for p, g in zip([p for p in learner.parameters() if p.grad is not None], whole, strict=True):
            assert torch.equal(p.grad, g)


@pytest.mark.parametrize("error", [ValueError("mine"), RuntimeError("mine"), KeyError("mine"), ZeroDivisionError()])
def test_a_genuine_error_comes_out_as_itself_and_is_not_taken_for_vmaps(error):
    def fails(x):
        raise error

    learner = Fixed(fails)
    learner.weight = torch.nn.Parameter(torch.zeros(()))  # something to meta-learn
    for run in (lambda: meta_test(learner, Made(labels, 2), 3),
                lambda: meta_gradient(learner, Made(labels, 2).sample(3, generator=seeded(0)))):
        with pytest.raises(type(error)) as caught:
            run()
        assert caught.value is error and caught.value.__context__ is None


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")])
def test_out_of_memory_is_no_reason_to_loop(error):
    calls = []

    def fails(x):
        calls.append(1)
        raise error

    for map in ("auto", "vmap"):
        with pytest.raises(type(error)) as caught:
            meta_test(Fixed(fails), Made(labels, 2), 3, map=map)
        assert caught.value is error
    assert len(calls) == 2


def test_dropped_units_do_not_depend_on_the_number_of_threads():
    model = MAML(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 8), torch.nn.Dropout(0.5),
                                     torch.nn.Linear(8, 3)), 0.1).double()
    episodes, found = TASKS.sample(5, generator=seeded(0)), []
    for threads in (1, 3, 3):
        torch.manual_seed(1)
        meta_gradient(model, episodes, threads=threads)
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_difference_of_two_protocols_says_so():
    whole, alone = (meta_test(PixelFloor(), TASKS, episodes=5, transductive=t) for t in (True, False))
    assert "of two protocols" in str(compare(whole, alone)) and compare(whole, alone).transductive is None
    assert "non-transductive" in str(compare(alone, alone)) and compare(whole, whole).transductive is True


def test_lambdas_are_not_compared_because_their_name_says_nothing():
    a, b = (meta_test(PixelFloor(), TASKS, episodes=4, metric=m) for m in (lambda p, y: p.mean(), lambda p, y: p.std()))
    with pytest.raises(ValueError, match="def"):
        compare(a, b)


def test_a_score_is_made_of_a_list_or_an_array_as_of_a_tensor():
    values = [0.1, 0.7, 0.3]
    for kind in (list, tuple, torch.tensor, np.array):
        assert math.isclose(Score.of(kind(values)).mean, sum(values) / 3, rel_tol=1e-15 if kind is not torch.tensor
                            else 1e-7)
    with pytest.raises(TypeError, match="expected two scores"):
        compare(Score.of(values, digest="a"), 0.4)
