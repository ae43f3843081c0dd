"""What it costs to remove inputs of a layer when the weights that stay may make up for it.

For a layer y = W x with H = sum over the data of x x^T, removing the inputs B and solving the others anew adds

    sum over rows w of W:  w_B^T ([H^-1]_BB)^-1 w_B                     (one input k: w_k^2 / [H^-1]_kk)

to |y - y'|^2 (Optimal Brain Surgeon, Hassibi and Stork 1993; SparseGPT, Frantar and Alistarh 2023, arXiv:2301.00774).
B is what a unit owns of the layer's inputs: of a Conv, all places of its kernel. A unit's score is the sum over the
layers that read it. The weights that stay are solved by ``refit``, which reaches this minimum for all units at once; so
the pass that cuts does not change them itself. H is damped by 1 % of its mean diagonal, as there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...graph.edit import attribute
from ...graph.layer_inputs import Rows, in_groups, products
from ...graph.layers.weights import RECURRENT
from ...lazy import ir
from ...model import Model
from ...passes import Context
from ..channels import Group, Grouping, Member
from ..channels.axes import Reading
from .evidence import real, require_data

_DAMPING = 1e-2
_LARGEST = 8192  # inputs of a layer; H of more is not made, and the layer does not count


@dataclass(frozen=True)
class _Reader:
    """A layer whose inputs are counted: a group's part of its weight, and the rows that it is multiplied with."""

    group: int
    member: Member
    rows: Rows
    taps: int


def removal_costs(model: Model, ctx: Context, grouping: Grouping, groups: Sequence[Group]) -> list[Array | None]:
    """For each group what its units cost; None where no layer counts: grouped convolutions, for one, do not."""
    require_data(ctx, "hessian")
    costs: list[Array | None] = [None] * len(groups)
    readers = list(_readers(model, grouping, groups))
    for part in in_groups(readers, lambda reader: [reader.rows]):
        squares = products(model, ctx, [reader.rows for reader in part], "score: Hessians")
        inverses = {key: _inverse(square) for key, square in squares.items()}
        for reader in part:
            cost = _cost(reader, inverses[reader.rows.key])
            before = costs[reader.group]
            costs[reader.group] = cost if before is None else before + cost
    return costs


def _readers(model: Model, grouping: Grouping, groups: Sequence[Group]) -> Iterator[_Reader]:
    for reading in grouping.trace.readings:
        owner = grouping.trace.owner(int(reading.labels.reshape(-1)[0]))
        rows = _rows(reading) if reading.node.graph is model.graph and owner is not None else None
        if rows is None or rows.inner > _LARGEST:
            continue
        for number, group in enumerate(groups):
            for member in group.members:
                if owner == (member.weight, member.axis) and member.role == "reads" and member.groups == 1:
                    yield _Reader(number, member, rows, rows.inner // len(reading.labels))


def _rows(reading: Reading) -> Rows | None:
    node, channels = reading.node, reading.labels.shape[-1]
    if node.op_type == "Conv" and attribute(node, "group", 1) == 1:
        weight = node.inputs[1]
        assert weight is not None and weight.shape is not None
        return Rows(reading.value, math.prod(weight.shape.numpy()[1:]), node)
    last = reading.axis == (len(reading.value.shape) if reading.value.shape is not None else 0) - 1
    return Rows(reading.value, channels) if last and node.op_type != "Conv" else None


def _inverse(square: Array) -> Array:
    square = square.astype(np.float64)
    if not np.isfinite(square).all():
        return np.full_like(square, np.nan)
    mean = float(np.diagonal(square).mean())
    square[np.diag_indices(len(square))] += _DAMPING * mean if mean > 0 else 1.0
    return np.linalg.inv(square)


def _cost(reader: _Reader, inverse: Array) -> Array:
    """Of all units at once: [units, inputs of a unit, outputs]."""
    inputs, removed = _inputs(reader), _by_input(reader)[_inputs(reader)]
    blocks = inverse[inputs[:, :, None], inputs[:, None, :]]
    return (removed * np.linalg.solve(blocks, removed)).sum(axis=(1, 2))


def _by_input(reader: _Reader) -> Array:
    """The layer's weight as float64 [inputs, outputs]."""
    member, taps = reader.member, reader.taps
    weight = np.moveaxis(real(member.weight), member.axis, 0).astype(np.float64)
    outputs = weight.size // (len(weight) * taps)
    return weight.reshape(len(weight), outputs, taps).swapaxes(1, 2).reshape(-1, outputs)


def _inputs(reader: _Reader) -> Array:
    """Which of the layer's inputs each unit owns: [units, inputs of a unit]."""
    indices = reader.member.indices
    return (indices[:, :, None] * reader.taps + np.arange(reader.taps)).reshape(len(indices), -1)


def added_errors(
    model: Model, ctx: Context, grouping: Grouping, groups: Sequence[Group], orders: Sequence[Array]
) -> list[Array | None]:
    """For each group what every unit adds to the error when units go in this order: [units], in that order.

    A layer's error is a share of the energy of its outputs, and what those gone before cost is not counted again. With
    B_k the first k of the order, B_k's cost is that of the top of this file: leading blocks of one matrix, whose
    Cholesky factor L gives all of them at once, sum_i<k |(L^-1 w_B)_i|^2. None where not all that read a group can be
    looked at: grouped convolutions, recurrent layers (which read their own units), products of computed values.
    """
    added: list[Array | None] = [None] * len(groups)
    readers = list(_readers(model, grouping, groups))
    for part in in_groups(readers, lambda reader: [reader.rows]):
        squares = products(model, ctx, [reader.rows for reader in part], "plan: Hessians")
        inverses = {key: _inverse(square) for key, square in squares.items()}
        for reader in part:
            more = _added(reader, squares[reader.rows.key], inverses[reader.rows.key], orders[reader.group])
            before = added[reader.group]
            added[reader.group] = more if before is None else before + more
    counted = {(reader.group, reader.member.weight) for reader in readers}
    return [
        errors if _all_counted(number, group, counted) else None
        for number, (group, errors) in enumerate(zip(groups, added, strict=True))
    ]


def _all_counted(number: int, group: Group, counted: set[tuple[int, ir.Value]]) -> bool:
    reads = {member.weight for member in group.members if member.role == "reads"}
    recurrent = any(node.op_type in RECURRENT for node in group.nodes)
    return not recurrent and all((number, weight) in counted for weight in reads)


def _added(reader: _Reader, square: Array, inverse: Array, order: Array) -> Array:
    weight, inputs = _by_input(reader), _inputs(reader)[order]
    energy = float((weight * (square @ weight)).sum())
    flat = inputs.reshape(-1)
    steps = np.linalg.solve(np.linalg.cholesky(inverse[np.ix_(flat, flat)]), weight[flat])
    return np.square(steps).sum(axis=1).reshape(inputs.shape).sum(axis=1) / max(energy, 1e-30)
