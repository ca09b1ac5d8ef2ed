"""What several test files share: where things are."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

os.environ.setdefault("METALIB_QUIET", "1")  # progress bars stay out of the captured output

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def committed_records() -> set[str]:
    """Names of the records in results/ that git knows: a reader's own runs lie beside them."""
    listed = subprocess.run(["git", "ls-files", "results/*.json"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: which records are committed is unknown")
    return {Path(name).stem for name in listed.stdout.splitlines()}


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
