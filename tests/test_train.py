"""Training lowers the loss, loses nothing when it is stopped, and says clearly why it stops."""

import copy
import math
import signal
import subprocess
import sys
import threading

import pytest
import torch
from torch.func import functional_call, grad

from metalib import (
    FOMAML,
    MAML,
    Classify,
    ClassImages,
    FewShot,
    PixelFloor,
    Pretrained,
    ProtoNet,
    Sinusoids,
    TrainConfig,
    check,
    compare,
    conv4,
    glyphs,
    meta_gradient,
    meta_test,
    meta_test_path,
    meta_train,
    mlp,
    seeded,
)
from metalib.functional import derived
from metalib.learner import choose_map, device_of
from metalib.progress import LogLines, progress
from metalib.training.surroundings import deferred_interrupt
from patience import PATIENCE

pytestmark = pytest.mark.usefixtures("one_thread")


def sine_learner(seed=0, **options):
    torch.manual_seed(seed)
    return MAML(mlp(1, (16, 16), 1, activation="tanh").double(), **{"inner_lr": 0.05, **options})


def config(**changes):
    return TrainConfig(**{"iterations": 12, "meta_batch": 2, "lr": 1e-2, "seed": 3, "checkpoint_every": 5, **changes})


def weights(learner):
    return {k: v.clone() for k, v in learner.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class InterruptedTasks:
    """Sinusoids that press Ctrl-C while the n-th meta-batch is drawn."""

    def __init__(self, at, times=1):
        self.tasks, self.drawn = Sinusoids(5, 5), 0
        self._at, self._times = at, times  # no settings of the tasks: a run may be resumed with others

    def sample(self, n, *, generator):
        self.drawn += 1
        if self.drawn == self._at:
            for _ in range(self._times):
                signal.raise_signal(signal.SIGINT)
        return self.tasks.sample(n, generator=generator)


# --- it trains ---------------------------------------------------------------------------------------------

def test_training_lowers_the_meta_loss_and_the_test_error():
    learner, tasks = sine_learner(), Sinusoids(10, 10)
    before = meta_test(learner, tasks, 100, seed=9)
    history = meta_train(learner, tasks, TrainConfig(iterations=300, meta_batch=4, lr=5e-3))
    after = meta_test(learner, tasks, 100, seed=9)
    assert len(history.losses) == 300 and all(map(math.isfinite, history.losses))
    assert sum(history.losses[-50:]) < 0.9 * sum(history.losses[:50])
    gain = compare(before, after)
    assert gain.mean > gain.ci95  # the same tasks, a smaller error
    assert history.chosen == "last" and history.best_iteration == 300 and "300 meta-iterations" in str(history)


def test_the_same_seeds_give_the_same_run_and_another_seed_another():
    runs = []
    for seed in (3, 3, 4):
        learner = sine_learner()
        history = meta_train(learner, Sinusoids(5, 5), config(seed=seed))
        runs.append((history.losses, weights(learner)))
    assert runs[0][0] == runs[1][0] and same(runs[0][1], runs[1][1])
    assert runs[0][0] != runs[2][0] and not same(runs[0][1], runs[2][1])


def test_training_is_adam_on_the_mean_meta_gradient():
    ours, plain = sine_learner(), sine_learner()
    meta_train(ours, Sinusoids(5, 5), config(schedule="cosine", clip=0.5))
    optimizer, generator = torch.optim.Adam(plain.parameters(), lr=1e-2), seeded(derived(3, "train"))
    for i in range(12):
        optimizer.param_groups[0]["lr"] = 1e-2 * 0.5 * (1 + math.cos(math.pi * i / 12))
        meta_gradient(plain, Sinusoids(5, 5).sample(2, generator=generator))
        norm = math.sqrt(sum(float(p.grad.pow(2).sum()) for p in plain.parameters()))
        for p in plain.parameters():
            p.grad *= min(1.0, 0.5 / (norm + 1e-6))
        optimizer.step()
    for a, b in zip(ours.parameters(), plain.parameters()):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_frozen_parameter_stays_as_it_is():
    learner = sine_learner()
    frozen = learner.net.layers[0].weight.requires_grad_(False)
    before, other = frozen.clone(), learner.net.layers[1].weight.clone()
    meta_train(learner, Sinusoids(5, 5), config())
    assert torch.equal(frozen, before) and frozen.grad is None
    assert not torch.equal(learner.net.layers[1].weight, other)


def test_best_on_validation_is_what_is_returned_and_said():
    learner, val = sine_learner(), Sinusoids(5, 5)
    history = meta_train(learner, Sinusoids(5, 5), config(lr=0.3, val_every=2, val_episodes=20), val)
    assert [i for i, _, _ in history.validations] == [2, 4, 6, 8, 10, 12]
    best = min(history.validations, key=lambda v: v[1])  # MSE: the lowest is best
    assert history.chosen == "best on validation tasks" and history.best_iteration == best[0] < 12
    assert meta_test(learner, val, 20, seed=derived(3, "val")).mean == pytest.approx(best[1], rel=1e-12)
    assert "best on validation tasks" in str(history)


def test_validation_does_not_change_training():
    with_val, without = sine_learner(), sine_learner()
    a = meta_train(with_val, Sinusoids(5, 5), config(val_every=3, val_episodes=5), Sinusoids(5, 5))
    b = meta_train(without, Sinusoids(5, 5), config())
    assert a.losses == b.losses


@pytest.mark.slow
def test_a_pretrained_classifier_beats_the_pixel_floor():
    images = glyphs()
    train, test = images.split("train").subset(range(0, 600, 6)), FewShot(images.split("test"))
    torch.manual_seed(0)
    learner = Pretrained(conv4(channels=16), classes=len(train))
    history = meta_train(learner, Classify(train, batch=64), TrainConfig(iterations=120, meta_batch=1, lr=5e-3))
    assert sum(history.losses[-20:]) < 0.7 * sum(history.losses[:20])
    gain = compare(meta_test(learner, test, 60), meta_test(PixelFloor(), test, 60))
    assert gain.mean - gain.ci95 > 0.1


# --- it stops and goes on ----------------------------------------------------------------------------------

def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    settings = {"schedule": "cosine", "val_every": 4, "val_episodes": 5, "clip": 1.0}
    whole, val = sine_learner(), Sinusoids(5, 5)
    expected = meta_train(whole, Sinusoids(5, 5), config(**settings), val)

    stopped = sine_learner()
    with pytest.raises(KeyboardInterrupt, match=r"stopped after meta-iteration 7.*call meta_train again"):
        meta_train(stopped, InterruptedTasks(at=7), config(**settings, checkpoint=tmp_path / "run.pt"), val)

    resumed = sine_learner(seed=99)  # other weights: everything must come from the file
    history = meta_train(resumed, InterruptedTasks(at=0), config(**settings, checkpoint=tmp_path / "run.pt"), val)
    assert history.losses == expected.losses and history.validations == expected.validations
    assert (history.best_iteration, history.chosen) == (expected.best_iteration, expected.chosen)
    assert same(weights(resumed), weights(whole))
    assert history.seconds > 0


def test_a_finished_run_is_not_trained_again(tmp_path):
    learner = sine_learner()
    meta_train(learner, InterruptedTasks(at=0), config(checkpoint=tmp_path / "run.pt"))
    again = sine_learner(seed=99)
    history = meta_train(again, InterruptedTasks(at=1), config(checkpoint=tmp_path / "run.pt"))  # would stop at once
    assert len(history.losses) == 12 and same(weights(again), weights(learner))


def test_ctrl_c_without_a_checkpoint_finishes_the_step_and_keeps_the_weights():
    learner, reference = sine_learner(), sine_learner()
    with pytest.raises(KeyboardInterrupt, match=r"stopped after meta-iteration 4, whose weights the learner has$"):
        meta_train(learner, InterruptedTasks(at=4), config())
    generator = seeded(derived(3, "train"))
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-2)
    for _ in range(4):
        meta_gradient(reference, Sinusoids(5, 5).sample(2, generator=generator))
        optimizer.step()
    assert same(weights(learner), weights(reference))


