"""The audit: it passes honest tasks and catches each planted leak by name."""

import pytest
import torch

from metalib import (
    ClassData,
    ClassImages,
    FewShot,
    FixedEpisodes,
    PixelFloor,
    TrainConfig,
    audit,
    meta_test,
    seeded,
    shared_episodes,
    training_episodes,
)


def bank(classes: int = 30, drawings: int = 6) -> ClassImages:
    images = torch.randint(0, 256, (classes * drawings, 1, 12, 12), generator=seeded(0), dtype=torch.uint8)
    return ClassImages.from_arrays(images, torch.arange(classes).repeat_interleave(drawings))


BANK = bank()


class Leaky(FewShot):
    """Few-shot tasks whose indices pass through `leak(classes, examples)`."""

    def __init__(self, leak, images=BANK):
        super().__init__(images, way=5, shot=1, query=3)
        self.leak = leak

    def sample_indices(self, n, *, generator):
        return self.leak(*super().sample_indices(n, generator=generator))


def share_an_image(classes, examples):
    examples = examples.clone()
    examples[0, 0, 1] = examples[0, 0, 0]  # one query of one task is its support image
    return classes, examples


def repeat_a_class(classes, examples):
    classes, examples = classes.clone(), examples.clone()
    classes[0, 4] = classes[0, 0]  # one class under two labels, each with its own drawings
    examples[0, 0], examples[0, 4] = torch.tensor([0, 1, 2, 2]), torch.tensor([3, 4, 5, 5])
    return classes, examples


def sort_the_classes(classes, examples):
    return classes.sort(1).values, examples


def stick_labels_to_classes(classes, examples):
    """Every class prefers one label: classes are put in the order of a fixed scramble of their indices."""
    order = ((classes * 17) % 31).argsort(1)
    return classes.gather(1, order), examples


def test_honest_tasks_pass():
    report = audit(FewShot(BANK, way=5, shot=1, query=3))
    assert report.passed
    assert (report.shared_images, report.repeated_classes, report.twin_images) == (0, 0, 0)
    assert report.label_bias < 5 and report.episodes == 200
    assert (report.way, report.shot, report.query, report.classes, report.images) == (5, 1, 3, 30, 180)
    assert report.chance == pytest.approx(0.2)


@pytest.mark.parametrize("seed", range(20))
def test_honest_tasks_pass_with_any_seed(seed):
    assert audit(FewShot(BANK, way=5, shot=1, query=3), episodes=100, seed=seed).passed


def test_an_image_in_support_and_query_is_caught():
    report = audit(Leaky(share_an_image))
    assert report.shared_images == 1 and not report.passed
    assert "AUDIT FAILED" in str(report) and "1 images in support and query" in str(report)


def test_a_class_drawn_twice_is_caught():
    report = audit(Leaky(repeat_a_class))
    assert report.repeated_classes == 1 and report.shared_images == 0 and not report.passed


def test_two_rotations_of_one_character_are_caught():
    turned = BANK.with_rotations()

    def meet(classes, examples):
        classes = classes.clone()
        classes[:, 1] = (classes[:, 0] + len(BANK)) % len(turned)  # the same, a quarter turn further
        return classes, examples

    report = audit(Leaky(meet, turned), episodes=50)
    assert report.repeated_classes == 50 and not report.passed
    assert audit(FewShot(turned, way=5, shot=1, query=3), episodes=50).repeated_classes == 0


@pytest.mark.parametrize("leak", [sort_the_classes, stick_labels_to_classes])
def test_labels_that_depend_on_the_class_are_caught(leak):
    report = audit(Leaky(leak))
    assert report.label_bias > 5 and not report.passed
    assert "labels independent of classes: NO" in str(report)


def test_pixel_identical_entries_of_the_bank_are_counted():
    images = BANK.images.clone()
    images[0] = images[1]  # the same drawing twice, under two indices of class 0
    twins = ClassImages.from_arrays(images, BANK.labels)
    report = audit(FewShot(twins, way=5, shot=1, query=5), episodes=200)  # all drawings are used
    assert report.twin_images > 0 and report.shared_images == 0
    assert audit(FewShot(BANK, way=5, shot=1, query=5), episodes=200).twin_images == 0


