"""The meta-gradient is right: against double backward by hand, finite differences and closed forms.

Everything runs in float64. The expected values come from plain `torch.autograd.grad(create_graph=True)`,
one task at a time, written out below; metalib is only what is tested. A network of metalib's own is
compared with a plain one made of PyTorch's layers.
"""

import math
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap

import metalib.fast.thin
from metalib import FOMAML, MAML, Data, Episode, PixelFloor, ProtoNet, certify_gradient, conv4, meta_gradient, mlp
from metalib.episode import task_axis
from metalib.fast.thin import pooled_products
from metalib.functional import Params, hvp
from metalib.nets import NORMS

STEPS = (1, 2, 3, 4, 5)
WAY = 3
MENDED = ("grad(vmap) is right through {} on torch {}: pytorch/functorch#534 is mended. Say so in chapter 4, "
          "in Learner.task_gradient, and turn this test into one that both orders are right.")


pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------- what is compared with what

def by_hand(net: nn.Module, episodes: Episode, alpha: float, J: int, order: int) -> tuple[Params, float]:
    """The mean meta-gradient and meta-loss by double backward: each task by itself, no vmap, no metalib."""
    total, mean = {k: torch.zeros_like(p) for k, p in net.named_parameters()}, 0.0
    T = len(episodes.support.x)
    for t in range(T):
        (sx, sy, _), (qx, qy, _) = ((d.x[t], d.y[t], None) for d in episodes)
        theta = {k: p.detach().clone().requires_grad_() for k, p in net.named_parameters()}
        phi = theta
        for _ in range(J):
            support_loss = loss_of(functional_call(net, phi, (sx,)), sy)
            g = torch.autograd.grad(support_loss, list(phi.values()), create_graph=order == 2)
            phi = {k: p - alpha * g_k for (k, p), g_k in zip(phi.items(), g, strict=True)}
        query_loss = loss_of(functional_call(net, phi, (qx,)), qy)
        for k, g_k in zip(total, torch.autograd.grad(query_loss, list(theta.values())), strict=True):
            total[k] += g_k / T
        mean += float(query_loss.detach()) / T
    return total, mean


def loss_of(prediction, y):
    return F.mse_loss(prediction, y) if y.is_floating_point() else F.cross_entropy(prediction, y)


def grads(learner) -> Params:
    return {k.removeprefix("net."): p.grad for k, p in learner.named_parameters()}


def distance(a: Params, b: Params) -> float:
    """|a - b| / |b| over all entries; NaN and infinity never pass for small."""
    assert a.keys() == b.keys()
    diff, size = sum((a[k] - b[k]).pow(2).sum() for k in b), sum(b[k].pow(2).sum() for k in b)
    assert size > 0 and torch.isfinite(diff)
    return float((diff / size).sqrt())


def images(size: int, *, channels: int = 1, tasks: int = 2, shot: int = 2, seed: int = 0) -> Episode:
    """A meta-batch of noise images; shot=2 for several of each class; query differs from support."""
    g = torch.Generator().manual_seed(seed)
    M = WAY * shot

    def data():
        x = torch.randn(tasks, M, channels, size, size, generator=g, dtype=torch.float64)
        y = torch.arange(WAY).repeat_interleave(shot)
        return Data(x, torch.stack([y[torch.randperm(M, generator=g)] for _ in range(tasks)]), WAY)

    return Episode(data(), data())


def shaken(net: nn.Module, seed: int = 0) -> nn.Module:
    """The net in float64 with generic weights, all of them from `seed`; norm scales far from 1, half negative."""
    g = torch.Generator().manual_seed(seed)
    net = net.double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            noise = torch.randn(p.shape, generator=g, dtype=torch.float64)
            if "scale" in name:
                p.copy_((0.5 + noise.abs()) * torch.where(torch.arange(p.numel()) % 2 == 0, 1.0, -1.0))
            else:
                start = 1.0 if p.ndim == 1 and name.endswith("weight") else 0.0  # of a norm; biases start at 0
                p.copy_(start + 0.2 * noise if p.ndim == 1 else noise / math.sqrt(p[0].numel()))
    return net


