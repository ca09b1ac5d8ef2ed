"""A checkpoint belongs to one run: what differs is named, what is the same goes on bit for bit, nothing is lost."""

import contextlib
import dataclasses
import enum
import math
import random
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from metalib import (
    FOMAML,
    MAML,
    ClassImages,
    Data,
    Episode,
    FewShot,
    FixedEpisodes,
    Learner,
    ProtoNet,
    Sinusoids,
    TrainConfig,
    conv4,
    meta_gradient,
    meta_train,
    mlp,
    save,
    seeded,
    training_episodes,
)
from metalib.training import checkpoint
from metalib.training import resume as module
from metalib.training.identity import describe, differences

pytestmark = pytest.mark.usefixtures("one_thread")
WAVES = Sinusoids(5, 5)


def config(tmp_path, **changes):
    return TrainConfig(**{"iterations": 6, "meta_batch": 2, "lr": 1e-2, "checkpoint": tmp_path / "run.pt", **changes})


def wave_net(seed=0, hidden=(8,), **options):
    torch.manual_seed(seed)
    return mlp(1, hidden, 1, **options).double()


def weights(learner):
    return {k: v.clone() for k, v in learner.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def images(seed=0, channels=1):
    x = torch.rand(6 * 5, channels, 16, 16, generator=seeded(seed))
    return ClassImages.from_arrays(x, torch.arange(6).repeat_interleave(5))


# --- plain values ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("changes", [
    {"lr": np.logspace(-3, -2, 3)[0]}, {"lr": np.float32(0.01)}, {"lr": torch.tensor(0.01)}, {"clip": np.float64(1.0)},
    {"iterations": np.int64(6)}, {"seed": np.uint8(3)}, {"val_every": torch.tensor(2)}, {"precision": np.str_("bf16")},
    {"iterations": 6.0}, {"meta_batch": np.array(2)[()]}], ids=str)
def test_a_setting_of_numpy_or_torch_is_written_and_read_again(tmp_path, changes):
    settings = config(tmp_path, **changes)
    assert all(type(getattr(settings, k)) in (int, float, str) for k in changes)
    first, again = MAML(wave_net()), MAML(wave_net(1))
    meta_train(first, WAVES, settings)
    assert len(meta_train(again, WAVES, settings).losses) == 6 and same(weights(again), weights(first))


@pytest.mark.parametrize("learner", [
    lambda: MAML(wave_net(), inner_lr=np.float64(0.1)), lambda: MAML(wave_net(), steps=np.int64(2)),
    lambda: MAML(wave_net(), inner_lr=torch.tensor(0.1, dtype=torch.float64)),
    lambda: MAML(mlp(np.int64(1), np.array([8])[:1].tolist(), np.int32(1)).double())])
def test_a_learner_built_with_numpy_is_resumed_too(tmp_path, learner):
    meta_train(learner(), WAVES, config(tmp_path))
    assert len(meta_train(learner(), WAVES, config(tmp_path)).losses) == 6


@pytest.mark.parametrize(("changes", "message"), [
    ({"iterations": 10 / 3}, r"iterations=3\.333.*whole number"), ({"val_every": 2.5}, "val_every=2.5.*whole number"),
    ({"meta_batch": "4"}, "meta_batch='4'.*whole number"), ({"checkpoint_every": math.nan}, "checkpoint_every=nan"),
    ({"iterations": math.inf}, "iterations=inf"), ({"val_episodes": np.float64(7.2)}, "val_episodes=7.2"),
    ({"checkpoint": ""}, "checkpoint=''.*or None"), ({"log_dir": ""}, "log_dir=''.*or None"),
    ({"checkpoint": 5}, "checkpoint=5: expected a path"), ({"log_dir": True}, "log_dir=True: expected a path"),
    ({"lr": "1e-3"}, "lr='1e-3': expected a finite number"), ({"lr": True}, "lr=True"), ({"clip": False}, "clip=False"),
    ({"iterations": None}, "iterations=None: expected a whole number"), ({"val_every": -1}, "val_every=-1"),
    ({"lr": math.nan}, "lr=nan"), ({"lr": math.inf}, "lr=inf")])
def test_a_setting_that_cannot_be_meant_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        meta_train(MAML(wave_net()), WAVES, config(tmp_path, **changes))


