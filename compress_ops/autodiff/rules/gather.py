"""Adding rows back where they were taken from: the transpose of y = x[indices] along an axis."""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from ...lazy import ir
from ..step import Step


def gather_back(step: Step, dy: ir.Value, indices: Array, axis: int, size: int) -> ir.Value:
    """For known indices (one dimension) into an axis of a known size."""
    if len(np.unique(indices)) < len(indices):
        return along(step, dy, np.eye(size)[indices], axis)  # zeros and ones tell which row goes where
    source = np.full(size, len(indices))  # what was not taken comes from one more row, of zeros
    source[indices] = np.arange(len(indices))
    if len(indices) < size:
        rank = step.rank(step.x)
        dy = step.op("Pad", dy, step.integers([int(i == axis + rank) for i in range(2 * rank)]))
    return step.op("Gather", dy, step.integers(source), axis=axis)


def along(step: Step, value: ir.Value, matrix: Array, axis: int) -> ir.Value:
    """The value times a matrix [its size, another size] along an axis of x."""
    rank, stored = step.rank(step.x), step.array(matrix)
    if axis == rank - 1:
        return step.op("MatMul", value, stored)
    last = [*(other for other in range(rank) if other != axis), axis]
    moved = step.op("MatMul", step.op("Transpose", value, perm=last), stored)
    return step.op("Transpose", moved, perm=[last.index(position) for position in range(rank)])


def scatter_rows(step: Step, dy: ir.Value, indices: ir.Value, axis: int) -> ir.Value:
    """For indices of any shape, known only at run time, into an axis of x: dy goes onto zeros row by row."""
    rank, across = step.rank(step.x), step.rank(indices)
    if indices.dtype != ir.DataType.INT64:  # Gather takes int32 too, ScatterND does not
        indices = step.op("Cast", indices, to=ir.DataType.INT64)
    rows = step.op("Unsqueeze", indices, step.integers([-1]))
    if axis == 0:
        return step.op("ScatterND", step.zeros(step.x), rows, dy, reduction="add")
    taken = range(axis, axis + across)
    first = [*taken, *(other for other in range(rank - 1 + across) if other not in taken)]
    order = [axis, *(other for other in range(rank) if other != axis)]
    moved = step.op("Transpose", dy, perm=first)
    zeros = step.op("Transpose", step.zeros(step.x), perm=order)
    spent = step.op("ScatterND", zeros, rows, moved, reduction="add")
    return step.op("Transpose", spent, perm=[order.index(position) for position in range(rank)])
