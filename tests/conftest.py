"""What several test files share: where things are."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("METALIB_QUIET", "1")  # progress bars stay out of the captured output

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
