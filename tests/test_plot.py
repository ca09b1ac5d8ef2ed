"""Figures say what they are given: checked through what matplotlib was told to draw."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pytest
import torch

from metalib import (
    MAML,
    ClassData,
    ClassImages,
    FewShot,
    History,
    Score,
    Sinusoids,
    glyphs,
    meta_test_path,
    mlp,
    plot,
    seeded,
)
from metalib.data.images import in_colour


@pytest.fixture(autouse=True)
def close_figures():
    plot.style()
    yield
    plt.close("all")


def test_an_episode_has_one_row_a_class_with_its_support_and_some_queries():
    tasks = FewShot(glyphs().split("test"), way=4, shot=2, query=7)
    task = tasks.sample(1, generator=seeded(0))
    axes = plot.episode(task, queries=3).axes
    assert len(axes) == 4 * (2 + 3)
    support = task.support.x[0][task.support.y[0] == 1]
    drawn = torch.as_tensor(axes[5].images[0].get_array())  # second row, first picture
    assert torch.equal(drawn, (1 - support[0][0])[..., None].expand(-1, -1, 3)), "ink is dark"


def test_the_contact_sheet_shows_the_first_classes_by_name():
    images = glyphs().split("val")
    axis = plot.bank(images, classes=3, examples=4).axes[0]
    sheet = torch.as_tensor(axis.images[0].get_array())
    assert tuple(sheet.shape) == (3 * 29 + 1, 4 * 29 + 1, 3)
    assert torch.equal(255 - sheet[30:58, 1:29, 0], images.images[20, 0])  # the first drawing of the second class
    assert [t.get_text() for t in axis.get_yticklabels()] == list(images.names[:3])


def photographs(channels, seed=0):
    """Smooth pictures, dark in places, without paper."""
    g = torch.linspace(0, 1, 16)
    x = (torch.rand(12, channels, 1, 1, generator=seeded(seed)) * g[:, None] + g) / 2
    return ClassImages.from_arrays(x, torch.arange(12) // 4)


def first_picture(figure):
    """What was drawn first, (H, W, 3) in [0, 1]."""
    drawn = torch.as_tensor(figure.axes[0].images[0].get_array())
    return drawn.float() / 255 if drawn.dtype == torch.uint8 else drawn


@pytest.mark.parametrize("channels, shown_as", [(1, [0, 0, 0]), (2, [0, 1, 1]), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_photographs_are_shown_as_they_are(channels, shown_as):
    images = photographs(channels)
    wanted = (images.images[0].float() / 255)[shown_as].permute(1, 2, 0)
    assert (first_picture(plot.bank(images))[1:17, 1:17] - wanted).abs().max() < 1e-3
    task = FewShot(images, 3, 1, 2).sample(1, generator=seeded(0))
    assert torch.allclose(first_picture(plot.episode(task)), task.support.x[0, 0][shown_as].permute(1, 2, 0))
    if channels == 1:
        assert torch.allclose(first_picture(plot.episode(task, ink=True)), 1 - task.support.x[0, 0, 0, :, :, None])


@pytest.mark.parametrize("opacity, seen", [(0, 255), (255, 40), (51, 212)])
def test_four_channels_are_colours_on_white_paper(opacity, seen):
    pixels = torch.full((4, 4, 6, 6), 40, dtype=torch.uint8)
    pixels[:, 3] = opacity
    figure = plot.bank(ClassImages.from_arrays(pixels, [0, 0, 1, 1]))
    assert (255 * first_picture(figure)[1:7, 1:7]).round().unique().tolist() == [seen]
    plot.episode(FewShot(ClassImages.from_arrays(pixels, [0, 0, 1, 1]), 2, 1, 1).sample(1, generator=seeded(0)))


@pytest.mark.parametrize("images", [glyphs().split("val"), glyphs().split("train").with_rotations()],
                         ids=["glyphs", "turned glyphs"])
def test_ink_is_dark_on_white_paper(images):
    assert first_picture(plot.bank(images))[1:29, 1:29].mean() > 0.5
    assert first_picture(plot.episode(FewShot(images, 3).sample(1, generator=seeded(0)))).mean() > 0.5
    assert first_picture(plot.bank(images, ink=False))[1:29, 1:29].mean() < 0.5
    dark_on_light = ClassImages.from_arrays(255 - images.images, images.labels)  # a scan that nobody has inverted
    assert first_picture(plot.bank(dark_on_light))[1:29, 1:29].mean() > 0.5


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16])
def test_colours_do_not_depend_on_the_numbers_type(dtype):
    x = torch.tensor([[[0, 51], [102, 255]]], dtype=torch.uint8)
    x = x if dtype == torch.uint8 else (x.double() / 255).to(dtype)
    wanted = torch.tensor([[0, 0.2], [0.4, 1]])
    assert torch.allclose(in_colour(x)[1], wanted, atol=1e-3) and in_colour(x).shape == (3, 2, 2)
    assert torch.allclose(in_colour(x, ink=True)[2], 1 - wanted, atol=1e-3)


def test_what_is_no_image_is_not_drawn():
    rows = ClassData.from_arrays(torch.zeros(8, 3), torch.arange(8) // 4)
    with pytest.raises(TypeError, match="plot.bank shows the images of a ClassImages, not a ClassData"):
        plot.bank(rows)
    with pytest.raises(ValueError, match=r"shape \(3,\); plot.episode shows images"):
        plot.episode(FewShot(rows, 2, 1, 1).sample(1, generator=seeded(0)))


def test_accuracies_are_drawn_in_percent_with_their_intervals():
    scores = [Score.of(torch.full((4,), v) + torch.tensor([0.0, 0.1, 0.0, 0.1])) for v in (0.2, 0.5)]
    line = plot.accuracy_by_step(scores).lines[0]
    assert line.get_ydata() == pytest.approx([25, 55])


def test_losses_are_averaged_over_the_window():
    line = plot.losses(History(losses=[4.0, 2.0, 0.0]), window=2).lines[0]
    assert list(line.get_ydata()) == [3.0, 1.0] and list(line.get_xdata()) == [2, 3]


def test_accuracies_stand_at_the_steps_that_they_are_of():
    scores = [Score.of(torch.tensor([v, v]), steps=j) for v, j in ((0.5, 5), (0.2, 0), (0.4, 2))]
    line = plot.accuracy_by_step(scores).lines[0].get_xydata()
    assert line[:, 0].tolist() == [0, 2, 5] and line[:, 1] == pytest.approx([20, 40, 50])
    path = meta_test_path(MAML(mlp(1, (4,), 1).double(), 0.01), Sinusoids(4, 4), 2, 3)
    assert plot.accuracy_by_step(path).lines[0].get_xdata().tolist() == [0, 1, 2]
    assert plot.accuracy_by_step([Score.of(torch.rand(3))] * 2).lines[0].get_xdata().tolist() == [0, 1]
