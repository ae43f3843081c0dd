"""Operators that sum over channels: Conv, ConvTranspose, Gemm, MatMul, Einsum and the recurrent ones.

y = W x: the axis of W that is summed over is joined with x's channels, the other makes y's channels.
"""

from __future__ import annotations

import numpy as np

from ....arrays import Array
from ....graph.edit import attribute
from ....lazy import ir
from ..axes import Axis, Layout, Unclear, labels_of, live
from ..even import balance
from ..trace import Trace
from .views import columns


def conv(trace: Trace, node: ir.Node) -> None:
    weight = trace.layout(node.inputs[1])
    layout = _spatial(trace, node, len(weight))
    groups = attribute(node, "group", 1)
    trace.protect(weight[2:], node, "these are positions within its kernel")
    if groups == 1:
        trace.join(weight[1], layout[1], node)
        trace.read(node, weight[1], node.inputs[0], 1)
    elif live(layout[1]) and len(layout[1]) == groups:
        _depthwise(trace, node, layout[1], weight[0])
    else:
        _grouped(trace, node, layout[1], weight, groups)
    _channels_out(trace, node, weight[0], layout)


def _spatial(trace: Trace, node: ir.Node, rank: int) -> Layout:
    """The axes of an image input, whose rank the weight tells."""
    value = node.inputs[0]
    known = value is not None and trace.rank(value) is not None
    return trace.layout(value) if known else [None] * rank


def _channels_out(trace: Trace, node: ir.Node, axis: Axis, layout: Layout) -> None:
    trace.produce(node, axis)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        axis = trace.join(axis, trace.layout(node.inputs[2])[0], node)
    trace.set(node.outputs[0], [layout[0], axis, *_positions(trace, node, layout[2:])])


def _positions(trace: Trace, node: ir.Node, axes: Layout) -> Layout:
    """The axes that a kernel moves along: where it sees one position at a time, they stay what they are."""
    kernel = trace.layout(node.inputs[1])[2:]
    pads = [*attribute(node, "pads", []), *attribute(node, "output_padding", [])]
    single = not any(map(live, kernel)) and {*kernel, *attribute(node, "strides", [])} <= {1}
    if single and not any(pads) and "output_shape" not in node.attributes:
        return axes
    trace.protect(axes, node, "its kernel moves along these")
    return [None] * len(axes)


