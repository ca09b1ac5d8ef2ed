"""The protocol, the metric learners, the networks, and the map over tasks."""

import gc
import math
import weakref

import numpy as np
import pytest
import torch

from metalib import (
    FOMAML,
    MAML,
    Classify,
    Data,
    Episode,
    FewShot,
    Learner,
    PixelFloor,
    Pretrained,
    ProtoNet,
    conv4,
    glyphs,
    meta_gradient,
    mlp,
    seeded,
    show,
)
from metalib.fast.parallel import over_tasks
from metalib.learner import choose_map


@pytest.fixture(scope="module")
def train():
    return glyphs().split("train")


@pytest.fixture()
def episodes(train):
    return FewShot(train, way=4, shot=2, query=3).sample(3, generator=seeded(0))


def gradients(learner):
    return [p.grad.clone() for p in learner.parameters()]


def small(learner, seed=0):
    torch.manual_seed(seed)
    return learner()


def test_protonet_equals_distances_computed_one_by_one(episodes):
    net, task = ProtoNet(conv4(channels=8)).double(), episodes.to(torch.float64).task(0)
    support, query = net.encoder(task.support.x), net.encoder(task.query.x)
    logits = net.predict(net.adapt(task.support), task.query.x)
    for i, z in enumerate(query):
        for n in range(4):
            distance = ((z - support[task.support.y == n].mean(0)) ** 2).sum()
            assert torch.isclose(logits[i, n], -distance)


def test_protonet_is_a_linear_classifier_of_the_embedding(episodes):
    net, task = ProtoNet(conv4(channels=8)).double(), episodes.to(torch.float64).task(0)
    c, z = net.adapt(task.support), net.encoder(task.query.x)
    linear = (2 * z @ c.T - c.pow(2).sum(1)).softmax(1)  # -|z|^2 is common to all classes
    torch.testing.assert_close(linear, net.predict(c, task.query.x).softmax(1))


def test_a_protonet_trained_at_one_way_predicts_at_another(train):
    net = ProtoNet(conv4(channels=8))
    task = FewShot(train, way=9, shot=1, query=1).sample(1, generator=seeded(0)).task(0)
    assert net.predict(net.adapt(task.support), task.query.x).shape == (9, 9)


def test_pretrained_centroid_head_is_the_nearest_mean_of_centred_unit_vectors(episodes):
    net, task = Pretrained(conv4(channels=8)).double(), episodes.to(torch.float64).task(0)
    f, m = net.encoder(task.query.x), net.encoder(task.support.x).mean(0)
    z = torch.nn.functional.normalize(f - m, dim=1)
    s = torch.nn.functional.normalize(net.encoder(task.support.x) - m, dim=1)
    means = torch.stack([s[task.support.y == n].mean(0) for n in range(4)])
    nearest = torch.cdist(z, means).argmin(1)
    assert torch.equal(net.predict(net.adapt(task.support), task.query.x).argmax(1), nearest)


def test_pretrained_linear_head_lowers_the_support_loss(episodes):
    torch.manual_seed(0)
    net, support = Pretrained(conv4(channels=8), "linear"), episodes.task(0).support
    with torch.no_grad():
        loss = [net.task_loss(net.predict(net.adapt(support, steps), support.x), support.y) for steps in (0, 50)]
    assert loss[1] < loss[0]


def test_pretrained_trains_its_classifier_only_with_classes(train):
    batch = Classify(train, batch=8).sample(1, generator=seeded(0))
    with pytest.raises(ValueError, match="classes="):
        meta_gradient(Pretrained(conv4(channels=8)), batch)
    net = Pretrained(conv4(channels=8), classes=len(train.names))
    assert meta_gradient(net, batch) > 0
    assert net.classifier.weight.grad.abs().sum() > 0


def test_pretrained_refuses_an_unknown_head_and_an_encoder_of_unknown_width():
    with pytest.raises(ValueError, match="centroid"):
        Pretrained(conv4(), head="svm")
    with pytest.raises(ValueError, match="embedding_dim="):
        Pretrained(torch.nn.Flatten(), classes=3)


def test_the_pixel_floor_is_the_cosine_with_the_mean_image(episodes):
    task = episodes.task(0)
    means = torch.stack([task.support.x[task.support.y == n].mean(0) for n in range(4)]).flatten(1)
    cosine = torch.nn.functional.cosine_similarity(task.query.x.flatten(1)[:, None], means[None], dim=2)
    floor = PixelFloor()
    torch.testing.assert_close(floor.predict(floor.adapt(task.support), task.query.x), cosine)


