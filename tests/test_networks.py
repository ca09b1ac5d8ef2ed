"""Networks of a user's own: buffers and modes, threads, layers of every kind, and what adapts in an inner loop."""

import copy
import functools
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from conftest import ROOT
from metalib import (
    FOMAML,
    MAML,
    Classify,
    ClassImages,
    Data,
    Episode,
    FewShot,
    FixedEpisodes,
    Learner,
    Pretrained,
    ProtoNet,
    TrainConfig,
    certify_gradient,
    conv4,
    load,
    meta_gradient,
    meta_test,
    meta_test_path,
    meta_train,
    mlp,
    save,
    seeded,
)
from metalib.data.vision import import_torchvision
from metalib.fast.private import call, private
from metalib.learners.maml import adapting

Y = torch.arange(3).repeat(2)
PATHS = {"loop": {"map": "loop", "threads": 1}, "threads": {"map": "loop", "threads": 2}, "vmap": {"map": "vmap"},
         "compile": {"map": "vmap", "compile": "eager"}}


def episodes(*shape, tasks=2, seed=0, dtype=torch.float64, high=None):
    """A meta-batch of noise, 3-way 2-shot; with `high`, of whole numbers below it."""
    g = seeded(seed)

    def data():
        x = (torch.randn(tasks, 6, *shape, generator=g, dtype=dtype) if high is None else
             torch.randint(high, (tasks, 6, *shape), generator=g))
        return Data(x, Y.expand(tasks, 6), 3)

    return Episode(data(), data())


class Noise:
    """Tasks of noise."""

    def __init__(self, *shape, high=None):
        self.shape, self.high = shape, high

    def sample(self, n, *, generator):
        return episodes(*self.shape, tasks=n, seed=int(torch.randint(10**6, (), generator=generator)), high=self.high)


def made(make, seed=0):
    torch.manual_seed(seed)
    return make().double()


def gradients(learner):
    return {k: p.grad.clone() for k, p in learner.named_parameters() if p.requires_grad}


def everything(module):
    """All that a caller could find changed: weights, buffers, modes, flags, and which objects they are."""
    return ({k: (id(t), t.detach().clone()) for k, t in (*module.named_parameters(), *module.named_buffers())},
            [(m.training, getattr(m, "track_running_stats", None)) for m in module.modules()])


def assert_untouched(module, before):
    tensors, modes = everything(module)
    assert modes == before[1] and tensors.keys() == before[0].keys()
    for k, (identity, value) in tensors.items():
        assert identity == before[0][k][0] and torch.equal(value, before[0][k][1]), k


def assert_close(a, b, tol=1e-10):
    assert a.keys() == b.keys()
    for k in a:
        torch.testing.assert_close(a[k], b[k], rtol=tol, atol=tol)


def by_hand(net, episodes, alpha, J, order=2, adapts=lambda name: True):
    """The mean meta-gradient of every parameter by double backward, where only some of them adapt."""
    twice = len([*net.named_modules()]) < len([*net.named_modules(remove_duplicate=False)])

    def run(params, x):  # where a layer stands in two places, functional_call has to be told, or it spoils the network
        return functional_call(net, params, (x,), tie_weights=not twice)

    names = [k for k, _ in net.named_parameters()]
    total = {k: torch.zeros_like(p) for k, p in net.named_parameters()}
    for t in range(episodes.tasks):
        (sx, sy, _), (qx, qy, _) = episodes.task(t)
        theta = {k: p.detach().clone().requires_grad_() for k, p in net.named_parameters()}
        phi = dict(theta)
        for _ in range(J):
            moving = [k for k in names if adapts(k)]
            loss = F.cross_entropy(run(phi, sx), sy)
            g = torch.autograd.grad(loss, [phi[k] for k in moving], create_graph=order == 2)
            phi = phi | {k: phi[k] - alpha * g_k for k, g_k in zip(moving, g, strict=True)}
        loss = F.cross_entropy(run(phi, qx), qy)
        grads = torch.autograd.grad(loss, list(theta.values()), allow_unused=True)
        for k, g_k in zip(names, grads, strict=True):
            total[k] += 0 if g_k is None else g_k / episodes.tasks
    return total


# ---------------------------------------------------------------- buffers and modes: one rule, on every path

def normed(norm):
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), norm, nn.Tanh(), nn.Dropout(0.0), nn.Flatten(),
                         nn.Linear(64, 3))


NORMS = {"batch": lambda **kw: nn.BatchNorm2d(4, **kw),
         "cumulative": lambda **kw: nn.BatchNorm2d(4, momentum=None, **kw),
         "instance": lambda **kw: nn.InstanceNorm2d(4, affine=True, **kw)}


@pytest.mark.parametrize("norm, frozen, path", [(n, f, p) for n in NORMS for f in (False, True) for p in PATHS
                                                if p != "compile" or n == "batch"])  # compiling is slow
def test_a_layer_uses_the_batch_at_hand_unless_it_was_frozen_and_is_never_written(norm, frozen, path):
    learner = made(lambda: MAML(normed(NORMS[norm](track_running_stats=True)), 0.1, 2))
    plain = made(lambda: normed(NORMS[norm](track_running_stats=False)))  # nothing to write and nothing to remember
    layer = learner.net[1]
    with torch.no_grad():
        layer.running_mean.fill_(0.3), layer.running_var.fill_(2.0)
    batch = episodes(2, 4, 4)
    if frozen:
        layer.eval()
        plain = copy.deepcopy(learner.net)
    expected = by_hand(plain, batch, 0.1, 2)
    before = everything(learner)
    meta_gradient(learner, batch, **PATHS[path])
    assert_close({k.removeprefix("net."): g for k, g in gradients(learner).items()}, expected)
    assert_untouched(learner, before)


@pytest.mark.parametrize("make", [lambda n: MAML(normed(n), 0.1), lambda n: ProtoNet(normed(n)),
                                  lambda n: Pretrained(normed(n), "linear", embedding_dim=3)])
def test_adapt_predict_and_meta_test_change_nothing_and_test_on_the_statistics_of_training(make):
    learner, plain = (made(lambda t=t: make(nn.BatchNorm2d(4, track_running_stats=t))) for t in (True, False))
    before, task = everything(learner), episodes(2, 4, 4).task(0)
    for _ in range(2):
        prediction = learner.predict(learner.adapt(task.support), task.query.x)
        torch.testing.assert_close(prediction, plain.predict(plain.adapt(task.support), task.query.x))
    a, b = (meta_test(x, Noise(2, 4, 4), 6) for x in (learner, plain))
    assert torch.equal(a.values, b.values)
    assert_untouched(learner, before)