@pytest.mark.parametrize(("changes", "message"), [({"lr": np.array([0.1, 0.2])}, r"TrainConfig\(lr=\).*ndarray"),
                                                  ({"clip": enum.Enum("E", "a").a}, r"TrainConfig\(clip=\)")])
def test_a_setting_that_is_no_plain_value_is_refused(tmp_path, changes, message):
    with pytest.raises(TypeError, match=message):
        config(tmp_path, **changes)


# --- whose checkpoint is it --------------------------------------------------------------------------------

class Noisy(Sinusoids):
    """Somebody's own tasks, whose constructor keeps an argument under its own name."""

    def __init__(self, noise=0.0):
        super().__init__(5, 5)
        self.noise = noise


@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    shot: int = 5
    shift: float = 0.0

    def sample(self, n, *, generator):
        return Sinusoids(self.shot, 5).sample(n, generator=generator)


class Shrinking(MAML):
    """A learner that does not keep what it was given as an attribute."""

    def __init__(self, net, shrink):
        super().__init__(net, inner_lr=0.05)
        self._factor = 1 - shrink


class Holding:
    """Tasks around anything."""

    def __init__(self, held):
        self.held = held

    def sample(self, n, *, generator):
        return WAVES.sample(n, generator=generator)


def droppy(p):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.Dropout(p), nn.Linear(8, 1)).double()


def frozen():
    net = wave_net()
    net.layers[0].weight.requires_grad_(False)
    return net


def power(k):
    return lambda prediction, y: (prediction - y).abs().pow(k).mean()


LEARNERS = [
    (lambda: MAML(wave_net(), 0.1), lambda: MAML(wave_net(), 0.4), "inner_lr: 0.1 in the checkpoint, 0.4 now"),
    (lambda: MAML(wave_net(), steps=1), lambda: MAML(wave_net(), steps=3), "steps: 1 in the checkpoint, 3 now"),
    (lambda: MAML(wave_net()), lambda: FOMAML(wave_net()), "order: 2 in the checkpoint, 1 now"),
    (lambda: MAML(wave_net()), lambda: MAML(wave_net(activation="tanh")), "activation: 'relu' .*'tanh' now"),
    (lambda: MAML(wave_net()), lambda: MAML(wave_net(hidden=(8, 8))), r"net\.layers\.2"),
    (lambda: MAML(wave_net()), lambda: MAML(frozen()), r"weight: 'float64 \(8, 1\)' .*frozen' now"),
    (lambda: MAML(wave_net()), lambda: MAML(wave_net().float()), "'float64 .*'float32"),
    (lambda: MAML(wave_net(), loss=power(2)), lambda: MAML(wave_net(), loss=power(4)), "closure.*: 2 in .*, 4 now"),
    (lambda: MAML(wave_net(), loss=lambda p, y: (p - y).abs().mean()),
     lambda: MAML(wave_net(), loss=lambda p, y: (p - y).square().mean()), "loss.code"),
    (lambda: MAML(wave_net(), loss=nn.HuberLoss(delta=1.0)), lambda: MAML(wave_net(), loss=nn.HuberLoss(delta=2.0)),
     "delta: 1.0 in the checkpoint, 2.0 now"),
    (lambda: Shrinking(wave_net(), 0.1), lambda: Shrinking(wave_net(), 0.2), "shrink: 0.1 in the checkpoint, 0.2 now"),
    (lambda: MAML(droppy(0.1), 0.01), lambda: MAML(droppy(0.2), 0.01), r"net\.1\.p: 0.1 in the checkpoint, 0.2 now")]
TASKS = [
    (lambda: Sinusoids(5, 5), lambda: Sinusoids(6, 5), "tasks.shot: 5 in the checkpoint, 6 now"),
    (lambda: Sinusoids(5, 5), lambda: Sinusoids(5, 5, amplitude=(1, 2)), "amplitude"),
    (lambda: Noisy(0.1), lambda: Noisy(0.2), "tasks.noise: 0.1 in the checkpoint, 0.2 now"),
    (lambda: Sinusoids(5, 5), lambda: Noisy(0.0), "tasks: 'Sinusoids' in the checkpoint, 'Noisy' now"),
    (lambda: Fixed(), lambda: Fixed(shift=1.0), "tasks.shift: 0.0 in the checkpoint, 1.0 now"),
    (lambda: Holding(torch.arange(40)), lambda: Holding(torch.arange(40) + 1), "tasks.held.sha256"),
    (lambda: Holding(np.zeros(3)), lambda: Holding(np.zeros(4)), r"held: 'float64 \(3,\)' .*\(4,\)' now"),
    (lambda: Holding(list(range(100))), lambda: Holding(list(range(99, -1, -1))), "tasks.held.sha256"),
    (lambda: Holding({"a": [Fixed(5)]}), lambda: Holding({"a": [Fixed(6)]}), r"shot: 5 in the checkpoint, 6 now")]


