"""How well numbers are kept: SQNR in dB, 10 log10(sum x^2 / sum (x - x_q)^2), and the share of clipped numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import Array

_TOLD = 10
_SHORT = 20  # letters of a name in the text


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise): infinite where there is no noise, minus infinite where there is no signal beside it."""
    if noise <= 0:
        return math.inf
    ratio = signal / noise
    return -math.inf if ratio == 0 else 10 * math.log10(ratio)


def told(sqnr: float) -> str:
    """An SQNR as text; one word where there is no noise."""
    return "identical" if sqnr == math.inf else f"{sqnr:.1f} dB"


def weight_sqnr(weight: Array, restored: Array) -> float:
    """SQNR of a weight and what its codes give back."""
    return decibels(_power(weight), _power(np.subtract(weight, restored, dtype=np.float32)))


def _power(values: Array) -> float:
    """Sum of squares: in float32 where that holds it, as it makes no copy."""
    flat = values.reshape(-1)
    with np.errstate(over="ignore", under="ignore"):
        total = float(np.dot(flat, flat))
    return total if 0 < total < float("inf") else float(np.square(flat, dtype=np.float64).sum())


class Worst(list[dict[str, Any]]):
    """The tensors with the lowest SQNR: whole in JSON, a few words as text."""

    def __str__(self) -> str:
        name = self[0]["name"]
        short = name if len(name) <= _SHORT else f"...{name[-_SHORT:]}"
        return f"{told(self[0]['sqnr_db'])} ({short})"


@dataclass
class Quality:
    """What is known of each tensor that a pass rounded."""

    sqnr: dict[str, float] = field(default_factory=dict)
    clipped: dict[str, float] = field(default_factory=dict)

    def add(self, name: str | None, sqnr: float, clipped: float = 0.0) -> None:
        self.sqnr[name or "?"] = sqnr
        if clipped:
            self.clipped[name or "?"] = clipped

    def of(self, name: str | None) -> str:
        """A tensor's SQNR as text."""
        return told(self.sqnr[name or "?"])

    def notes(self) -> dict[str, Any]:
        """Notes for the report: the ten worst tensors, and the largest share of clipped numbers."""
        found: dict[str, Any] = {"worst": Worst(map(self._entry, self._worst()))} if self.sqnr else {}
        if self.clipped:
            found["clipped"] = f"{100 * max(self.clipped.values()):.2g} %"
        return found

    def by_name(self) -> dict[str, float]:
        """The note of passes that clip nothing: the dB of the ten worst tensors."""
        return {name: round(self.sqnr[name], 2) for name in self._worst()}

    def _worst(self) -> list[str]:
        return sorted(self.sqnr, key=self.sqnr.__getitem__)[:_TOLD]

    def _entry(self, name: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": name, "sqnr_db": round(self.sqnr[name], 1)}
        return {**entry, "clipped": float(f"{self.clipped[name]:.2g}")} if name in self.clipped else entry
