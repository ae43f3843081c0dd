"""What is asked of the result: one cost to bring down, and limits on the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ...measure.budget import Budget, parse_size

Objective = Literal["bytes", "seconds", "loss", "size and time"]
_OBJECTIVES: Mapping[str, Objective] = {"smallest": "bytes", "fastest": "seconds", "closest": "loss"}


@dataclass(frozen=True)
class Wishes:
    """``objective`` is brought down; ``budget`` holds."""

    objective: Objective
    budget: Budget

    @classmethod
    def of(cls, budget: Budget, aim: str | None) -> Wishes:
        """What a recipe asks for. Without an aim it is what no limit is about: size, time, or both; else the loss."""
        if aim is not None:
            return cls(_OBJECTIVES[aim], budget)
        free: tuple[bool, bool] = (budget.max_size is None, budget.min_speedup is None)
        found: Mapping[tuple[bool, bool], Objective] = {
            (True, True): "size and time",
            (True, False): "bytes",
            (False, True): "seconds",
            (False, False): "loss",
        }
        return cls(found[free], budget)

    def of_loss(self) -> Budget:
        """The limits on what is lost alone."""
        return Budget(max_drop=self.budget.max_drop, min_closeness=self.budget.min_closeness)

    def most_bytes(self, original: int) -> float:
        """How large the file may be."""
        if self.budget.max_size is None:
            return float("inf")
        limit = parse_size(self.budget.max_size)
        return limit.amount * (original if limit.relative else 1)

    def most_seconds(self, original: float) -> float:
        """How long an inference may take."""
        return original / self.budget.min_speedup if self.budget.min_speedup is not None else float("inf")