def test_modes_are_left_as_they_were_found_by_training_testing_and_errors():
    learner = made(lambda: MAML(nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.0),
                                              nn.BatchNorm1d(5), nn.Linear(5, 3)), 0.1))
    learner.net[2].eval()
    learner.net[3].eval()
    modes = [m.training for m in learner.modules()]
    meta_train(learner, Noise(4), TrainConfig(iterations=2, map="loop", val_episodes=2), Noise(4))
    assert [m.training for m in learner.modules()] == modes
    meta_test(learner, Noise(4), 2)
    with pytest.raises(RuntimeError):
        meta_test(learner, Noise(7), 2)
    assert [m.training for m in learner.modules()] == modes


def test_eval_of_a_learner_switches_dropout_off_and_freezes_no_statistics():
    learner = ProtoNet(nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.BatchNorm1d(4).eval()))
    assert [m.training for m in learner.eval().encoder] == [True, False, False]
    assert [m.training for m in learner.train().encoder] == [True, True, False]
    learner.encoder.eval()  # this does
    assert not any(m.training for m in learner.encoder)


def test_meta_test_switches_dropout_off():
    learner = made(lambda: ProtoNet(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9))))
    assert torch.equal(meta_test(learner, Noise(4), 4).values, meta_test(learner, Noise(4), 4).values)
    assert learner.encoder[1].training


class Writes(nn.Module):
    """Leaves something behind in a buffer, in one of the ways there are."""

    def __init__(self, how):
        super().__init__()
        self.linear, self.how = nn.Linear(4, 3), how
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x):
        z = self.linear(x)
        if self.how == "in place":
            self.seen += 1
        elif self.how == "replaced":
            self.seen = self.seen + 1
        elif self.how == "behind autograd's back":
            self.seen.data.add_(1)
        elif self.how == "a memory":
            self.seen.copy_(z.detach().mean(0))
        elif self.how == "added":
            self.register_buffer("more", torch.ones(3))
        return z + 0 * self.seen


WRITERS = {how: lambda how=how: Writes(how) for how in ("in place", "replaced", "behind autograd's back", "a memory",
                                                        "added")}
WRITERS |= {"spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
            "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 3))}


@pytest.mark.parametrize("family", [MAML, ProtoNet])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_module_that_writes_a_buffer_is_refused_with_the_fix(writer, family):
    batch = episodes(4)
    for path in ("loop", "threads"):
        with pytest.raises(ValueError, match=r"(?s)wrote its buffer.*\.eval\(\)"):
            meta_gradient(made(lambda: family(WRITERS[writer]())), batch, **PATHS[path])
    with pytest.raises((ValueError, RuntimeError)):  # vmap has words of its own where a write cannot be mapped
        meta_gradient(made(lambda: family(WRITERS[writer]())), batch, "vmap")
    with pytest.raises(ValueError, match="wrote its buffer"):
        learner = made(lambda: family(WRITERS[writer]()))
        learner.predict(learner.adapt(batch.task(0).support), batch.task(0).query.x)


@pytest.mark.parametrize("make", [WRITERS["spectral norm"], WRITERS["old spectral norm"]])
def test_a_frozen_spectral_norm_is_right_on_every_path(make):
    learner, batch = made(lambda: MAML(make().eval(), 0.1, 2)), episodes(4)
    before, expected = everything(learner), by_hand(learner.net, batch, 0.1, 2)
    for path in ("loop", "threads", "vmap"):  # the old one sets an attribute at every call, which cannot be compiled
        meta_gradient(learner, batch, **PATHS[path])
        assert_close({k.removeprefix("net."): g for k, g in gradients(learner).items()}, expected)
    assert_untouched(learner, before)


def test_batch_statistics_over_several_processes_are_refused_unless_frozen():
    learner = made(lambda: MAML(nn.Sequential(nn.SyncBatchNorm(4), nn.Linear(4, 3)), 0.1))
    with pytest.raises(ValueError, match=r"net\.0 is a SyncBatchNorm.*BatchNorm2d"):
        meta_gradient(learner, episodes(4))
    learner.net[0].eval()
    assert meta_gradient(learner, episodes(4)) > 0


# ---------------------------------------------------------------- a torchvision backbone

def resnet(out=None, **options):
    import_torchvision()
    from torchvision.models import resnet18

    net = resnet18(weights=None, **options)
    net.fc = nn.Identity() if out is None else nn.Linear(512, out)
    return net


def test_a_resnet_in_protonet_is_the_same_in_a_loop_and_at_once():
    learner, batch = made(lambda: ProtoNet(resnet())), episodes(3, 32, 32)
    before = everything(learner)
    losses = {path: meta_gradient(learner, batch, **PATHS[path]) for path in ("loop", "vmap")}
    meta_gradient(learner, batch, **PATHS["threads"])
    torch.testing.assert_close(losses["loop"], losses["vmap"])
    at_once = gradients(learner)
    plain = copy.deepcopy(learner)  # and the same as PyTorch's own way to use the batch at hand
    for m in plain.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.track_running_stats, m.running_mean, m.running_var = False, None, None
    torch.stack([plain(batch.task(t)) for t in range(2)]).mean().backward()
    assert_close(at_once, gradients(plain), 1e-9)
    assert_untouched(learner, before)
    assert 0 <= meta_test(learner, Noise(3, 32, 32), 1).mean <= 1


@pytest.mark.parametrize("make", [lambda: resnet(3).eval(), lambda: resnet(3, norm_layer=lambda c: nn.GroupNorm(8, c))],
                         ids=["frozen statistics", "group norm"])
def test_a_resnet_in_maml_has_the_gradient_of_a_double_backward_on_both_ways(make):
    learner, batch = made(lambda: MAML(make(), 0.01)), episodes(3, 32, 32, tasks=1)
    expected = by_hand(learner.net, batch, 0.01, 1)
    for how in ("loop", "vmap"):
        meta_gradient(learner, batch, how)
        assert_close({k.removeprefix("net."): g for k, g in gradients(learner).items()}, expected, 1e-9)


def test_a_resnet_is_pretrained_and_given_a_new_head():
    encoder = resnet()
    learner = Pretrained(encoder, classes=7, embedding_dim=512)
    batch = Episode(Data(torch.zeros(1, 0, 3, 32, 32), torch.zeros(1, 0, dtype=torch.long), 7),
                    Data(torch.randn(1, 8, 3, 32, 32, generator=seeded(0)), torch.arange(8)[None] % 7, 7))
    before = everything(learner)
    assert meta_gradient(learner, batch) > 0 and encoder.conv1.weight.grad.abs().sum() > 0
    task = episodes(3, 32, 32, dtype=torch.float32).task(0)
    assert learner.predict(learner.adapt(task.support), task.query.x).shape == (6, 3)
    assert_untouched(learner, before)


def test_the_readme_s_example_of_a_backbone_runs(root):
    text = (root / "README.md").read_text(encoding="utf-8").split("### Your own network")[1]
    names = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    task = episodes(3, 32, 32, tasks=1, dtype=torch.float32).task(0)
    for name in ("proto", "frozen", "grouped", "baseline"):
        learner = names[name]
        assert learner.predict(learner.adapt(task.support), task.query.x).shape[0] == 6


# ---------------------------------------------------------------- layers that vmap cannot go through

class Reader(nn.Module):
    """Tokens (M, L) -> logits (M, 3), read by a recurrent layer."""

    def __init__(self, layer):
        super().__init__()
        self.embed, self.read, self.out = nn.Embedding(10, 4), layer(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, tokens):
        return self.out(self.read(self.embed(tokens))[0][:, -1])


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks_and_embeddings_train_in_a_loop_without_a_warning(layer):
    learner, batch = made(lambda: MAML(Reader(layer), 0.1, 2)), episodes(7, high=10)
    expected, before = by_hand(copy.deepcopy(learner.net), batch, 0.1, 2), everything(learner)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in ("loop", "threads"):
            meta_gradient(learner, batch, **PATHS[path])
            assert_close({k.removeprefix("net."): g for k, g in gradients(learner).items()}, expected)
    assert_untouched(learner, before)
    assert all(a is b for a, b in zip(learner.net.read._flat_weights, learner.net.read.parameters(), strict=True))


@pytest.mark.parametrize("loss", [lambda p, y: (p.softmax(1)[:, 0] - y).square().mean(),
                                  nn.CrossEntropyLoss(label_smoothing=0.1),
                                  lambda p, y: F.cross_entropy(p, y, weight=torch.tensor([1., 2, 3]).double())])
def test_a_loss_of_one_s_own_is_used_in_both_loops(loss):
    learner, batch = made(lambda: MAML(mlp(4, (5,), 3), 0.1, 1, loss=loss)), episodes(4, tasks=1)
    net, task = copy.deepcopy(learner.net), batch.task(0)
    g = torch.autograd.grad(loss(net(task.support.x), task.support.y), list(net.parameters()), create_graph=True)
    phi = {k: p - 0.1 * g_k for (k, p), g_k in zip(net.named_parameters(), g)}
    expected = torch.autograd.grad(loss(functional_call(net, phi, (task.query.x,)), task.query.y), net.parameters())
    for path in ("loop", "vmap"):
        meta_gradient(learner, batch, **PATHS[path])
        assert_close(dict(enumerate(gradients(learner).values())), dict(enumerate(expected)))


# ---------------------------------------------------------------- odd networks

class Locked(nn.Module):
    """Keeps a lock, a cache and a non-leaf tensor, none of which can be copied."""

    def __init__(self):
        super().__init__()
        self.linear, self.lock, self.cache = nn.Linear(4, 3), threading.Lock(), {}

    def forward(self, x):
        with self.lock:
            self.cache[len(x)] = self.last = self.linear(x)
        return self.last


def captured():
    """A layer that a function captured: in a twin, that function would still use the original's weights."""
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    net[1].forward = lambda x: torch.tanh(x) + F.linear(x, net[2].weight.T @ net[2].weight)
    return net


def bound():
    net = nn.Sequential(nn.Linear(4, 4), nn.Identity(), nn.Linear(4, 3))
    net[1].forward = net[0].forward  # a bound method can come along
    return net


def shared_layer():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(4, 3))


