"""Episodes: what a draw must guarantee, and what its shapes and errors are."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.func import vmap

from metalib import (
    ClassData,
    Classify,
    ClassImages,
    Data,
    Episode,
    FewShot,
    FixedEpisodes,
    Learner,
    PixelFloor,
    ProtoNet,
    Sinusoids,
    audit,
    conv4,
    meta_test,
    mlp,
    seeded,
)
from metalib.episode import task_axis


def bank(counts=(20,) * 12, size=16):
    """A bank of noise images, all different, so that an image is known by its pixels."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    pixels = torch.randint(256, (len(labels), size, size), generator=seeded(99), dtype=torch.uint8)
    return ClassImages.from_arrays(pixels, labels)


def row_of(images, x):
    """Which row of the bank each image (..., C, H, W) of an episode is."""
    flat = (x * 255).round().to(torch.uint8).flatten(-3)
    index = {image.numpy().tobytes(): i for i, image in enumerate(images.images.flatten(1))}
    rows = [index[image.numpy().tobytes()] for image in flat.flatten(0, -2)]
    return torch.tensor(rows).reshape(flat.shape[:-1])


def standardised_frequencies(counts):
    """The largest distance of counts (rows, n), each row uniform over n cells, from its mean, in standard errors."""
    total, p = counts.sum(-1, keepdim=True), 1 / counts.shape[-1]
    return float(((counts - total * p) / (total * p * (1 - p)).sqrt()).abs().max())


