"""Precision is set for the length of a meta-step and put back; rounding is emulated where low precision would round."""

import json
import subprocess
import sys
from statistics import median

import pytest
import torch
import torch.nn.functional as F

from conftest import ROOT
from metalib.fast.rounded import Rounded

SCRIPT = """
import torch
from metalib.fast.precision import arithmetic
matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
def seen():
    found = []
    for read in (lambda: matmul.allow_tf32, lambda: cudnn.allow_tf32, torch.get_float32_matmul_precision,
                 lambda: matmul.fp32_precision, lambda: cudnn.conv.fp32_precision, lambda: cudnn.rnn.fp32_precision):
        try:
            found.append(read())
        except (RuntimeError, AttributeError) as error:  # PyTorch's answer to a mixture of old and new switches
            found.append(type(error))
    return found
{}
before = seen()
for precision in ("float32", "tf32", "float32"):
    with arithmetic(precision, "cuda"):
        pass
    assert seen() == before, (precision, before, seen())
try:
    with arithmetic("tf32", "cuda"):
        raise KeyError
except KeyError:
    assert seen() == before
"""


@pytest.mark.parametrize("used", [
    "matmul.allow_tf32 = cudnn.allow_tf32 = True", "torch.backends.fp32_precision = 'tf32'",
    "cudnn.conv.fp32_precision = 'ieee'"])
def test_arithmetic_works_after_any_switch_and_puts_it_back(used):
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(used)], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------- emulated rounding

def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_seven_bits_are_those_of_bfloat16_and_23_those_of_float32():
    x = noise(10_000) * torch.logspace(-20, 20, 10_000)
    assert torch.equal(Rounded(7).rounded(x), x.bfloat16().float()) and torch.equal(Rounded(23).rounded(x), x)


@pytest.mark.parametrize("product", [
    lambda a, b: a @ b, lambda a, b: torch.bmm(a[None], b[None])[0], lambda a, b: torch.mm(a, b, out=torch.empty(6, 4)),
    lambda a, b: torch.ones(6, 4).addmm_(a, b, beta=0), lambda a, b: torch.zeros(1, 6, 4).baddbmm_(a[None], b[None])[0],
    lambda a, b: F.conv2d(a[:, :, None, None], b.T[:, :, None, None])[..., 0, 0]])
def test_the_factors_of_every_product_are_rounded_and_its_result_arrives(product):
    a, b = noise(6, 5), noise(5, 4, seed=1)
    with Rounded(7):
        got = product(a, b)
    right = a.bfloat16().double() @ b.bfloat16().double()
    assert (got - right).abs().max() < 1e-5 < (a @ b - right).abs().max()


def test_what_is_written_to_in_place_is_no_factor():
    total, (a, b) = noise(6, 4), (noise(*s, seed=1).bfloat16().float() for s in ((6, 5), (5, 4)))
    with Rounded(7):
        got = total.clone().addmm_(a, b)
    assert (got - (total.double() + a.double() @ b.double())).abs().max() < 1e-6


def test_the_derivatives_of_a_product_are_products():
    w, x = noise(4, 3, 3, 3).requires_grad_(), noise(2, 3, 8, 8, seed=1)
    z = F.conv2d(x, w)
    g = noise(*z.shape, seed=2)
    with Rounded(7):
        got, = torch.autograd.grad(z, w, g)
    right = torch.nn.grad.conv2d_weight(x.bfloat16().double(), w.shape, g.bfloat16().double())
    assert (got - right).norm() < 1e-5 * right.norm()


@pytest.mark.parametrize("nothing", [lambda: noise(3, 3).double() @ noise(3, 3).double(), lambda: noise(3) + 1])
def test_rounding_nothing_is_an_error(nothing):
    with pytest.raises(RuntimeError, match=r"has rounded nothing.*learner.float\(\)"), Rounded(7):
        nothing()
    with pytest.raises(KeyError), Rounded(7):
        raise KeyError  # not hidden by the other


# ---------------------------------------------------------------- what chapter 6 says of results/precision.json

@pytest.fixture(scope="module")
def record():
    return json.loads((ROOT / "results" / "precision.json").read_text(encoding="utf-8"))


def test_the_record_is_that_of_twelve_pairs_and_of_what_the_page_prints(record):
    assert record["command"].removesuffix(" --force") == "python recipes/precision.py" and record["pairs"] >= 12
    assert record["bits"] == [4, 7, 10, 13, 23] and record["rates"] == [0.4, 0.1, 0.02, 0.001]
    curves = [rows for by_steps in record["curves"].values() for rows in by_steps.values()]
    assert all(len(rows) == record["pairs"] and {len(row) for row in rows} == {6} for rows in curves)


def test_untrained_networks_lose_the_direction_with_five_steps_and_the_trained_one_keeps_it(record):
    at = {name: {J: median(row[record["bits"].index(7)] for row in rows) for J, rows in by_steps.items()}
          for name, by_steps in record["curves"].items()}
    assert at["untrained"]["1"] >= 0.9 and at["untrained"]["5"] <= 0.7
    assert at["trained"]["1"] >= 0.9 and at["trained"]["5"] >= 0.9
    assert min(row[-2] for row in record["curves"]["untrained"]["5"]) < 0.9, "float32 jumps too, says the page"


def test_it_takes_a_kink_and_a_large_rate(record):
    kinks = {name: {float(a): median(c) for a, c in by_rate.items()} for name, by_rate in record["kinks"].items()}
    gentle, tanh = kinks.pop("softplus, average pooling"), kinks.pop("tanh, average pooling")
    assert min(gentle.values()) >= 0.95 and min(tanh.values()) >= 0.95
    assert min(record["kinks"]["tanh, average pooling"]["0.4"]) < 0, "tanh loses the direction in single networks"
    assert {"softplus(20 x) / 20, average pooling", "ReLU, max-pooling"} < set(kinks) and len(kinks) == 4
    assert all(by_rate[0.4] <= 0.8 and by_rate[0.1] <= 0.8 and by_rate[0.001] >= 0.98 for by_rate in kinks.values())