@pytest.mark.parametrize("make", [lambda: MAML(conv4(4, channels=8), 0.1, 2), lambda: ProtoNet(conv4(channels=8))],
                         ids=["maml", "protonet"])
def test_threads_do_not_change_a_bit_of_the_meta_gradient(make, episodes):
    learner = small(make)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    one = meta_gradient(learner, episodes, "loop", threads=1)
    torch.set_num_threads(before)
    grads = gradients(learner)
    two = meta_gradient(learner, episodes, "loop", threads=2)
    assert torch.equal(one, two) and all(torch.equal(a, b) for a, b in zip(grads, gradients(learner), strict=True))


def test_chunks_do_not_change_the_meta_gradient(episodes):
    learner = small(lambda: ProtoNet(mlp(784, (16,), 8)))
    meta_gradient(learner, episodes, "vmap")
    whole = gradients(learner)
    meta_gradient(learner, episodes, "vmap", chunk=2)
    for a, b in zip(whole, gradients(learner), strict=True):
        torch.testing.assert_close(a, b)


def test_the_meta_gradient_overwrites_and_leaves_frozen_parameters_alone(episodes):
    learner = small(lambda: MAML(conv4(4, channels=8), 0.1))
    learner.net.head.bias.requires_grad_(False)
    meta_gradient(learner, episodes)
    first = learner.net.head.weight.grad.clone()
    meta_gradient(learner, episodes)
    assert torch.equal(learner.net.head.weight.grad, first)
    assert learner.net.head.bias.grad is None


def test_an_overridden_task_gradient_is_used_under_both_maps(episodes):
    class Ones(ProtoNet):
        def task_gradient(self, theta, episode):
            return {k: torch.ones_like(p) for k, p in theta.items()}, self(episode)

    learner = Ones(mlp(784, (4,), 2))
    for how in ("vmap", "loop"):
        meta_gradient(learner, episodes, how)
        assert all(g.eq(1).all() for g in gradients(learner))


def test_auto_loops_over_convolutions_on_a_cpu_and_maps_everything_else():
    assert choose_map(MAML(conv4(5)), "auto") == "loop"
    assert choose_map(MAML(mlp(1, (4,), 1)), "auto") == "vmap"
    assert choose_map(PixelFloor(), "auto") == "vmap"
    with pytest.raises(ValueError, match="'auto', 'vmap' or 'loop'"):
        choose_map(MAML(conv4(5)), "pmap")


def test_episodes_without_a_task_axis_are_refused(episodes):
    with pytest.raises(ValueError, match="task axis"):
        meta_gradient(ProtoNet(conv4(channels=8)), episodes.task(0))


def test_over_tasks_keeps_the_order_shares_the_weights_and_passes_errors_on():
    net = torch.nn.Linear(2, 1)
    seen = list(over_tasks(lambda m, i: (i, m.weight.data_ptr()), net, range(7), threads=3))
    assert seen == [(i, net.weight.data_ptr()) for i in range(7)]
    with pytest.raises(ZeroDivisionError):
        list(over_tasks(lambda m, i: 1 / i, net, range(3), threads=2))


def test_a_learner_must_define_its_two_functions():
    data = Data(torch.zeros(2, 1), torch.zeros(2, 1))
    with pytest.raises(TypeError, match="must define adapt"):
        Learner()(Episode(data, data))


