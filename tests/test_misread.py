"""Data that could be read in two ways: the bank refuses, and says which was meant."""

import numpy as np
import pytest
import torch

from metalib import (
    MAML,
    ClassData,
    Classify,
    ClassImages,
    FewShot,
    Sinusoids,
    meta_test,
    mlp,
    seeded,
)

LABELS = np.repeat(np.arange(4), 5)
X = np.random.default_rng(0).normal(size=(20, 3))
GREY = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)


def bank(**options):
    return ClassData.from_arrays(X, LABELS, **options)


# --- Which classes ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mask", [[True, False], np.array([True, False]), torch.tensor([True, False])])
def test_a_mask_names_no_classes(mask):
    """As indices, [True, False] would be the classes 1 and 0."""
    two = ClassData.from_arrays(X[:10], LABELS[:10])
    with pytest.raises(TypeError, match=r"subset\(\) has True; expected class indices.*flatnonzero\(mask\)"):
        two.subset(mask)
    with pytest.raises(TypeError, match="split 'train' has True"):
        ClassData.from_arrays(X[:10], LABELS[:10], splits={"train": mask})


@pytest.mark.parametrize("wrong", [[0.9], ["0"], np.array([0.9]), [None]])
def test_an_index_is_an_integer(wrong):
    with pytest.raises(TypeError, match="expected class indices, integers"):
        bank().subset(wrong)


@pytest.mark.parametrize("right", [[3, 0], (3, 0), np.array([3, 0], np.int32), torch.tensor([3, 0]), iter([3, 0]),
                                   [np.int64(3), torch.tensor(0)]])
def test_integers_of_every_kind_are_indices(right):
    assert bank().subset(right).names == ("3", "0")


def test_a_split_names_each_class_once():
    with pytest.raises(ValueError, match="split 'train' names a class twice"):
        bank(splits={"train": [0, 0]})


# --- Which numbers ----------------------------------------------------------------------------------------------------

def test_integers_beyond_int64_are_refused_where_they_would_wrap_around():
    large = np.full((20, 2), 2**63 + 5, dtype=np.uint64)
    with pytest.raises(ValueError, match="the examples hold integers of 2\\^63 and more"):
        ClassData.from_arrays(large, LABELS)
    with pytest.raises(ValueError, match="labels hold integers of 2\\^63 and more"):
        ClassData.from_arrays(X, LABELS.astype(np.uint64) + np.uint64(2**63))
    assert ClassData.from_arrays(large - np.uint64(2**63), LABELS).x.unique().tolist() == [5]


def test_numbers_that_are_infinite_in_the_tasks_dtype_are_refused():
    huge = ClassData.from_arrays(1e300 * X, LABELS)
    for tasks in (FewShot, Classify):
        with pytest.raises(ValueError, match=r"infinite in torch.float32: scale them, or set dtype=torch.float64"):
            tasks(huge, 2)
    assert FewShot(huge, 2, 1, 1, dtype=torch.float64).sample(1, generator=seeded(0)).support.x.isfinite().all()
    assert FewShot(bank(), 2, 1, 1).sample(1, generator=seeded(0)).support.x.dtype == torch.float32


def test_images_divided_by_255_twice_are_refused():
    with pytest.raises(ValueError, match="were they divided by 255 twice"):
        ClassImages.from_arrays(GREY / 255 / 255, LABELS)
    assert ClassImages.from_arrays(np.zeros((20, 6, 6)), LABELS).images.max() == 0
    assert ClassImages.from_arrays(GREY / 255, LABELS).images.equal(ClassImages.from_arrays(GREY, LABELS).images)


def test_what_a_resize_overshot_is_named_with_its_digits():
    with pytest.raises(ValueError, match=r"from 0 to 1.000\d*; .*clip\(0, 1\)"):
        ClassImages.from_arrays(np.clip(GREY / 250, 0, 1.0001), LABELS)


@pytest.mark.parametrize("view", [lambda a: a[:, ::-1], lambda a: a[..., ::-1], np.asfortranarray,
                                  lambda a: (a / 255).astype(">f4"), lambda a: (a / 255).astype(">f8")])
def test_a_view_of_an_array_is_read_as_what_it_shows(view):
    shown = view(GREY)
    expected = shown if shown.dtype == np.uint8 else GREY
    assert np.array_equal(ClassImages.from_arrays(shown, LABELS).images[:, 0].numpy(), expected)


def test_a_bank_moves_but_does_not_change_its_type():
    with pytest.raises(TypeError, match=r"takes a device, not torch.float16: .*FewShot\(..., dtype=torch.float16\)"):
        bank().to(torch.float16)


def test_episodes_are_cast_to_floating_point_types_only():
    e = FewShot(bank(), 2, 1, 1).sample(1, generator=seeded(0))
    with pytest.raises(ValueError, match=r"Episode.to\(torch.int64\): expected a device or a floating-point dtype"):
        e.to(torch.int64)
    assert e.to(torch.float64).support.x.dtype == torch.float64


@pytest.mark.parametrize(("options", "message"), [
    ({"dtype": torch.int64}, "expected a floating-point dtype"), ({"amplitude": (float("nan"), 1.0)}, "finite"),
    ({"phase": (0.0, float("inf"))}, "finite")])
def test_waves_are_made_of_finite_fractions(options, message):
    with pytest.raises(ValueError, match=message):
        Sinusoids(**options)


@pytest.mark.parametrize("batch", [0, 1.0, "3"])
def test_a_batch_is_counted(batch):
    with pytest.raises(ValueError, match="batch=.*: expected a whole number, at least 1"):
        Classify(bank(), batch)


# --- Seeds ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.uint32])
def test_numpys_integers_are_seeds(kind):
    assert torch.rand(1, generator=seeded(kind(7))) == torch.rand(1, generator=seeded(7))
    learner, tasks = MAML(mlp(1, (4,), 1).double(), 0.01), Sinusoids(4, 4)
    a, b = meta_test(learner, tasks, 3, kind(7)), meta_test(learner, tasks, 3, 7)
    assert a == b and type(a.seed) is int


@pytest.mark.parametrize("wrong", [1.0, "1", None, True])
def test_a_seed_is_an_integer(wrong):
    with pytest.raises(TypeError, match="seed=.*: expected an integer"):
        seeded(wrong)


@pytest.mark.parametrize("wrong", [-1, 2**32])
def test_a_split_takes_no_seed_that_means_another(wrong):
    with pytest.raises(ValueError, match="expected 0 .. 2\\^32 - 1"):
        bank().split_classes((0.5, 0.25, 0.25), seed=wrong)


def test_fractions_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="give three numbers"):
        bank().split_classes((float("nan"), 0.5, 0.5))