def tied_weights():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3))
    net[2].weight = net[0].weight
    return net


ODD = {"lock and cache": Locked, "bound method": bound,
       "traced": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))),
       "shared layer": shared_layer, "tied weights": tied_weights}


@pytest.mark.parametrize("odd", ODD)
def test_the_number_of_threads_changes_nothing_whatever_a_network_keeps(odd):
    learner, batch = made(lambda: MAML(ODD[odd](), 0.1, 2)), episodes(4, tasks=4)
    expected = by_hand(learner.net, batch, 0.1, 2)
    before = everything(learner)
    for threads in (1, 2, 3):
        meta_gradient(learner, batch, "loop", threads=threads)
        assert_untouched(learner, before)
        assert_close({k.removeprefix("net."): g for k, g in gradients(learner).items()}, expected)


# ---------------------------------------------------------------- weights that a network reaches by another way

class Reaches(nn.Module):
    """Uses the weight of its first layer a second time: through the layer, or through something beside it."""

    def __init__(self, how="the layer"):
        super().__init__()
        self.first, self.last, self.how = nn.Linear(4, 4), nn.Linear(4, 3), how
        w = self.first.weight
        self.kept = {"a list": [w], "a dict": {"deep": [(w,)]}, "a partial": functools.partial(F.linear, weight=w),
                     "a function": lambda: w, "a view": w.t()}.get(how)

    def again(self, x):
        if self.how == "a partial":
            return self.kept(x)
        w = {"the layer": lambda: self.first.weight, "a list": lambda: self.kept[0], "a view": lambda: self.kept.t(),
             "a dict": lambda: self.kept["deep"][0][0], "a function": lambda: self.kept()}[self.how]()
        return F.linear(x, w)

    def forward(self, x):
        return self.last(torch.tanh(self.again(torch.tanh(self.first(x)))))


@pytest.mark.parametrize("how", ["a list", "a dict", "a partial"])
def test_a_parameter_that_stands_in_an_attribute_as_well_adapts_there_too(how):
    batch, expected = episodes(4), by_hand(made(Reaches), episodes(4), 0.1, 2)
    torch.manual_seed(0)
    learner = MAML(Reaches(how), 0.1, 2)
    for p in learner.parameters():
        p.data = p.data.double()  # in place: .double() would make other parameters, and leave `kept` with these
    for path in ("loop", "threads", "vmap"):
        meta_gradient(learner, batch, **PATHS[path])
        assert_close({k.removeprefix("net."): g for k, g in gradients(learner).items()}, expected)