@pytest.mark.parametrize("wrong, message", [
    (lambda: conv4(5, norm="bath"), "norm"), (lambda: conv4(5, image_size=8), "resize"),
    (lambda: conv4(5, channels=12, norm="group"), "multiple"), (lambda: mlp(1, (2,), 1, activation="gelu"), "tanh"),
    (lambda: MAML(mlp(1, (2,), 1), order=3), "order"), (lambda: MAML(mlp(1, (2,), 1), inner_lr=-1), "at least 0"),
    (lambda: MAML(mlp(1, (2,), 1), inner_lr="0.01"), "inner_lr='0.01'"),
    (lambda: MAML(mlp(1, (2,), 1), inner_lr=math.nan), "inner_lr=nan"),
    (lambda: MAML(mlp(1, (2,), 1), inner_lr=[0.1]), "inner_lr"),
    (lambda: MAML(mlp(1, (2,), 1), order=True), "order=True"),
    (lambda: MAML(mlp(1, (2,), 1), steps=2.0), "steps=2.0: expected a whole number"),
    (lambda: MAML(mlp(1, (2,), 1), steps=True), "steps=True"),
    (lambda: Pretrained(mlp(1, (2,), 1), steps=-1), "steps=-1"),
    (lambda: Pretrained(mlp(1, (2,), 1), temperature="10"), "temperature"),
    (lambda: conv4(5)(torch.zeros(2, 1, 32, 32)), "resize"),
    (lambda: conv4(5)(torch.zeros(2, 3, 28, 28)), "in_channels"),
])
def test_a_wrong_setting_is_refused_with_the_fix(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize("family", [MAML, FOMAML, ProtoNet, Pretrained])
@pytest.mark.parametrize("net", ["conv4", conv4, lambda x: x, mlp(1, (2,), 1).state_dict()])
def test_a_learner_is_made_of_a_network(family, net):
    with pytest.raises(TypeError, match="made of a network, an nn.Module"):
        family(net)


@pytest.mark.parametrize("loss", ["ce", torch.nn.CrossEntropyLoss, 3])
def test_a_loss_is_a_function(loss):
    with pytest.raises(TypeError, match="loss=.*with its brackets"):
        MAML(mlp(1, (2,), 1), loss=loss)


@pytest.mark.parametrize("number", [np.float32(0.25), torch.tensor(0.25), torch.nn.Parameter(torch.tensor(0.25)), 0])
def test_a_rate_is_any_finite_number_and_may_be_learnt(number):
    assert MAML(mlp(1, (2,), 1), inner_lr=number, steps=np.int64(2)).inner_lr == number
    with pytest.raises(ValueError, match="inner_lr="):
        MAML(mlp(1, (2,), 1), inner_lr=torch.nn.Parameter(torch.tensor([0.25, 0.5])))


def test_fomaml_is_maml_of_order_one():
    learner = FOMAML(mlp(1, (2,), 1), 0.3, 4)
    assert (learner.order, learner.inner_lr, learner.steps) == (1, 0.3, 4)


def test_show_prints_the_source_that_runs_without_its_docstring():
    source = repr(show(MAML.adapt))
    assert "return self.path(support, steps)[-1]" in source and '"""' not in source
    assert '"""' in repr(show(MAML.adapt, docstring=True)) and "<span" in show(MAML.adapt)._repr_html_()


def test_one_flattened_batch_is_the_mean_over_the_tasks(episodes):
    episodes = episodes.to(torch.float64)
    for make in (lambda: ProtoNet(conv4(channels=8)), lambda: ProtoNet(mlp(784, (16,), 8))):
        learner = small(make).double()
        loss = meta_gradient(learner, episodes, "loop")
        one_by_one = gradients(learner)
        for chunk in (None, 1):
            torch.testing.assert_close(meta_gradient(learner, episodes, "vmap", chunk=chunk), loss)
            for a, b in zip(gradients(learner), one_by_one, strict=True):
                torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


def test_a_compiled_meta_step_is_the_same_meta_step(episodes):
    learner = small(lambda: MAML(mlp(784, (8,), 4), 0.1, 2))
    loss = meta_gradient(learner, episodes, "vmap")
    expected = gradients(learner)
    for inner_lr in (0.1, 0.2):  # settings are compiled in: another rate is another version
        learner.inner_lr = inner_lr
        compiled = meta_gradient(learner, episodes, compile="eager")
        assert torch.allclose(compiled, loss) == (inner_lr == 0.1)
        if inner_lr == 0.1:
            for a, b in zip(gradients(learner), expected, strict=True):
                torch.testing.assert_close(a, b)


def test_a_compiled_learner_can_be_forgotten(episodes):
    learner = small(lambda: MAML(mlp(784, (4,), 4), 0.1, 1))
    meta_gradient(learner, episodes, compile="eager")
    gone = weakref.ref(learner)
    del learner
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("map", ["loop", "vmap"])
def test_bfloat16_is_close_and_keeps_the_weights_in_their_own_precision(map, episodes):
    learner = small(lambda: ProtoNet(conv4(channels=8))).float()
    episodes = episodes.to(torch.float32)
    meta_gradient(learner, episodes, map)
    exact = torch.cat([g.flatten() for g in gradients(learner)])
    meta_gradient(learner, episodes, map, precision="bf16")
    rounded = torch.cat([g.flatten() for g in gradients(learner)])
    assert rounded.dtype == torch.float32 and 0 < (rounded - exact).norm() / exact.norm() < 0.5
    meta_gradient(learner, episodes, map, precision="tf32")  # changes nothing on a CPU
    assert not torch.backends.cuda.matmul.allow_tf32
    torch.testing.assert_close(torch.cat([g.flatten() for g in gradients(learner)]), exact)


def test_an_unknown_precision_is_refused(episodes):
    with pytest.raises(ValueError, match="float16.*expected"):
        meta_gradient(small(lambda: ProtoNet(mlp(784, (8,), 4))), episodes, precision="float16")
