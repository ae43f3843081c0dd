"""Operators that pick or place by index: GatherElements, GatherND, ScatterElements, ScatterND, RoiAlign, GridSample.

What the indices count along stays; along the other axes each index is on its own, and the inputs must agree.
"""

from __future__ import annotations

from ....graph.edit import attribute
from ....lazy import ir
from ..axes import Axis, Layout, Unclear, size_of
from ..trace import Trace


def elements(trace: Trace, node: ir.Node) -> None:
    """GatherElements and ScatterElements: the inputs have one rank and are picked from, or written, along one axis."""
    layouts = [trace.layout(value) for value in node.inputs]
    axis = attribute(node, "axis", 0) % len(layouts[0])
    trace.protect([layout[axis] for layout in layouts], node, "it picks these by index")
    joined = [_joined(trace, node, axes) for axes in zip(*layouts, strict=True)]
    shaped = layouts[1] if node.op_type == "GatherElements" else layouts[0]
    trace.set(node.outputs[0], [*joined[:axis], shaped[axis], *joined[axis + 1 :]])


def _joined(trace: Trace, node: ir.Node, axes: tuple[Axis, ...]) -> Axis:
    result, *others = axes
    for other in others:
        result = trace.join(result, other, node)
    return result


def gather_nd(trace: Trace, node: ir.Node) -> None:
    data, indices = trace.layout(node.inputs[0]), trace.layout(node.inputs[1])
    batch = attribute(node, "batch_dims", 0)
    picked = batch + _depth(indices)
    trace.protect([*data[batch:picked], *indices[batch:]], node, "it picks these by index")
    shared = [trace.join(left, right, node) for left, right in zip(data[:batch], indices[:batch], strict=True)]
    trace.set(node.outputs[0], [*shared, *indices[batch:-1], *data[picked:]])


def scatter_nd(trace: Trace, node: ir.Node) -> None:
    data, indices, updates = (trace.layout(value) for value in node.inputs)
    depth, outer = _depth(indices), len(indices) - 1
    trace.protect([*data[:depth], *indices, *updates[:outer]], node, "it places these by index")
    kept = [trace.join(left, right, node) for left, right in zip(data[depth:], updates[outer:], strict=True)]
    trace.set(node.outputs[0], [*data[:depth], *kept])


def _depth(indices: Layout) -> int:
    """How many axes each index counts along."""
    depth = size_of(indices[-1])
    if not isinstance(depth, int):
        raise Unclear("how many axes its indices count along is not known")
    return depth


def sampled(trace: Trace, node: ir.Node) -> None:
    """RoiAlign, MaxRoiPool, GridSample: channels of an image, at other positions."""
    image, places = (trace.layout(value) for value in node.inputs[:2])
    positions = [image[0], *image[2:]] if node.op_type != "GridSample" else image[2:]
    trace.protect([*positions, *places], node, "it takes samples between these")
    first = image[0] if node.op_type == "GridSample" else places[0]
    trace.set(node.outputs[0], [first, image[1], *[None for _ in image[2:]]])