@pytest.mark.parametrize("how, fix", [("a function", "read the parameter from its module"),
                                      ("a view", r"make the view in forward\(\)")])
@pytest.mark.parametrize("path", ["loop", "vmap"])
def test_a_parameter_that_cannot_be_followed_is_refused_with_the_fix(how, fix, path):
    with pytest.raises(ValueError, match=fix):
        meta_gradient(MAML(Reaches(how)), episodes(4, dtype=torch.float32), path)


def test_a_task_state_of_another_network_is_refused():
    with pytest.raises(ValueError, match="no parameter 'other'.*adapt of the same learner"):
        MAML(mlp(4, (), 3)).predict({"other": torch.zeros(3)}, torch.zeros(2, 4))


# ---------------------------------------------------------------- parts that are run again in the backward pass

class Recomputed(nn.Module):
    """Activation checkpointing: the body's activations are made again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh()), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=False))


@pytest.mark.parametrize("order", [1, 2])
def test_activation_checkpointing_recomputes_with_the_task_s_weights(order):
    learner, batch = made(lambda: MAML(Recomputed(), 0.3, 3, order)), episodes(4)
    plain = nn.Sequential(learner.net.body, learner.net.head)
    expected = by_hand(copy.deepcopy(plain), batch, 0.3, 3, order)
    for path in ("loop", "threads"):
        meta_gradient(learner, batch, **PATHS[path])
        assert_close(dict(zip(expected, gradients(learner).values(), strict=True)), expected)
    phi, same = (MAML(net, 0.3, 3).adapt(batch.task(0).support) for net in (learner.net, plain))
    assert_close(dict(enumerate(phi.values())), dict(enumerate(same.values())))


@pytest.mark.parametrize("family", [MAML, ProtoNet])
@pytest.mark.parametrize("make, fix", [
    (captured, "captured or holds a layer.*read the parameter from its module"),
    (lambda: torch.jit.script(nn.Linear(4, 3)), "scripted.*give the network that was scripted"),
    (lambda: torch.compile(nn.Linear(4, 3), backend="eager"), "give the net itself")])
def test_a_network_that_leads_back_to_itself_is_refused_with_the_fix(family, make, fix):
    learner, batch = family(make()), episodes(4, dtype=torch.float32)
    for use in (lambda: meta_gradient(learner, batch), lambda: meta_gradient(learner, batch, "loop"),
                lambda: meta_test(learner, Noise(4), 2)):
        with pytest.raises(ValueError, match=fix):
            use()


# ---------------------------------------------------------------- what a network notes on itself

class Remembers(nn.Module):
    """Keeps something in plain attributes from one call to the next."""

    def __init__(self):
        super().__init__()
        self.linear, self.hidden, self.calls = nn.Linear(4, 3), 0.0, 0

    def forward(self, x):
        self.calls += 1
        z = torch.tanh(self.linear(x) + self.hidden) * self.calls
        self.hidden = z.mean(0)
        return z


@pytest.mark.parametrize("family", [MAML, ProtoNet])
def test_what_a_network_notes_on_itself_reaches_no_other_task(family):
    learner, batch = made(lambda: family(Remembers())), episodes(4, tasks=3)
    back = Episode(*(Data(d.x.flip(0), d.y.flip(0), d.way) for d in batch))
    results = []
    for order in (batch, back, batch):
        for path in ("loop", "threads", "vmap"):
            meta_gradient(learner, order, **PATHS[path])
            results.append(gradients(learner))
    for result in results[1:]:
        assert_close(result, results[0])
    net = learner.net if family is MAML else learner.encoder
    scores = [meta_test(learner, Noise(4), 3, map=how).values for how in ("loop", "vmap")]
    assert torch.equal(*scores) and net.calls == 0 and net.hidden == 0.0


class Learns(Learner):
    """Counts its calls, and takes a gradient the way that adds to p.grad."""

    def __init__(self):
        super().__init__()
        self.net, self.calls = nn.Linear(4, 3), 0

    def adapt(self, support):
        self.calls += 1
        self.net(support.x).square().mean().backward()
        return torch.zeros(3, dtype=torch.float64) + self.net(support.x).mean(0) * self.calls

    def predict(self, phi, x):
        return self.net(x) * self.calls + phi


def test_a_certificate_is_not_misled_by_what_a_learner_notes_on_itself():
    assert certify_gradient(made(Learns), episodes(4)).passed


class Diary(nn.Module):
    """Notes every call in a tensor of its own, and reads what it noted."""

    def __init__(self, note):
        super().__init__()
        self.note, self.layer = note, nn.Linear(4, 3)
        self.state, self.held, self.named = torch.zeros(3), [torch.zeros(3)], {"a": torch.zeros(3)}

    def forward(self, x):
        before = self.state + self.held[0] + self.named["a"]
        self.note(self, x)
        return self.layer(x) * (1 + before)


def by_data(net, x):
    net.state.data[0] = x.detach().mean()


@pytest.mark.parametrize("note", [
    lambda net, x: net.state.add_(1), lambda net, x: net.held[0].mul_(2).add_(1),
    lambda net, x: net.named["a"].copy_(x.detach().mean(0)[:3]), by_data])
@pytest.mark.parametrize("learner", [ProtoNet, MAML])
def test_a_tensor_that_a_network_writes_in_place_is_refused_and_is_as_before(learner, note):
    learner = made(lambda: learner(Diary(note)))
    for work in (lambda: meta_gradient(learner, episodes(4)), lambda: meta_gradient(learner, episodes(4), map="loop"),
                 lambda: learner.adapt(episodes(4).task(0).support)):
        with pytest.raises(ValueError, match=r"wrote its tensor '\S*(state|held|named)'.*what adapt"):
            work()
        net = learner.net if isinstance(learner, MAML) else learner.encoder
        assert not any(t.any() for t in (net.state, net.held[0], net.named["a"]))


class Counts(nn.Module):
    """Adds to a buffer and to a tensor in every call, slowly, so that threads meet."""

    def __init__(self):
        super().__init__()
        self.layer, self.total = nn.Linear(4, 3), torch.zeros(())
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.total += 1
        time.sleep(0.002)
        return self.layer(x)


@pytest.mark.parametrize("work", [
    lambda learner: meta_gradient(learner, episodes(4, tasks=8), "loop", threads=4),
    lambda learner: meta_test(learner, Noise(4), 8, map="loop")])
def test_what_several_threads_wrote_is_undone(work):
    learner = made(lambda: MAML(Counts(), steps=3))
    for _ in range(5):
        with pytest.raises(ValueError, match="wrote its"):
            work(learner)
        assert learner.net.calls == 0 and learner.net.total == 0


@pytest.mark.parametrize("hook", [
    lambda p: p.register_hook(lambda g: g / 2), lambda p: p.register_post_accumulate_grad_hook(lambda p: None)])
def test_a_gradient_hook_on_a_parameter_is_refused_and_can_be_removed(hook):
    learner = made(lambda: MAML(nn.Linear(4, 3)))
    handle = hook(learner.net.bias)
    with pytest.raises(ValueError, match="net.bias has a gradient hook, which would not be called"):
        meta_gradient(learner, episodes(4))
    handle.remove()
    meta_gradient(learner, episodes(4))


# ---------------------------------------------------------------- weight normalisation

class ByHand(nn.Module):
    """A linear layer whose weight is g v / |v|, one norm a row."""

    def __init__(self, layer):
        super().__init__()
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.g = nn.Parameter(layer.weight.detach().norm(dim=1, keepdim=True))
        self.v = nn.Parameter(layer.weight.detach().clone())

    def forward(self, x):
        return F.linear(x, self.g * self.v / self.v.square().sum(1, keepdim=True).sqrt(), self.bias)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("weight_norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_weight_norm_has_the_second_derivative_that_pytorch_s_operator_lacks(weight_norm):
    plain = made(lambda: nn.Linear(4, 3))
    learner, batch = MAML(weight_norm(copy.deepcopy(plain)), 0.5, 2), episodes(4, tasks=4)
    before, expected = everything(learner), [*by_hand(ByHand(plain), batch, 0.5, 2).values()]
    for options in ({"threads": 1}, {"threads": 3}, {"map": "vmap"}):
        meta_gradient(learner, batch, **{"map": "loop"} | options)
        for g, e in zip(gradients(learner).values(), expected, strict=True):
            torch.testing.assert_close(g, e, rtol=1e-10, atol=1e-10)
        assert_untouched(learner, before)


# ---------------------------------------------------------------- parameters are read, too

class InPlace(Learner):
    """The beginner's inner loop: it steps its own weights."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)

    def adapt(self, support):
        g = torch.autograd.grad(F.cross_entropy(self.net(support.x), support.y), self.net.weight)[0]
        with torch.no_grad():
            self.net.weight.sub_(0.1 * g)
        return self.net.weight

    def predict(self, phi, x):
        return x @ phi.T


