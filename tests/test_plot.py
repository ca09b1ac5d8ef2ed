"""Figures say what they are given: checked through what matplotlib was told to draw."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pytest
import torch

from metalib import FewShot, History, Score, glyphs, plot, seeded


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


def test_accuracies_are_drawn_in_percent_with_their_intervals():
    scores = [Score.of(torch.full((4,), v) + torch.tensor([0.0, 0.1, 0.0, 0.1])) for v in (0.2, 0.5)]
    line = plot.accuracy_by_step(scores).lines[0]
    assert line.get_ydata() == pytest.approx([25, 55])


def test_losses_are_averaged_over_the_window():
    line = plot.losses(History(losses=[4.0, 2.0, 0.0]), window=2).lines[0]
    assert list(line.get_ydata()) == [3.0, 1.0] and list(line.get_xdata()) == [2, 3]
