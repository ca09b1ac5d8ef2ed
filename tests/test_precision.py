"""Precision is set for the length of a meta-step and put back, whatever a script did to PyTorch's switches before."""

import subprocess
import sys

import pytest

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