class ScaledNorm(nn.Module):
    """One of PyTorch's own norms without affine parameters, then a learned scale and shift per channel."""

    def __init__(self, kind: str | None, channels: int, groups: int) -> None:
        super().__init__()
        self.kind = kind
        self.norm = {"batch": lambda: nn.BatchNorm2d(channels, affine=False, track_running_stats=False),
                     "instance": lambda: nn.InstanceNorm2d(channels),
                     "group": lambda: nn.GroupNorm(groups, channels, affine=False)}.get(kind, nn.Identity)()
        self.scale = nn.Parameter(torch.ones(channels)) if kind else None
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, z):
        z = F.layer_norm(z, z.shape[1:]) if self.kind == "layer" else self.norm(z)
        z = z if self.scale is None else z * self.scale[:, None, None]
        return z + self.bias[:, None, None]


class PlainConv4(nn.Module):
    """What conv4 is defined to compute, in the papers' order: convolution, norm, ReLU, then max-pool."""

    def __init__(self, out_dim: int, channels: int, norm: str | None, image_size: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1 if i == 0 else channels, channels, 3, padding=1, bias=False)
                                   for i in range(4))
        self.norms = nn.ModuleList(ScaledNorm(norm, channels, min(8, channels)) for _ in range(4))
        self.head = nn.Linear(channels * (image_size // 16) ** 2, out_dim)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
        return self.head(x.flatten(1))

    @staticmethod
    def name(key: str) -> str:
        """The name here of one of conv4's parameters."""
        if not key.startswith("blocks."):
            return key
        _, i, what = key.split(".")
        return f"convs.{i}.weight" if what == "weight" else f"norms.{i}.{what}"


class SmoothNet(nn.Module):
    """Two blocks of [convolution, one of PyTorch's affine norms, tanh, average pooling], then linear."""

    def __init__(self, norm: str | None, channels: int = 4, size: int = 8) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, channels, 3, padding=1) for i in (1, channels))
        self.norms = nn.ModuleList(native_norm(norm, channels, side) for side in (size, size // 2))
        self.head = nn.Linear(channels * (size // 4) ** 2, WAY)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.avg_pool2d(torch.tanh(norm(conv(x))), 2)
        return self.head(x.flatten(1))


def native_norm(kind: str | None, channels: int, side: int) -> nn.Module:
    return {"batch": lambda: nn.BatchNorm2d(channels, track_running_stats=False),
            "instance": lambda: nn.InstanceNorm2d(channels, affine=True),
            "group": lambda: nn.GroupNorm(2, channels),
            "layer": lambda: nn.LayerNorm([channels, side, side])}.get(kind, nn.Identity)()


# ---------------------------------------------------------------- vmap = loop = a double backward by hand

@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("J", STEPS)
def test_conv4_meta_gradient_is_the_double_backward_in_either_map(norm, J, order):
    net, episodes = shaken(conv4(WAY, channels=16, norm=norm, image_size=16)), images(16)
    expected, loss = by_hand(net, episodes, 0.1, J, order)
    for how in ("vmap", "loop"):
        learner = MAML(net, inner_lr=0.1, steps=J, order=order)
        assert float(meta_gradient(learner, episodes, how)) == pytest.approx(loss, rel=1e-10), how
        assert distance(grads(learner), expected) <= 1e-10, how


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("J", STEPS)
def test_meta_gradient_through_pytorch_norms_is_the_double_backward_in_either_map(norm, J, order):
    net, episodes = shaken(SmoothNet(norm)), images(8, tasks=3)
    expected, loss = by_hand(net, episodes, 0.2, J, order)
    for how in ("vmap", "loop"):
        learner = MAML(net, inner_lr=0.2, steps=J, order=order)
        assert float(meta_gradient(learner, episodes, how)) == pytest.approx(loss, rel=1e-10), how
        assert distance(grads(learner), expected) <= 1e-10, how


def test_vmap_in_chunks_is_the_same_gradient():
    learner, episodes = MAML(shaken(SmoothNet("batch")), inner_lr=0.2, steps=2), images(8, tasks=5)
    meta_gradient(learner, episodes, "vmap")
    whole = grads(learner)
    meta_gradient(learner, episodes, "vmap", chunk=2)
    assert distance(grads(learner), whole) <= 1e-12


def test_the_memory_layout_of_the_images_does_not_change_the_gradient():
    net, episodes = shaken(conv4(WAY, channels=8, in_channels=3, image_size=16)), images(16, channels=3)
    expected, _ = by_hand(net, episodes, 0.1, 2, 2)
    channels_last = Episode(*(Data(d.x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3), d.y, d.way)
                              for d in episodes))
    assert channels_last.support.x.stride() != episodes.support.x.stride()
    learner = MAML(net, inner_lr=0.1, steps=2)
    for layout in (episodes, channels_last):
        meta_gradient(learner, layout, "loop")
        assert distance(grads(learner), expected) <= 1e-10


@pytest.mark.parametrize("T", [1, 2, 3, 5])
def test_the_loop_is_right_for_any_number_of_tasks_and_threads(T):
    net, episodes = shaken(conv4(WAY, channels=8, image_size=16)), images(16, tasks=T)
    expected, loss = by_hand(net, episodes, 0.1, 2, 2)
    learner = MAML(net, inner_lr=0.1, steps=2)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert float(meta_gradient(learner, episodes, "loop")) == pytest.approx(loss, rel=1e-10)
        assert distance(grads(learner), expected) <= 1e-10
    assert torch.is_grad_enabled()


# ---------------------------------------------------------------- finite differences

@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("J", STEPS)
def test_second_order_is_the_directional_finite_difference_on_a_smooth_net(norm, J):
    net, episodes = shaken(SmoothNet(norm)), images(8)
    learner = MAML(net, inner_lr=0.2, steps=J)
    meta_gradient(learner, episodes)
    exact = grads(learner)
    theta = {k: p.detach() for k, p in net.named_parameters()}
    g = torch.Generator().manual_seed(J)
    v = {k: torch.randn(p.shape, generator=g, dtype=torch.float64) for k, p in theta.items()}

    def meta_loss(h):
        moved = SmoothNet(norm).double()
        moved.load_state_dict({k: p + h * v[k] for k, p in theta.items()})
        return by_hand(moved, episodes, 0.2, J, 1)[1]  # the loss does not depend on the order

    slope = float(sum((exact[k] * v[k]).sum() for k in v))
    errors = [abs((meta_loss(h) - meta_loss(-h)) / (2 * h) / slope - 1) for h in (1e-4, 1e-5)]
    assert min(errors) <= 1e-5


# ---------------------------------------------------------------- closed forms

@pytest.mark.parametrize("J", STEPS)
def test_the_one_dimensional_quadratic_by_hand(J):
    """L_S(phi) = (phi - 1)^2, L_Q(phi) = (phi - 3)^2: phi_J = 1 + r^J (theta - 1), r = 1 - 2 alpha."""
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(net.weight, 0.7)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    alpha, learner = 0.1, MAML(net, inner_lr=0.1, steps=J)
    r = 1 - 2 * alpha
    phi = 1 + r**J * (0.7 - 1)
    loss = meta_gradient(learner, Episode(Data(one, one), Data(one, 3 * one)))
    assert float(loss) == pytest.approx((phi - 3) ** 2, rel=1e-12)
    assert float(net.weight.grad) == pytest.approx(r**J * 2 * (phi - 3), rel=1e-12)


@pytest.mark.parametrize("how", ["vmap", "loop"])
@pytest.mark.parametrize("J", STEPS)
def test_the_quadratic_in_many_dimensions_has_its_closed_form(J, how):
    """Linear regression: g = P H_Q (phi_J - w_Q), phi_J = w_S + P (theta - w_S), P = (I - alpha H)^J."""
    D, M, T, alpha = 6, 10, 4, 0.1
    g = torch.Generator().manual_seed(0)
    x, qx = (torch.randn(T, M, D, generator=g, dtype=torch.float64) for _ in range(2))
    y, qy = (torch.randn(T, M, 1, generator=g, dtype=torch.float64) for _ in range(2))
    net = nn.Linear(D, 1, bias=False).double()
    theta, expected, loss = net.weight.detach().T, torch.zeros(D, 1, dtype=torch.float64), 0.0
    for t in range(T):
        H, H_Q = 2 / M * x[t].T @ x[t], 2 / M * qx[t].T @ qx[t]
        w_S, w_Q = (torch.linalg.solve(a.T @ a, a.T @ b) for a, b in ((x[t], y[t]), (qx[t], qy[t])))
        power = torch.linalg.matrix_power(torch.eye(D, dtype=torch.float64) - alpha * H, J)
        phi = w_S + power @ (theta - w_S)
        expected += power @ H_Q @ (phi - w_Q) / T
        loss += float((qx[t] @ phi - qy[t]).pow(2).mean()) / T
    learner = MAML(net, inner_lr=alpha, steps=J)
    measured = meta_gradient(learner, Episode(Data(x, y), Data(qx, qy)), how)
    assert float(measured) == pytest.approx(loss, rel=1e-12)
    assert distance({"w": net.weight.grad.T}, {"w": expected}) <= 1e-12


@pytest.mark.parametrize("J", STEPS)
@pytest.mark.parametrize("norm", [None, "batch"])
def test_the_factors_stand_in_the_derived_order(norm, J):
    """(I - alpha H_0) ... (I - alpha H_{J-1}) grad L_Q(phi_J): the last factor is applied first."""
    net, episode = shaken(conv4(WAY, channels=8, norm=norm, image_size=16)), images(16, tasks=1)
    learner = MAML(net, inner_lr=0.2, steps=J)
    meta_gradient(learner, episode)
    exact, (support, query) = grads(learner), episode.task(0)

    def product(order):
        path = [{k: p.detach() for k, p in phi.items()} for phi in learner.path(support)]
        v = grad(learner.support_loss)(path[J], query)
        for j in order:
            Hv = hvp(lambda phi: learner.support_loss(phi, support), path[j], v)
            v = {k: v[k] - 0.2 * Hv[k] for k in v}
        return v

    assert distance(product(reversed(range(J))), exact) <= 1e-10
    if J > 1:  # a check that cannot tell the two orders apart would check nothing
        assert distance(product(range(J)), exact) > 1e-4


# ---------------------------------------------------------------- first order

@pytest.mark.parametrize("how", ["vmap", "loop"])
@pytest.mark.parametrize("J", STEPS)
def test_fomaml_is_exactly_the_gradient_at_the_adapted_weights(J, how):
    net, episode = shaken(SmoothNet("batch")), images(8, tasks=1)
    learner = FOMAML(net, inner_lr=0.2, steps=J)
    meta_gradient(learner, episode, how)
    support, query = episode.task(0)
    phi = {k: p.detach().requires_grad_() for k, p in learner.adapt(support).items()}
    query_loss = F.cross_entropy(functional_call(net, phi, (query.x,)), query.y)
    expected = dict(zip(phi, torch.autograd.grad(query_loss, list(phi.values())), strict=True))
    if how == "loop":  # the same kernels: bit for bit
        assert all(torch.equal(grads(learner)[k], expected[k]) for k in expected)
    assert distance(grads(learner), expected) <= 1e-13


def test_fomaml_is_not_maml_unless_there_is_nothing_to_differentiate_through():
    net, episodes = shaken(SmoothNet("batch")), images(8)

    def gradient(**settings):
        learner = MAML(net, **settings)
        meta_gradient(learner, episodes)
        return grads(learner)

    assert distance(gradient(inner_lr=0.2, steps=2, order=1), gradient(inner_lr=0.2, steps=2, order=2)) > 1e-3
    for trivial in ({"inner_lr": 0.2, "steps": 0}, {"inner_lr": 0.0, "steps": 3}):
        assert distance(gradient(**trivial, order=1), gradient(**trivial, order=2)) <= 1e-14


# ---------------------------------------------------------------- conv4 is the plain network

@pytest.mark.parametrize("in_cache", [metalib.fast.thin.IN_CACHE, 1])  # 1: the first layer goes image by image
@pytest.mark.parametrize("size", [16, 28])
@pytest.mark.parametrize("norm", NORMS)
def test_conv4_is_conv_norm_relu_pool_negative_scales_included(norm, size, in_cache, monkeypatch):
    monkeypatch.setattr(metalib.fast.thin, "IN_CACHE", in_cache)
    net = shaken(conv4(WAY, channels=16, norm=norm, image_size=size))
    plain = PlainConv4(WAY, 16, norm, size).double()
    plain.load_state_dict({PlainConv4.name(k): p for k, p in net.named_parameters()})
    if norm:
        assert all((block.scale < 0).any() and (block.scale > 0).any() for block in net.blocks)
    x = images(size).query.x[0]
    torch.testing.assert_close(net(x), plain(x), rtol=1e-10, atol=1e-10)

    def renamed(gradient):
        return {PlainConv4.name(k): g for k, g in gradient.items()}

    episodes = images(size, tasks=1)
    # After three steps through instance norm over 2 x 2 pixels a rounding error has grown a million times.
    for J in (0, 1, 3):  # first derivatives, then second ones
        expected = by_hand(plain, episodes, 0.1, J, 2)[0]
        assert distance(renamed(by_hand(net, episodes, 0.1, J, 2)[0]), expected) <= 1e-8
        for how in ("vmap", "loop"):
            learner = MAML(net, inner_lr=0.1, steps=J)
            meta_gradient(learner, episodes, how)
            assert distance(renamed(grads(learner)), expected) <= 1e-8


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize("size", [(5, 6, 6), (5, 7, 4)])  # an odd side has a row that no pooling window holds
def test_products_pooled_in_parts_have_the_first_three_derivatives_of_the_whole(size, at_once, monkeypatch):
    (M, H, W), g = size, torch.Generator().manual_seed(0)
    patches, filters, weights = (torch.randn(*s, generator=g, dtype=torch.float64)
                                 for s in ((M, H * W, 9), (4, 9), (M, 4, H // 2, W // 2)))

    def derivatives(room):
        monkeypatch.setattr(metalib.fast.thin, "IN_CACHE", room)
        w = filters.clone().requires_grad_()
        y = pooled_products(patches, w, (H, W))
        first, = torch.autograd.grad((weights * y.sin()).sum(), w, create_graph=True)
        second, = torch.autograd.grad(first.pow(3).sum(), w, create_graph=True)
        return y, first, second, *torch.autograd.grad(second.pow(2).sum(), w)

    apart, whole = derivatives(at_once * H * W * 4), derivatives(1e9)
    assert ("PooledProducts" in str(apart[0].grad_fn)) == (at_once < M) and "MaxPool" in str(whole[0].grad_fn)
    for a, b in zip(apart, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_derivatives_of_conv4_with_respect_to_its_images_are_those_of_the_plain_network(norm):
    net = shaken(conv4(WAY, channels=16, norm=norm, image_size=16))
    plain = PlainConv4(WAY, 16, norm, 16).double()
    plain.load_state_dict({PlainConv4.name(k): p for k, p in net.named_parameters()})
    x, y = images(16).task(0).query[:2]

    def first_and_second(f):
        x_ = x.clone().requires_grad_()
        first = torch.autograd.grad(F.cross_entropy(f(x_), y), x_, create_graph=True)[0]
        return first.detach(), torch.autograd.grad(first.pow(2).sum(), x_)[0]

    for a, b in zip(first_and_second(net), first_and_second(plain), strict=True):
        assert distance({"x": a}, {"x": b}) <= 1e-10


@pytest.mark.parametrize("M", [5, 75])  # with 75 images the first layer goes in parts, which only autograd may see
def test_conv4_is_exported_as_plain_operators(M):
    """To ONNX, say: no custom function, no out= argument, no batch_norm_update_stats."""
    net, x = conv4(WAY), torch.rand(M, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        program = torch.export.export(net, (x,))
        torch.testing.assert_close(program.module()(x), net(x), rtol=1e-5, atol=1e-5)
    used = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert any("max_pool2d" in name for name in used)
    assert all(name.startswith("aten.") and ".out" not in name and "batch_norm" not in name for name in used), used


# ---------------------------------------------------------------- grad(vmap) is silently wrong upstream

def wrong_order_error(norm: str, J: int) -> float:
    """Error of differentiating the vmapped loss, where vmapping the gradient would be right."""
    net, episodes = shaken(SmoothNet(norm)), images(8, tasks=3)
    learner = MAML(net, inner_lr=0.2, steps=J)
    expected, loss = by_hand(net, episodes, 0.2, J, 2)
    theta = {k: p.detach() for k, p in learner.named_parameters()}

    def mean_loss(theta):
        return vmap(lambda e: functional_call(learner, theta, (e,)), in_dims=(task_axis(episodes),))(episodes).mean()

    assert float(mean_loss(theta)) == pytest.approx(loss, rel=1e-12)  # the loss gives no hint
    return distance({k.removeprefix("net."): g for k, g in grad(mean_loss)(theta).items()}, expected)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("J", [1, 5])
def test_grad_of_vmap_is_wrong_through_batch_and_layer_norm_on_this_torch(norm, J):
    error = wrong_order_error(norm, J)
    if error <= 1e-10 and not torch.__version__.startswith("2.13."):
        pytest.skip(MENDED.format(f"{norm} norm", torch.__version__))
    assert error > 1e-3


@pytest.mark.parametrize("norm", ["group", None])
def test_grad_of_vmap_is_right_where_the_norm_has_no_faulty_batching_rule(norm):
    assert wrong_order_error(norm, 3) <= 1e-10


def test_backward_on_a_vmapped_loss_is_wrong_too():
    net, episodes = shaken(SmoothNet("batch")), images(8, tasks=3)
    learner = MAML(net, inner_lr=0.2, steps=3)
    vmap(learner, in_dims=(task_axis(episodes),))(episodes).mean().backward()
    error = distance(grads(learner), by_hand(net, episodes, 0.2, 3, 2)[0])
    if error <= 1e-10 and not torch.__version__.startswith("2.13."):
        pytest.skip(MENDED.format("batch norm", torch.__version__))
    assert error > 1e-3


# ---------------------------------------------------------------- the certificate

class Forgetful(MAML):
    """A planted fault: the derivative of the inner loop is forgotten, and nothing says so."""

    def task_gradient(self, theta, episode):
        return FOMAML(self.net, self.inner_lr, self.steps).task_gradient(theta, episode)


class SlightlyOff(MAML):
    """A planted fault of one part in a million, in one tensor."""

    def task_gradient(self, theta, episode):
        g, loss = super().task_gradient(theta, episode)
        return {k: v * (1 + 1e-6) if k == "net.head.weight" else v for k, v in g.items()}, loss


@pytest.mark.parametrize("faulty", [Forgetful, SlightlyOff])
def test_certify_gradient_fails_on_a_planted_wrong_gradient(faulty):
    certificate = certify_gradient(faulty(shaken(SmoothNet("batch")), inner_lr=0.2, steps=2), images(8))
    assert not certificate.passed and "FAILED" in str(certificate)
    assert certificate.vmap > 1e-8 and certificate.loop > 1e-8


@pytest.mark.parametrize("J", STEPS)
def test_certify_gradient_passes_on_the_right_one(J):
    learner = MAML(shaken(SmoothNet("batch")), inner_lr=0.2, steps=J)
    certificate = certify_gradient(learner, images(8), smooth=True)
    assert certificate.passed and "passed" in str(certificate)
    assert certificate.finite_difference <= 1e-5


class CutByData(MAML):
    """A planted fault that a double backward shares: `.data` takes the inner gradient for a constant."""

    def path(self, support, steps=None):
        phi = dict(self.net.named_parameters())
        iterates = [phi]
        for _ in range(self.steps):
            loss = F.cross_entropy(functional_call(self.net, phi, (support.x,)), support.y)
            g = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
            phi = {k: p - self.inner_lr * g_k.data for (k, p), g_k in zip(phi.items(), g, strict=True)}
            iterates.append(phi)
        return iterates


class CutByDetach(ProtoNet):
    """The same for prototypes that are no function of the encoder."""

    def adapt(self, support):
        return super().adapt(support).detach()


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("make", [
    lambda: FOMAML(shaken(SmoothNet("batch")), inner_lr=0.2, steps=2),
    lambda: FOMAML(shaken(conv4(WAY, channels=8, image_size=16)), inner_lr=0.2, steps=2),
    lambda: FOMAML(mlp(256, (16,), WAY), inner_lr=0.2, steps=1),
    lambda: CutByData(shaken(SmoothNet("group")), inner_lr=0.2, steps=2),
    lambda: CutByData(conv4(WAY, channels=8, image_size=16, norm=None), inner_lr=0.2, steps=1),
    lambda: CutByDetach(conv4(channels=8, image_size=16))])
def test_certify_gradient_fails_on_what_a_double_backward_cannot_see(make, smooth):
    learner = make()
    size = 8 if isinstance(getattr(learner, "net", None), SmoothNet) else 16
    certificate = certify_gradient(learner, images(size), smooth, map="loop")
    assert certificate.consistent and not certificate.passed and certificate.finite_difference > 1e-2
    assert "FAILED, it differs from the meta-loss's gradient" in str(certificate)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("norm", NORMS)
def test_certify_gradient_passes_where_there_are_kinks(norm, seed):
    torch.manual_seed(seed)
    learner = MAML(conv4(WAY, channels=8, image_size=16, norm=norm), inner_lr=0.4, steps=2)
    episodes = images(16)
    blank = Episode(*(d._replace(x=d.x.clamp(min=0)) for d in episodes))  # zero biases: units that stand on their kink
    for e in (episodes, blank):
        certificate = certify_gradient(learner, e)
        assert certificate.passed and certificate.finite_difference < 1e-5


def test_a_declared_approximation_is_consistent_not_verified():
    learner = FOMAML(shaken(SmoothNet("batch")), inner_lr=0.2, steps=2)
    learner.approximate = True
    certificate = certify_gradient(learner, images(8))
    assert "consistent, not verified" in str(certificate) and "not counted" in str(certificate)
    assert certificate.consistent and not certificate.passed
    faulty = Forgetful(shaken(SmoothNet("batch")), inner_lr=0.2, steps=2)
    faulty.approximate = True  # a declaration excuses no disagreement of vmap, loop and double backward
    assert "FAILED" in str(certify_gradient(faulty, images(8)))


class Recurrent(nn.Module):
    """Rows of an image as a sequence."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.head = kind(8, 6, batch_first=True), nn.Linear(6, WAY)

    def forward(self, x):
        return self.head(self.rnn(x.squeeze(1))[0][:, -1])


@pytest.mark.parametrize("make", [
    lambda: MAML(Recurrent(nn.LSTM), inner_lr=0.5), lambda: MAML(Recurrent(nn.GRU), inner_lr=0.5),
    lambda: ProtoNet(Recurrent(nn.LSTM)),
    lambda: MAML(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, WAY)))])
def test_certify_gradient_certifies_the_loop_where_vmap_cannot_go(make):
    torch.manual_seed(0)
    learner, episodes, state = make(), images(8), torch.get_rng_state()
    for map in ("auto", "loop"):
        certificate = certify_gradient(learner, episodes, smooth=True, map=map)
        assert certificate.passed and certificate.vmap is None and "cannot go" in str(certificate)
    with pytest.raises(RuntimeError, match="map='loop'"):
        certify_gradient(learner, episodes, map="vmap")
    assert torch.equal(torch.get_rng_state(), state)


def rows():
    """One task of vectors (6, 4) in float64, 3-way 2-shot."""
    g, y = torch.Generator().manual_seed(0), torch.arange(3).repeat(2)[None]
    return Episode(*(Data(torch.randn(1, 6, 4, generator=g, dtype=torch.float64), y, 3) for _ in "sq"))


def test_certify_gradient_refuses_what_it_cannot_check():
    net = SmoothNet("batch")
    net.cache = net.head(torch.zeros(1, 16))  # not a leaf
    with pytest.raises(ValueError, match="MAML cannot be copied.*build it anew"):
        certify_gradient(MAML(net), images(8))
    locked = SmoothNet("batch")
    locked.lock = threading.Lock()
    with pytest.raises(ValueError, match="ProtoNet cannot be copied"):
        certify_gradient(ProtoNet(locked), images(8))
    for nothing in (PixelFloor(), MAML(SmoothNet("batch").requires_grad_(False))):
        with pytest.raises(ValueError, match="nothing to certify"):
            certify_gradient(nothing, images(8))
    with pytest.raises(ValueError, match="expected 'auto'"):
        certify_gradient(MAML(SmoothNet("batch")), images(8), map="threads")
    layer = nn.Linear(4, 4).double()
    captured = nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 3)).double()
    captured[1].forward = lambda x: torch.tanh(F.linear(x, layer.weight))  # a copy's would use the original's weight
    with pytest.raises(ValueError, match="still uses the original's 'net.0.weight'.*attribute of the module"):
        certify_gradient(MAML(captured), rows())
    with pytest.raises(ValueError, match="complex parameters.*view_as_complex"):
        certify_gradient(ProtoNet(nn.Linear(4, 4, dtype=torch.complex128)), rows())


def test_certify_gradient_takes_one_task_or_many_in_float32_and_leaves_the_learner_alone():
    learner = MAML(mlp(1, [8], 1, activation="tanh"), inner_lr=0.1, steps=2)
    before = {k: p.detach().clone() for k, p in learner.named_parameters()}
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(3, 5, 1, generator=g) for _ in range(2))
    episodes = Episode(Data(x, y), Data(-x, y))
    assert certify_gradient(learner, episodes, smooth=True).passed
    assert certify_gradient(learner, episodes.task(0), smooth=True).passed
    assert all(torch.equal(p, before[k]) and p.grad is None and p.dtype == torch.float32
               for k, p in learner.named_parameters())


# ---------------------------------------------------------------- what meta_gradient promises besides

def test_meta_gradient_overwrites_what_was_there():
    learner, episodes = MAML(shaken(SmoothNet(None)), inner_lr=0.2), images(8)
    meta_gradient(learner, episodes)
    first = {k: g.clone() for k, g in grads(learner).items()}
    meta_gradient(learner, episodes)
    assert all(torch.equal(grads(learner)[k], first[k]) for k in first)


def test_meta_gradient_leaves_frozen_parameters_alone():
    net, episodes = shaken(SmoothNet("group")), images(8)
    whole = MAML(net, inner_lr=0.2, steps=2, adapts="all")  # what is frozen is not meta-learned, but adapts
    meta_gradient(whole, episodes)
    expected = {k: g.clone() for k, g in grads(whole).items()}
    for p in net.parameters():
        p.grad = None
    net.head.requires_grad_(False)
    for how in ("vmap", "loop"):
        meta_gradient(whole, episodes, how)
        assert net.head.weight.grad is None and net.head.bias.grad is None
        assert all(torch.allclose(p.grad, expected[k], rtol=1e-10, atol=1e-12)
                   for k, p in net.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("how", ["vmap", "loop"])
def test_meta_gradient_changes_neither_weights_nor_the_graph(how):
    learner, episodes = MAML(shaken(conv4(WAY, channels=8, image_size=16)), inner_lr=0.1), images(16)
    before = {k: p.detach().clone() for k, p in learner.named_parameters()}
    loss = meta_gradient(learner, episodes, how)
    assert not loss.requires_grad and all(not p.grad.requires_grad for p in learner.parameters())
    assert all(torch.equal(p, before[k]) for k, p in learner.named_parameters())


def test_an_unknown_map_is_refused_with_the_three_that_exist():
    with pytest.raises(ValueError, match="map='threads': expected 'auto', 'vmap' or 'loop'"):
        meta_gradient(MAML(SmoothNet(None).double()), images(8), "threads")


def test_an_episode_without_a_task_axis_is_refused_with_the_fix():
    with pytest.raises(ValueError, match="leading task axis.*tasks.sample"):
        meta_gradient(MAML(SmoothNet(None).double()), images(8).task(0))


@pytest.mark.parametrize("wrong", [{"order": 3}, {"order": 0}, {"inner_lr": -0.1}, {"steps": -1}])
def test_maml_refuses_settings_that_mean_nothing(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MAML(SmoothNet(None), **wrong)