@pytest.mark.parametrize(("first", "second", "message"), LEARNERS)
def test_another_learner_is_refused_and_what_differs_is_named(tmp_path, first, second, message):
    settings = config(tmp_path, iterations=1, map="loop")
    meta_train(first(), WAVES, settings)
    learner = second()
    before = weights(learner)
    with pytest.raises(ValueError, match=f"belongs to another run.*{message}.*another checkpoint="):
        meta_train(learner, WAVES, settings)
    assert same(weights(learner), before)
    assert len(meta_train(first(), WAVES, settings).losses) == 1  # its own run knows it


@pytest.mark.parametrize("part", ["tasks", "val_tasks"])
@pytest.mark.parametrize(("first", "second", "message"), TASKS)
def test_other_tasks_are_refused_and_what_differs_is_named(tmp_path, part, first, second, message):
    def run(tasks):
        both = {"tasks": WAVES, "val_tasks": WAVES, part: tasks}
        return meta_train(MAML(wave_net(), 0.01), config=config(tmp_path, iterations=1, val_episodes=2), **both)

    run(first())
    with pytest.raises(ValueError, match=f"belongs to another run: {message.replace('tasks', part, 1)}"
                       if message.startswith("tasks") else message):
        run(second())
    assert len(run(first()).losses) == 1


def test_other_images_are_refused_and_the_same_images_are_not(tmp_path):
    def run(bank, **options):
        torch.manual_seed(0)
        return meta_train(ProtoNet(conv4(channels=4, image_size=16)), FewShot(bank, query=2, **options),
                          config(tmp_path, iterations=1))

    run(images(0))
    run(images(0))
    with pytest.raises(ValueError, match="tasks.images.digest: .* in the checkpoint, .* now"):
        run(images(1))
    with pytest.raises(ValueError, match="tasks.shot: 1 in the checkpoint, 2 now"):
        run(images(0), shot=2)


@pytest.mark.parametrize(("begun", "then", "message"), [
    ((WAVES, {}), (None, {}), "val_tasks: 'Sinusoids' in the checkpoint, None now"),
    ((WAVES, {}), (Sinusoids(7, 7), {}), "val_tasks.shot: 5 in the checkpoint, 7 now"),
    ((WAVES, {}), (WAVES, {"metric": "loss"}), "metric: None in the checkpoint, 'loss' now"),
    ((None, {"val_every": 2}), (WAVES, {"val_every": 2}), "val_tasks: None in the checkpoint, 'Sinusoids' now")])
def test_validation_is_a_part_of_a_run_from_the_first_one_on(tmp_path, begun, then, message):
    for (val, changes), refused in ((begun, None), (then, message)):
        with pytest.raises(ValueError, match=refused) if refused else contextlib.nullcontext():
            meta_train(MAML(wave_net()), WAVES, config(tmp_path, val_episodes=3, **changes), val)


@pytest.mark.parametrize("changes", [{}, {"val_every": 5}])
def test_how_a_run_is_validated_can_be_chosen_until_the_first_validation(tmp_path, changes):
    changes = {"val_episodes": 3, **changes}
    whole, resumed = MAML(wave_net()), MAML(wave_net(1))
    expected = meta_train(whole, WAVES, config(tmp_path, checkpoint=None, **changes), WAVES)
    meta_train(MAML(wave_net()), WAVES, config(tmp_path, iterations=4))
    history = meta_train(resumed, WAVES, config(tmp_path, **changes), WAVES)
    assert history.validations == expected.validations and same(weights(resumed), weights(whole))


@pytest.mark.parametrize(("val", "metric", "message"), [
    (WAVES, "accurcy", "metric='accurcy': expected"), (WAVES, "accuracy", "accuracy needs integer labels"),
    (FixedEpisodes(Episode(*[Data(torch.ones(3, 4, 2).double(), torch.ones(3, 4, 1).double())] * 2)), None,
     "built for inputs")])