def test_an_inner_loop_that_steps_theta_in_place_is_refused_with_the_fix():
    for run in (lambda x: meta_gradient(x, episodes(4), "loop"), lambda x: meta_test(x, Noise(4), 2)):
        with pytest.raises(ValueError, match=r"'net\.weight' was written in place.*descend"):
            run(made(InPlace))


class ByData(InPlace):
    """The same by `.data`, which leaves no trace in the tensor's version."""

    def adapt(self, support):
        self.net.weight.data.mul_(0.5)
        return self.net.weight + support.x.mean()


@pytest.mark.parametrize("run", [
    lambda x, map: meta_gradient(x, episodes(4), map), lambda x, map: meta_test(x, Noise(4), 2, map=map)])
@pytest.mark.parametrize("map", ["loop", "vmap"])
def test_a_write_to_theta_by_data_is_refused_too(run, map):
    with pytest.raises(ValueError, match=r"'net\.weight' was written in place.*descend"):
        run(made(ByData), map)


@pytest.mark.parametrize("layer, fix", [(lambda: nn.Embedding(10, 3, max_norm=1.0), "set max_norm=None"),
                                        (lambda: nn.EmbeddingBag(10, 3, max_norm=1.0), "set max_norm=None"),
                                        (lambda: nn.LazyLinear(3), "call the network once on an example")])
def test_layers_that_would_change_their_weights_are_refused_with_the_fix(layer, fix):
    net = layer()
    learner, batch = ProtoNet(net), episodes(4, high=10)
    before = [*net.parameters()]
    with pytest.raises(ValueError, match=fix):
        learner.adapt(batch.task(0).support)
    with pytest.raises(ValueError, match=fix):
        meta_test(learner, FixedEpisodes(batch), 2)
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))


def test_a_refused_write_to_a_buffer_is_undone():
    for how in WRITERS:
        learner = made(lambda how=how: ProtoNet(WRITERS[how]()))
        before = everything(learner)
        with pytest.raises(ValueError, match="wrote its buffer"):
            meta_gradient(learner, episodes(4), "loop")
        assert_untouched(learner, before)
        with pytest.raises((ValueError, RuntimeError)):  # vmap gives up half-way through
            meta_gradient(learner, episodes(4), "vmap")
        assert_untouched(learner, before)


# ---------------------------------------------------------------- losses and outputs that mean nothing

@pytest.mark.parametrize("path", ["loop", "vmap"])
@pytest.mark.parametrize("family", [MAML, ProtoNet])
def test_a_loss_that_is_not_one_number_is_refused(family, path):
    learner = family(mlp(4, (), 3), loss=lambda p, y: F.cross_entropy(p, y, reduction="none"))
    with pytest.raises(ValueError, match=r"shape \(6,\).*\.mean\(\)"):
        meta_gradient(learner, episodes(4, dtype=torch.float32), path)


@pytest.mark.parametrize("loss, message", [(lambda p, y: F.cross_entropy(p, y).item(), "is a float"),
                                           (lambda p, y: None, "is a NoneType"),
                                           (lambda p, y: F.cross_entropy(p, y).detach(), "does not require grad")])
