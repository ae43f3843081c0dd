"""Operators that move values without computing: Transpose, Squeeze, Expand, Tile, Resize, and the branches of If.

Their rules do with the labels what the operator does with the data.
"""

from __future__ import annotations

import numpy as np

from ....arrays import Array
from ....graph.edit import attribute
from ....lazy import ir
from ....shapes.elements import Element, Elements
from ..axes import Axis, Layout, Unclear, live, subgraphs
from ..trace import Trace


def transpose(trace: Trace, node: ir.Node) -> None:
    layout = trace.folded_layout(node.inputs[0])
    order = attribute(node, "perm", range(len(layout))[::-1])
    trace.set(node.outputs[0], [layout[axis] for axis in order])


def _axes(trace: Trace, node: ir.Node, rank: int) -> list[int] | None:
    """Axes from the attribute or the second input, counted from 0; None where they are not given."""
    axes = attribute(node, "axes", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = trace.elements.numbers(node.inputs[1])
        if axes is None:
            raise Unclear("its axes are computed")
    return None if axes is None else [axis % rank for axis in axes]


def squeeze(trace: Trace, node: ir.Node) -> None:
    layout = trace.folded_layout(node.inputs[0])
    axes = _axes(trace, node, len(layout))
    if axes is None:
        if any(not isinstance(size, int) and not live(size) for size in layout):
            raise Unclear("which dimensions it drops depends on their size")
        axes = [axis for axis, size in enumerate(layout) if not live(size) and size == 1]
    trace.set(node.outputs[0], [size for axis, size in enumerate(layout) if axis not in axes])


def unsqueeze(trace: Trace, node: ir.Node) -> None:
    layout = trace.folded_layout(node.inputs[0])
    given = attribute(node, "axes", None) or trace.elements.numbers(node.inputs[1]) or []
    rank = len(layout) + len(given)
    axes = [axis % rank for axis in given]
    remaining = iter(layout)
    trace.set(node.outputs[0], [1 if axis in axes else next(remaining) for axis in range(rank)])


def expand(trace: Trace, node: ir.Node) -> None:
    layout, target = trace.layout(node.inputs[0]), trace.elements(node.inputs[1])
    if target is None:
        raise Unclear("its target shape is not understood")
    rank = max(len(layout), len(target))
    padded: Layout = [*[1] * (rank - len(layout)), *layout]
    offset = rank - len(target)
    result: Layout = padded[:offset]
    for position, element in enumerate(target):
        result.append(_expanded(trace, node, padded[offset + position], position, element))
    trace.set(node.outputs[0], result)


def _expanded(trace: Trace, node: ir.Node, axis: Axis, position: int, element: Element) -> Axis:
    if element == 1:
        return axis
    return trace.broadcast(axis, trace.generate(node, 1, position, element), node)


def constant_of_shape(trace: Trace, node: ir.Node) -> None:
    target = trace.elements(node.inputs[0])
    if target is None:
        raise Unclear("its shape is not understood")
    trace.set(node.outputs[0], [trace.generate(node, 0, position, element) for position, element in enumerate(target)])


def tile(trace: Trace, node: ir.Node) -> None:
    layout, repeats = trace.layout(node.inputs[0]), trace.elements(node.inputs[1])
    if repeats is None:
        raise Unclear("its repeats are computed")
    result: Layout = []
    for axis, times in zip(layout, repeats, strict=True):
        known = isinstance(times, int)
        if live(axis) and not known:
            trace.protect([axis], node, "how often it repeats these is computed")
        times = times if isinstance(times, int) else None
        result.append(_repeated(trace, axis, times))
    trace.set(node.outputs[0], result)


def _repeated(trace: Trace, axis: Axis, times: int | None) -> Axis:
    if times is None or not (live(axis) or isinstance(axis, int)):
        return axis if times == 1 else None
    if not live(axis):
        return axis * times
    trace.limits.expect(len(axis) * times)
    return np.tile(axis, times)


def resize(trace: Trace, node: ir.Node) -> None:
    """Channels keep their number: a scale of 1, or a target size that is rewritten."""
    layout = list(trace.layout(node.inputs[0]))
    axes = [axis % len(layout) for axis in attribute(node, "axes", range(len(layout)))]
    sizes = trace.elements(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    result: Layout = [None if axis in axes else size for axis, size in enumerate(layout)]
    for position, axis in enumerate(axes):
        channels = layout[axis]
        if live(channels):
            result[axis] = _resized(trace, node, channels, position, sizes)
    if sizes is not None:
        trace.follow(node, 3, sizes, [result[axis] for axis in axes])
    trace.set(node.outputs[0], result)


def _resized(trace: Trace, node: ir.Node, axis: Array, position: int, sizes: Elements) -> Axis:
    scales = _scales(node)
    if sizes is not None:
        same = sizes[position] == len(axis) or trace.follows(sizes[position], axis)
    else:
        same = scales is not None and scales[position] == 1
    if not same:
        trace.protect([axis], node, "it resizes these")
    return axis if same else None


def _scales(node: ir.Node) -> list[float] | None:
    """Scales from the attribute, or the input, of the operator set at hand."""
    if "scales" in node.attributes:
        return list(node.attributes["scales"].as_floats())
    for value in (*node.inputs[2:3], *node.inputs[1:2]):
        if value is not None and value.const_value is not None and value.const_value.size:
            return [float(scale) for scale in value.const_value.numpy().reshape(-1)]
    return None


def branches(trace: Trace, node: ir.Node) -> None:
    """If: either branch gives the output, so they must agree."""
    for position, output in enumerate(node.outputs):
        layouts = [trace.layout(graph.outputs[position]) for graph in subgraphs(node)]
        if len({len(layout) for layout in layouts}) > 1:
            raise Unclear("its branches give results of different rank")
        trace.set(output, [_agreed(trace, node, *pair) for pair in zip(*layouts, strict=True)])


def _agreed(trace: Trace, node: ir.Node, left: Axis, right: Axis) -> Axis:
    if live(left) or live(right):
        return trace.join(left, right, node)
    return left if left == right else None


def loop(trace: Trace, node: ir.Node) -> None:
    raise Unclear("they are carried around a loop")
