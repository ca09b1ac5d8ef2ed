"""The audit: it passes honest tasks and catches each planted leak by name."""

import pytest
import torch

from metalib import ClassImages, FewShot, PixelFloor, audit, meta_test, seeded


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
