"""Precision is set for the length of a meta-step and put back; rounding is emulated where low precision would round."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

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
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(used)], capture_output=True, text=True)
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
