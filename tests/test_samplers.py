"""Samplers of one's own: what they do wrong is refused or seen by the audit, never a number that looks right."""

import pytest
import torch

from metalib import (
    MAML,
    ClassData,
    Data,
    Episode,
    FewShot,
    Learner,
    Normal,
    PixelFloor,
    ProtoNet,
    Score,
    Sinusoids,
    TrainConfig,
    audit,
    meta_gradient,
    meta_test,
    meta_test_path,
    meta_train,
    mlp,
    seeded,
    training_episodes,
)
from metalib.judging.metrics import accuracy

X = torch.randn(240, 4, generator=seeded(0))
BANK = ClassData.from_arrays(X, torch.arange(12).repeat_interleave(20),
                             splits={"train": range(6), "test": range(6, 12)})
HONEST = FewShot(BANK, 3, 1, 4)


class Tasks:
    """A sampler of somebody's own: `draw(n, generator)`."""

    def __init__(self, draw):
        self.draw = draw

    def sample(self, n, *, generator):
        return self.draw(n, generator)


def honest(n, generator):
    return HONEST.sample(n, generator=generator)


def proto():
    return ProtoNet(mlp(4, (8,), 8))


# --- As many tasks as asked for ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [0, 2, 12])
def test_a_sampler_that_returns_another_number_of_tasks_is_refused(n):
    """It would make 12 n tasks of 12 in a score, an interval too narrow, and "4-shot" of 2-shot in the audit."""
    wrong = Tasks(lambda _, g: HONEST.sample(12, generator=g).split(n)[0] if n else _none())
    for use in (lambda: meta_test(proto(), wrong, 12), lambda: audit(wrong, episodes=12),
                lambda: meta_train(proto(), wrong, TrainConfig(iterations=1, meta_batch=4))):
        with pytest.raises(ValueError, match=r"asked for (1 task|4 tasks) and returned tensors of shapes"):
            use()


def _none():
    return Episode(*(Data(d.x[:0], d.y[:0], d.way) for d in honest(1, seeded(0))))


def test_a_meta_batch_without_tasks_has_no_gradient():
    with pytest.raises(ValueError, match="holds no task"):
        meta_gradient(proto(), _none())


@pytest.mark.parametrize("draw", [lambda n, g: tuple(honest(n, g)), lambda n, g: None, lambda n, g: [honest(n, g)]])
def test_a_sampler_that_returns_no_episode_is_refused(draw):
    with pytest.raises(TypeError, match=r"Tasks.sample returned a (tuple|NoneType|list); expected Episode\(Data"):
        meta_test(proto(), Tasks(draw), 3)


def test_tasks_of_different_shapes_are_refused_by_name():
    drawn = []

    def draw(n, generator):
        drawn.append(n)
        return FewShot(BANK, 3, 1 + len(drawn) % 2, 4).sample(n, generator=generator)

    with pytest.raises(ValueError, match=r"task 1 has shapes \[\(3, 4\).*task 0 \[\(6, 4\)"):
        meta_test(proto(), Tasks(draw), 4)


def test_one_task_drawn_again_and_again_is_no_test_of_many():
    same = Tasks(lambda n, _: honest(n, seeded(0)))
    with pytest.raises(ValueError, match="one and the same task: draw all randomness from generator="):
        meta_test(proto(), same, 30)
    assert meta_test(proto(), same, 1).n == 1


# --- What the audit sees of them --------------------------------------------------------------------------------------

class CopiesAfterTheDraw(FewShot):
    def sample(self, n, *, generator):
        e = super().sample(n, generator=generator)
        return Episode(e.support, e.support)


class SortsAfterTheDraw(FewShot):
    def sample(self, n, *, generator):
        e = super().sample(n, generator=generator)
        order = e.query.y.argsort(dim=1, stable=True)
        return e._replace(query=Data(e.query.x.gather(1, order[..., None].expand_as(e.query.x)),
                                     e.query.y.gather(1, order), e.query.way))


