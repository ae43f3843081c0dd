"""Costs: parameters and multiply-adds of a model as smooth functions of its widths, so that a share can be aimed at.

A cost is a sum of products over axes. Of an axis of n indices, of which each unit of group g owns c_g,
n - sum_g removed_g c_g remain.
    parameters      a product for each weight: its axes
    multiply-adds   Conv             |Y| x (C_in / groups) x |kernel|
                    ConvTranspose    |X| x (C_out / groups) x |kernel|
                    Gemm, MatMul     |Y| x the axis that is summed over     (of two computed values too: attention)
                    Einsum           every letter once
                    LSTM, GRU, RNN   steps x batch x (|W| + |R|)
Axes that are no channels (positions, samples) have the sizes that they have on a feed, which is run once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ...graph.edit import attribute
from ...graph.tap import tapped
from ...graph.trial_feeds import feed_for
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...passes import Context
from ..channels import Group, Grouping
from ..channels.trace import Trace

Place: TypeAlias = "tuple[ir.Value, int]"  # an axis of a value
Shapes: TypeAlias = "Mapping[ir.Value, tuple[int, ...]]"


@dataclass(frozen=True)
class Axis:
    """How long an axis is, and how many of its indices each unit of some groups owns."""

    size: int
    cuts: Sequence[tuple[int, float]]

    def left(self, removed: Sequence[int]) -> float:
        return self.size - sum(removed[number] * count for number, count in self.cuts)


@dataclass(frozen=True)
class Cost:
    """A sum of products over axes."""

    products: Sequence[Sequence[Axis]]
    groups: int

    def left(self, removed: Sequence[int]) -> float:
        """What remains when each group loses so many units."""
        return sum(math.prod(axis.left(removed) for axis in axes) for axes in self.products)

    def gone(self, removed: Sequence[int]) -> float:
        """The share that goes."""
        whole = self.left([0] * self.groups)
        return 1 - self.left(removed) / whole if whole else 0.0


def parameters(grouping: Grouping, groups: Sequence[Group]) -> Cost:
    """How many numbers the weights hold."""
    owners = _Owners(grouping.trace, groups)
    shapes = {weight: _size(weight) for weight in grouping.trace.weights}
    weights = ([(weight, axis) for axis in range(len(shape))] for weight, shape in shapes.items())
    return Cost([owners.axes(places, shapes) for places in weights], len(groups))


def multiply_adds(model: Model, ctx: Context, grouping: Grouping, groups: Sequence[Group]) -> Cost:
    """How many products one inference sums up; operators in branches and loops are not counted."""
    owners = _Owners(grouping.trace, groups)
    nodes = [node for node in model.graph if node.op_type in RULES and node.domain in ONNX_DOMAINS]
    shapes = _shapes(model, ctx, [value for node in nodes for value in _looked_at(node)])
    products = [owners.axes(places, shapes) for node in nodes for places in RULES[node.op_type](node, shapes)]
    return Cost(products, len(groups))


class _Owners:
    """Which group the indices of an axis belong to."""

    def __init__(self, trace: Trace, groups: Sequence[Group]) -> None:
        self._trace = trace
        self._sizes = [len(group) for group in groups]
        self._where = np.full(trace.labels.count, -1)
        for number, group in enumerate(groups):
            self._where[group.units] = number

    def axes(self, places: Sequence[Place], shapes: Shapes) -> list[Axis]:
        return [self._axis(value, axis, shapes[value][axis]) for value, axis in places]

    def _axis(self, value: ir.Value, axis: int, size: int) -> Axis:
        """Weights of grouped convolutions have a list of labels for each group of their second axis."""
        layout = self._trace.layouts.get(value) or []
        labels: Any = layout[axis] if axis < len(layout) else None
        if axis == 1 and value in self._trace.grouped:
            labels = self._trace.grouped[value]
        if not isinstance(labels, np.ndarray) or labels.shape[-1] != size:
            return Axis(size, [])
        owners = self._where[self._trace.labels.roots(labels)]
        counts = np.bincount(owners[owners >= 0], minlength=len(self._sizes)) * size / labels.size
        return Axis(size, [(int(g), float(counts[g] / self._sizes[g])) for g in np.flatnonzero(counts)])


def _size(weight: ir.Value) -> tuple[int, ...]:
    assert weight.const_value is not None
    return tuple(int(size) for size in weight.const_value.shape.numpy())


def _looked_at(node: ir.Node) -> list[ir.Value]:
    """The values whose sizes the rules ask for."""
    return [value for value in (*node.inputs[:3], node.outputs[0]) if value is not None and value.name]


def _shapes(model: Model, ctx: Context, values: Sequence[ir.Value]) -> Shapes:
    """The shapes of weights, and those that values have on a feed."""
    computed = [value for value in dict.fromkeys(values) if not value.is_initializer()]
    known = {value: _size(value) for value in values if value.is_initializer()}
    if computed:
        with tapped(model, ctx, [ir.node("Shape", [value]) for value in computed]) as session:
            seen = session.run(feed_for(session, ctx)).values()
        known |= {value: tuple(shape.tolist()) for value, shape in zip(computed, seen, strict=True)}
    return known


Rule = Callable[["ir.Node", "Shapes"], "Iterator[list[Place]]"]


def _conv(node: ir.Node, shapes: Shapes) -> Iterator[list[Place]]:
    yield [*_all(node.outputs[0], shapes), *_all(node.inputs[1], shapes)[1:]]


def _conv_transpose(node: ir.Node, shapes: Shapes) -> Iterator[list[Place]]:
    yield [*_all(node.inputs[0], shapes), *_all(node.inputs[1], shapes)[1:]]


def _matmul(node: ir.Node, shapes: Shapes) -> Iterator[list[Place]]:
    summed = -2 if attribute(node, "transA", 0) else -1
    yield [*_all(node.outputs[0], shapes), _all(node.inputs[0], shapes)[summed]]


def _einsum(node: ir.Node, shapes: Shapes) -> Iterator[list[Place]]:
    terms = str(attribute(node, "equation", "")).replace(" ", "").partition("->")[0].split(",")
    places = [_all(value, shapes) for value in node.inputs]
    if all(len(term) == len(axes) for term, axes in zip(terms, places, strict=False)):
        yield list(
            {
                letter: place
                for term, axes in zip(terms, places, strict=False)
                for letter, place in zip(term, axes, strict=True)
            }.values()
        )


def _recurrent(node: ir.Node, shapes: Shapes) -> Iterator[list[Place]]:
    places = _all(node.inputs[0], shapes)[:2]
    yield from ([*places, *_all(weight, shapes)] for weight in node.inputs[1:3])


def _all(value: ir.Value | None, shapes: Shapes) -> list[Place]:
    assert value is not None
    return [(value, axis) for axis in range(len(shapes[value]))]


RULES: Mapping[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _matmul,
    "MatMul": _matmul,
    "Einsum": _einsum,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
