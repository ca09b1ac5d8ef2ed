"""Streams: a round is scored before it is trained on, what is remembered is what was asked for, and regret is exact."""

import math

import pytest
import torch
from torch import nn

from metalib import (
    MAML,
    Data,
    Episode,
    FewShot,
    LinearTasks,
    MetaSGD,
    Navigations,
    NeuralProcess,
    ProtoNet,
    RidgeHead,
    Score,
    Sinusoids,
    Stream,
    TrainConfig,
    compare,
    glyphs,
    hindsight,
    load,
    meta_online,
    meta_train,
    mlp,
    moved,
    regret,
    save,
    seeded,
)
from metalib.episode import rows
from metalib.training.online import Past

CONFIG = TrainConfig(iterations=2, meta_batch=3, lr=1e-2)


class Constant(nn.Module):
    """f(x) = c for every x: a task's best start is one vector, its optimum."""

    def __init__(self, dim=2):
        super().__init__()
        self.c = nn.Parameter(torch.zeros(dim, dtype=torch.float64))

    def forward(self, x):
        return self.c.expand(len(x), -1)


def half(prediction, y):
    return 0.5 * (prediction - y).square().sum(-1).mean()


def constants(n, seed=0, dim=2):
    """A stream of noisy constants that wander."""
    g = seeded(seed)
    centre = torch.randn(n, 1, dim, generator=g, dtype=torch.float64).cumsum(0)

    def data(k):
        y = centre + torch.randn(n, k, dim, generator=g, dtype=torch.float64)
        return Data(torch.zeros(n, k, 1, dtype=torch.float64), y)

    return Episode(data(3), data(4))


def best_starts(episodes, alpha):
    """phi = (1 - alpha) theta + alpha mean(S), so L_t = (1 - alpha)^2 |theta - b_t|^2 / 2 + const, with this b_t."""
    return (episodes.query.y.mean(1) - alpha * episodes.support.y.mean(1)) / (1 - alpha)


def exactly(learner, past, config):
    with torch.no_grad():
        learner.net.c.copy_(past.weights @ best_starts(past.episodes, learner.inner_lr))


def toy(alpha=0.3):
    return MAML(Constant(), alpha, 1, loss=half)


def network(seed=0, rate=0.01):
    torch.manual_seed(seed)
    return MAML(mlp(1, (8,), 1), rate, 1).double()


def waves(n, motion="drift", speed=0.02, seed=0, shot=5, width=0.8, noise=0.0):
    def at(t):
        b = moved(t, motion, speed)
        return Sinusoids(shot, 10, amplitude=(1, 3), phase=(b, b + width), noise=noise)
    return Stream(at).rounds(n, generator=seeded(seed))


def weights(learner):
    return torch.cat([p.detach().flatten() for p in learner.parameters()])


# --- a stream in closed form -------------------------------------------------------------------------------------

@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_the_leader_starts_from_the_mean_of_the_optima_and_its_regret_is_the_closed_form(alpha):
    stream, learner = constants(30), toy(alpha)
    losses = meta_online(learner, stream, CONFIG, fit=exactly, metric="loss")
    optima = best_starts(stream, alpha)  # (T, D)
    torch.testing.assert_close(learner.net.c.detach(), optima.mean(0), atol=1e-12, rtol=0)
    starts = torch.cat([torch.zeros(1, 2).double(), optima.cumsum(0)[:-1] / torch.arange(1, 30)[:, None]])
    excess = 0.5 * (1 - alpha) ** 2 * ((starts - optima).square() - (optima.mean(0) - optima).square()).sum(1)
    found = regret(losses, hindsight(toy(alpha), stream, CONFIG, fit=exactly, metric="loss"))
    torch.testing.assert_close(found, excess.cumsum(0), atol=1e-10, rtol=0)


