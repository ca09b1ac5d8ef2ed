"""Labels that make silent nonsense are refused, with the fix, wherever a learner is trained or tested."""

import pytest
import torch

from metalib import (
    MAML,
    Classify,
    Data,
    Episode,
    FewShot,
    FixedEpisodes,
    PixelFloor,
    Pretrained,
    ProtoNet,
    TrainConfig,
    conv4,
    glyphs,
    meta_gradient,
    meta_test,
    meta_train,
    mlp,
    seeded,
)
from metalib.episode import check_episodes

TRAIN = glyphs().split("val")


def good(way=3, shot=2, query=4, tasks=2):
    y = torch.arange(way).repeat_interleave(shot).repeat(tasks, 1)
    qy = torch.arange(way).repeat_interleave(query).repeat(tasks, 1)
    x = [torch.randn(*t.shape, 5, generator=seeded(0)) for t in (y, qy)]
    return Episode(Data(x[0], y, way), Data(x[1], qy, way))


def change(part, **what):
    e = good()
    data = getattr(e, part)
    return e._replace(**{part: data._replace(**{k: v(data) if callable(v) else v for k, v in what.items()})})


def only(support, query):
    """Labels given by hand, with way = 3."""
    x = torch.zeros(1, 1, 5)
    return Episode(*(Data(x.expand(1, len(y), 5), torch.tensor([y]), 3) for y in (support, query)))


WRONG = {
    "labels from 1": (only([1, 2, 3], [1, 2, 3]), r"task 0 has labels \[1, 2, 3\], with way=3 .*0\.\.2: number"),
    "class numbers": (only([40, 7, 12], [7, 12, 40]), r"labels \[7, 12, 40\], with way=3"),
    "a negative label": (only([0, 1, 2], [-1, 2, 0]), r"labels \[-1, 0, 1, 2\], with way=3"),
    "ignore_index": (only([0, 1, 2], [-100, 2, 0]), "labels"),
    "a query label outside": (only([0, 1, 2], [0, 1, 3]), r"labels \[0, 1, 2, 3\]"),
    "a class without support": (only([0, 0, 2], [0, 1, 2]), "support of task 0 has no example of class 1, but way=3"),
    "way larger than the labels": (only([0, 1, 1], [0, 1]), "no example of class 2"),
    "the second task only": (change("support", y=lambda d: torch.tensor([[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 1, 1]])),
                             "support of task 1 has no example of class 2"),
    "no way": (Episode(*(d._replace(way=None) for d in good())), r"torch\.int64 and way is None.*Data\(x, y, way=N\)"),
    "no way, bytes": (Episode(*(d._replace(way=None, y=d.y.byte()) for d in good())), "uint8 and way is None"),
    "a way for the query only": (change("support", way=None), "support has way=None and the query way=3"),
    "two ways": (change("query", way=5), "support has way=3 and the query way=5"),
    "float labels": (change("query", y=lambda d: d.y.float()), r"query.y holds torch.float32 with way=3.*y.long\(\)"),
    "soft labels": (change("support", y=lambda d: torch.eye(3)[d.y]), "support.y .*expected"),
    "booleans": (Episode(*(d._replace(y=d.y > 0, way=2) for d in good())), "torch.bool: labels are integers"),
    "a column of labels": (change("query", y=lambda d: d.y[..., None]), r"query.y \(., 12, 1\): expected \(T, M"),
    "one label too few": (change("support", y=lambda d: d.y[:, 1:]), r"\(., 6, 5\) and support.y \(., 5\)"),
    "another number of tasks": (change("query", x=lambda d: d.x[:1], y=lambda d: d.y[:1]), "query.x has shape"),
    "an empty query": (change("query", x=lambda d: d.x[:, :0], y=lambda d: d.y[:, :0]), "the query is empty"),
}


class Given:
    """Tasks that return one meta-batch, cut to the number of tasks asked for."""

    def __init__(self, episodes):
        self.episodes = episodes

    def sample(self, n, *, generator):
        return Episode(*(Data(d.x[-n:], d.y[-n:], d.way) for d in self.episodes))


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_labels_are_refused_in_training_and_in_testing(wrong):
    episodes, message = WRONG[wrong]
    learner = MAML(mlp(5, (4,), 3))
    for call in (lambda: check_episodes(episodes), lambda: meta_gradient(learner, episodes),
                 lambda: FixedEpisodes(episodes)):
        with pytest.raises(ValueError, match=message):
            call()
    if wrong == "another number of tasks":  # meta_test draws them one by one
        return
    with pytest.raises(ValueError, match=message.replace("task 1", "task 0")):
        meta_test(learner, Given(episodes), episodes=1)
    assert all(p.grad is None for p in learner.parameters())


def test_right_labels_pass():
    check_episodes(good())
    check_episodes(Episode(*(d._replace(y=d.y.to(torch.uint8)) for d in good())))
    check_episodes(only([2, 0, 1, 1], [1]))  # any order, any counts, not every class among the queries
    check_episodes(Classify(TRAIN, 8).sample(3, generator=seeded(0)))
    check_episodes(Episode(*(Data(d.x, d.x, None) for d in good())))  # regression
    before = [d.y.clone() for d in good()]
    check_episodes(e := good())
    assert all(torch.equal(a, d.y) for a, d in zip(before, e))


def test_pretraining_refuses_episodes_whose_labels_are_no_class_numbers():
    learner = Pretrained(conv4(channels=4), classes=len(TRAIN))
    with pytest.raises(ValueError, match=r"trains on Classify\(images\).*way=5 and 5 support examples"):
        meta_train(learner, FewShot(TRAIN, 5, 1, 3), TrainConfig(iterations=1, meta_batch=1))
    with pytest.raises(ValueError, match=rf"Pretrained\(classes=10\).*way={len(TRAIN)} and 0 support"):
        meta_gradient(Pretrained(conv4(channels=4), classes=10), Classify(TRAIN, 4).sample(1, generator=seeded(0)))
    meta_gradient(learner, Classify(TRAIN, 4).sample(1, generator=seeded(0)))


@pytest.mark.parametrize("tasks", [Classify(TRAIN, 4)])
def test_gradient_descent_on_nothing_is_refused(tasks):
    for net in (mlp(784, (4,), len(TRAIN)), conv4(len(TRAIN), channels=4)):
        with pytest.raises(ValueError, match="support is empty.*Classify tasks are for pretraining"):
            meta_gradient(MAML(net), tasks.sample(2, generator=seeded(0)))


@pytest.mark.parametrize("learner", [PixelFloor(), ProtoNet(conv4(channels=4)), Pretrained(conv4(channels=4))],
                         ids=lambda learner: type(learner).__name__)
def test_a_learner_that_compares_classes_needs_some(learner):
    support = FewShot(TRAIN, 5, 1, 3).sample(1, generator=seeded(0)).task(0).support
    with pytest.raises(ValueError, match=r"way is None.*Data\(x, y, way=N\)"):
        learner.adapt(support._replace(way=None))
    with pytest.raises(ValueError, match="support is empty.*Classify tasks are for pretraining"):
        meta_test(learner, Classify(TRAIN, 4), episodes=2)
