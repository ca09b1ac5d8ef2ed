"""One seed, three independent streams: what training draws, what it validates on, and what a test draws."""

import random

import numpy as np
import pytest
import torch

from metalib import (
    MAML,
    ClassImages,
    FewShot,
    ProtoNet,
    Sinusoids,
    TrainConfig,
    audit,
    conv4,
    meta_test,
    meta_train,
    mlp,
    seeded,
    shared_episodes,
    training_episodes,
)
from metalib.functional import derived

pytestmark = pytest.mark.usefixtures("one_thread")
WAVES = Sinusoids(3, 3)


class Wandering(Sinusoids):
    """Tasks with an augmentation that draws from the global generators."""

    def sample(self, n, *, generator):
        episode = super().sample(n, generator=generator)
        episode.support.y.add_(torch.randn(()).double() + random.random() + np.random.rand())  # noqa: NPY002
        return episode


class Remembering:
    """Tasks that keep what was drawn of them, to compare with what training says it drew."""

    def __init__(self, tasks):
        self.tasks, self.drawn = tasks, []

    def sample(self, n, *, generator):
        self.drawn.append(self.tasks.sample(n, generator=generator))
        return self.drawn[-1]


def small_bank(seed=0):
    images = torch.rand(48, 16, 16, generator=seeded(seed))
    return ClassImages.from_arrays(images, torch.arange(8).repeat_interleave(6))


def naive(tasks, n, batch, seed):
    """The meta-batches of a training loop that begins with the seed that the test begins with."""
    generator = seeded(seed)
    return [tasks.sample(batch, generator=generator) for _ in range(n)]


@pytest.mark.parametrize("tasks", [WAVES, FewShot(small_bank(), 3, 1, 2)], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_no_test_or_validation_episode_is_a_training_episode(tasks, seed):
    config = TrainConfig(iterations=300, meta_batch=1, seed=seed)
    trained = list(training_episodes(tasks, config))
    for other in {0, seed, derived(seed, "val")}:
        assert shared_episodes(tasks, trained, episodes=100, seed=other) == 0
    validation = naive(tasks, 200, 1, derived(seed, "val"))
    assert shared_episodes(tasks, validation, episodes=100, seed=seed) == 0


@pytest.mark.parametrize("tasks", [WAVES, FewShot(small_bank(), 3, 1, 2)], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("seed", [0, 7])
def test_the_leak_is_seen_where_there_is_one(tasks, seed):
    assert shared_episodes(tasks, naive(tasks, 300, 1, seed), episodes=100, seed=seed) == 100
    assert shared_episodes(tasks, naive(tasks, 40, 1, seed), episodes=100, seed=seed) == 40


@pytest.mark.parametrize("waves", [WAVES, Wandering(3, 3)])
def test_training_episodes_are_those_that_training_drew(waves):
    tasks = Remembering(waves)
    config = TrainConfig(iterations=5, meta_batch=3, seed=2)
    meta_train(MAML(mlp(1, [4], 1).double(), 0.01), tasks, config)
    again = list(training_episodes(waves, config))
    assert len(again) == 5 and all(torch.equal(a.support.y, b.support.y) for a, b in zip(again, tasks.drawn))


def test_validation_draws_from_its_own_stream():
    tasks = Remembering(WAVES)
    config = TrainConfig(iterations=2, meta_batch=1, val_episodes=40, seed=0)
    meta_train(MAML(mlp(1, [4], 1).double(), 0.01), WAVES, config, tasks)  # a rehearsal of one task, and 40
    assert len(tasks.drawn) == 41 and shared_episodes(WAVES, tasks.drawn, episodes=40, seed=0) == 0
    assert shared_episodes(WAVES, training_episodes(WAVES, config), episodes=40, seed=derived(0, "val")) == 0


def test_the_audit_names_the_leak():
    tasks = FewShot(small_bank(), 3, 1, 2)
    score = meta_test(ProtoNet(conv4(channels=8, image_size=16)), tasks, 30, seed=4)
    config = TrainConfig(iterations=50, seed=4)
    clean = audit(tasks, score, episodes=20, training=training_episodes(FewShot(small_bank(1), 3, 1, 2), config))
    assert clean.passed and clean.shared_episodes == 0 and clean.seen_images == 0
    same = audit(tasks, score, episodes=20, training=training_episodes(tasks, config))  # other episodes, these classes
    assert same.shared_episodes == 0 and same.seen_images == len(tasks.images.x) and not same.passed
    assert f"test images that training has seen: {same.seen_images}" in str(same)
    leaky = audit(tasks, score, episodes=20, training=naive(tasks, 25, 1, 4))
    assert leaky.shared_episodes == 25 and not leaky.passed
    assert "test episodes that training has seen: 25" in str(leaky)
    assert audit(tasks, score, episodes=20).shared_episodes is None


def test_published_test_episodes_stay_those_of_the_plain_seed():
    tasks = Remembering(WAVES)
    meta_test(MAML(mlp(1, [4], 1).double(), 0.01), tasks, 3, seed=5)
    generator = seeded(5)
    for episode in tasks.drawn:
        assert torch.equal(episode.query.x, WAVES.sample(1, generator=generator).query.x)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**33 + 1, 2**64])
def test_a_seed_that_the_generator_would_cut_short_is_refused(seed):
    with pytest.raises(ValueError, match="expected 0"):
        seeded(seed)
    with pytest.raises(ValueError, match="expected 0"):
        meta_test(MAML(mlp(1, [4], 1).double(), 0.01), WAVES, 3, seed=seed)


def test_streams_differ_between_seeds_and_purposes():
    seeds = {derived(s, p) for s in range(500) for p in ("train", "val")}
    assert len(seeds) == 1000 and min(seeds) >= 2**31 and max(seeds) < 2**32
