"""What a task distribution is."""

from __future__ import annotations

from typing import Protocol

import torch

from metalib.episode import Episode


class Tasks(Protocol):
    """What the trainer and the evaluation need of a task distribution."""

    def sample(self, n: int, *, generator: torch.Generator) -> Episode:
        """Draw n tasks: an `Episode` whose tensors have a leading axis of length n."""
        ...
