"""A training as its hooks see it: what they may read and change between steps, and what it costs to ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...runtime import Feeds
from .session import StepSession

_KEPT = ("weights", "scalars", "step", "epoch", "memory", "last")


@dataclass
class Training:
    """A training as ``on_step`` sees it, right before each step, and may change it.

    ``weights`` (by term), ``scalars`` (by name in ``Objective.settings``) and ``memory`` (JSON values of the hook's
    own) are the hook's to change and go into the checkpoint. ``step`` of ``steps`` updates are done; ``last`` holds
    the loss and the unweighted terms of the step before (empty at first).
    """

    session: StepSession
    weights: dict[str, float]
    scalars: dict[str, float]
    steps: int = 0
    step: int = 0
    epoch: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)

    def compute(self, batch: Feeds, weights: Mapping[str, float]) -> None:
        """Losses and gradients of a batch with these weights of the terms."""
        objective = self.session.objective
        weighted = {objective.weights[name]: value for name, value in weights.items()}
        self.session.run(batch, weighted | {objective.settings[name]: value for name, value in self.scalars.items()})

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in _KEPT}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name in _KEPT:
            setattr(self, name, state[name])
