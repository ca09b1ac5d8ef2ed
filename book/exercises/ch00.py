"""The check of chapter 0's code exercise: a solution it accepts, and two plausible answers it rejects."""

import torch

from metalib import FewShot, PixelFloor, glyphs, seeded


def check_nearest(answer):
    """nearest(support, x): the label of the support drawing with the largest cosine to each query, (M,)."""
    tasks = FewShot(glyphs().split("val"), way=5, shot=1, query=3)
    episodes, order = tasks.sample(40, generator=seeded(0)), seeded(1)
    floor = PixelFloor()
    for t in range(episodes.tasks):
        support, query = episodes.task(t)
        shuffled = torch.randperm(5, generator=order)
        support = support._replace(x=support.x[shuffled], y=support.y[shuffled])
        expected = floor.predict(floor.adapt(support), query.x).argmax(-1)
        got = answer(support, query.x)
        assert isinstance(got, torch.Tensor) and got.shape == expected.shape, \
            f"expected a tensor of {len(expected)} labels, one a query; got {getattr(got, 'shape', type(got).__name__)}"
        same = int((got == expected).sum())
        assert same == len(expected), (
            f"task {t}: {len(expected) - same} of {len(expected)} queries get another label than PixelFloor gives. "
            "Is every drawing divided by its length? Do you return support.y at the nearest row, not the row's number?")


def solution_nearest(support, x):
    a = torch.nn.functional.normalize(support.x.flatten(1), dim=-1)  # (N, H*W), unit length
    b = torch.nn.functional.normalize(x.flatten(1), dim=-1)  # (M, H*W)
    row = (b @ a.T).argmax(-1)  # (M,), the most similar support drawing
    return support.y[row]


def wrong_nearest_1(support, x):
    """The row instead of its label: right only while the support happens to be in order."""
    a = torch.nn.functional.normalize(support.x.flatten(1), dim=-1)
    b = torch.nn.functional.normalize(x.flatten(1), dim=-1)
    return (b @ a.T).argmax(-1)


def wrong_nearest_2(support, x):
    """No division by the length: the boldest drawing wins too often."""
    return support.y[(x.flatten(1) @ support.x.flatten(1).T).argmax(-1)]


def wrong_nearest_3(support, x):
    """Lengths taken over the drawings instead of over the pixels."""
    a = torch.nn.functional.normalize(support.x.flatten(1), dim=0)
    b = torch.nn.functional.normalize(x.flatten(1), dim=0)
    return support.y[(b @ a.T).argmax(-1)]