def test_a_validation_that_cannot_work_says_so_before_the_training(tmp_path, val, metric, message):
    tasks, learner = Stopping(), MAML(wave_net())
    with pytest.raises((ValueError, RuntimeError), match=message):
        meta_train(learner, tasks, config(tmp_path, metric=metric), val)
    assert tasks.drawn == 0 and list(tmp_path.iterdir()) == []  # nothing in the way of the next attempt


@pytest.mark.parametrize("changes", [{"lr": 2e-2}, {"seed": 1}, {"clip": 1.0}, {"meta_batch": 3}, {"val_every": 2},
                                     {"schedule": "cosine"}, {"precision": "bf16"}])
def test_other_settings_are_refused_and_what_differs_is_named(tmp_path, changes):
    meta_train(MAML(wave_net()), WAVES, config(tmp_path))
    (name, value), = changes.items()
    with pytest.raises(ValueError, match=rf"TrainConfig\.{name}: .* in the checkpoint, {value!r} now"):
        meta_train(MAML(wave_net()), WAVES, config(tmp_path, **changes))


@pytest.mark.parametrize("changes", [{"map": "loop"}, {"checkpoint_every": 2}, {"chunk": 1}])
def test_how_a_run_is_computed_may_change(tmp_path, changes):
    meta_train(MAML(wave_net()), WAVES, config(tmp_path, iterations=3))
    assert len(meta_train(MAML(wave_net()), WAVES, config(tmp_path, **changes)).losses) == 6


def test_a_counter_is_state_and_no_setting(tmp_path):
    class Counting(Sinusoids):
        calls = 0

        def __init__(self):
            super().__init__(5, 5)
            self.seen, self.sizes = 0, []

        def sample(self, n, *, generator):
            self.seen, self.sizes = self.seen + 1, [*self.sizes, {"n": n}]
            return super().sample(n, generator=generator)

    tasks, learner = Counting(), MAML(wave_net())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        meta_train(learner, tasks, config(tmp_path, iterations=3))
        assert len(meta_train(learner, tasks, config(tmp_path)).losses) == 6  # the same objects: seen is 3 by now
    with pytest.warns(UserWarning, match=r"tasks.seen: 6 in the checkpoint, 0 now.*a curriculum"):  # fresh ones
        assert len(meta_train(MAML(wave_net()), Counting(), config(tmp_path, iterations=7)).losses) == 7


@pytest.mark.parametrize("stream", [lambda: torch.Generator().manual_seed(1), lambda: np.random.default_rng(1),
                                    lambda: np.random.RandomState(1), lambda: random.Random(1)])
def test_tasks_with_a_generator_of_their_own_are_told_that_it_starts_again(tmp_path, stream):
    class Own(Sinusoids):
        def __init__(self):
            super().__init__(5, 5)
            self.stream = stream()

        def sample(self, n, *, generator):
            if isinstance(self.stream, torch.Generator):
                return super().sample(n, generator=self.stream)
            return super().sample(n, generator=seeded(int(1e6 * self.stream.random())
                                                      if isinstance(self.stream, random.Random)
                                                      else int(self.stream.normal() ** 2 * 1e6)))

    meta_train(MAML(wave_net()), Own(), config(tmp_path, iterations=3))
    with pytest.warns(UserWarning, match=r"tasks.stream: .* in the checkpoint, .* now.*a generator of their own"):
        meta_train(MAML(wave_net()), Own(), config(tmp_path))


def test_a_description_is_plain_names_everything_and_ends():
    @dataclasses.dataclass
    class Box:
        this: object = None

    box = Box()
    box.this = [box, {1, 2}, torch.float32, np.float32(0.5), enum.Enum("E", "a").a, np.datetime64("2020"), open]
    flat = describe({"box": box, "f": len, "none": None, "part": re.compile("x")})
    assert all(type(v) in (str, int, float, bool, type(None)) for v in flat.values())
    assert flat["box"] == "Box" and flat["box.this[3]"] == 0.5 and flat["f"] == "len" and flat["none"] is None
    assert differences({"a": 1, "b": math.nan, "c": 0}, {"a": 1.0, "b": math.nan, "d": None}) == [
        "c: 0 in the checkpoint, nothing now", "d: nothing in the checkpoint, None now"]
    assert differences({"a": None, "b.c": 1}, {"a": "Sinusoids", "a.shot": 5, "a.phase[0]": 0, "b.c": 2}) == [
        "a: None in the checkpoint, 'Sinusoids' now", "b.c: 1 in the checkpoint, 2 now"]  # the other one is in sight


