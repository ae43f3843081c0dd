"""Scores that stand beside coordinates: of a detector's output some slices lie between 0 and 1, others do not.

Slice by slice, over all samples: 1 less what crosses one half, as a share of all that is above it in either model. The
mean over slices counts, not the sum: where one slice says of every cell that it might be a letter, and another where
there is anything at all, what the first holds would hide what the second loses. Slices in which next to nothing is
above one half are left out, unless all are such.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import Array

_PARTS = 512  # slices that an axis of coordinates and scores has at most
_LEAST = 4.0  # the sum of the scores above one half from which a slice counts on its own


@dataclass
class ScoresBeside:
    """What is kept of an output's slices along ``axis`` while batches go by; without an axis there are none."""

    axis: int | None = None
    seen: bool = False
    bounded: Array | None = None
    lost: Array | None = None
    whole: Array | None = None

    def add(self, a: Array, b: Array) -> None:
        """Take in one batch, float64 arrays of one shape with the samples on axis 0."""
        if not self.seen:
            self.axis, self.seen = _axis_of_scores(a), True
        if self.axis is None:
            return
        if a.ndim <= self.axis or (self.bounded is not None and len(self.bounded) != a.shape[self.axis]):
            self.axis = None
            return
        others = tuple(i for i in range(a.ndim) if i != self.axis)
        lost, whole = (part.sum(axis=others) for part in crossing(a, b))
        bounded = _bounded(a, self.axis)
        self.bounded = bounded if self.bounded is None else self.bounded & bounded
        self.lost = lost if self.lost is None else self.lost + lost
        self.whole = whole if self.whole is None else self.whole + whole

    def kept(self) -> float | None:
        """The share that is kept, 0 to 1; None without slices of scores, or where none of them is above one half."""
        if self.axis is None or self.bounded is None or self.whole is None or self.lost is None:
            return None
        lost, whole = self.lost[self.bounded], self.whole[self.bounded]
        if not whole.sum() > 0:
            return None
        enough = whole >= _LEAST
        return float(1 - ((lost[enough] / whole[enough]).mean() if enough.any() else lost.sum() / whole.sum()))


def crossing(a: Array, b: Array) -> tuple[Array, Array]:
    """By element: the difference where one of the two is above one half alone, and the larger where either is."""
    above, crosses = (a > 0.5) | (b > 0.5), (a > 0.5) != (b > 0.5)
    return np.where(crosses, np.abs(a - np.nan_to_num(b)), 0.0), np.where(above, np.fmax(a, b), 0.0)


def within_one(a: Array) -> bool:
    """Whether all numbers lie between 0 and 1, and there are some."""
    return bool(a.size and a.min() >= 0 and a.max() <= 1)


def _axis_of_scores(a: Array) -> int | None:
    """The first axis behind the samples of which some slices are scores; None too where the whole output is."""
    axes = range(1, a.ndim) if a.size and not within_one(a) else ()
    return next((axis for axis in axes if a.shape[axis] <= _PARTS and _bounded(a, axis).any()), None)


def _bounded(a: Array, axis: int) -> Array:
    others = tuple(i for i in range(a.ndim) if i != axis)
    return np.asarray((a.min(axis=others) >= 0) & (a.max(axis=others) <= 1))