class IdentityOnly(Learner):
    """Predicts from the query image alone."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def adapt(self, support):
        return support.y[:0]

    def predict(self, phi, x):
        return self.net(x)


# --- What leaks ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("way, shot, query", [(5, 1, 15), (5, 5, 15), (12, 2, 18), (1, 1, 1)])
def test_support_and_query_share_no_image(way, shot, query):
    images = bank()
    e = FewShot(images, way, shot, query).sample(50, generator=seeded(0))
    support, query_rows = row_of(images, e.support.x), row_of(images, e.query.x)
    assert not (support[:, :, None] == query_rows[:, None, :]).any()
    both = torch.cat([support, query_rows], 1).sort(1).values
    assert (both.diff(dim=1) > 0).all(), "an image occurs twice in an episode"


def test_the_label_of_an_image_is_its_class_under_one_bijection_per_episode():
    images = bank()
    e = FewShot(images, 5, 2, 4).sample(100, generator=seeded(0))
    for t in range(e.tasks):
        rows = torch.cat([row_of(images, e.support.x[t]), row_of(images, e.query.x[t])])
        pairs = set(zip(images.labels[rows].tolist(), torch.cat([e.support.y[t], e.query.y[t]]).tolist()))
        classes, labels = zip(*sorted(pairs))
        assert len(pairs) == len(set(classes)) == 5 and sorted(labels) == list(range(5))


def test_every_class_carries_every_label_equally_often():
    classes, _ = FewShot(bank(), 4, 1, 1).sample_indices(20_000, generator=seeded(1))
    counts = torch.stack([(classes == c).sum(0) for c in range(12)]).double()  # (classes, labels)
    assert standardised_frequencies(counts) < 4.5
    assert standardised_frequencies(counts.sum(1)[None]) < 4.5, "some classes are drawn more often than others"


def test_which_class_has_a_label_says_nothing_about_the_next_episode():
    classes, _ = FewShot(bank(), 4, 1, 1).sample_indices(20_000, generator=seeded(2))
    again = (classes[1:, 0] == classes[:-1, 0]).double().mean()
    assert abs(float(again) - 1 / 12) < 4.5 * math.sqrt(1 / 12 * 11 / 12 / 20_000)


def test_an_identity_only_classifier_scores_one_in_n_within_its_interval():
    for seed in range(2):
        torch.manual_seed(seed)
        score = meta_test(IdentityOnly(mlp(256, (32,), 5)), FewShot(bank(), 5, 1, 15), episodes=600, seed=seed)
        assert abs(score.mean - 1 / 5) < 1.5 * score.ci95, str(score)


def test_an_identity_only_classifier_that_memorised_every_class_scores_one_in_n():
    images = bank(size=8)
    lookup = images.images.flatten(1).double() / 255

    class Memoriser(Learner):
        """Knows the class of every image of the bank, and guesses the label that suits most: the class modulo N."""

        def adapt(self, support):
            return support.y[:0]

        def predict(self, phi, x):
            row = (x.flatten(1) @ lookup.T - lookup.square().sum(1) / 2).argmax(1)  # the nearest image
            return (images.labels[row, None] % 5 == torch.arange(5)).double()

    fair = FewShot(images, 5, 1, 5, dtype=torch.float64)
    score = meta_test(Memoriser(), fair, episodes=400)
    assert abs(score.mean - 1 / 5) < 1.5 * score.ci95, str(score)

    class Fixed(FewShot):
        def sample_indices(self, n, *, generator):
            _, examples = super().sample_indices(n, generator=generator)
            return torch.arange(5) + 5 * torch.randint(2, (n, 5), generator=generator), examples

    leaky = Fixed(images, 5, 1, 5, dtype=torch.float64)
    assert meta_test(Memoriser(), leaky, episodes=50).mean == 1.0, "the test above could not fail"
    assert audit(fair).passed and not audit(leaky).passed


def test_any_prediction_is_right_once_in_n_over_all_bijections():
    e = FewShot(bank(), 4, 1, 6).sample(1, generator=seeded(0)).task(0)
    prediction = torch.randint(4, e.query.y.shape, generator=seeded(1))
    accuracies = [(prediction == torch.tensor(p)[e.query.y]).double().mean() for p in itertools.permutations(range(4))]
    assert float(torch.stack(accuracies).mean()) == pytest.approx(1 / 4, abs=1e-12)


def test_query_order_carries_nothing():
    y = FewShot(bank(), 4, 1, 5).sample(8000, generator=seeded(3)).query.y  # (T, 20)
    counts = torch.stack([(y == n).sum(0) for n in range(4)], 1).double()  # (positions, labels)
    assert standardised_frequencies(counts) < 4.5, "a position predicts its label"
    p, same = 4 / 19, (y[:, 1:] == y[:, :-1]).double()
    assert abs(float(same.mean()) - p) < 4.5 * math.sqrt(p * (1 - p) / same.numel()), "neighbours predict each other"
    assert (y.sort(1).values == torch.arange(4).repeat_interleave(5)).all(), "Q queries of every class"


def test_the_shuffle_of_the_query_is_independent_of_the_images():
    images = bank()
    e = FewShot(images, 3, 1, 4).sample(3000, generator=seeded(4))
    first = row_of(images, e.query.x[:, :1])[:, 0] % 20  # which of its class's 20 examples comes first
    counts = torch.stack([(first == j).sum() for j in range(20)])[None].double()
    assert standardised_frequencies(counts) < 4.5


def test_two_rotations_of_one_character_never_meet():
    turned = bank((6,) * 7).with_rotations()
    classes, _ = FewShot(turned, 7, 1, 1).sample_indices(2000, generator=seeded(5))
    base = turned.base[classes].sort(1).values
    assert (base.diff(dim=1) > 0).all()
    counts = torch.stack([(classes == c).sum() for c in range(28)])[None].double()
    assert counts.min() > 0 and (counts / 2000 - 1 / 4).abs().max() < 0.06, "every rotation is drawn equally often"


def test_ragged_classes_are_drawn_whole_and_evenly():
    sizes = (3, 17, 4, 9, 5)
    images = bank(sizes)
    classes, examples = FewShot(images, 3, 1, 2).sample_indices(20_000, generator=seeded(6))
    assert (examples < images.counts[classes][..., None]).all() and (examples >= 0).all()
    assert (examples.sort(2).values.diff(dim=2) > 0).all()
    for c, size in enumerate(sizes):
        drawn = examples[classes == c]  # (times, K+Q)
        for column in (drawn[:, 0], drawn[:, 1:].flatten()):  # as support, as query
            counts = torch.bincount(column, minlength=size)[None].double()
            assert standardised_frequencies(counts) < 4.5, f"class {c} of {size}"
    e = FewShot(images, 3, 1, 2).sample(200, generator=seeded(6))
    rows, y = row_of(images, e.support.x), e.support.y
    assert all(len(set(images.labels[r].tolist())) == 3 for r in rows) and (y == torch.arange(3)).all()


# --- Class splits -------------------------------------------------------------------------------------------------

def folder_of(path, order):
    for name in order:
        for i in range(2):
            (path / name).mkdir(exist_ok=True)
            pixels = np.full((8, 8), (sum(map(ord, name)) + i) % 251, dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i}.png")
    return ClassImages.from_folder(path)


@pytest.mark.parametrize("seed", range(20))
def test_splits_share_no_class_whatever_the_seed(seed):
    images = bank((2,) * 30).with_rotations().split_classes(seed=seed)
    bases = [set(images.base[list(images.splits[s])].tolist()) for s in ("train", "val", "test")]
    assert sum(map(len, bases)) == len(set.union(*bases)) == 30
    pixels = [{i.numpy().tobytes() for i in images.split(s).images} for s in ("train", "val", "test")]
    assert not (pixels[0] & pixels[1] or pixels[0] & pixels[2] or pixels[1] & pixels[2])


def test_splits_do_not_depend_on_the_order_in_which_files_were_written(tmp_path):
    names = [f"class{i:02d}" for i in range(20)]
    splits = []
    for k, order in enumerate((names, names[::-1], names[7:] + names[:7])):
        (tmp_path / str(k)).mkdir()
        images = folder_of(tmp_path / str(k), order).split_classes(seed=3)
        splits.append({s: images.split(s).names for s in ("train", "val", "test")})
    assert splits[0] == splits[1] == splits[2]
    assert not set(splits[0]["train"]) & set(splits[0]["test"])


# --- The generator ------------------------------------------------------------------------------------------------

def equal(a, b):
    return all(torch.equal(s, t) for d, f in zip(a, b) for s, t in zip(d[:2], f[:2]))


@pytest.mark.parametrize("tasks", [FewShot(bank(), 5, 1, 3), Classify(bank(), 8), Sinusoids(5, 5)],
                         ids=lambda tasks: type(tasks).__name__)
def test_the_generator_decides_everything(tasks):
    torch.manual_seed(0)
    a = tasks.sample(4, generator=seeded(1))
    torch.manual_seed(1)  # the global generator has no part in it
    assert equal(a, tasks.sample(4, generator=seeded(1)))
    assert not equal(a, tasks.sample(4, generator=seeded(2)))
    g = seeded(1)
    tasks.sample(4, generator=g)
    state, after = g.get_state(), tasks.sample(4, generator=g)
    assert not equal(a, after), "consecutive draws are different"
    assert equal(after, tasks.sample(4, generator=torch.Generator().set_state(state))), "a saved state resumes"


def test_evaluation_draws_the_same_episodes_however_it_batches_them():
    tasks = FewShot(bank(), 3, 1, 2)
    one = meta_test(ProtoNet(conv4(channels=8, image_size=16)), tasks, episodes=70, seed=3)  # one task at a time
    many = meta_test(PixelFloor(), tasks, episodes=70, seed=3)  # 64 at a time
    longer = meta_test(PixelFloor(), tasks, episodes=100, seed=3)
    assert one.digest == many.digest
    assert torch.equal(longer.values[:70], many.values), "the first episodes do not depend on how many follow"
    assert meta_test(PixelFloor(), tasks, episodes=70, seed=4).digest != many.digest


def test_the_dtype_of_the_images_does_not_change_the_draw():
    a, b = (FewShot(bank(), 5, 1, 3, dtype=d).sample(2, generator=seeded(0)) for d in (torch.float32, torch.float64))
    assert b.query.x.dtype == torch.float64
    assert torch.equal(a.query.y, b.query.y) and torch.equal(a.query.x, b.query.x.float())


# --- Errors that name the fix ---------------------------------------------------------------------------------------

def test_too_few_examples_names_the_class_and_the_fix():
    with pytest.raises(ValueError, match=r"class 2 \(2\) has 12 examples; 1-shot \+ 15-query needs 16: lower query= "
                                         r"or drop the class"):
        FewShot(bank((20, 20, 12, 20, 20)), 5, 1, 15)


def test_too_few_classes_says_how_many_there_are():
    with pytest.raises(ValueError, match="4 classes cannot make a 5-way episode: lower way= or add classes"):
        FewShot(bank((20,) * 4), 5)


def test_rotations_do_not_count_as_further_classes():
    with pytest.raises(ValueError, match="4 classes cannot make a 5-way episode"):
        FewShot(bank((20,) * 4).with_rotations(), 5)


@pytest.mark.parametrize("wrong", [{"way": 0}, {"shot": 0}, {"query": 0}])
def test_nothing_of_something_is_an_error(wrong):
    with pytest.raises(ValueError, match="=0: expected a whole number, at least 1"):
        FewShot(bank(), **wrong)
    if "way" not in wrong:
        with pytest.raises(ValueError, match="=0: expected a whole number, at least 1"):
            Sinusoids(**wrong)


# --- Shapes, ranges, types ------------------------------------------------------------------------------------------

def test_few_shot_shapes_and_ranges():
    e = FewShot(bank(), way=5, shot=2, query=3).sample(4, generator=seeded(0))
    assert e.tasks == 4 and e.support.way == e.query.way == 5
    assert e.support.x.shape == (4, 10, 1, 16, 16) and e.query.x.shape == (4, 15, 1, 16, 16)
    assert e.support.y.shape == (4, 10) and e.query.y.shape == (4, 15)
    assert e.support.x.dtype == torch.float32 and e.support.y.dtype == torch.int64
    assert 0 <= e.query.x.min() and e.query.x.max() <= 1
    assert (e.support.y == torch.arange(5).repeat_interleave(2)).all(), "the support is in the order of its labels"


def test_colour_images_keep_their_channels():
    colour = ClassImages.from_arrays(torch.rand(40, 3, 8, 8, generator=seeded(0)), torch.arange(40) // 8)
    e = FewShot(colour, 5, 1, 7).sample(2, generator=seeded(0))
    assert e.query.x.shape == (2, 35, 3, 8, 8)
    assert e.task(1).query.x.is_contiguous(memory_format=torch.channels_last)


def test_sinusoids_are_the_functions_they_say_they_are():
    tasks = Sinusoids(shot=7, query=9)
    e = tasks.sample(500, generator=seeded(0))
    A, b = tasks.sample_functions(500, generator=seeded(0))
    assert e.support.x.shape == e.support.y.shape == (500, 7, 1) and e.query.x.shape == (500, 9, 1)
    assert e.support.x.dtype == e.query.y.dtype == torch.float64 and e.support.way is None
    for x, y in (e.support[:2], e.query[:2]):
        assert -5 <= x.min() and x.max() <= 5 and x.std() > 2.5
        assert torch.allclose(y, A[:, None, None] * torch.sin(x + b[:, None, None]), atol=1e-12)
    assert 0.1 <= A.min() < 0.3 and 4.8 < A.max() <= 5 and 0 <= b.min() < 0.1 and 3.0 < b.max() <= math.pi
    assert abs(float(torch.corrcoef(torch.stack([A, b]))[0, 1])) < 4.5 / math.sqrt(500)
    assert not torch.equal(e.support.x, e.query.x[:, :7])


def test_sinusoids_take_their_ranges_and_dtype():
    tasks = Sinusoids(4, 4, amplitude=(1.0, 1.0), phase=(0.0, 0.0), dtype=torch.float32)
    e = tasks.sample(3, generator=seeded(0))
    assert e.support.y.dtype == torch.float32
    assert torch.allclose(e.query.y, torch.sin(e.query.x), atol=1e-6)


def test_classify_is_plain_classification_with_an_empty_support():
    images = bank((5, 9, 4))
    e = Classify(images, batch=6).sample(400, generator=seeded(0))
    assert e.support.x.shape == (400, 0, 1, 16, 16) and e.support.y.shape == (400, 0)
    assert e.query.x.shape == (400, 6, 1, 16, 16) and e.query.way == 3
    rows = row_of(images, e.query.x)
    assert torch.equal(images.labels[rows], e.query.y), "the labels are the bank's own, never drawn anew"
    assert standardised_frequencies(torch.bincount(rows.flatten(), minlength=18)[None].double()) < 4.5


# --- Episode --------------------------------------------------------------------------------------------------------

def test_a_task_is_a_meta_batch_without_its_first_axis():
    e = FewShot(bank(), 5, 1, 3).sample(3, generator=seeded(0))
    for t in range(3):
        task = e.task(t)
        assert torch.equal(task.support.x, e.support.x[t]) and torch.equal(task.query.y, e.query.y[t])
        assert task.support.way == task.query.way == 5
        assert task.query.x.stride()[1] == 1, "channels innermost: what CPU convolutions want"


def test_to_casts_floats_and_keeps_integer_labels():
    e = FewShot(bank(), 5, 1, 3).sample(2, generator=seeded(0)).to(torch.float64)
    assert e.query.x.dtype == torch.float64 and e.query.y.dtype == torch.int64 and e.query.way == 5
    s = Sinusoids(3, 3).sample(2, generator=seeded(0)).to("cpu", torch.float32)
    assert s.support.x.dtype == s.support.y.dtype == torch.float32


def test_the_task_axis_is_what_vmap_maps_and_way_stays_a_plain_int():
    e = FewShot(bank(), 5, 1, 3).sample(4, generator=seeded(0))

    def one(task):
        assert type(task.support.way) is int and task.support.x.ndim == 4
        return (task.support.y[:, None] == torch.arange(task.support.way)).float().sum()

    assert vmap(one, in_dims=(task_axis(e),))(e).tolist() == [5.0] * 4
    assert isinstance(e, Episode) and isinstance(e.support, Data)


@pytest.mark.parametrize("n, generator, error, says", [
    (0, "seeded", ValueError, "whole number of tasks"), (-3, "seeded", ValueError, "whole number of tasks"),
    (2.0, "seeded", ValueError, "whole number of tasks"), (True, "seeded", ValueError, "whole number of tasks"),
    (2, None, TypeError, "seeded"), (2, 7, TypeError, "seeded")])
def test_tasks_are_drawn_in_whole_numbers_from_an_explicit_generator(n, generator, error, says):
    bank = ClassData.from_arrays(torch.randn(30, 3), torch.arange(30) // 5)
    few = FewShot(bank, way=2, shot=1, query=2)
    fixed = FixedEpisodes(few.sample(3, generator=seeded(0)))
    for tasks in (few, Classify(bank, batch=4), Sinusoids(), fixed):
        with pytest.raises(error, match=says):
            tasks.sample(n, generator=seeded(1) if generator == "seeded" else generator)


def test_fixed_episodes_keep_what_they_were_given():
    episodes = Sinusoids().sample(4, generator=seeded(0))
    fixed = FixedEpisodes(episodes)
    digest = fixed.digest()
    episodes.query.y.neg_()
    assert fixed.digest() == digest


@pytest.mark.parametrize("options", [{"shot": 2.5}, {"query": "3"}, {"dtype": "float32"}])
def test_sinusoids_refuse_what_is_no_size_or_dtype(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Sinusoids(**options)


def test_a_dtype_is_one_of_pytorchs():
    bank = ClassData.from_arrays(torch.randn(30, 3), torch.arange(30) // 5)
    for make in (lambda: FewShot(bank, 2, 1, 2, dtype="float64"), lambda: Classify(bank, dtype="float16")):
        with pytest.raises(ValueError, match="dtype="):
            make()
