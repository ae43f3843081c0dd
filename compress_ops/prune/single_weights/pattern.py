"""Where zeros may fall in a weight [rows, taps, inputs]: anywhere, N of M along the inputs, or whole blocks.

A unit is what becomes zero at once: an element, or a block, whose score is the root mean square of its elements'. A
share r of units goes by a limit, the r-quantile of their scores; N:M keeps the N highest of every M neighbours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...arrays import Array
from ...errors import PassError
from .layout import Layout

SYNTAX = r"^(unstructured|[1-9]\d*:[1-9]\d*|[1-9]\d*x[1-9]\d*)$"


def readable(text: Any) -> Any:
    """The text as it is, for the check of a recipe; raises ValueError where it is no pattern."""
    try:
        if isinstance(text, str):
            Pattern.parse(text)
    except PassError as error:
        raise ValueError(f"{error.message}: {error.hint}") from None
    return text


@dataclass(frozen=True)
class Pattern:
    """Blocks of ``rows`` x ``inputs``; or, where ``kept`` is not 0, that many of every ``inputs`` neighbours stay."""

    rows: int = 1
    inputs: int = 1
    kept: int = 0

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """``unstructured``, ``2:4`` (2 of 4 stay), or ``4x1`` (blocks of 4 rows x 1 input)."""
        if not re.match(SYNTAX, text):
            raise PassError(f"'{text}' is no pattern", hint="unstructured, N:M such as 2:4, or blocks such as 4x4")
        if text == "unstructured":
            return cls()
        first, second = map(int, re.split("[:x]", text))
        if "x" in text:
            return cls(first, second)
        if first >= second:
            raise PassError(f"{text} keeps all weights", hint="N:M keeps N of M, so N is the smaller, as in 2:4")
        return cls(1, second, first)

    @property
    def is_structured(self) -> bool:
        return self.rows * self.inputs > 1

    def why_not(self, layout: Layout) -> str:
        """Why a weight cannot be cut into such groups; empty where it can."""
        rows, _, inputs = layout.laid_sizes
        for name, size, whole in (("outputs", self.rows, rows), ("inputs", self.inputs, inputs)):
            if whole % size:
                return f"its {whole} {name} are no multiple of {size}"
        return ""

    def units(self, scores: Array) -> Array:
        """Scores of blocks [rows / height, taps, inputs / width], of scores [rows, taps, inputs] of elements."""
        if not self.is_structured:
            return scores
        cut = self._cut(scores)
        return np.sqrt(np.square(cut, dtype=np.float64).mean(axis=(1, 4)))

    def spread(self, units: Array) -> Array:
        """The elements of units: the inverse of ``units`` for booleans."""
        return units.repeat(self.rows, axis=0).repeat(self.inputs, axis=2) if self.is_structured else units

    def lowest(self, scores: Array) -> Array:
        """N:M: booleans [rows, taps, inputs], where an element is not among the N highest of its M."""
        groups = scores.reshape(*scores.shape[:2], -1, self.inputs)
        ranked = np.argsort(groups, axis=-1, kind="stable")[..., : self.inputs - self.kept]
        found = np.zeros(groups.shape, bool)
        np.put_along_axis(found, ranked, True, axis=-1)
        return found.reshape(scores.shape)

    def _cut(self, array: Array) -> Array:
        """[blocks of rows, rows, taps, blocks of inputs, inputs]."""
        rows, taps, inputs = array.shape
        return array.reshape(rows // self.rows, self.rows, taps, inputs // self.inputs, self.inputs)


def limit_of(units: Array, ratio: float) -> Any:
    """The score of the last of the ``ratio`` lowest of all units, so that at least that share goes."""
    flat = units.reshape(-1)
    rank = max(round(ratio * flat.size) - 1, 0)
    return np.partition(flat, rank)[rank]


def limits_by_row(units: Array, ratio: float) -> Array:
    """The same in each row, as [rows, 1, 1]; a row keeps what is highest, and all of it where all is alike."""
    flat = units.reshape(len(units), -1)
    rank = min(max(round(ratio * flat.shape[1]) - 1, 0), max(flat.shape[1] - 2, 0))
    limits = np.partition(flat, rank, axis=1)[:, rank]
    return np.where(limits < flat.max(axis=1), limits, -1)[:, None, None]