def test_a_file_that_is_no_checkpoint_of_a_run_is_told_so(tmp_path):
    save(MAML(wave_net()), tmp_path / "run.pt")
    with pytest.raises(ValueError, match="is not a training checkpoint"):
        meta_train(MAML(wave_net()), WAVES, config(tmp_path))
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        meta_train(MAML(wave_net()), WAVES, config(tmp_path, checkpoint=tmp_path / "folder"))


def test_of_two_runs_that_begin_at_one_moment_one_has_the_file_and_the_other_is_refused(tmp_path, monkeypatch):
    write = checkpoint.write

    def late(state, path, **options):  # another process is as far as we are, and a little faster
        monkeypatch.setattr(checkpoint, "write", write)
        meta_train(MAML(wave_net()), WAVES, config(tmp_path, lr=2e-2))
        return write(state, path, **options)

    monkeypatch.setattr(checkpoint, "write", late)
    with pytest.raises(ValueError, match="belongs to another run: TrainConfig.lr: 0.02 in the checkpoint, 0.01 now"):
        meta_train(MAML(wave_net()), WAVES, config(tmp_path))
    assert len(checkpoint.read(tmp_path / "run.pt")["history"]["losses"]) == 6  # nothing of the first is lost


def test_a_run_that_goes_on_says_so_because_the_weights_it_was_given_do_not_count(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("METALIB_QUIET", raising=False)
    meta_train(MAML(wave_net()), WAVES, config(tmp_path, iterations=4))
    assert capsys.readouterr().err == ""
    meta_train(MAML(wave_net(1)), WAVES, config(tmp_path))
    assert re.fullmatch(r"meta-train: continues \S*run.pt after 4 of 6 meta-iterations\n", capsys.readouterr().err)


# --- longer ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("lengths", [(3, 6), (1, 2, 6)])
def test_a_run_that_is_extended_is_the_longer_run(tmp_path, lengths):
    whole, learner = MAML(wave_net()), MAML(wave_net())
    expected = meta_train(whole, WAVES, config(tmp_path, checkpoint=None))
    for n in lengths:
        history = meta_train(learner, WAVES, config(tmp_path, iterations=n))
        learner = MAML(wave_net(n)) if n < 6 else learner
    assert history.losses == expected.losses and same(weights(learner), weights(whole))


def test_a_cosine_that_is_extended_says_that_its_rates_change(tmp_path):
    meta_train(MAML(wave_net()), WAVES, config(tmp_path, iterations=3, schedule="cosine"))
    learner, whole = MAML(wave_net()), MAML(wave_net())
    with pytest.warns(UserWarning, match="the first 3 meta-iterations followed a cosine over 3, the rest .* over 6"):
        history = meta_train(learner, WAVES, config(tmp_path, schedule="cosine"))
    expected = meta_train(whole, WAVES, config(tmp_path, schedule="cosine", checkpoint=None))
    assert len(history.losses) == 6 and not same(weights(learner), weights(whole)) and len(expected.losses) == 6


def test_a_run_that_has_gone_further_is_not_returned_as_a_shorter_one(tmp_path):
    meta_train(MAML(wave_net()), WAVES, config(tmp_path))
    with pytest.raises(ValueError, match="has done 6 meta-iterations already, more than iterations=4"):
        meta_train(MAML(wave_net()), WAVES, config(tmp_path, iterations=4))


# --- bit for bit -------------------------------------------------------------------------------------------

class Stopped(Exception):
    pass


class Stopping(Sinusoids):
    """Sinusoids that fail when the n-th meta-batch is drawn."""

    def __init__(self, at=0):
        super().__init__(5, 5)
        self._at, self.drawn = at, 0

    def sample(self, n, *, generator):
        self.drawn += 1
        if self.drawn == self._at:
            raise Stopped
        return super().sample(n, generator=generator)


class Wandering(Stopping):
    """Tasks that draw from PyTorch's global generator as well, as they should not."""

    def sample(self, n, *, generator):
        episode = super().sample(n, generator=generator)
        episode.support.y.add_(0.1 * torch.randn(episode.support.y.shape, dtype=torch.float64))
        return episode


class Sampling(MAML):
    """A learner that draws for itself."""

    def forward(self, episode):
        return super().forward(episode) * (1 + 0.1 * torch.rand(()))


class Jittering(Stopping):
    """Tasks with an augmentation that draws from NumPy's and from Python's global generator."""

    def sample(self, n, *, generator):
        episode = super().sample(n, generator=generator)
        episode.support.y.add_(random.gauss(0, 0.1) + np.random.normal(0, 0.1))  # noqa: NPY002 (as people do)
        return episode


class Jittery(MAML):
    """A learner that draws from NumPy's and from Python's global generator."""

    def forward(self, episode):
        return super().forward(episode) * (1 + 0.1 * random.random() + 0.1 * np.random.rand())  # noqa: NPY002


RANDOM = [(lambda: MAML(droppy(0.5), 0.01), Stopping), (lambda: Sampling(wave_net(), 0.01), Stopping),
          (lambda: Jittery(wave_net(), 0.01), Stopping), (lambda: MAML(wave_net(), 0.01), Wandering),
          (lambda: MAML(wave_net(), 0.01), Jittering)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("learner", "tasks"), RANDOM)
def test_a_network_that_draws_is_resumed_bit_for_bit(tmp_path, threads, learner, tasks):
    torch.set_num_threads(threads)  # the fixture puts it back
    settings = {"map": "loop", "checkpoint_every": 2}
    whole, stopped, resumed = learner(), learner(), learner()
    torch.manual_seed(1)
    expected = meta_train(whole, tasks(), config(tmp_path, checkpoint=None, **settings))
    torch.manual_seed(2)
    with pytest.raises(Stopped):
        meta_train(stopped, tasks(at=5), config(tmp_path, **settings))
    torch.manual_seed(3)
    history = meta_train(resumed, tasks(), config(tmp_path, **settings))
    assert history.losses == expected.losses and same(weights(resumed), weights(whole))
    assert len(set(history.losses)) == 6


def test_dropout_draws_anew_in_each_iteration_and_with_each_seed(tmp_path):
    class Mask(MAML):
        def forward(self, episode):
            drawn.append(float(torch.rand(())))
            return super().forward(episode)

    drawn = []
    for seed in (0, 1):
        meta_train(Mask(wave_net(), 0.01), WAVES, config(tmp_path, checkpoint=None, map="loop", seed=seed))
    assert len(set(drawn)) == len(drawn) == 24


def test_training_leaves_the_callers_generators_alone(tmp_path):
    learner, settings = MAML(droppy(0.5), 0.01), config(tmp_path, map="loop")
    torch.manual_seed(5)
    np.random.normal()  # noqa: NPY002 (the second half of the pair is a part of the state)
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    meta_train(learner, WAVES, settings, Jittering())
    with pytest.raises(Stopped):
        meta_train(learner, Jittering(2), config(tmp_path, checkpoint=None), WAVES)
    next(training_episodes(Jittering(), settings))
    after = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


# --- nothing is lost ---------------------------------------------------------------------------------------

class Failing(Sinusoids):
    """Validation tasks that cannot be drawn yet, except when a run begins with a rehearsal."""

    fails, _rehearsed = True, False

    def sample(self, n, *, generator):
        if type(self).fails and self._rehearsed:
            raise Stopped
        self._rehearsed = True
        return super().sample(n, generator=generator)


@pytest.mark.parametrize("settings", [{}, {"val_every": 2}, {"val_every": 4, "checkpoint_every": 5}])
def test_a_validation_that_fails_loses_no_training_and_is_made_up_for(tmp_path, monkeypatch, settings):
    settings = {"val_episodes": 3, "iterations": 7, **settings}
    whole, val = MAML(wave_net()), Sinusoids(5, 5)
    expected = meta_train(whole, WAVES, config(tmp_path, checkpoint=None, **settings), val)
    failing, tasks = Failing(5, 5), Stopping()
    with pytest.raises(Stopped):
        meta_train(MAML(wave_net()), tasks, config(tmp_path, **settings), failing)
    done = tasks.drawn
    assert done == settings.get("val_every", 7)
    monkeypatch.setattr(Failing, "fails", False)
    resumed, rest = MAML(wave_net(1)), Stopping()
    history = meta_train(resumed, rest, config(tmp_path, **settings), failing)
    assert rest.drawn == 7 - done
    assert history.losses == expected.losses and history.validations == expected.validations
    assert same(weights(resumed), weights(whole)) and history.best_iteration == expected.best_iteration
    again = meta_train(MAML(wave_net(2)), Stopping(at=1), config(tmp_path, **settings), failing)
    assert again.validations == expected.validations  # and a finished run does not validate again


@pytest.mark.parametrize(("dtype", "lr"), [(torch.float16, 1e-3), (torch.float64, 1e300), (torch.float32, 3e38),
                                           (torch.float32, 1e37)])
def test_the_weights_from_before_are_kept_whatever_makes_adam_fail(tmp_path, dtype, lr):
    learner = MAML(wave_net(hidden=(4,)).to(dtype), 0.01)
    if dtype != torch.float16:  # a step beyond the largest number
        with torch.no_grad():
            for p in learner.parameters():
                p.mul_(0).add_(torch.finfo(dtype).tiny)
    tasks = Sinusoids(5, 5, dtype=dtype)
    with pytest.raises((FloatingPointError, RuntimeError), match="keeps the weights from before|without overflow"):
        for _ in range(200):  # each a step of length lr
            before = weights(learner)
            meta_train(learner, tasks, config(tmp_path, lr=lr, iterations=1, checkpoint=None))
    assert same(weights(learner), before) and all(p.isfinite().all() for p in learner.parameters())


def test_float16_says_what_to_do_and_its_checkpoint_has_no_nan(tmp_path):
    learner = MAML(wave_net().half(), 0.01)
    before = weights(learner)
    with pytest.raises(FloatingPointError, match="float16 weights that are not finite.*train in float32"):
        meta_train(learner, Sinusoids(5, 5, dtype=torch.float16), config(tmp_path))
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert same(weights(learner), before) and all(v.isfinite().all() for v in state["weights"].values())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_validation_that_is_not_finite_is_reported_and_never_best(tmp_path, monkeypatch, bad):
    real = module.meta_test
    worse = iter([None, bad, None, bad])  # the first is the rehearsal's

    def scored(*args, **options):
        score, value = real(*args, **options), next(worse)
        return score if value is None else dataclasses.replace(score, mean=value)

    monkeypatch.setattr(module, "meta_test", scored)
    settings = config(tmp_path, val_every=2, val_episodes=3)
    with pytest.warns(UserWarning, match="cannot be the best"):
        history = meta_train(MAML(wave_net()), WAVES, settings, WAVES)
    assert (history.best_iteration, history.chosen) == (4, "best on validation tasks")
    assert [math.isfinite(mean) for _, mean, _ in history.validations] == [False, True, False]
    worse = iter([bad] * 4)
    with pytest.warns(UserWarning, match="cannot be the best"):
        history = meta_train(MAML(wave_net()), WAVES, config(tmp_path, checkpoint=None, val_every=2), WAVES)
    assert (history.best_iteration, history.chosen) == (6, "last")


# --- where the tasks run -----------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("order", [1, 2])
def test_an_outer_autocast_holds_in_the_threads_of_the_tasks(dtype, order):
    learner = MAML(mlp(256, (32,), 5), 0.1, order=order)
    episodes = FewShot(images(), query=3).sample(4, generator=seeded(0))

    def gradient(threads):
        loss = meta_gradient(learner, episodes, "loop", threads=threads)
        return loss, torch.cat([p.grad.flatten() for p in learner.parameters()])

    plain = gradient(1)
    with torch.autocast("cpu", dtype):
        one, three = gradient(1), gradient(3)
    assert torch.equal(one[0], three[0]) and torch.equal(one[1], three[1])
    assert not torch.equal(one[1], plain[1]) and torch.equal(gradient(3)[1], plain[1])


def test_a_learner_of_ones_own_is_described_by_what_it_was_given():
    class Own(Learner):
        def __init__(self, a, *rest, b=2, **more):
            super().__init__()
            self.b = b

    flat = describe({"x": Own(1, 5, 6, b=3, c="d")})
    assert (flat["x.a"], flat["x.rest[1]"], flat["x.b"], flat["x.more['c']"]) == (1, 6, 3, "d")