def test_a_window_starts_from_the_mean_of_its_tasks_and_forgetting_from_an_exponential_mean():
    stream = constants(12)
    optima = best_starts(stream, 0.3)
    for kept, w in (({"window": 4}, [0] * 8 + [1] * 4), ({"forgetting": 0.5}, [0.5 ** (11 - s) for s in range(12)]),
                    ({"window": 3, "forgetting": 0.5}, [0] * 9 + [0.25, 0.5, 1])):
        learner, w = toy(), torch.tensor(w).double()
        meta_online(learner, stream, CONFIG, fit=exactly, **kept)
        torch.testing.assert_close(learner.net.c.detach(), w @ optima / w.sum(), atol=1e-12, rtol=0)


def test_training_comes_close_to_the_exact_start():
    stream, learner = constants(10), toy()
    best = hindsight(toy(), stream, CONFIG, fit=exactly, metric="loss")
    found = hindsight(learner, stream, TrainConfig(150, 10, 0.2, schedule="cosine"), metric="loss")
    assert float((learner.net.c - best_starts(stream, 0.3).mean(0)).detach().abs().max()) < 0.2
    assert 0 <= float(found.sum() - best.sum()) < 0.01 * float(best.sum()), "so regret against it is a lower bound"


# --- what is remembered ------------------------------------------------------------------------------------------

def test_a_window_over_all_and_forgetting_1_are_the_leader_and_forgetting_0_is_a_window_of_one():
    stream, ends = waves(9), {}
    for name, kept in (("leader", {}), ("wide", {"window": 9}), ("wider", {"window": 99}), ("keep", {"forgetting": 1}),
                       ("last", {"window": 1}), ("forget", {"forgetting": 0})):
        learner = network()
        ends[name] = torch.cat([meta_online(learner, stream, CONFIG, **kept), weights(learner)])
    assert all(torch.equal(ends["leader"], ends[name]) for name in ("wide", "wider", "keep"))
    assert torch.equal(ends["last"], ends["forget"]) and not torch.equal(ends["leader"], ends["last"])


@pytest.mark.parametrize("forgetting", [1.0, 0.7])
def test_tasks_are_drawn_in_proportion_to_their_weights_and_none_from_outside_the_window(forgetting):
    n, stream = 20000, constants(8)
    drawn = Past.seen(stream, 5, window=4, forgetting=forgetting).sample(n, generator=seeded(0))
    counts = torch.stack([(drawn.query.y == y).flatten(1).all(1).sum() for y in stream.query.y]) / n
    w = torch.tensor([0, 0, *(forgetting**age for age in (3, 2, 1, 0)), 0, 0]).double()
    assert float((counts - w / w.sum()).abs().max()) < 0.02 and bool((counts[w == 0] == 0).all())


def test_a_frozen_learner_scores_and_does_not_move():
    stream, learner = waves(6), network()
    before = weights(learner)
    losses = meta_online(learner, stream, None)
    assert torch.equal(weights(learner), before) and losses.shape == (6,)
    first = rows(stream, slice(0, 1)).task(0)
    assert float(losses[0]) == pytest.approx(float(network()(first).detach()), abs=1e-12)


# --- a round is scored before it is trained on -------------------------------------------------------------------

def test_the_query_labels_of_a_round_reach_no_score_before_it_and_no_start_in_it():
    stream = waves(8)
    changed = Episode(stream.support, stream.query._replace(y=stream.query.y.clone()))
    changed.query.y[5] += 1.0
    starts = []

    def watched(learner, past, config):
        starts.append(weights(learner))  # what the round was scored with
        meta_train(learner, past, config)

    runs = [meta_online(network(), s, CONFIG, fit=watched) for s in (stream, changed)]
    first, second = starts[:8], starts[8:]
    assert torch.equal(runs[0][:5], runs[1][:5]) and float(runs[0][5]) != float(runs[1][5])
    assert all(torch.equal(a, b) for a, b in zip(first[:6], second[:6])), "round 5 itself starts alike"
    assert not torch.equal(first[6], second[6]), "and is then learned from"


def test_the_future_of_a_stream_plays_no_part():
    short, long = network(), network()
    a, b = meta_online(short, waves(5), CONFIG), meta_online(long, waves(9), CONFIG)
    assert torch.equal(a, b[:5])