def test_a_copy_made_after_the_draw_is_seen():
    report = audit(CopiesAfterTheDraw(BANK, 3, 1, 4), episodes=50)
    assert report.shared_images == 150 and not report.passed
    assert audit(SortsAfterTheDraw(BANK, 3, 1, 4), episodes=50).passed  # copies nothing: the draw is honest


def test_duplicates_in_the_data_are_no_copies_made_after_the_draw():
    x = BANK.x.clone()
    x[1] = x[0]
    report = audit(SortsAfterTheDraw(ClassData.from_arrays(x, BANK.labels), 3, 5, 15))
    assert report.twin_images > 0 and report.shared_images == 0


class Sorted(FewShot):
    def sample_indices(self, n, *, generator):
        classes, examples = super().sample_indices(n, generator=generator)
        return classes.sort(1).values, examples


def test_labels_that_stick_are_seen_in_episodes_alone():
    sticky = Sorted(BANK, 3, 1, 4)
    report = audit(Tasks(lambda n, g: sticky.sample(n, generator=g)))
    assert report.classes is None and report.label_bias > 5 and not report.passed
    assert "labels independent of examples that come again: NO" in str(report)


@pytest.mark.parametrize("way", [2, 5, 12])
@pytest.mark.parametrize("episodes", [3, 30, 200])
def test_honest_episodes_pass(way, episodes):
    tasks = FewShot(BANK, way, 1, 4)
    for seed in range(5):
        assert audit(Tasks(lambda n, g: tasks.sample(n, generator=g)), episodes=episodes, seed=seed).passed


def test_labels_of_examples_that_never_come_again_are_not_looked_at():
    def fresh(n, generator):
        x, y = torch.randn(n, 9, 4, generator=generator), torch.arange(9).remainder(3).expand(n, 9)
        return Episode(Data(x[:, :3], y[:, :3], 3), Data(x[:, 3:], y[:, 3:], 3))

    report = audit(Tasks(fresh), episodes=10)
    assert report.passed and report.label_bias is None and "labels that stick to a class" in str(report)


@pytest.mark.parametrize("draw", [lambda n, _: honest(n, torch.default_generator),
                                  lambda n, g: honest(n, g if torch.rand(()) < 0 else torch.default_generator)])
def test_randomness_from_elsewhere_is_seen(draw):
    report = audit(Tasks(draw), episodes=10)
    assert not report.follows_generator and not report.passed and "follow their generator: NO" in str(report)
    assert audit(Tasks(honest), episodes=10).follows_generator


def test_training_on_the_test_classes_is_seen_although_no_episode_is_shared():
    test, config = FewShot(BANK.split("test"), 3, 1, 4), TrainConfig(iterations=20, meta_batch=4)
    clean = audit(test, training=training_episodes(FewShot(BANK.split("train"), 3, 1, 4), config))
    assert clean.passed and (clean.shared_episodes, clean.seen_images) == (0, 0)
    everything = FewShot(BANK, 3, 1, 4, dtype=torch.float64)  # in another precision
    leaky = audit(test, training=training_episodes(everything, config))
    assert leaky.shared_episodes == 0 and leaky.seen_images > 100 and not leaky.passed
    assert f"test examples that training has seen: {leaky.seen_images}" in str(leaky)


def test_what_is_no_meta_batch_of_training_is_refused():
    with pytest.raises(TypeError, match=r"expected the meta-batches .* training_episodes\(tasks, config\)"):
        audit(HONEST, training=HONEST)
    assert audit(HONEST, training=HONEST.sample(2, generator=seeded(3))).seen_images > 0  # one meta-batch


def test_a_score_of_other_tasks_is_refused():
    other = FewShot(BANK.split("test"), 3, 1, 4)
    score = meta_test(PixelFloor(), HONEST, 20, seed=3)
    assert audit(HONEST, score, episodes=5).passed
    with pytest.raises(ValueError, match=f"the score is of episodes {score.digest}, but with its seed 3 these tasks"):
        audit(other, score, episodes=5)
    with pytest.raises(ValueError, match="episodes=0: expected a whole number, at least 1"):
        audit(HONEST, episodes=0)


