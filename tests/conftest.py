"""What several test files share: where things are."""

import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("METALIB_QUIET", "1")  # progress bars stay out of the captured output

ROOT = Path(__file__).parents[1]


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