def test_the_audit_prints_the_split_the_episodes_and_the_protocol():
    tasks = FewShot(BANK, way=5, shot=1, query=3)
    score = meta_test(PixelFloor(), tasks, episodes=40, seed=7)
    text = str(audit(tasks, score))
    assert BANK.digest() in text and score.digest in text
    for part in ("5-way 1-shot, 3 queries per class", "chance 20.0 %", "30 classes", str(score), "seed 7",
                 "audit passed"):
        assert part in text, part


def test_the_digest_of_the_split_changes_with_a_single_pixel():
    images = BANK.images.clone()
    images[0, 0, 0, 0] ^= 1
    changed = ClassImages.from_arrays(images, BANK.labels)
    a, b = (audit(FewShot(data, way=5, shot=1, query=3), episodes=5).digest for data in (BANK, changed))
    assert a != b


def near_copies(scale, shift=0.0):
    """Twelve examples of each of nine classes in 24 dimensions, and a copy of each that is `scale` away from it."""
    x = torch.randn(108, 24, generator=seeded(1)) + shift
    y = torch.arange(9).repeat_interleave(12)
    copies = x + scale * torch.randn(108, 24, generator=seeded(2))
    return FewShot(ClassData.from_arrays(torch.cat([x, copies]), torch.cat([y, y])), way=3, shot=2, query=3)


@pytest.mark.parametrize("scale, shift", [(1e-5, 0.0), (1e-2, 0.0), (1e-2, 500.0)])
def test_near_copies_are_counted_and_said(scale, shift):
    tasks = near_copies(scale, shift)
    report = audit(tasks, episodes=80)
    pairs = 0  # counted on its own, by the largest difference
    g = seeded(0)
    for _ in range(80):
        episode = tasks.sample(1, generator=g)
        s, q = episode.support.x[0], episode.query.x[0]
        pairs += sum(bool(0 < (a - b).abs().max() < 20 * scale) for a in s for b in q)
    assert report.near_images == pairs > 0 and report.twin_images == 0
    assert f"nearly identical pairs: {pairs}" in str(report) and "look at these pairs" in str(report)


def test_near_copies_are_counted_in_tasks_that_show_episodes_alone():
    fixed = FixedEpisodes(near_copies(1e-3).sample(60, generator=seeded(3)))
    assert audit(fixed, episodes=60).near_images > 0


def test_what_is_no_copy_is_not_accused():
    assert audit(near_copies(0.7), episodes=200).near_images == 0
    plane = ClassData.from_arrays(torch.rand(200, 2, generator=seeded(0)), torch.arange(200) // 20)
    assert audit(FewShot(plane, way=4, shot=5, query=10), episodes=50).near_images == 0  # full, not copied
    assert str(audit(near_copies(0.7), episodes=20)).endswith("audit passed")


@pytest.mark.parametrize("look", [lambda tasks, t: audit(tasks, episodes=5, training=t),
                                  lambda tasks, t: shared_episodes(tasks, t, episodes=5)], ids=["audit", "shared"])
def test_a_training_that_is_used_up_is_not_taken_for_one_without_overlap(look):
    tasks = near_copies(1.0)
    training = training_episodes(tasks, TrainConfig(iterations=4, meta_batch=2))
    assert len(list(training)) == 4
    with pytest.raises(ValueError, match="used up after one pass"):
        look(tasks, training)
    with pytest.raises(TypeError, match="training_episodes"):
        look(tasks, TrainConfig())


def test_small_numbers_have_different_digests():
    tasks = near_copies(1.0)
    small = [FewShot(ClassData.from_arrays(f * tasks.images.x, tasks.images.labels), 3, 2, 3) for f in (1e-8, 3e-8)]
    a, b = (meta_test(PixelFloor(), t, episodes=6).digest for t in small)
    assert a != b