def test_a_second_ctrl_c_interrupts_at_once():
    tasks = InterruptedTasks(at=4, times=2)
    with pytest.raises(KeyboardInterrupt) as caught:
        meta_train(sine_learner(), tasks, config())
    assert str(caught.value) == "" and tasks.drawn == 4  # not the message of an orderly stop
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # the handler was put back


def test_training_outside_the_main_thread_leaves_signals_alone():
    before, result = signal.getsignal(signal.SIGINT), []

    def work():
        with deferred_interrupt() as interrupted:
            result.append((interrupted(), signal.getsignal(signal.SIGINT) is before))
        result.append(len(meta_train(sine_learner(), Sinusoids(5, 5), config()).losses))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert result == [(False, True), 12]


KILLED = """
import os, signal, sys, torch
from metalib import *
torch.set_num_threads(1)
class InterruptedTasks:
    def __init__(self):
        self.tasks, self.drawn = Sinusoids(5, 5), 0
    def sample(self, n, *, generator):
        self.drawn += 1
        if self.drawn == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.tasks.sample(n, generator=generator)
torch.manual_seed(0)
learner = MAML(mlp(1, (16, 16), 1, activation="tanh").double(), inner_lr=0.05)
meta_train(learner, InterruptedTasks(), TrainConfig(iterations=12, meta_batch=2, lr=1e-2, seed=3, checkpoint_every=5,
                                              checkpoint=sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_loses_only_what_came_after_its_last_checkpoint(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "run.pt")], capture_output=True,
                          timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL
    whole, resumed, seen = sine_learner(), sine_learner(seed=99), InterruptedTasks(at=0)
    expected = meta_train(whole, Sinusoids(5, 5), config())
    history = meta_train(resumed, seen, config(checkpoint=tmp_path / "run.pt"))
    assert seen.drawn == 7  # iterations 6 to 12: the file of iteration 5 was whole
    assert history.losses == expected.losses and same(weights(resumed), weights(whole))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    meta_train(sine_learner(), Sinusoids(5, 5), config(checkpoint=path))
    learner = sine_learner()
    before = weights(learner)
    with pytest.raises(ValueError, match="belongs to another run.*another checkpoint="):
        meta_train(learner, Sinusoids(5, 5), config(checkpoint=path, lr=1e-3))
    assert same(weights(learner), before)
    other = MAML(mlp(1, (8,), 1).double())
    with pytest.raises(ValueError, match=r"holds another network: learner.*net.hidden"):
        meta_train(other, Sinusoids(5, 5), config(checkpoint=path))


def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path):
    path = tmp_path / "run.pt"
    meta_train(sine_learner(), Sinusoids(5, 5), config(checkpoint=path))
    damaged = path.read_bytes()[:-200]
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="damaged.*delete it"):
        meta_train(sine_learner(), Sinusoids(5, 5), config(checkpoint=path))
    assert path.read_bytes() == damaged  # deleting is the owner's decision


def test_a_checkpoint_that_cannot_be_written_is_noticed_before_training(tmp_path):
    tasks = InterruptedTasks(at=0)
    with pytest.raises(FileNotFoundError, match="does not exist; create it first"):
        meta_train(sine_learner(), tasks, config(checkpoint=tmp_path / "missing" / "run.pt"))
    assert tasks.drawn == 0


# --- it fails clearly --------------------------------------------------------------------------------------

@pytest.mark.parametrize("clip", [None, 10.0])
def test_a_nan_loss_is_one_clear_error_and_the_learner_keeps_the_weights_from_before(clip):
    class Poisoned(Sinusoids):
        drawn = 0

        def sample(self, n, *, generator):
            self.drawn += 1
            episodes = super().sample(n, generator=generator)
            if self.drawn == 5:
                episodes.support.x[0, 0] = math.nan
            return episodes

    learner, reference = sine_learner(), sine_learner()
    with pytest.raises(FloatingPointError, match=r"meta-loss nan .*meta-iteration 5.*Lower inner_lr or lr"):
        meta_train(learner, Poisoned(5, 5), config(clip=clip))
    optimizer, generator = torch.optim.Adam(reference.parameters(), lr=1e-2), seeded(derived(3, "train"))
    for _ in range(4):
        meta_gradient(reference, Sinusoids(5, 5).sample(2, generator=generator))
        if clip:
            torch.nn.utils.clip_grad_norm_(reference.parameters(), clip)
        optimizer.step()
    assert all(p.isfinite().all() for p in learner.parameters()) and same(weights(learner), weights(reference))


def test_a_diverging_inner_loop_stops_the_run():
    learner = MAML(mlp(1, (16, 16), 1).double(), inner_lr=1e3, steps=8)
    with pytest.raises(FloatingPointError, match="Lower inner_lr"):
        meta_train(learner, Sinusoids(5, 5), config())
    assert all(p.isfinite().all() for p in learner.parameters())


@pytest.mark.parametrize(("changes", "message"), [
    ({"iterations": 0}, "iterations=0: expected a whole number, at least 1"),
    ({"meta_batch": 0}, "meta_batch=0"),
    ({"lr": -1e-3}, "lr=-0.001"),
    ({"checkpoint_every": 0}, "checkpoint_every=0"),
    ({"val_episodes": 0}, "val_episodes=0"),
    ({"clip": 0.0}, "clip=0.0: expected a number above 0"),
    ({"schedule": "linear"}, "schedule='linear': expected 'constant' or 'cosine'"),
    ({"map": "pmap"}, "map='pmap'"),
])
def test_a_setting_out_of_range_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        meta_train(sine_learner(), Sinusoids(5, 5), config(**changes))


# --- MAML --------------------------------------------------------------------------------------------------

def test_a_learner_with_nothing_to_train_is_refused():
    frozen = sine_learner()
    frozen.net.requires_grad_(False)
    for learner in (frozen, PixelFloor()):
        with pytest.raises(ValueError, match="has nothing to train: no parameter of it requires a gradient"):
            meta_train(learner, Sinusoids(5, 5), config())


def test_validation_tasks_in_the_place_of_the_config_are_told_their_own():
    with pytest.raises(TypeError, match="third argument .* is a Sinusoids: expected a TrainConfig.*fourth, val_tasks="):
        meta_train(sine_learner(), Sinusoids(5, 5), Sinusoids(5, 5))


def test_orders_1_and_2_share_the_loss_and_differ_in_the_gradient():
    first, second = sine_learner(order=1, steps=3), sine_learner(order=2, steps=3)
    episode = Sinusoids(5, 5).sample(4, generator=seeded(0))
    assert torch.equal(meta_gradient(first, episode), meta_gradient(second, episode))
    a, b = (torch.cat([p.grad.flatten() for p in learner.parameters()]) for learner in (first, second))
    assert float((a - b).norm() / b.norm()) > 1e-3


def test_order_1_is_the_query_gradient_at_the_adapted_weights_exactly():
    learner = FOMAML(mlp(1, (16,), 1, activation="tanh").double(), inner_lr=0.1, steps=2)
    assert learner.order == 1
    episode = Sinusoids(5, 5).sample(1, generator=seeded(0)).task(0)
    phi = {k: v.detach() for k, v in learner.adapt(episode.support).items()}
    expected = grad(lambda p: learner.task_loss(learner.predict(p, episode.query.x), episode.query.y))(phi)
    theta = {k: p.detach() for k, p in learner.named_parameters()}
    actual, _ = learner.task_gradient(theta, episode)
    assert all(torch.equal(actual[f"net.{k}"], expected[k]) for k in expected)


def test_one_inner_step_is_one_step_of_gradient_descent_on_the_support_loss():
    learner = sine_learner(inner_lr=0.3)
    support = Sinusoids(5, 5).sample(1, generator=seeded(0)).task(0).support
    loss = torch.nn.functional.mse_loss(learner.net(support.x), support.y)
    grads = torch.autograd.grad(loss, list(learner.net.parameters()))
    phi = learner.adapt(support)
    for (name, p), g in zip(learner.net.named_parameters(), grads):
        assert torch.allclose(phi[name], p - 0.3 * g, rtol=1e-12, atol=1e-14)


def test_steps_can_be_overridden_and_path_holds_every_iterate():
    learner = sine_learner(steps=2)
    support = Sinusoids(5, 5).sample(1, generator=seeded(0)).task(0).support
    before = weights(learner)
    path = learner.path(support, 4)
    assert len(path) == 5 and len(learner.path(support)) == 3
    for j in (0, 1, 4):
        assert same(learner.adapt(support, j), path[j])
    assert same(learner.adapt(support), path[2])
    assert same(path[0], dict(learner.net.named_parameters()))
    assert same(weights(learner), before)
    scores = meta_test_path(learner, Sinusoids(5, 5), 3, 10)
    assert scores[2].mean == pytest.approx(meta_test(learner, Sinusoids(5, 5), 10).mean, rel=1e-12)
    assert scores[3].mean == pytest.approx(meta_test(learner, Sinusoids(5, 5), 10, steps=3).mean, rel=1e-12)


@pytest.mark.parametrize(("options", "message"), [
    ({"order": 3}, "order=3: expected 2"), ({"inner_lr": -1.0}, "inner_lr=-1.0"), ({"steps": -1}, "steps=-1")])
def test_an_impossible_maml_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MAML(mlp(1, (4,), 1), **options)


def test_a_loss_of_ones_own_is_used_inside_and_outside():
    def absolute(prediction, y):
        return (prediction - y).abs().mean()

    net = mlp(1, (8,), 1, activation="tanh").double()
    learner = MAML(net, inner_lr=0.1, loss=absolute)
    episode = Sinusoids(5, 5).sample(1, generator=seeded(0)).task(0)
    g = torch.autograd.grad(absolute(net(episode.support.x), episode.support.y), list(net.parameters()))
    phi = {k: p - 0.1 * d for (k, p), d in zip(net.named_parameters(), g)}
    assert torch.allclose(learner(episode), absolute(functional_call(net, phi, (episode.query.x,)), episode.query.y))


def test_maml_learns_a_classification_problem_that_its_untrained_network_does_not():
    g = seeded(1)  # a class is a bright bar; five of twenty a task, so the label says nothing before adaptation
    images = torch.zeros(20, 12, 16, 16)
    for c in range(20):
        images[c, :, c % 16, :] += 0.6
        images[c, :, :, (5 * c) % 16] += 0.3
    images = (images + 0.1 * torch.rand(images.shape, generator=g)).clamp(0, 1).flatten(0, 1)
    bank = ClassImages.from_arrays(images, torch.arange(20).repeat_interleave(12))
    tasks = FewShot(bank, query=5)
    torch.manual_seed(0)
    learner = MAML(mlp(256, (32,), 5), inner_lr=0.5)
    untrained = copy.deepcopy(learner)
    meta_train(learner, tasks, TrainConfig(iterations=150, lr=1e-2))
    gain = compare(meta_test(learner, tasks, 100), meta_test(untrained, tasks, 100))
    assert gain.mean - gain.ci95 > 0.05


# --- where the code runs -----------------------------------------------------------------------------------

def test_check_shows_what_is_published_and_raises_outside_the_tolerance():
    number = check(0.97, published=0.96, tol=0.02, what="accuracy")
    assert number == 0.96 and str(number) == "0.96 (checked)" and repr(number) == "accuracy: 0.96 (checked)"
    for bad in (0.99, 0.93, math.nan, math.inf):
        with pytest.raises(AssertionError, match="accuracy: measured .*published 0.96"):
            check(bad, published=0.96, tol=0.02, what="accuracy")
    assert repr(check(torch.tensor(0.95), published=0.96, tol=0.02)) == "0.96 (checked)"


def test_progress_bars_are_quiet_unless_someone_watches(monkeypatch, capsys):
    monkeypatch.delenv("METALIB_QUIET", raising=False)
    assert isinstance(progress(10, "work"), LogLines)  # output goes to pytest, not to a terminal
    meta_train(sine_learner(), Sinusoids(5, 5), config())
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "", "a short run says nothing in a log"

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = progress(10, "work", initial=4)
    assert not bar.disable and (bar.total, bar.n) == (10, 4)
    bar.close()
    monkeypatch.setenv("METALIB_QUIET", "1")
    assert progress(10, "work").disable


def test_seeded_generators_agree_and_live_on_the_cpu():
    a, b = seeded(5), seeded(5)
    assert torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b)) and a.device.type == "cpu"


def test_the_device_of_a_learner_without_parameters_is_the_cpu():
    assert device_of(PixelFloor()) == torch.device("cpu")
    assert device_of(ProtoNet(conv4(channels=4))) == torch.device("cpu")
    assert choose_map(PixelFloor(), "auto") == "vmap"


def test_importing_metalib_prints_nothing_and_changes_no_threads():
    code = "import torch; n = torch.get_num_threads(); import metalib; assert torch.get_num_threads() == n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_metric_that_is_none_is_refused_also_where_nothing_is_validated():
    with pytest.raises(ValueError, match="'accuracy', 'MSE', 'loss'"):
        meta_train(MAML(mlp(1, (4,), 1).double()), Sinusoids(), TrainConfig(iterations=1, metric="acc"))
