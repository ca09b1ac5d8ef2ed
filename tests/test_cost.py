"""The recipes' cost formula is what PyTorch counts, on a plain Conv4 and on a perceptron."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from bench import rows
from metalib import ANIL, FOMAML, MAML, FewShot, ImplicitMAML, MetaSGD, Reptile, glyphs, meta_gradient, seeded
from recipes.cost import passes, passes_of

pytestmark = pytest.mark.usefixtures("one_thread")
ROW = replace(rows.ROWS["5-way 1-shot"], tasks=1, query=5)


def counted(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def one_pass(net, x, y):
    """Operations of one example forward and backward, with the gradients that training needs."""
    return counted(lambda: F.cross_entropy(net(x), y).backward()) / len(x)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps, way, shot", [(1, 5, 1), (5, 5, 1), (1, 5, 5), (0, 5, 1), (3, 2, 2)])
def test_a_maml_task_costs_3JNK_plus_NQ_passes_on_a_plain_conv4(steps, way, shot, order):
    row = replace(ROW, way=way, shot=shot, steps=steps, order=order)
    net, episodes = rows.standard_net(row, 64), rows.draw(row)
    unit = one_pass(net, episodes.query.x[0], episodes.query.y[0])
    said = passes(way * shot, way * row.query, steps=steps, order=order)
    assert counted(lambda: rows.reference(net, episodes, row)) / unit == pytest.approx(said, rel=0.02)


@pytest.mark.parametrize("channels, steps, count", [(16, 1, 39.7), (16, 5, 98.6), (64, 1, 39.9), (64, 5, 99.6)])
def test_the_first_layer_s_missing_gradient_is_what_the_formula_leaves_out(channels, steps, count):
    row = replace(ROW, steps=steps)
    net, episodes = rows.standard_net(row, channels), rows.draw(row)
    unit = one_pass(net, episodes.query.x[0], episodes.query.y[0])
    assert counted(lambda: rows.reference(net, episodes, row)) / unit == pytest.approx(count, abs=0.05)
    assert passes(5, 25, steps=steps) == {1: 40, 5: 100}[steps]


def test_a_prototypical_network_passes_every_image_once():
    row = replace(ROW, kind="protonet", way=4, shot=2, steps=1)
    net, episodes = rows.standard_net(row, 64), rows.draw(row)
    unit = counted(lambda: net(episodes.query.x[0]).sum().backward()) / len(episodes.query.x[0])
    said = passes(8, 20, steps=1, order=1)
    assert counted(lambda: rows.reference(net, episodes, row)) / unit == pytest.approx(said, rel=0.02)


@pytest.mark.parametrize("order", [1, 2])
def test_a_perceptron_s_hidden_layers_cost_the_same(order):
    net = torch.nn.Sequential(*[m for _ in range(9) for m in (torch.nn.Linear(64, 64), torch.nn.Tanh())])
    x, y = torch.randn(12, 64), torch.randint(64, (12,))
    theta = {k: p.detach().clone().requires_grad_() for k, p in net.named_parameters()}

    def meta_gradient():
        phi = theta
        for _ in range(2):
            g = torch.autograd.grad(F.cross_entropy(functional_call(net, phi, (x[:4],)), y[:4]), list(phi.values()),
                                    create_graph=order == 2)
            phi = {k: p - 0.1 * g_k for (k, p), g_k in zip(phi.items(), g, strict=True)}
        F.cross_entropy(functional_call(net, phi, (x[4:],)), y[4:]).backward()

    assert counted(meta_gradient) / one_pass(net, x, y) == pytest.approx(passes(4, 8, steps=2, order=order), rel=0.05)


def test_another_order_is_refused():
    with pytest.raises(ValueError, match="order=3: expected 1 or 2"):
        passes(5, 75, steps=1, order=3)


class Plain(torch.nn.Sequential):
    """Equal hidden layers, so that a pass costs the same in each, and a small head."""

    def __init__(self):
        super().__init__(*[m for _ in range(9) for m in (torch.nn.Linear(784, 784), torch.nn.Tanh())])
        self.head = torch.nn.Linear(784, 5)

    def features(self, x):
        for layer in [*self][:-1]:
            x = layer(x.flatten(1))
        return x

    def forward(self, x):
        return self.head(self.features(x))


@pytest.mark.parametrize("make", [
    lambda net: MAML(net, 0.1, 2), lambda net: FOMAML(net, 0.1, 3), lambda net: MetaSGD(net, 0.1, 2, per="tensor"),
    lambda net: ANIL(net, 0.1, 4), lambda net: Reptile(net, 0.1, 3), lambda net: Reptile(net, 0.1, 4, batch=7),
    lambda net: ImplicitMAML(net, 0.1, 3, cg_steps=2), lambda net: ImplicitMAML(net, 0.1, 1, cg_steps=4)])
def test_every_relative_of_maml_costs_what_is_said(make):
    net, episodes = Plain(), FewShot(glyphs().split("val"), 5, 2, 3).sample(1, generator=seeded(0))
    learner = make(net)
    unit = one_pass(net, episodes.query.x[0], episodes.query.y[0])
    counted_passes = counted(lambda: meta_gradient(learner, episodes, "loop", threads=1)) / unit
    assert counted_passes == pytest.approx(passes_of(learner, 10, 15), rel=0.06)