# --- a run that is cut -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kept", [{}, {"window": 3}, {"forgetting": 0.6}], ids=str)
@pytest.mark.parametrize("cut", [0, 1, 4, 7])
def test_a_run_cut_at_any_round_and_continued_from_a_file_is_the_whole_run(cut, kept, tmp_path):
    stream, whole, part = waves(7), network(), network()
    losses = meta_online(whole, stream, CONFIG, **kept)
    before = meta_online(part, rows(stream, slice(0, cut)), CONFIG, **kept) if cut else torch.empty(0).double()
    save(part, tmp_path / "part.pt")
    torch.rand(3)  # nobody's business
    again = load(tmp_path / "part.pt")
    after = meta_online(again, stream, CONFIG, first=cut, **kept)
    assert torch.equal(torch.cat([before, after]), losses) and torch.equal(weights(again), weights(whole))


def test_an_error_leaves_the_learner_as_it_was_found():
    stream, learner = waves(6), network()
    before = weights(learner)

    def stopped(learner, past, config):
        if len(past.weights) == 4:
            raise KeyboardInterrupt
        learner.net.layers[0].weight.data += 1

    with pytest.raises(KeyboardInterrupt):
        meta_online(learner, stream, CONFIG, fit=stopped)
    assert torch.equal(weights(learner), before)
    with pytest.raises(FloatingPointError, match=r"score of round \d.*lower lr"):
        meta_online(learner, stream, CONFIG, fit=lambda learner, *_: learner.net.layers[0].weight.data.fill_(math.nan))
    assert torch.equal(weights(learner), before)


# --- around any learner ------------------------------------------------------------------------------------------

LEARNERS = {"prototypes": lambda: ProtoNet(mlp(784, (8,), 6)), "ridge": lambda: RidgeHead(mlp(784, (8,), 6)),
            "learned rates": lambda: MetaSGD(mlp(784, (8,), 3), 0.1, 1),
            "neural process": lambda: NeuralProcess(hidden=8, layers=1)}


@pytest.mark.parametrize("make", LEARNERS.values(), ids=LEARNERS)
def test_any_learner_plays_and_learns(make):
    learner = make()
    tasks = Sinusoids(5, 5, dtype=torch.float32) if isinstance(learner, NeuralProcess) else (
        FewShot(glyphs().split("train"), 3, 1, 2))
    stream = Stream(lambda t: tasks).rounds(5, generator=seeded(0))
    before = weights(learner)
    scores = meta_online(learner, stream, CONFIG, window=3)
    assert scores.shape == (5,) and bool(scores.isfinite().all()) and not torch.equal(weights(learner), before)


# --- the bars: where a window pays, and where it costs -----------------------------------------------------------

def late(stream, seed, **kept):
    torch.manual_seed(seed)
    learner = MAML(mlp(1, (40,), 1), 0.01, 1).double()
    return float(meta_online(learner, stream, TrainConfig(2, 8, 1e-2), **kept)[-40:].mean())


def test_under_drift_a_window_has_at_most_six_tenths_of_the_leaders_late_error_with_each_of_three_seeds():
    for seed in range(3):
        stream = waves(100, speed=0.03, seed=seed)
        assert late(stream, seed, window=10) < 0.6 * late(stream, seed)


def test_where_nothing_moves_a_narrow_window_loses_to_the_leader_on_every_one_of_three_streams():
    streams = [waves(100, "still", shot=2, width=3.1, noise=0.5, seed=seed) for seed in range(3)]
    window, leader = (Score.of([late(s, i, **kept) for i, s in enumerate(streams)], digest="three")
                      for kept in ({"window": 3}, {}))
    difference = compare(window, leader)
    assert bool((difference.values > 0).all()) and difference.mean > 0.1


# --- streams -----------------------------------------------------------------------------------------------------

def test_a_stream_follows_its_generator_and_begins_alike_however_long_it_is():
    a, b = waves(4), waves(7)
    assert torch.equal(a.query.y, b.query.y[:4]) and not torch.equal(a.query.y, waves(4, seed=1).query.y)
    assert a.support.x.shape == (4, 5, 1) and a.query.y.shape == (4, 10, 1)


