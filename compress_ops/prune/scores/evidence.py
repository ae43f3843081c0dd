"""Gather what scores look at: a group's weights, one row a unit, and mean |activation| from one pass over the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ...arrays import Array
from ...errors import PassError
from ...graph.edit import attribute, constant_of
from ...graph.tap import constant, tapped
from ...lazy import ir
from ...model import Model
from ...passes import Context
from ..channels import Group, Grouping, Member, Role

Magnitudes: TypeAlias = "dict[ir.Value, list[Array]]"


@dataclass(frozen=True)
class Evidence:
    """What is known of a group of n units.

    ``makes`` and ``scales`` are [n, numbers]; ``reads`` holds for each reading weight [n, channels, numbers], and
    ``activations`` beside it [n, channels]. ``measured`` [n] is what a pass over the data found for a score of its own.
    """

    makes: Array
    scales: Array
    reads: list[Array]
    activations: list[Array]
    rng: np.random.Generator
    measured: Array | None = None

    def __len__(self) -> int:
        return len(self.makes)


class CannotScore(Exception):
    """The group lacks what the score looks at; the message is the reason."""


def evidence_of(
    group: Group, magnitudes: Magnitudes, rng: np.random.Generator, measured: Array | None = None
) -> Evidence:
    """A group's evidence; raises CannotScore where its weights are not finite."""

    flat = {role: _side_by_side(group, role) for role in (Role.MAKES, Role.SCALES)}
    reads, activations = [], []
    for member in group.members:
        for magnitude in magnitudes.get(member.weight, []) if member.role is Role.READS else []:
            reads.append(_rows(member))
            activations.append(magnitude[member.indices])
    _check_finite(flat.values(), reads, activations, [] if measured is None else [measured])
    return Evidence(flat[Role.MAKES], flat[Role.SCALES], reads, activations, rng, measured)


def _side_by_side(group: Group, role: Role) -> Array:
    parts = [_rows(member).reshape(len(group), -1) for member in group.members if member.role is role]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros((len(group), 0), np.float32), *parts], axis=1)


def _rows(member: Member) -> Array:
    return rows_of(member, real(member.weight))


def rows_of(member: Member, array: Array) -> Array:
    """A weight's part, or that of an array of its shape, as [units, indices of a unit, everything else]."""
    array = _by_group(array, member.groups) if member.groups > 1 else np.moveaxis(array, member.axis, 0)
    return array.reshape(len(array), -1)[member.indices]


def _by_group(array: Array, groups: int) -> Array:
    """The weight of a grouped convolution with (group, channel of the group) as its first axis."""
    return array.reshape(groups, -1, *array.shape[1:]).swapaxes(1, 2).reshape(groups * array.shape[1], -1)


def real(weight: ir.Value) -> Array:
    """A weight's numbers, with the scale of the DequantizeLinear that reads it."""
    tensor = weight.const_value
    assert tensor is not None
    array = tensor.numpy().astype(np.float32, copy=False)
    for node, index in weight.uses():
        scale = constant_of(node.inputs[1]) if node.op_type == "DequantizeLinear" and index == 0 else None
        if scale is not None:
            shape = [1] * array.ndim
            shape[attribute(node, "axis", 1) if scale.size > 1 else 0] = scale.size
            array = array * scale.numpy().astype(np.float32).reshape(shape)
    return array


def _check_finite(*parts: Any) -> None:
    if not all(np.isfinite(array).all() for arrays in parts for array in arrays):
        raise CannotScore("its weights or activations have NaN or infinite values")


def require_data(ctx: Context, score: str) -> None:
    """Raise PassError where a score that needs data has none."""
    if ctx.calibration is None:
        raise PassError(
            f"score '{score}' needs calibration data", hint="give --data, or data.calibration in the recipe"
        )


def measure(model: Model, ctx: Context, grouping: Grouping, score: str) -> Magnitudes:
    """Mean |x| per channel of every value that a weight of a group reads, in one streaming pass over the data."""
    require_data(ctx, score)
    trace = grouping.trace
    readings = [r for r in trace.readings if r.node.graph is model.graph and trace.rank(r.value) is not None]
    if not readings:
        return {}
    means = _means(model, ctx, [(r.value, r.axis, len(trace.layout(r.value))) for r in readings])
    found: Magnitudes = {}
    for reading, mean in zip(readings, means, strict=True):
        owner = trace.owner(int(reading.labels[0]))
        if owner is not None:
            found.setdefault(owner[0], []).append(mean)
    return found


def _means(model: Model, ctx: Context, places: Sequence[tuple[ir.Value, int, int]]) -> list[Array]:
    """The average over batches of mean |x| along all axes but one; each batch counts alike."""
    unique = list(dict.fromkeys(places))
    totals, batches = [np.zeros(0)] * len(unique), 0
    with tapped(model, ctx, [_tap(model, *place) for place in unique]) as session:
        for feeds in ctx.calibration_batches("score: activations"):
            seen = session.run(feeds).values()
            totals = [
                total + mean if batches else mean.astype(np.float64) for total, mean in zip(totals, seen, strict=True)
            ]
            batches += 1
    if not batches:
        raise PassError("the calibration data has no batches", hint="give at least one sample")
    averages = {place: total / batches for place, total in zip(unique, totals, strict=True)}
    return [averages[place] for place in places]


def _tap(model: Model, value: ir.Value, axis: int, rank: int) -> ir.Node:
    size = ir.node("Abs", [value]).outputs[0]
    others = [other for other in range(rank) if other != axis]
    if model.opset >= 18:
        return ir.node("ReduceMean", [size, constant(others)], {"keepdims": 0, "noop_with_empty_axes": 1})
    if not others:
        return ir.node("Identity", [size])
    return ir.node("ReduceMean", [size], {"axes": others, "keepdims": 0})
