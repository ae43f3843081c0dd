"""How well codes stand for what they were made from: SQNR in dB, 10 log10(sum x^2 / sum (x - x_q)^2), and clipping."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...arrays import Array

EXACT = 200.0
"""dB that stand for no noise at all: more than float64 could tell."""
_TOLD = 10
_SHORT = 20  # letters of a name in the text


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), between 0 and 200 dB where one of them is zero."""
    if noise <= 0 or signal <= 0:
        return EXACT if noise <= 0 else 0.0
    return min(10 * math.log10(signal / noise), EXACT)


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
        return f"{self[0]['sqnr_db']} dB ({short})"


@dataclass
class Quality:
    """What is known about each tensor that became integers."""

    sqnr: dict[str, float] = field(default_factory=dict)
    clipped: dict[str, float] = field(default_factory=dict)

    def add(self, name: str | None, sqnr: float, clipped: float = 0.0) -> None:
        self.sqnr[name or "?"] = sqnr
        if clipped:
            self.clipped[name or "?"] = clipped

    def of(self, name: str | None) -> str:
        """A tensor's SQNR as text."""
        return f"{self.sqnr[name or '?']:.1f} dB"

    def notes(self) -> dict[str, Any]:
        """Notes for the report: the ten worst tensors, and the largest share of clipped numbers."""
        worst = sorted(self.sqnr, key=self.sqnr.__getitem__)[:_TOLD]
        found: dict[str, Any] = {"worst": Worst(map(self._told, worst))} if worst else {}
        if self.clipped:
            found["clipped"] = _percent(max(self.clipped.values()))
        return found

    def _told(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = {"name": name, "sqnr_db": round(self.sqnr[name], 1)}
        return {**told, "clipped": float(f"{self.clipped[name]:.2g}")} if name in self.clipped else told


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