# --- What a score may be made of --------------------------------------------------------------------------------------

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(("logits", "expected"), [
    ([0.0, 0.0, 0.0], 1.0), ([INF, 0.0, 0.0], 1.0), ([-INF, -INF, 0.0], 0.0), ([NAN, 0.0, 0.0], NAN),
    ([-INF, -INF, -INF], NAN), ([INF, INF, 0.0], NAN), ([0.0, -INF, NAN], NAN)])
def test_a_tie_of_infinities_is_no_answer(logits, expected):
    found = float(accuracy(torch.tensor([logits]), Data(torch.zeros(1, 1), torch.tensor([0]), 3)))
    assert found == expected or (found != found and expected != expected)


@pytest.mark.parametrize("values", [torch.zeros(0), torch.rand(30, 4), torch.rand(30, 1)])
def test_a_score_has_one_number_a_task(values):
    with pytest.raises(ValueError, match="one number a task"):
        Score.of(values)


@pytest.mark.parametrize("steps", [-1, 1.5, "2"])
def test_inner_steps_are_counted_from_zero(steps):
    learner, tasks = MAML(mlp(1, (4,), 1).double(), 0.01), Sinusoids(4, 4)
    for test in (meta_test, meta_test_path):
        with pytest.raises(ValueError, match="steps=.*: expected a whole number, at least 0"):
            test(learner, tasks, steps=steps, episodes=2)


def test_a_metric_is_a_name_or_a_function():
    with pytest.raises(ValueError, match="metric=3: expected one of"):
        meta_test(proto(), HONEST, 2, metric=3)


def test_a_network_with_too_few_outputs_is_named():
    with pytest.raises(ValueError, match="the network has 2 outputs, which cannot tell 3 classes apart"):
        meta_test(MAML(mlp(4, (8,), 2), 0.1), HONEST, 2)


@pytest.mark.parametrize("map", ["vmap", "loop"])
@pytest.mark.parametrize("says", [lambda x: x[:, :2], lambda x: x[:, 0], lambda x: x[:5], lambda x: (x, x),
                                  lambda x: Normal(x[:, 0], x[:, 0].abs() + 1)])
def test_what_are_no_logits_of_these_classes_have_no_likelihood(says, map):
    class Says(Learner):
        def adapt(self, support):
            return support.x

        def predict(self, phi, x):
            return says(x)

    with pytest.raises(ValueError, match="NLL needs logits"):
        meta_test(Says(), HONEST, 3, metric="NLL", map=map)


# --- Nothing is found out after the work ------------------------------------------------------------------------------

@pytest.mark.parametrize(("val", "metric", "error"), [
    (HONEST, "acuracy", "metric='acuracy': expected"), (HONEST, "MSE", "MSE needs float targets"),
    (FewShot(ClassData.from_arrays(X[:, :3], BANK.labels), 3, 1, 4), None, r"built for inputs \(M, 4\), got \(3, 3\)")])
def test_a_validation_that_cannot_work_says_so_before_the_training(val, metric, error):
    drawn = []
    counting = Tasks(lambda n, g: drawn.append(n) or honest(n, g))
    with pytest.raises((ValueError, RuntimeError), match=error):
        meta_train(proto(), counting, TrainConfig(iterations=3, metric=metric), val)
    assert drawn == []


def test_trying_the_validation_changes_nothing():
    torch.manual_seed(0)
    a, b = proto(), proto()
    b.load_state_dict(a.state_dict())
    before = torch.get_rng_state()
    one = meta_train(a, HONEST, TrainConfig(iterations=3, val_episodes=5), HONEST)
    assert torch.equal(torch.get_rng_state(), before) and len(one.validations) == 1
    assert one.losses == meta_train(b, HONEST, TrainConfig(iterations=3)).losses
