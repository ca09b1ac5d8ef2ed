"""The fast block's arithmetic is right, not only its formulas: float32 against float64, beside PyTorch's own layers.

tests/test_gradients.py works in float64, which is blind to how a sum over 235,000 values is taken. Here every long sum
is taken in float32. A gradient's error jumps to 1e-3 where a ReLU or a maximum is so close to its kink that rounding
decides it, on one processor and not on the next; so the seeds here are some whose float64 gradient moves by at most
1e-5 when every weight is disturbed by 3e-7 of itself, twice. `python -m bench.float32` takes the seeds as they come.
"""

import json
from statistics import median

import pytest
import torch
import torch.nn.functional as F

import metalib.fast.thin
from bench.float32 import CASES, KINKS, bar, errors
from bench.rows import draw
from conftest import ROOT
from metalib.fast.block import ConvBlock, Moments
from metalib.fast.thin import patch_moments, pooled_products

CALM = {"5-way": (0, 2, 8), "10-way": (2, 8, 10), "20-way": (4, 5, 8)}

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def off(a, b):
    """The largest relative error of an entry of a, whose right values are b."""
    return float(((a.double() - b) / b).abs().max())


def apart(a, b):
    """|a - b| / |b| over all entries."""
    return float((a.double() - b).norm() / b.norm())


# ---------------------------------------------------------------- the whole gradient

@pytest.mark.parametrize("name", CALM)
def test_the_float32_meta_gradient_is_as_exact_as_that_of_pytorch_s_layers(name):
    found = [errors(CASES[name], seed) for seed in CALM[name]]
    assert median(f["metalib"] for f in found) <= bar([f["PyTorch"] for f in found]), found


@pytest.mark.parametrize("name", ["5-way 5-shot", "20-way, first order"])
def test_so_it_is_with_more_shots_and_in_first_order(name):
    found = errors(CASES[name], 0)
    assert found["metalib"] <= bar([found["PyTorch"]]), found


def test_so_it_is_under_vmap():
    found = errors(CASES["10-way"], 2, map="vmap")
    assert found["metalib"] <= bar([found["PyTorch"]]), found


def test_the_record_holds_the_bar_over_twelve_seeds():
    record = json.loads((ROOT / "results" / "float32.json").read_text(encoding="utf-8"))
    assert record["seeds"] >= 12 and record["command"].removesuffix(" --force") == "python -m bench.float32"
    assert list(record["cases"]) == list(CASES)
    for name, case in record["cases"].items():
        assert {k: case[k] for k in CASES[name].settings()} == CASES[name].settings(), name
        assert {who: median(values) for who, values in case["errors"].items()} == case["median"], name
        assert case["bar"] == bar(case["errors"]["PyTorch"]), name
        ours, theirs = case["median"]["metalib"], case["median"]["PyTorch, channels_last"]
        assert ours <= (case["bar"] if case["steps"] == 1 else theirs / 10), name  # metalib.fast.block says why


def test_the_record_s_large_errors_need_a_kink():
    """What the block's docstring and chapter 6 say of the tail: without ReLU and maximum there is none."""
    kinks = json.loads((ROOT / "results" / "float32.json").read_text(encoding="utf-8"))["kinks"]
    assert list(kinks) == list(KINKS) and all(len(errors) >= 12 for errors in kinks.values())
    smooth = max(kinks.pop("softplus, average pooling"))
    assert smooth <= 1e-5 and all(max(errors) >= 10 * smooth for errors in kinks.values())


# ---------------------------------------------------------------- each of its long sums

@pytest.mark.parametrize("images", ["glyphs", "photographs", "bright"])
def test_the_moments_of_a_thin_convolution(images):
    """20-way queries: 300 images. Smooth and bright ones are the hard case of a covariance."""
    if images == "glyphs":
        x = draw(CASES["20-way"]).query.x[0]
    else:
        smooth = F.interpolate(noise(300, 3, 7, 7), size=28, mode="bicubic")
        x = smooth + 0.1 * noise(300, 3, 28, 28, seed=1) + {"photographs": 0.0, "bright": 10.0}[images]
    weight = noise(64, x.shape[1], 3, 3, seed=2)
    weight[::4] -= weight[::4].mean((1, 2, 3), keepdim=True)  # filters that take differences
    z = F.conv2d(x.double(), weight.double(), padding=1)
    var, mean = torch.var_mean(z, (0, 2, 3), correction=0)
    _, our_mean, our_var = patch_moments(x, weight)
    assert our_var.dtype == torch.float32 and off(our_var, var) <= 1e-6
    assert float(((our_mean - mean) / var.sqrt()).abs().max()) <= 1e-6


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(300, 64, 14, 14), (75, 8, 28, 28), (7, 5, 9, 3)])
def test_the_moments_of_channels_and_their_first_two_derivatives(shape, layout):
    C = shape[1]
    z = (noise(*shape) + 3 * noise(C, 1, 1, seed=1)).contiguous(memory_format=layout)
    weights = [noise(*s, seed=i) for i, s in enumerate(((C,), (C,), shape))]

    def all_of(z, a, b, c):
        z = z.requires_grad_()
        mean, var = Moments.apply(z)
        first, = torch.autograd.grad((a * mean.sin() + b * var.log()).sum(), z, create_graph=True)
        second, = torch.autograd.grad((c * first).sum(), z)
        return mean.detach(), var.detach(), first.detach(), second

    ours, right = all_of(z.clone(), *weights), all_of(z.double(), *(w.double() for w in weights))
    assert off(ours[1], right[1]) <= 1e-6
    assert all(apart(a, b) <= 1e-6 for a, b in zip(ours, right, strict=True))


def test_the_moments_of_channels_under_vmap():
    z = noise(3, 75, 16, 14, 14).movedim(2, -1).contiguous().movedim(-1, 2) + 2
    mean, var = torch.vmap(Moments.apply)(z)
    right_var, right_mean = torch.var_mean(z.double(), (1, 3, 4), correction=0)
    assert off(var, right_var) <= 1e-6 and off(mean, right_mean) <= 1e-6


@pytest.mark.parametrize("channels", [64, 8])  # with 8, ten times as many images fit into a cache at once
@pytest.mark.parametrize("room", [metalib.fast.thin.IN_CACHE, 1e12])  # in parts, and whole
def test_the_derivative_by_the_first_filters(room, channels, monkeypatch):
    monkeypatch.setattr(metalib.fast.thin, "IN_CACHE", room)
    patches, filters = noise(300, 784, 9).abs(), noise(channels, 9, seed=1)
    g = noise(300, channels, 14, 14, seed=2) + 0.1

    def derivative(patches, filters, g):
        w = filters.clone().requires_grad_()
        return torch.autograd.grad(pooled_products(patches, w, (28, 28)), w, g)[0]

    assert apart(derivative(patches, filters, g), derivative(patches.double(), filters.double(), g.double())) <= 1e-6


@pytest.mark.parametrize("norm", ["batch", "layer", "instance", "group"])
def test_statistics_are_never_in_less_than_float32(norm):
    block, z = ConvBlock(16, 16, norm), (noise(75, 16, 14, 14) + 1).contiguous(memory_format=torch.channels_last)
    sign = torch.ones(16)
    for low in (torch.bfloat16, torch.float16):
        mean, var = block.statistics(z.to(low), sign)
        right_mean, right_var = block.double().statistics(z.to(low).double(), sign.double())
        assert mean.dtype == var.dtype == torch.float32
        assert apart(mean, right_mean) <= 1e-6 and apart(var, right_var) <= 1e-6
