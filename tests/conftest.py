"""What several test files share: where things are, and where every test starts from."""

import random
import subprocess
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("agg")  # no window, whatever the machine has

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def committed_records() -> set[str]:
    """Names of the records in results/ that git knows: a reader's own runs lie beside them."""
    listed = subprocess.run(["git", "ls-files", ":(glob)results/*.json"],  # not those in folders of results/
                            cwd=ROOT, capture_output=True, encoding="utf-8")
    if listed.returncode:
        pytest.skip("not a git checkout: which records are committed is unknown")
    return {Path(name).stem for name in listed.stdout.splitlines()}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    """The same start for every test and its fixtures, whatever ran before it and however many cores there are."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the generator that a library may use behind our back)
    torch.manual_seed(0)
    return (yield)


@pytest.fixture
def one_thread():
    """One thread within an operator, for the length of a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