def test_the_distribution_moves_as_it_was_told():
    assert [moved(t, "drift", 0.5, 3) for t in range(7)] == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert [moved(t, "jump", 0.5, 3) for t in range(7)] == [0, 0, 0, 1.5, 1.5, 1.5, 3]
    assert [moved(t, "recur", 0.5, 3) for t in range(7)] == [0, 0, 0, 1.5, 1.5, 1.5, 0]
    assert [moved(t, "still", 0.5, 3) for t in range(7)] == [0] * 7
    drawn = Stream(lambda t: Sinusoids(1, 1, amplitude=(1, 1), phase=(t, t))).rounds(5, generator=seeded(0))
    torch.testing.assert_close(drawn.query.y[:, 0, 0], torch.sin(drawn.query.x[:, 0, 0] + torch.arange(5)))


# --- what could go wrong -----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("wrong", "sentence"), [
    ({"window": 0}, "window=0.*at least 1"), ({"window": 2.5}, "window=2.5"), ({"window": True}, "window"),
    ({"forgetting": -0.1}, "forgetting=-0.1.*at least 0"), ({"forgetting": 1.1}, "forgetting=1.1"),
    ({"forgetting": math.nan}, "forgetting=nan"), ({"first": 5}, r"first=5: expected 0 .. 4"), ({"first": -1}, "first"),
    ({"metric": "acuracy"}, "acuracy")])
def test_settings_out_of_range_are_refused_with_the_fix(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        meta_online(network(), waves(4), CONFIG, **wrong)


def test_a_config_that_belongs_to_one_long_training_is_refused(tmp_path):
    for wrong in ({"checkpoint": tmp_path / "a"}, {"log_dir": tmp_path}, {"val_every": 5}):
        with pytest.raises(ValueError, match="first= and save"):
            meta_online(network(), waves(4), TrainConfig(iterations=1, **wrong))


@pytest.mark.parametrize("play", [meta_online, hindsight])
def test_streams_that_hold_nothing_or_no_numbers_are_refused_before_anything_is_trained(play):
    stream, learner = waves(4), network()
    before = weights(learner)
    with pytest.raises(ValueError, match="no task"):
        play(learner, rows(stream, slice(0, 0)), CONFIG)
    for part in ("support", "query"):
        for what in ("x", "y"):
            broken = waves(4)
            getattr(getattr(broken, part), what)[2, 1] = math.nan
            with pytest.raises(ValueError, match=rf"{part}.{what} of round 2 is not finite: leave"):
                play(learner, broken, CONFIG)
    with pytest.raises(TypeError, match=r"rounds\(n"):
        play(learner, Sinusoids(), CONFIG)
    assert torch.equal(weights(learner), before)


def test_other_mistakes_are_named():
    with pytest.raises(ValueError, match="one number a round"):
        regret(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(TypeError, match="function of the round"):
        Stream(Sinusoids())
    with pytest.raises(TypeError, match=r"at\(0\) returned a float"):
        Stream(lambda t: 0.1 * t).rounds(2, generator=seeded(0))
    with pytest.raises(ValueError, match="tasks differ: task 1"):
        Stream(lambda t: LinearTasks(shot=5 + t)).rounds(2, generator=seeded(0))
    with pytest.raises(TypeError, match="entry 0 is a Navigation; expected Episode"):
        Stream(lambda t: Navigations(5)).rounds(2, generator=seeded(0))
    for play in (meta_online, hindsight):
        with pytest.raises(TypeError, match="expected a TrainConfig"):
            play(network(), waves(3), 0.01)
        with pytest.raises(ValueError, match="clip=0"):
            play(network(), waves(3), TrainConfig(clip=0))
    with pytest.raises(ValueError, match="motion='walk'"):
        moved(1, "walk", 0.1)
    with pytest.raises(ValueError, match="every=0"):
        moved(1, "jump", 0.1, 0)
    with pytest.raises(ValueError, match="speed"):
        moved(1, "jump", math.inf)
