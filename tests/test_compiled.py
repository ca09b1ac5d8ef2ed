"""A compiled meta-step is never an old one: whatever it baked in makes another version, and what cannot is refused."""

import functools
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metalib import MAML, Data, Episode, ProtoNet, meta_gradient, mlp, seeded
from metalib.fast import compiled as module
from metalib.fast.compiled import held

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def traced_only(monkeypatch):
    """torch.compile takes seconds, and what it is given is what is looked at here: the traced graph."""
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)


@dataclass(slots=True)
class Slots:
    scale: float = 1.0


class Net(nn.Module):
    """A small network that reads what it computes from many places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 6), nn.Identity(), nn.Linear(6, 3)
        self.first.requires_grad_(False)
        self.register_buffer("centre", torch.zeros(6))
        self.scale, self.activation, self.plain = 1.0, torch.tanh, torch.ones(6)
        self.config, self.space, self.slots = {"scales": [1.0, 1.0]}, SimpleNamespace(scale=1.0), Slots()
        self.array, self.partial = np.ones(2), functools.partial(F.softplus, beta=1.0)

    def forward(self, x):
        z = self.activation(self.first(x) - self.centre) * self.plain
        if self.training:
            z = 1.5 * z
        s = self.scale * self.config["scales"][1] * self.space.scale * self.slots.scale * float(self.array[0])
        return self.last(self.drop(self.partial(z))) * s


def episodes() -> Episode:
    g = seeded(0)
    return Episode(*(Data(torch.randn(2, 6, 4, generator=g), torch.stack([torch.randperm(6, generator=g) % 3
                                                                           for _ in "ab"]), 3) for _ in "sq"))


def step(learner, **how):
    loss = meta_gradient(learner, episodes(), **how)
    return torch.cat([loss[None], *(p.grad.flatten() for p in learner.parameters() if p.requires_grad)])


def twice(prediction, y):
    return 2 * F.cross_entropy(prediction, y)


def weighted(weights):
    return lambda prediction, y: weights[0] * F.cross_entropy(prediction, y)


def set_(path, value):
    *where, name = path.split(".")
    return lambda learner: setattr(functools.reduce(getattr, where, learner), name, value)


def with_no_grad(change):
    def changed(learner):
        with torch.no_grad():
            change(learner)
    return changed


CHANGES = {
    "the loss": set_("loss", twice),
    "the inner rate": set_("inner_lr", 0.4),
    "the number of steps": set_("steps", 2),
    "a NumPy number": set_("inner_lr", np.float32(0.5)),
    "an attribute of the network": set_("net.scale", 3.0),
    "an attribute that is a function": set_("net.activation", torch.relu),
    "an attribute that is a partial function": set_("net.partial", functools.partial(F.softplus, beta=4.0)),
    "an element of a nested list": lambda learner: learner.net.config["scales"].__setitem__(1, 2.0),
    "an attribute of an object": lambda learner: setattr(learner.net.space, "scale", 2.0),
    "an attribute in a slot": lambda learner: setattr(learner.net.slots, "scale", 2.0),
    "an array in place": lambda learner: learner.net.array.fill(2.0),
    "a tensor that is no buffer, in place": lambda learner: learner.net.plain.mul_(2.0),
    "a tensor that is no buffer, replaced": set_("net.plain", torch.full((6,), 0.5)),
    "a frozen weight, replaced": set_("net.first.weight", nn.Parameter(torch.ones(6, 4) / 3, requires_grad=False)),
    "a frozen weight, in place": with_no_grad(lambda learner: learner.net.first.bias.add_(1.0)),
    "a frozen weight, behind autograd's back": lambda learner: learner.net.first.weight.data.mul_(2.0),
    "a buffer, replaced": set_("net.centre", torch.ones(6)),
    "a buffer, in place": lambda learner: learner.net.centre.add_(0.5),
    "the mode": lambda learner: learner.eval(),
    "the mode of one module": lambda learner: learner.net.train(),
    "a layer, replaced": set_("net.drop", nn.Tanh()),
    "a layer, thawed": lambda learner: learner.net.first.requires_grad_(True),
    "a forward hook": lambda learner: learner.net.drop.register_forward_hook(lambda m, args, out: 2 * out),
    "a trained weight": with_no_grad(lambda learner: learner.net.last.weight.mul_(2.0)),
}


def test_after_any_change_the_compiled_step_is_the_changed_learners():
    torch.manual_seed(0)
    learner = MAML(Net(), 0.2, order=1)  # tracing first order is quicker, and bakes in as much
    before = step(learner, compile="eager")
    torch.testing.assert_close(before, step(learner, map="vmap"))
    for what, change in CHANGES.items():
        change(learner)
        expected, now = step(learner, map="vmap"), step(learner, compile="eager")
        assert expected.shape != before.shape or not torch.allclose(expected, before, rtol=1e-3), what
        torch.testing.assert_close(now, expected, msg=what)
        before = expected


def test_what_a_loss_closes_over_counts_and_a_lambda_may_take_the_place_of_another():
    learner, weights = ProtoNet(mlp(4, (5,), 3)), [1.0]
    for weights[0] in (1.0, 3.0):
        learner.loss = weighted(weights)
        torch.testing.assert_close(step(learner, compile="eager"), step(learner, map="vmap"))
    for k in range(4):  # each is freed before the next one, which may get its address
        learner.loss = lambda prediction, y, k=k: k * F.cross_entropy(prediction, y)
        torch.testing.assert_close(step(learner, compile="eager"), step(learner, map="vmap"))


def test_what_does_not_change_is_compiled_once():
    learner = MAML(Net(), 0.2, order=1)
    for _ in range(3):
        step(learner, compile="eager")
        learner.net.first.weight.data.mul_(1.1)
        learner.net.centre.add_(0.1)
        learner.load_state_dict({k: v + 0.1 for k, v in learner.state_dict().items()})
    assert len(module._COMPILED[learner]) == 1
    assert held(learner, set()) == held(learner, set())


def test_what_a_learner_notes_on_itself_is_gone_after_the_call_compiled_or_not():
    class Counts(MAML):
        calls = 0

        def adapt(self, support, steps=None):
            self.calls += 1
            return super().adapt(support, steps)

        def predict(self, phi, x):
            return super().predict(phi, x) * (1 + self.calls)

    class Keeps(ProtoNet):
        def adapt(self, support):
            self.last = super().adapt(support)
            return self.last

    for learner in (Counts(mlp(4, (5,), 3)), Keeps(mlp(4, (5,), 3))):
        expected = step(learner, map="loop")
        for _ in range(2):
            torch.testing.assert_close(step(learner, compile="eager"), expected)
        assert not {"calls", "last"} & vars(learner).keys()


def test_a_learner_that_changes_what_it_holds_is_refused():
    class Lists(ProtoNet):
        def adapt(self, support):
            self.log.append(len(support.y))
            return super().adapt(support)

    learner = Lists(mlp(4, (5,), 3))
    learner.log = []
    with pytest.raises(RuntimeError, match="changes what it holds.*compile=False"):
        step(learner, compile="eager")


@pytest.mark.parametrize("make", [lambda: MAML(mlp(4, (5,), 3)), lambda: ProtoNet(mlp(4, (5,), 3))])
@pytest.mark.parametrize("wrong, message", [
    ({"compile": "bogus", "map": "loop"}, "compile='bogus': expected True, False or one of.*inductor"),
    ({"compile": "bogus"}, "compile='bogus'"), ({"compile": ""}, "compile=''"),
    ({"compile": True, "map": "loop"}, "map='loop': only the step over all tasks"),
    ({"compile": "eager", "map": "pmap"}, "map='pmap'"),
    ({"precision": "fp16", "map": "loop"}, "precision='fp16'"), ({"precision": "", "map": "vmap"}, "precision=''"),
    ({"chunk": 0}, "chunk=0: .* at least 1"), ({"chunk": -2, "map": "loop"}, "chunk=-2"),
    ({"chunk": 2.5}, "chunk=2.5: .*whole"), ({"threads": "2", "map": "loop"}, "threads='2'"),
    ({"chunk": True}, "chunk=True"),
    ({"threads": 0, "map": "loop"}, "threads=0"), ({"threads": -1}, "threads=-1")])
def test_a_setting_that_means_nothing_is_refused_and_never_ignored(make, wrong, message):
    learner = make()
    with pytest.raises(ValueError, match=message):
        step(learner, **wrong)
    assert all(p.grad is None for p in learner.parameters())