def test_a_loss_that_cannot_be_differentiated_says_why(loss, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        meta_gradient(MAML(mlp(4, (), 3), loss=loss), episodes(4, dtype=torch.float32))


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.linear, self.what = nn.Linear(4, 6), what

    def forward(self, x):
        z = self.linear(x)
        return {"tuple": (z, x), "dict": {"logits": z}, "tensor": z.unflatten(1, (2, 3))}[self.what]


@pytest.mark.parametrize("what", ["tuple", "dict", "tensor"])
def test_outputs_that_are_no_embeddings_or_predictions_are_refused_with_the_fix(what):
    task = episodes(4, dtype=torch.float32).task(0)
    with pytest.raises(ValueError, match=r"embeddings .*expected a tensor \(M, D\).*nn\.Flatten"):
        ProtoNet(Returns(what)).adapt(task.support)
    if what != "tensor":
        with pytest.raises(ValueError, match=f"predictions are a {what}.*loss="):
            MAML(Returns(what)).adapt(task.support)


def test_nothing_to_learn_is_refused():
    learner = MAML(mlp(4, (), 3), adapts="all")
    learner.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to meta-learn"):
        meta_gradient(learner, episodes(4, dtype=torch.float32))
    for run in (lambda: meta_test(learner, Noise(4), 2, steps=-1), lambda: meta_test_path(learner, Noise(4), -1, 2)):
        with pytest.raises(ValueError, match="steps=-1"):
            run()


class Attends(nn.Module):
    """PyTorch's fused attention, whose backward pass has no derivative."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        z = self.linear(x)[None, None]
        return F.scaled_dot_product_attention(z, z, z)[0, 0]


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_an_operator_without_a_second_derivative_names_the_way_out():
    learner, batch = MAML(Attends(), 0.1), episodes(4, dtype=torch.float32)
    with pytest.raises(RuntimeError, match=r"(?s)not implemented.*SDPBackend\.MATH.*FOMAML"):
        meta_gradient(learner, batch)
    with pytest.raises(RuntimeError, match=r"SDPBackend\.MATH"):
        certify_gradient(learner, batch)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        meta_gradient(learner, batch)
        assert certify_gradient(learner, batch).passed
    meta_gradient(FOMAML(Attends(), 0.1), batch)


# ---------------------------------------------------------------- threads

def together(*functions):
    """Run them at the same time, each in a thread; what they raised is raised."""
    errors, start = [], threading.Barrier(len(functions))

    def run(f):
        try:
            start.wait()
            f()
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f,)) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("make", [lambda: MAML(normed(nn.BatchNorm2d(4)), 0.1, 3),
                                  lambda: ProtoNet(normed(nn.Identity()))], ids=["maml", "protonet"])
def test_threads_that_share_a_learner_get_the_answers_of_one_thread(make):
    learner, shape = made(make), (2, 4, 4)
    batch, tasks = episodes(*shape, tasks=4), [episodes(*shape, seed=s).task(0) for s in range(2)]

    def answer(task):
        with torch.no_grad():
            return learner.predict(learner.adapt(task.support), task.query.x)

    expected = [answer(t) for t in tasks]
    score = meta_test(learner, Noise(*shape), 8)
    meta_gradient(learner, batch, "vmap")
    gradient, before = gradients(learner), everything(learner)

    def ask(i):
        for _ in range(40):
            torch.testing.assert_close(answer(tasks[i]), expected[i], rtol=1e-12, atol=1e-12)

    def train(path):
        for _ in range(10):
            meta_gradient(learner, batch, **PATHS[path])

    def judge():
        for _ in range(3):
            assert torch.equal(meta_test(learner, Noise(*shape), 8).values, score.values)

    together(lambda: ask(0), lambda: ask(1))
    assert_untouched(learner, before)
    for path in ("loop", "threads", "vmap"):
        together(lambda: ask(0), lambda: ask(1), lambda path=path: train(path), judge)
        assert_close(gradients(learner), gradient)
        assert_untouched(learner, before)


class Jitter(nn.Module):
    """Noise that no layer of PyTorch announces."""

    def forward(self, x):
        return x + torch.randn_like(x)


def test_a_network_s_own_noise_does_not_depend_on_the_number_of_threads():
    learner, batch, results = made(lambda: MAML(nn.Sequential(nn.Linear(4, 3), Jitter()))), episodes(4, tasks=8), []
    for threads in (4, 1, 4):
        torch.manual_seed(1)
        meta_gradient(learner, batch, "loop", threads=threads)
        results.append((gradients(learner), torch.rand(3)))
    for grads, after in results:
        assert_close(grads, results[1][0], 0)
        assert torch.equal(after, results[1][1])


def test_two_learners_of_one_network_may_run_at_once():
    net = made(lambda: mlp(4, (8,), 3))
    learners, task = [MAML(net, 0.1, J) for J in (1, 6)], episodes(4).task(0)
    expected = [x.predict(x.adapt(task.support), task.query.x) for x in learners]

    def ask(learner, answer):
        for _ in range(60):
            torch.testing.assert_close(learner.predict(learner.adapt(task.support), task.query.x), answer)

    together(*(lambda a=a: ask(*a) for a in zip(learners, expected)))


def test_a_learner_is_copied_and_pickled_after_use():
    learner, batch = made(lambda: MAML(mlp(4, (8,), 3), 0.1)), episodes(4)
    meta_gradient(learner, batch, "loop", threads=2)
    for other in (copy.deepcopy(learner), pickle.loads(pickle.dumps(learner))):
        assert_close(dict(other.named_parameters()), dict(learner.named_parameters()))


def test_a_twin_shares_the_tensors_and_follows_what_is_changed_later():
    net = made(lambda: normed(nn.BatchNorm2d(4)))
    mine = private(net)
    assert mine is not net and all(a is b for a, b in zip(mine.parameters(), net.parameters(), strict=True))
    assert private(mine) is mine
    net[5] = nn.Linear(64, 9).double()
    assert call(net, {}, torch.zeros(2, 2, 4, 4, dtype=torch.float64)).shape == (2, 9)


FORK = """
import os, sys, torch
from metalib import MAML, Sinusoids, meta_gradient, mlp, seeded
learner, batch = MAML(mlp(1, (8,), 1).double(), 0.1), Sinusoids(5, 5).sample(4, generator=seeded(0))
meta_gradient(learner, batch, "loop", threads=2)
child = os.fork()
if child == 0:
    import metalib.figures.plot
    meta_gradient(learner, batch, "loop", threads=2)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_forked_after_task_threads_has_threads_of_its_own():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], cwd=ROOT, check=True,
                   env=os.environ | {"OMP_NUM_THREADS": "1"})


# ---------------------------------------------------------------- inference mode, other dtypes

@pytest.mark.parametrize("make", [lambda: MAML(mlp(4, (8,), 3), 0.1, 2),
                                  lambda: FOMAML(conv4(3, 4, image_size=16), 0.1),
                                  lambda: Pretrained(mlp(4, (8,), 3), "linear", embedding_dim=3)])
def test_an_inner_loop_runs_inside_inference_mode(make):
    learner = made(make)
    shape = (1, 16, 16) if isinstance(getattr(learner, "net", None), conv4) else (4,)
    task = episodes(*shape).task(0)
    expected, score = learner.predict(learner.adapt(task.support), task.query.x), meta_test(learner, Noise(*shape), 3)
    with torch.inference_mode():
        task = episodes(*shape).task(0)  # tensors that were made there
        torch.testing.assert_close(learner.predict(learner.adapt(task.support), task.query.x), expected.detach())
        assert torch.equal(meta_test(learner, Noise(*shape), 3).values, score.values)