def _depthwise(trace: Trace, node: ir.Node, channels: Array, rows: Axis) -> None:
    """One group a channel: cutting a channel cuts its group."""
    if live(rows):
        trace.join(rows, np.repeat(channels, len(rows) // len(channels)), node)
    trace.count(node, "group", None, channels)


def _grouped(trace: Trace, node: ir.Node, channels: Axis, weight: Layout, groups: int) -> None:
    """The groups stay and each loses as many channels, at either side."""
    if live(weight[0]):
        balance(trace, weight[0], groups, node)
    if not live(channels):
        trace.join(weight[1], None, node)
        return
    balance(trace, channels, groups, node)
    value, per_group = node.inputs[1], channels.reshape(groups, -1)
    if value is not None and value.is_initializer() and len(value.uses()) == 1:
        trace.grouped[value] = per_group
    else:
        for part in per_group:
            trace.join(weight[1], part, node)
    trace.read(node, weight[1], node.inputs[0], 1)


def conv_transpose(trace: Trace, node: ir.Node) -> None:
    weight = trace.layout(node.inputs[1])
    layout = _spatial(trace, node, len(weight))
    groups = attribute(node, "group", 1)
    trace.protect(weight[2:], node, "these are positions within its kernel")
    trace.join(weight[0], layout[1], node)
    trace.read(node, weight[0], node.inputs[0], 1)
    made = weight[1]
    if groups > 1 and live(weight[0]) and len(weight[0]) == groups and made == 1:
        trace.count(node, "group", None, weight[0])
        made = weight[0]
    elif groups > 1 and live(weight[0]):
        balance(trace, weight[0], groups, node)
        trace.limits.expect(len(made) * groups if live(made) else 0)
        made = np.tile(made, groups) if live(made) else None
    _channels_out(trace, node, made, layout)


def gemm(trace: Trace, node: ir.Node) -> None:
    left, right = trace.layout(node.inputs[0]), trace.layout(node.inputs[1])
    left = left[::-1] if attribute(node, "transA", 0) else left
    right = right[::-1] if attribute(node, "transB", 0) else right
    result = _product(trace, node, left, right, bool(attribute(node, "transA", 0)), bool(attribute(node, "transB", 0)))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        result = trace.broadcast_all([result, trace.layout(node.inputs[2])], node)
    trace.set(node.outputs[0], result)


def _product(
    trace: Trace, node: ir.Node, left: Layout, right: Layout, flip_left: bool = False, flip_right: bool = False
) -> Layout:
    """The last axis of the left matrix meets the last but one of the right matrix."""
    inner = left[-1], right[-2] if len(right) > 1 else right[0]
    trace.join(*inner, node)
    constant_left, constant_right = map(trace.is_constant, node.inputs[:2])
    rows = left[-2:-1]
    columns_ = right[-1:] if len(right) > 1 else []
    if constant_right and not constant_left:
        for axis in columns_:
            trace.produce(node, axis)
        trace.read(node, inner[1], node.inputs[0], 0 if flip_left else len(left) - 1)
    elif constant_left:
        for axis in rows:
            trace.produce(node, axis)
        trace.read(node, inner[0], node.inputs[1], 1 if flip_right else max(len(right) - 2, 0))
    return [*rows, *columns_]


def matmul(trace: Trace, node: ir.Node) -> None:
    left, right = trace.folded_layout(node.inputs[0]), trace.folded_layout(node.inputs[1])
    batch = trace.broadcast_all([left[:-2], right[:-2]], node) if max(len(left), len(right)) > 2 else []
    if not any(map(trace.is_constant, node.inputs)):
        if trace.loud.issuperset(value for value in node.inputs if value is not None):
            trace.mix(left[-1:], node, "it sums over these")
        trace.head_labels += [labels for axis in batch if (labels := labels_of(axis)) is not None]
    elif trace.is_constant(node.inputs[1]):
        _produce_batch(trace, node, right[:-2])
    trace.set(node.outputs[0], [*batch, *_product(trace, node, left, right)])


def _produce_batch(trace: Trace, node: ir.Node, batch: Layout) -> None:
    """A batched weight: a whole matrix goes with its index."""
    for axis in batch:
        trace.produce(node, axis)


def einsum(trace: Trace, node: ir.Node) -> None:
    """A letter is one axis wherever it stands; letters missing from the result are summed over."""
    equation = str(attribute(node, "equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    letters = terms.split(",")
    if not arrow or "." in equation or any(len(set(term)) < len(term) for term in (*letters, result)):
        raise Unclear(f"its equation {equation!r} is not understood")
    axes: dict[str, Axis] = {}
    for term, value in zip(letters, node.inputs, strict=True):
        for letter, axis in zip(term, trace.layout(value), strict=True):
            axes[letter] = trace.broadcast(axes[letter], axis, node) if letter in axes else axis
    _roles(trace, node, letters, result)
    trace.set(node.outputs[0], [axes[letter] for letter in result])


def _roles(trace: Trace, node: ir.Node, letters: list[str], result: str) -> None:
    constant = [trace.is_constant(value) for value in node.inputs]
    if len(letters) != 2 or constant == [True, True]:
        return
    if not any(constant):
        shared = [letter for letter in result if all(letter in term for term in letters)]
        layout = trace.layout(node.inputs[0])
        trace.head_labels += [axis for letter in shared if live(axis := layout[letters[0].index(letter)])]
        return
    weight = constant.index(True)
    for letter, axis in zip(letters[weight], trace.layout(node.inputs[weight]), strict=True):
        if letter in result and letter not in letters[1 - weight]:
            trace.produce(node, axis)
        elif letter in letters[1 - weight]:
            trace.read(node, axis, node.inputs[1 - weight], letters[1 - weight].index(letter))


_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(trace: Trace, node: ir.Node) -> None:
    """LSTM, GRU, RNN: a hidden unit is one row in each gate of W, R and the biases, one column of R, one of the state.

    A unit whose weights are zero stays at state zero, so cutting it changes nothing else.
    """
    layout, weight, recurrence = (trace.layout(value) for value in node.inputs[:3])
    if attribute(node, "layout", 0):
        raise Unclear("batch-first recurrent operators are not understood")
    gates = _GATES[node.op_type]
    trace.protect([weight[0], recurrence[0]], node, "these are its directions")
    trace.protect(layout[:2], node, "these are its steps, or its sequences")
    trace.join(weight[2], layout[2], node)
    trace.read(node, weight[2], node.inputs[0], 2)
    hidden = _unit_of(trace, node, weight[1], gates)
    trace.join(hidden, _unit_of(trace, node, recurrence[1], gates), node)
    trace.join(hidden, recurrence[2], node)
    for index, parts in ((3, 2 * gates), (7, 3)):
        if len(node.inputs) > index and node.inputs[index] is not None:
            trace.join(hidden, _unit_of(trace, node, trace.layout(node.inputs[index])[1], parts), node)
    _state(trace, node, hidden, layout)


def _unit_of(trace: Trace, node: ir.Node, axis: Axis, parts: int) -> Axis:
    """The hidden unit of each index of an axis that holds one part a gate."""
    if not live(axis) or len(axis) == parts:
        return axis if parts == 1 else None
    return columns(trace, axis, (parts, len(axis) // parts), 1, node)


def _state(trace: Trace, node: ir.Node, hidden: Axis, layout: Layout) -> None:
    for value in node.inputs[5:7]:
        if value is not None:
            trace.join(hidden, trace.layout(value)[2], node)
    weight = trace.layout(node.inputs[1])
    if live(weight[1]):
        trace.produce(node, weight[1])
    trace.count(node, "hidden_size", None, hidden)
    directions = len(weight[0]) if live(weight[0]) else weight[0]
    state: Layout = [directions, layout[1], hidden]
    for output, shape in zip(node.outputs, [[layout[0], *state], state, state], strict=False):
        trace.set(output, shape)
