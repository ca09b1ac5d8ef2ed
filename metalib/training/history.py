"""What happened during a training run."""

from dataclasses import dataclass, field


@dataclass
class History:
    """What happened during training.

    Attributes:
        losses: the mean meta-loss of every meta-iteration.
        validations: (iteration, mean, ci95) of every validation, in the unit of the metric.
        best_iteration: after how many meta-iterations the returned weights were reached.
        chosen: "best on validation tasks" or "last": why these weights were returned.
        seconds: wall time of the training loop.
    """

    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float, float]] = field(default_factory=list)
    best_iteration: int = 0
    chosen: str = "last"
    seconds: float = 0.0

    def __str__(self) -> str:
        tail = self.losses[-100:]
        return (f"{len(self.losses)} meta-iterations, mean meta-loss of the last {len(tail)}: "
                f"{sum(tail) / max(len(tail), 1):.3f}; returned weights: "
                f"{self.chosen} (iteration {self.best_iteration})")
