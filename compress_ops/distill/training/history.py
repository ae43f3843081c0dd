"""What happened during a training, epoch by epoch: the loss curve of the report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Epoch:
    """Means over the steps of an epoch; ``score`` is the evaluation after it, ``learning_rate`` that of its last step.

    ``terms`` are unweighted. The penalties ``l1`` and ``weight_decay`` are not part of the loss told here.
    """

    number: int
    loss: float
    terms: dict[str, float]
    score: float | None
    learning_rate: float
    seconds: float
    steps: int


@dataclass
class History:
    """``stopped`` says why training ended before its last epoch; ``best`` is the number of the epoch whose weights stay
    (from 1; 0: none was run). ``rate`` is the learning rate before its schedule; ``trials`` are losses by rate,
    where it was found."""

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    stopped: str = ""
    rate: float = 0.0
    trials: list[tuple[float, float]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return sum(epoch.steps for epoch in self.epochs)

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.epochs)