def test_training_inside_inference_mode_is_refused():
    with torch.inference_mode(), pytest.raises(RuntimeError, match="leave it for training"):
        meta_gradient(made(lambda: MAML(mlp(4, (8,), 3))), episodes(4))


def test_the_default_dtype_may_be_float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for learner in (MAML(conv4(3, 4, image_size=16)), ProtoNet(conv4(channels=4, image_size=16)),
                        FOMAML(mlp(256, (4,), 3))):
            assert meta_gradient(learner, episodes(1, 16, 16)).dtype == torch.float64
            assert all(p.grad.dtype == torch.float64 for p in learner.parameters())
        learner = MAML(conv4(3, 4, image_size=16)).float()  # and what is float32 stays float32
        assert meta_gradient(learner, episodes(1, 16, 16, dtype=torch.float32)).dtype == torch.float32
        assert all(p.grad.dtype == torch.float32 for p in learner.parameters())
        bank = ClassImages.from_arrays(torch.rand(12, 1, 16, 16), [i // 3 for i in range(12)])
        for tasks in (FewShot(bank, way=3, shot=1, query=2), Classify(bank, batch=4)):  # and so do tasks
            assert tasks.sample(1, generator=seeded(0)).query.x.dtype == torch.float64
        tasks = FewShot(bank, way=3, shot=1, query=2, dtype=torch.float32)
        assert tasks.sample(1, generator=seeded(0)).query.x.dtype == torch.float32
        meta_train(MAML(conv4(3, 4, image_size=16)), FewShot(bank, 3, 1, 2), TrainConfig(iterations=1, meta_batch=1))
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("make", [lambda: conv4(3, 4, image_size=16), lambda: mlp(256, (4,), 3)])
@pytest.mark.parametrize("data, weights", [(torch.float32, torch.float64), (torch.float64, torch.float32),
                                           (torch.uint8, torch.float32)])
def test_inputs_of_another_dtype_than_the_weights_are_refused_with_the_fix(make, data, weights):
    with pytest.raises(ValueError, match=f"inputs are {data}.*weights {weights}.*dtype="):
        make().to(weights)(torch.zeros(2, 1, 16, 16).to(data))


# ---------------------------------------------------------------- what adapts

class Branches(nn.Module):
    """Its head is not what was made last; one norm of PyTorch, one of the user's own."""

    def __init__(self):
        super().__init__()
        self.head, self.body, self.norm, self.own = nn.Linear(5, 3), nn.Linear(4, 5), nn.LayerNorm(5), MyNorm(5)

    def forward(self, x):
        return self.head(self.own(torch.tanh(self.norm(self.body(x)))))


class SharedHead(nn.Module):
    """The head's weight is the body's, whose name comes first."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 4)
        self.head.weight = self.body.weight

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


class MyNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.rand(width))

    def forward(self, x):
        return x / (1 + x.square().mean(-1, keepdim=True)).sqrt() * self.gain


def small_conv4():
    return conv4(3, channels=4, image_size=16)


CHOICES = [
    (Branches, None, {"head.weight", "head.bias", "body.weight", "body.bias", "norm.weight", "norm.bias", "own.gain"}),
    (Branches, "head", {"head.weight", "head.bias"}),
    (Branches, "norm", {"norm.weight", "norm.bias", "own.gain"}),
    (Branches, lambda name, p: p.ndim == 2 and "body" in name, {"body.weight"}),
    (lambda: mlp(4, (5,), 3), "head", {"layers.1.weight", "layers.1.bias"}),
    (small_conv4, "head", {"head.weight", "head.bias"}),
    (small_conv4, "norm", {f"blocks.{i}.{p}" for i in range(4) for p in ("scale", "bias")}),
    (lambda: nn.Linear(4, 3), "head", {"weight", "bias"}),
    (SharedHead, "head", {"body.weight", "head.bias"}),
    (SharedHead, lambda name, p: name == "head.weight", {"body.weight"}),
]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("make, adapts, names", CHOICES)
def test_only_what_was_chosen_adapts_and_the_rest_is_meta_learned(make, adapts, names, order):
    learner = made(lambda: MAML(make(), 0.3, 2, order, adapts=adapts))
    batch = episodes(1, 16, 16) if isinstance(learner.net, conv4) else episodes(4)
    assert set(learner.adapt(batch.task(0).support)) == names == set(adapting(learner.net, adapts))
    expected = by_hand(learner.net, batch, 0.3, 2, order, names.__contains__)
    for path in PATHS if adapts == "head" and batch.support.x.ndim == 3 else ("threads", "vmap"):  # compiling is slow
        meta_gradient(learner, batch, **PATHS[path])
        assert_close({k.removeprefix("net."): g for k, g in gradients(learner).items()}, expected)
    assert order == 1 or batch.support.x.ndim > 3 or certify_gradient(learner, batch).passed


@pytest.mark.parametrize("adapts, moves", [(None, False), ("all", True), ("head", True), ("norm", False),
                                           (lambda name, p: True, True)])
def test_a_frozen_layer_moves_in_the_inner_loop_only_if_that_was_asked_for(adapts, moves):
    learner, batch = made(lambda: MAML(Branches(), 0.3, 2, adapts=adapts)), episodes(4)
    expected_names = set(adapting(learner.net, adapts)) - (set() if moves else {"head.weight", "head.bias"})
    expected = by_hand(learner.net, batch, 0.3, 2, 2, expected_names.__contains__)
    learner.net.head.requires_grad_(False)
    assert ("head.weight" in learner.adapt(batch.task(0).support)) == moves
    for path in ("loop", "threads", "vmap"):
        meta_gradient(learner, batch, **PATHS[path])
        assert learner.net.head.weight.grad is None
        assert_close({k.removeprefix("net."): g for k, g in gradients(learner).items()},
                     {k: g for k, g in expected.items() if not k.startswith("head")})


DRAWS = {"torch": lambda net: torch.rand(()), "numpy": lambda net: np.random.rand(),  # noqa: NPY002 (users do)
         "python": lambda net: random.random(), "own torch": lambda net: torch.rand((), generator=net.stream),
         "own numpy": lambda net: net.stream.random(), "own python": lambda net: net.stream.random()}
STREAMS = {"own torch": seeded, "own numpy": np.random.default_rng, "own python": random.Random}


class Drawing(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.body, self.how, self.stream = nn.Linear(4, 3), how, STREAMS.get(how, int)(7)

    def forward(self, x):
        return self.body(x) * DRAWS[self.how](self)


@pytest.mark.parametrize("how", DRAWS)
def test_what_a_network_draws_depends_neither_on_threads_nor_on_the_map(how):
    def of(measure):
        learner = made(lambda: MAML(Drawing(how), 0.3))
        torch.manual_seed(3), np.random.seed(3), random.seed(3)  # noqa: NPY002
        return float(measure(learner))

    batch, tasks = episodes(4, tasks=9), Noise(4)
    assert len({of(lambda x, s=s: meta_gradient(x, batch, **s))
                for s in ({"map": "loop", "threads": 1}, {"map": "loop", "threads": 3}, {"map": "auto"})}) == 1
    with pytest.raises(RuntimeError, match="random|draws"):
        of(lambda x: meta_gradient(x, batch, map="vmap"))
    threads, scores = torch.get_num_threads(), set()
    try:
        for n in (1, 3, 3):
            torch.set_num_threads(n)
            scores.add(of(lambda x: meta_test(x, tasks, episodes=9, metric="loss", map="loop").mean))
    finally:
        torch.set_num_threads(threads)
    assert len(scores) == 1


class ByBackward(Learner):
    """One step, its gradient taken as in a training loop: by .backward(), of the network or of a copy of it."""

    def __init__(self, copies):
        super().__init__()
        self.net, self.copies = mlp(4, (5,), 3), copies

    def adapt(self, support):
        net = copy.deepcopy(self.net) if self.copies else self.net
        self.task_loss(net(support.x), support.y).backward()
        return {k: p - 0.5 * p.grad for k, p in net.named_parameters()}

    def predict(self, phi, x):
        return functional_call(self.net, phi, (x,))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_gradient_that_adapt_leaves_in_p_grad_reaches_no_other_task(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    learner, batch = made(lambda: ByBackward(False)), episodes(4, tasks=4)
    losses = [copy.deepcopy(learner)(batch.task(t)).item() for t in range(4)]
    for _ in range(2):
        score = meta_test(learner, FixedEpisodes(batch), episodes=4, metric="loss")
        assert score.mean == pytest.approx(sum(losses) / 4, rel=1e-12)
    assert all(p.grad is None for p in learner.parameters())


@pytest.mark.parametrize("how", ["loop", "threads", "auto"])
def test_a_meta_loss_of_a_copy_s_weights_is_refused(how):
    learner, batch = made(lambda: ByBackward(True)), episodes(4)
    with pytest.raises(RuntimeError, match=r"none of the weights.*functional_call"):
        meta_gradient(learner, batch, **PATHS.get(how, {}))
    with pytest.raises(RuntimeError, match="none of the weights"):
        meta_train(learner, Noise(4), TrainConfig(iterations=1))


@pytest.mark.parametrize("learner, batch, said", [(nn.Linear(4, 3), episodes(4), "Linear, Episode"),
                                                  (MAML(nn.Linear(4, 3)), [episodes(4)], "MAML, list")])
def test_what_is_no_learner_or_no_episode_is_refused_by_name(learner, batch, said):
    with pytest.raises(TypeError, match=rf"meta_gradient\({said}\): expected a Learner"):
        meta_gradient(learner, batch)


def test_a_frozen_backbone_stays_what_it_was_in_adaptation_and_training():
    learner = made(lambda: MAML(mlp(4, (6, 6), 3), 0.3, 3))
    learner.net.layers[0].requires_grad_(False)
    before = learner.net.layers[0].weight.clone()
    meta_train(learner, Noise(4), TrainConfig(iterations=2))
    assert torch.equal(learner.net.layers[0].weight, before)
    assert not any(k.startswith("layers.0") for k in learner.adapt(episodes(4).task(0).support))


def test_the_committed_heads_of_zeros_still_adapt(root):
    """Their files were written before `adapts`, with a head that was frozen in training and moved in the inner loop."""
    learner = load(root / "results" / "checkpoints" / "omniglot-maml-5w1s-zero.pt")
    assert not learner.net.head.weight.any() and not learner.net.head.bias.any()
    explicit = MAML(copy.deepcopy(learner.net), learner.inner_lr, learner.steps, adapts="all")
    explicit.net.head.requires_grad_(False)
    g = seeded(0)
    support = Data(torch.rand(5, 1, 28, 28, generator=g), torch.arange(5), 5)
    wide = learner.net.out_dim
    phi, same = (x.adapt(support) for x in (learner, explicit))
    assert phi["head.weight"].shape[0] == wide and phi["head.weight"].any()
    assert all(torch.equal(phi[k], same[k]) for k in phi)


def test_what_adapts_is_saved_with_the_learner(tmp_path):
    save(MAML(mlp(4, (5,), 3), adapts="head"), tmp_path / "anil.pt")
    assert load(tmp_path / "anil.pt").adapts == "head"


@pytest.mark.parametrize("wrong", ["heads", 3, ["layers.0.weight"]])
def test_an_unknown_choice_of_what_adapts_is_refused(wrong):
    with pytest.raises(ValueError, match="expected None, 'all', 'head', 'norm', 'context' or a function"):
        MAML(mlp(4, (5,), 3), adapts=wrong)


@pytest.mark.parametrize("make, adapts", [(lambda: mlp(4, (5,), 3), "norm"), (nn.Flatten, None), (nn.Flatten, "head"),
                                          (lambda: mlp(4, (5,), 3), lambda name, p: "haed" in name)])
def test_a_choice_that_selects_nothing_is_refused(make, adapts):
    with pytest.raises(ValueError, match="selects none"):
        MAML(make(), adapts=adapts).adapt(episodes(4).task(0).support)


def test_a_learner_of_one_s_own_calls_its_network_as_ours_do():
    class Nearest(Learner):
        """Adapts by keeping the embedded support."""

        def __init__(self, net):
            super().__init__()
            self.net = net

        def adapt(self, support):
            return call(self.net, {}, support.x), F.one_hot(support.y, 3).to(support.x.dtype)

        def predict(self, phi, x):
            return -torch.cdist(call(self.net, {}, x), phi[0]) @ phi[1]

    learner = made(lambda: Nearest(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))))
    before = everything(learner)
    assert meta_gradient(learner, episodes(4), "loop") > 0
    assert_untouched(learner, before)
