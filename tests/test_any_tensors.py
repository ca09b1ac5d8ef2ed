"""Few-shot tasks from anything: vectors, tables, token ids; within a group; and a benchmark's own trials."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from metalib import (
    MAML,
    ClassData,
    Classify,
    ClassImages,
    Data,
    Episode,
    FewShot,
    FixedEpisodes,
    PixelFloor,
    Pretrained,
    ProtoNet,
    Sinusoids,
    TrainConfig,
    audit,
    compare,
    glyphs,
    meta_test,
    meta_train,
    mlp,
    seeded,
)
from metalib.judging.overlap import shared_episodes


def clusters(n=20, per_class=12, D=6, **kwargs):
    """n classes of vectors, each around a centre of its own."""
    labels = torch.arange(n).repeat_interleave(per_class)
    x = 3 * torch.randn(n, D, generator=seeded(1))[labels] + torch.randn(n * per_class, D, generator=seeded(2))
    return ClassData.from_arrays(x, labels, **kwargs)


def equal(a, b):
    return all(torch.equal(s, t) for d, f in zip(a, b) for s, t in zip(d[:2], f[:2]))


# --- Banks ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("x, dtype", [
    (np.arange(24, dtype=np.float64).reshape(8, 3), torch.float64),
    (np.arange(24, dtype=">f4").reshape(8, 3), torch.float32),
    (np.arange(24, dtype=np.uint16).reshape(8, 3), torch.int64),
    ([[i, i + 1] for i in range(8)], torch.int64),
    (torch.arange(8, dtype=torch.uint8), torch.uint8),
    (torch.arange(8.0).bfloat16()[:, None], torch.bfloat16),
    (torch.arange(8).reshape(8, 1, 1) % 2 == 0, torch.bool),
    (torch.arange(8.0, requires_grad=True) * 1.0, torch.float32),
])
def test_any_numbers_become_a_bank_sorted_by_class(x, dtype):
    labels = ["b", "a", "c", "b", "a", "c", "a", "a"]
    bank = ClassData.from_arrays(x, labels)
    order = [1, 4, 6, 7, 0, 3, 2, 5]
    assert bank.x.dtype == dtype and not bank.x.requires_grad
    whole = x.detach() if isinstance(x, torch.Tensor) else torch.tensor(np.asarray(x).astype("f8"))
    assert torch.equal(bank.x.double(), whole.double()[order])
    assert bank.names == ("a", "b", "c") and bank.counts.tolist() == [4, 2, 2]
    assert "3 classes x 2-4 examples" in repr(bank)
    assert len(bank.digest()) == 12 and bank.digest() != ClassData.from_arrays(x, labels[::-1]).digest()
    episode = FewShot(bank, 2, 1, 1, dtype=torch.float64).sample(3, generator=seeded(0))
    assert episode.support.x.dtype == (torch.float64 if dtype.is_floating_point else dtype)


@pytest.mark.parametrize("x, error, message", [
    (["a text", "another"], TypeError, "encode texts as token ids or features"),
    ([[1, 2], [3]], ValueError, "differ in length.*pad them"),
    (torch.eye(2).to_sparse(), TypeError, r"to_dense\(\)"),
    (torch.eye(2).cfloat(), TypeError, "view_as_real"),
    (np.array([[1.0, np.nan], [0, 1]]), ValueError, "example 0 holds NaN or infinity"),
    (torch.tensor([[1.0], [torch.inf]]), ValueError, "example 1 holds NaN or infinity"),
    (np.zeros((2, 0)), ValueError, "none of them 0"),
    (np.array([{}, {}]), TypeError, "expected numbers"),
])
def test_what_is_no_numbers_gets_an_error_that_names_the_fix(x, error, message):
    with pytest.raises(error, match=message):
        ClassData.from_arrays(x, [0, 1])


@pytest.mark.parametrize("labels", [["dog", "cat", "dog", "ant"], np.array(["dog", "cat", "dog", "ant"]),
                                    np.array([b"dog", b"cat", b"dog", b"ant"]),
                                    np.array(["dog", "cat", "dog", "ant"], dtype=object)])
def test_string_labels_become_the_names(labels):
    images = np.arange(4, dtype=np.uint8).repeat(9).reshape(4, 3, 3) + 5
    bank = ClassImages.from_arrays(images, labels)
    assert bank.names == ("ant", "cat", "dog") and bank.images[:, 0, 0, 0].tolist() == [8, 6, 5, 7]
    with pytest.raises(ValueError, match=r"labels are strings, \['ant', 'cat', 'dog'\].*leave names= out"):
        ClassImages.from_arrays(images, labels, names=["x", "y", "z"])


@pytest.mark.parametrize("labels, error, message", [
    (["a", None, "b", "a"], TypeError, "mix NoneType, str"),
    (["a", float("nan"), "b", "a"], TypeError, "mix float, str"),
    (["a", 1, "b", "a"], TypeError, "mix int, str"),
    ([True, False, True, False], TypeError, "expected integers or strings"),
    (np.eye(4, dtype=int), ValueError, r"argmax\(-1\)"),
    (np.array(["2024-01-01"] * 4, dtype="datetime64[D]"), TypeError, "datetime64.*expected integers or strings"),
    (iter("abab"), TypeError, "object; expected integers or strings"),
    ([["a"], ["b"], ["a"], ["b"]], ValueError, r"labels of shape \(4, 1\)"),
])
def test_labels_that_are_neither_name_the_fix(labels, error, message):
    with pytest.raises(error, match=message):
        ClassData.from_arrays(np.zeros((4, 2)), labels)


def test_object_arrays_of_integers_are_integers():
    assert ClassData.from_arrays(np.zeros((3, 2)), np.array([7, 5, 7], dtype=object)).names == ("5", "7")


@pytest.mark.parametrize("dtype", [bool, torch.bool])
def test_boolean_images_are_ink_at_full_brightness(dtype):
    drawn = np.eye(6, dtype=bool)[:, None].repeat(6, 1)
    images = torch.as_tensor(drawn) if dtype is torch.bool else drawn
    assert ClassImages.from_arrays(images, [0, 0, 0, 1, 1, 1]).images.unique().tolist() == [0, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
def test_zeros_and_ones_are_not_advised_to_become_black(dtype):
    with pytest.raises(ValueError, match=r"0 and 1 only.*astype\(bool\)"):
        ClassImages.from_arrays(np.eye(4, dtype=dtype)[None].repeat(2, 0), [0, 1])


@pytest.mark.parametrize("images", [[[[1, 2]], [[1, 2, 3]]], ["a.png", "b.png"], None])
def test_what_is_no_array_of_images_names_the_fix(images):
    with pytest.raises(TypeError, match="images cannot be made one tensor.*resize.*from_folder"):
        ClassImages.from_arrays(images, [0, 1])


def test_integers_beyond_bytes_are_advised_to_be_scaled():
    with pytest.raises(TypeError, match=r"from 0 to 4095.*astype\('float32'\) / 4095"):
        ClassImages.from_arrays(np.array([[[0, 4095]]] * 2, dtype=np.uint16), [0, 1])


# --- Tasks ------------------------------------------------------------------------------------------------------------

def test_vectors_draw_the_same_episodes_as_images_do():
    images = glyphs().split("test")
    rows = ClassData.from_arrays(images.images.flatten(1).float() / 255, images.labels)
    a, b = (FewShot(bank, 5, 2, 3).sample(4, generator=seeded(3)) for bank in (images, rows))
    assert torch.equal(a.query.y, b.query.y) and torch.equal(a.query.x.flatten(2), b.query.x)
    a, b = (meta_test(PixelFloor(), FewShot(bank, 5, 1, 5), episodes=30) for bank in (images, rows))
    assert torch.equal(a.values, b.values)


def test_a_table_is_learnt_from_its_episodes():
    bank = clusters().split_classes(seed=0)
    train, test = (FewShot(bank.split(s), 3, 1, 5) for s in ("train", "test"))
    learner = ProtoNet(mlp(6, (16,), 8))
    meta_train(learner, train, TrainConfig(iterations=5, meta_batch=4))
    score = meta_test(learner, test, episodes=20)
    assert score.mean > 1 / 3 and meta_test(MAML(mlp(6, (8,), 3)), test, episodes=4).n == 4


def test_token_ids_stay_integers_and_reach_an_embedding():
    ids = torch.randint(2, 50, (60, 7), generator=seeded(0), dtype=torch.int32)
    ids[:, 0] = 50 + torch.arange(60) // 6  # a token that gives the class away
    bank = ClassData.from_arrays(ids, torch.arange(60) // 6)
    tasks = FewShot(bank, 5, 1, 3)
    episode = tasks.sample(2, generator=seeded(0))
    assert episode.support.x.dtype == torch.int32 and episode.support.x.shape == (2, 5, 7)
    assert set(episode.support.x[0, :, 0].tolist()) <= set(range(50, 60))

    class Bag(nn.Module):
        embedding_dim = 16

        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(60, 16)

        def forward(self, x):
            return self.table(x).mean(1)

    meta_train(ProtoNet(Bag()), tasks, TrainConfig(iterations=2, meta_batch=2))
    meta_train(Pretrained(Bag(), classes=10), Classify(bank, 8), TrainConfig(iterations=2, meta_batch=1))
    assert audit(tasks, episodes=20).passed


def test_tasks_are_drawn_from_banks_only():
    for wrong in (torch.zeros(4, 2), (torch.zeros(4, 2), [0, 1, 0, 1]), FewShot(clusters(), 2, 1, 1)):
        for tasks in (FewShot, Classify):
            with pytest.raises(TypeError, match=r"ClassData.from_arrays\(x, labels\)"):
                tasks(wrong)
    with pytest.raises(ValueError, match="expected a floating-point dtype"):
        FewShot(clusters(), dtype=torch.int64)
    for wrong in ({"way": 2.0}, {"query": "3"}, {"shot": None}):
        with pytest.raises(ValueError, match="expected a whole number"):
            FewShot(clusters(), **{"way": 2, "shot": 1, "query": 1} | wrong)
    assert type(FewShot(clusters(), np.int64(2), np.int32(1), 1).way) is int
    with pytest.raises(ValueError, match="batch=0"):
        Classify(clusters(), 0)


def test_a_class_with_too_few_examples_is_refused_as_for_images():
    ragged = ClassData.from_arrays(torch.zeros(7, 2), ["a"] * 4 + ["b"] * 3)
    with pytest.raises(ValueError, match=r"class 1 \(b\) has 3 examples"):
        FewShot(ragged, 2, 1, 3)


# --- Within a group ---------------------------------------------------------------------------------------------------

def test_all_classes_of_an_episode_come_from_one_group_each_equally_often():
    sizes = [6, 3, 11]
    groups = [f"domain {g}" for g, size in enumerate(sizes) for _ in range(size)]
    tasks = FewShot(clusters(20, groups=groups), 3, 1, 2, within="group")
    classes, _ = tasks.sample_indices(3000, generator=seeded(0))
    domain = torch.tensor([int(g[-1]) for g in groups])[classes]
    assert (domain == domain[:, :1]).all() and (classes.sort(1).values.diff(dim=1) > 0).all()
    counts = torch.bincount(domain[:, 0]).double()
    assert ((counts - 1000).abs() / (3000 * 2 / 9) ** 0.5).max() < 4.5
    within = torch.bincount(classes[domain[:, 0] == 2].flatten() - 9).double()
    assert (within / within.mean() - 1).abs().max() < 0.25, "every class of a group equally often"
    assert audit(tasks).passed and "within='group'" in repr(tasks)


def test_scripts_of_turned_characters_stay_together():
    bank = glyphs().split("train").with_rotations()
    tasks = FewShot(bank, 5, 1, 1, within="group")
    classes, _ = tasks.sample_indices(200, generator=seeded(0))
    scripts = [{bank.groups[c] for c in row} for row in classes.tolist()]
    assert all(len(s) == 1 for s in scripts) and len(set.union(*scripts)) == len(set(bank.groups))
    assert (bank.base[classes].sort(1).values.diff(dim=1) > 0).all(), "two rotations of one character never meet"


def test_within_none_is_the_draw_that_it_was():
    bank = clusters(groups=["a"] * 10 + ["b"] * 10)
    assert equal(*(FewShot(bank, 5, 1, 2, **w).sample(3, generator=seeded(0)) for w in ({}, {"within": None})))


def test_groups_that_cannot_fill_an_episode_name_the_fix():
    groups = ["a"] * 10 + ["b"] * 4 + ["c"] * 6
    bank = clusters(groups=groups)
    with pytest.raises(ValueError, match=r"1 of 3 groups have fewer than 5 classes.*g not in \['b'\]"):
        FewShot(bank, 5, 1, 2, within="group")
    FewShot(bank.subset(c for c, g in enumerate(bank.groups) if g not in ["b"]), 5, 1, 2, within="group")
    with pytest.raises(ValueError, match=r"class 3 \(3\) has no group"):
        FewShot(clusters(groups=["a"] * 3 + [""] + ["b"] * 16), 2, 1, 2, within="group")
    with pytest.raises(ValueError, match="class 0 .* has no group.*groups="):
        FewShot(clusters(), 2, 1, 2, within="group")
    with pytest.raises(ValueError, match="within='script': expected None, or 'group'"):
        FewShot(bank, 2, 1, 2, within="script")


# --- Fixed episodes ---------------------------------------------------------------------------------------------------

TRIALS = FewShot(clusters(), 4, 2, 3).sample(30, generator=seeded(8))


def test_an_evaluation_goes_through_the_trials_in_order_whatever_its_seed_or_history():
    fixed = FixedEpisodes(TRIALS)
    learner = PixelFloor()
    own = torch.stack([(learner.predict(learner.adapt(TRIALS.task(t).support), TRIALS.task(t).query.x).argmax(-1)
                        == TRIALS.task(t).query.y).double().mean() for t in range(30)])
    first = meta_test(learner, fixed, episodes=30, seed=0)
    fixed.sample(7, generator=seeded(3))  # a draw in between changes nothing
    again = meta_test(learner, fixed, episodes=600, seed=5)
    assert torch.equal(first.values, own) and torch.equal(again.values, own), "all of them, once, in order"
    assert again.n == 30 and again.digest == first.digest and compare(first, again).mean == 0
    assert torch.equal(meta_test(learner, fixed, episodes=12).values, own[:12])
    looped = meta_test(MAML(mlp(6, (4,), 4)), fixed, episodes=30)
    assert looped.digest == first.digest


def test_a_list_of_tasks_is_the_same_as_a_meta_batch():
    tasks = [Episode(*(Data(d.x[t], d.y[t], d.way) for d in TRIALS)) for t in range(30)]
    assert equal(FixedEpisodes(tasks).episodes, TRIALS)
    assert FixedEpisodes(tasks).digest() == FixedEpisodes(TRIALS).digest() != FixedEpisodes(tasks[1:]).digest()
    assert FixedEpisodes(TRIALS).digest() in repr(FixedEpisodes(TRIALS)) and len(FixedEpisodes(TRIALS)) == 30


def test_training_draws_from_the_trials():
    fixed = FixedEpisodes(TRIALS)
    drawn = fixed.sample(200, generator=seeded(0))
    rows = {x.numpy().tobytes() for x in TRIALS.support.x}
    assert {x.numpy().tobytes() for x in drawn.support.x} == rows
    assert equal(drawn, fixed.sample(200, generator=seeded(0))) and drawn.query.way == 4
    history = meta_train(ProtoNet(mlp(6, (4,), 4)), fixed, TrainConfig(iterations=3, meta_batch=2, val_episodes=50),
                         val_tasks=fixed)
    assert len(history.losses) == 3


def test_trials_may_be_regression():
    fixed = FixedEpisodes(Sinusoids(5, 5).sample(4, generator=seeded(0)))
    assert meta_test(MAML(mlp(1, (4,), 1).double()), fixed, episodes=4).metric == "MSE"
    with pytest.raises(ValueError, match="audit looks at classification"):
        audit(fixed)


def test_trials_of_several_shapes_are_refused_by_number():
    other = FewShot(clusters(), 4, 1, 3).sample(1, generator=seeded(0)).task(0)
    with pytest.raises(ValueError, match=r"task 1 has shapes \[\(4, 6\).*task 0 \[\(8, 6\)"):
        FixedEpisodes([TRIALS.task(0), other])
    for none in ([], Episode(*(Data(d.x[:0], d.y[:0], d.way) for d in TRIALS))):
        with pytest.raises(ValueError, match="no episodes|holds no task"):
            FixedEpisodes(none)
    with pytest.raises(TypeError, match="entry 1 is a tuple"):
        FixedEpisodes([TRIALS.task(0), (1, 2)])


# --- The log ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_the_log_shows_images_of_any_channels_and_no_picture_of_vectors(tmp_path, channels):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    if channels:
        x = torch.rand(12, channels, 8, 8, generator=seeded(0))
        bank, D = ClassImages.from_arrays(x, torch.arange(12) // 4), 64 * channels
    else:
        bank, D = clusters(), 6
    meta_train(ProtoNet(mlp(D, (4,), 4)), FewShot(bank, 2, 1, 3), TrainConfig(iterations=1, log_dir=tmp_path))
    tags = accumulator.EventAccumulator(str(tmp_path)).Reload().Tags()
    assert tags["images"] == (["episodes/train"] if channels else []) and tags["tensors"]


# --- The audit --------------------------------------------------------------------------------------------------------

def test_the_audit_of_vectors_has_all_its_parts():
    report = audit(FewShot(clusters(), 5, 1, 3), episodes=50)
    assert report.passed and report.classes == 20 and report.images == 240 and report.digest == clusters().digest()
    assert "cosine to the mean example" in str(report) and "240 examples" in str(report) and report.floor.mean > 0.5
    copied = clusters().x.clone()
    copied[1] = copied[0]
    twins = audit(FewShot(ClassData.from_arrays(copied, clusters().labels), 5, 2, 10), episodes=50)
    assert twins.twin_images > 0 and "identical pairs" in str(twins) and "pixel" not in str(twins)


def test_the_audit_of_trials_says_what_it_cannot_see():
    fixed = FixedEpisodes(TRIALS)
    report = audit(fixed, meta_test(PixelFloor(), fixed, episodes=30))
    assert report.passed and (report.way, report.shot, report.query, report.episodes) == (4, 2, 3, 30)
    assert report.digest == fixed.digest() and report.classes is None and report.label_bias < 5
    assert report.shared_images == 0 and report.floor.n == 30
    assert "not looked at: repeated classes" in str(report) and "None" not in str(report)


@pytest.mark.parametrize("integers", [False, True])
def test_an_example_in_support_and_query_of_a_trial_is_caught(integers):
    support, query = TRIALS
    x = query.x.clone()
    x[4, 2] = support.x[4, 1]
    x[9, 0] = support.x[9, 7]
    leaky = Episode(support, query._replace(x=x))
    if integers:
        leaky = Episode(*(d._replace(x=(1000 * d.x).long()) for d in leaky))
    report = audit(FixedEpisodes(leaky))
    assert report.shared_images == 2 and not report.passed and "AUDIT FAILED" in str(report)


def test_trials_that_training_has_seen_are_counted():
    fixed = FixedEpisodes(TRIALS)
    training = [Episode(*(Data(d.x[4:6], d.y[4:6], d.way) for d in TRIALS)),
                FewShot(clusters(), 4, 2, 3).sample(3, generator=seeded(9))]
    assert shared_episodes(fixed, training, episodes=100) == 2
    assert audit(fixed, training=training).shared_episodes == 2


@pytest.mark.parametrize("scale", [1e5, 1e-2])
def test_the_fingerprint_of_an_episode_sees_numbers_of_any_size(scale):
    """Rounding to 1e-6 in 32 bits ends at 2147: larger numbers all looked alike."""
    a, b = (FixedEpisodes(Episode(*(d._replace(x=scale * (d.x.abs() + 1) + more) for d in TRIALS)))
            for more in (0, scale / 100))
    assert meta_test(PixelFloor(), a, episodes=5).digest != meta_test(PixelFloor(), b, episodes=5).digest


def test_flipped_read_only_and_masked_arrays_are_read_or_refused():
    x, y = np.arange(40.0).reshape(10, 4), np.arange(10) // 2
    want = ClassData.from_arrays(x[::-1].copy(), y[::-1].copy()).digest()
    frozen_x, frozen_y = x[::-1].copy(), y[::-1].copy()
    frozen_x.flags.writeable = frozen_y.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ClassData.from_arrays(x[::-1], y[::-1]).digest() == want
        assert ClassData.from_arrays(frozen_x, frozen_y).digest() == want
    hole = np.ma.masked_array(x, x > 30)
    for make in (lambda: ClassData.from_arrays(hole, y), lambda: ClassImages.from_arrays(hole[:, None] / 40, y),
                 lambda: ClassData.from_arrays(x, np.ma.masked_array(y, y == 3))):
        with pytest.raises(TypeError, match="masked"):
            make()
    assert ClassData.from_arrays(np.ma.masked_array(x, False), y).shape == (4,)
