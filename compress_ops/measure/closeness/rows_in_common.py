"""Lists of rows of which the data decides how many there are: boxes that suppression keeps, words that were found.

Row by row such lists cannot be compared: one box less moves all behind it. A row of one list is in the other if some
row there differs by at most 5 % of what the column's numbers spread over (numbers that are no floats: by nothing).
What both have, twice, over what each has (F1; the smaller count of the two, so that a row is not found twice) is 1
where the lists are the same but for their order.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array

_NEAR = 0.05
_MOST = 1024  # rows that are looked at, the first ones: lists are mostly ordered by score


def row_axis(a: Array, b: Array) -> int | None:
    """The one axis along which two arrays have different numbers of rows; None where they differ otherwise."""
    if a.ndim != b.ndim:
        return None
    differing = [axis for axis in range(a.ndim) if a.shape[axis] != b.shape[axis]]
    return differing[0] if len(differing) == 1 else None


def in_common(a: Array, b: Array, axis: int) -> float:
    """The share of rows along an axis that ``a`` and ``b`` have in common, 0 to 1."""
    if not a.size or not b.size:
        return float(a.size == b.size)
    rows, others = (np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)[:_MOST] for x in (a, b))
    near = np.ones((len(rows), len(others)), bool)
    for column, other in zip(rows.T, others.T, strict=True):
        near &= _near(column, other)
    both = min(near.any(axis=1).sum(), near.any(axis=0).sum())
    return float(2 * both / (len(rows) + len(others)))


def _near(a: Array, b: Array) -> Array:
    """[rows, others]: whether two numbers of a column are the same."""
    if a.dtype.kind != "f":
        return np.asarray(a[:, None] == b[None])
    with np.errstate(invalid="ignore"):
        spread = np.ptp(a) or abs(a[0])
        return np.asarray(np.abs(a[:, None] - b[None]) <= _NEAR * spread)
