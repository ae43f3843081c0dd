"""Operators that pick, cut out, or put together ranges of indices: Concat, Split, Slice, Gather, Pad.

Their rules do with the labels what the operator does with the data, and see to the numbers that say where to cut.
"""

from __future__ import annotations

import numpy as np

from ....arrays import Array
from ....graph.edit import attribute
from ....lazy import ir
from ....shapes.elements import Elements
from ..axes import Axis, Layout, Unclear, labels_of, live, size_of
from ..labels import NEVER
from ..trace import Trace
from .views import columns

_END = 2**31 - 1  # exporters write this, or more, for "to the end"


def concat(trace: Trace, node: ir.Node) -> None:
    layouts = [trace.folded_layout(value) for value in node.inputs]
    along = attribute(node, "axis", 1) % len(layouts[0])
    result = list(layouts[0])
    result[along] = _end_to_end(trace, [layout[along] for layout in layouts], node)
    for layout in layouts[1:]:
        for axis in range(len(result)):
            if axis != along:
                result[axis] = trace.join(result[axis], layout[axis], node)
    trace.set(node.outputs[0], result)


def _end_to_end(trace: Trace, parts: list[Axis], node: ir.Node) -> Axis:
    sizes = [size_of(part) for part in parts]
    known = [size for size in sizes if isinstance(size, int)]
    if all(labels_of(part) is None for part in parts):
        return sum(known) if len(known) == len(sizes) else None
    if len(known) < len(sizes):
        trace.protect(parts, node, "it joins these end to end with something of unknown size")
        return None
    trace.limits.expect(sum(known))
    return np.concatenate(
        [part if live(part) else np.full(size, NEVER) for part, size in zip(parts, known, strict=True)]
    )


def split(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(node.inputs[0])
    axis = attribute(node, "axis", 0) % len(layout)
    channels = layout[axis]
    sizes = _split_sizes(trace, node, channels)
    ends = np.cumsum(sizes).tolist()
    for position, output in enumerate(node.outputs):
        part: Axis = sizes[position] if sizes else None
        if live(channels):
            part = channels[ends[position] - sizes[position] : ends[position]]
            trace.count(node, "split" if trace.model.opset < 13 else 1, position, part)
        trace.set(output, [*layout[:axis], part, *layout[axis + 1 :]])


def _split_sizes(trace: Trace, node: ir.Node, channels: Axis) -> list[int]:
    """Sizes of the parts: as written, or equal ones (the last one smaller)."""
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        return trace.elements.numbers(node.inputs[1]) or _unknown(channels)
    if "split" in node.attributes:
        return list(node.attributes["split"].as_ints())
    if not live(channels):
        return []
    size, count = -(-len(channels) // len(node.outputs)), len(node.outputs)
    return [max(0, min(size, len(channels) - size * part)) for part in range(count)]


def _unknown(channels: Axis) -> list[int]:
    if live(channels):
        raise Unclear("the sizes of its parts are computed")
    return []


def slice_(trace: Trace, node: ir.Node) -> None:
    layout = list(trace.folded_layout(node.inputs[0]))
    starts, ends, steps, axes = _bounds(trace, node, len(layout))
    for position, axis in enumerate(axes):
        bounds = starts[position], ends[position], steps[position]
        layout[axis] = _sliced(trace, node, layout[axis], bounds, position)
    trace.set(node.outputs[0], layout)


Numbers = list[int | None]


def _bounds(trace: Trace, node: ir.Node, rank: int) -> tuple[Numbers, Numbers, Numbers, list[int]]:
    """Starts, ends and steps (None where computed), and the axes that they are for."""
    if len(node.inputs) == 1:
        starts, ends = (list(attribute(node, name, [])) for name in ("starts", "ends"))
        axes = attribute(node, "axes", range(len(starts)))
        return starts, ends, [1] * len(starts), [axis % rank for axis in axes]
    given = [*node.inputs, None, None][1:5]
    lists = [trace.elements(value) for value in given]
    length = max((len(found) for found in lists if found), default=rank)
    axes = trace.elements.numbers(given[2]) if given[2] is not None else range(length)
    if axes is None:
        raise Unclear("its axes are computed")
    steps: Numbers = _plain(lists[3], length) if given[3] is not None else [1] * length
    return _plain(lists[0], length), _plain(lists[1], length), steps, [axis % rank for axis in axes]


def _plain(elements: Elements, length: int) -> Numbers:
    """Elements that are numbers, None for the others."""
    found = elements if elements is not None and len(elements) == length else [None] * length
    return [element if isinstance(element, int) else None for element in found]


def _sliced(
    trace: Trace, node: ir.Node, axis: Axis, bounds: tuple[int | None, int | None, int | None], position: int
) -> Axis:
    start, end, step = bounds
    if start == 0 and step == 1 and end is not None and end >= _END:
        return axis
    if not live(axis):
        trace.protect([axis], node, "it cuts a dimension of unknown size in which these are folded")
        known = isinstance(axis, int) and None not in bounds
        return len(range(axis)[start:end:step]) if known and isinstance(axis, int) else None
    if start is None or end is None or step is None or step < 1:
        trace.protect([axis], node, "where it cuts these is computed, or it turns them round")
        return None
    if step > 1:
        return _every(trace, node, axis, (start, end, step))
    begin, stop, _ = slice(start, end).indices(len(axis))
    names: tuple[int | str, int | str] = ("starts", "ends") if len(node.inputs) == 1 else (1, 2)
    if begin:
        trace.count(node, names[0], position, axis[:begin])
    if stop < len(axis) or end < len(axis):
        trace.count(node, names[1], position, axis[:stop])
    return axis[begin:stop]


def _every(trace: Trace, node: ir.Node, axis: Array, bounds: tuple[int, int, int]) -> Axis:
    """Every n-th: all of n neighbours go, or none, so that the pattern stays."""
    start, end, step = bounds
    if len(axis) % step or not 0 <= start < step or end < _END:
        trace.protect([axis], node, "it takes every n-th of a part of these")
        return None
    columns(trace, axis, (len(axis) // step, step), 0, node)
    return axis[start::step]


def gather(trace: Trace, node: ir.Node) -> None:
    layout, indices = trace.layout(node.inputs[0]), trace.layout(node.inputs[1])
    axis = attribute(node, "axis", 0) % len(layout)
    trace.protect([layout[axis]], node, "it picks these by index")
    trace.protect(indices, node, "these are indices")
    if trace.is_constant(node.inputs[0]) and not trace.is_constant(node.inputs[1]):
        for width in layout[axis + 1 :]:
            trace.produce(node, width)
    fixed: Layout = [len(size) if live(size) else size for size in indices]
    trace.set(node.outputs[0], [*layout[:axis], *fixed, *layout[axis + 1 :]])


def pad(trace: Trace, node: ir.Node) -> None:
    layout = list(trace.layout(node.inputs[0]))
    constant = attribute(node, "mode", "constant") == "constant"
    axes, pads = _padding(trace, node, len(layout))
    for position, axis in enumerate(axes):
        before, after = (pads[position], pads[position + len(axes)]) if pads is not None else (None, None)
        layout[axis] = _padded(trace, node, layout[axis], before, after, constant)
    trace.set(node.outputs[0], layout)


def _padding(trace: Trace, node: ir.Node, rank: int) -> tuple[list[int], list[int | None] | None]:
    axes = list(range(rank))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        given = trace.elements.numbers(node.inputs[3])
        if given is None:
            raise Unclear("its axes are computed")
        axes = [axis % rank for axis in given]
    if "pads" in node.attributes:
        return axes, list(node.attributes["pads"].as_ints())
    found = trace.elements(node.inputs[1]) if len(node.inputs) > 1 else None
    return axes, [e if isinstance(e, int) else None for e in found] if found and len(found) == 2 * len(axes) else None


def _padded(trace: Trace, node: ir.Node, axis: Axis, before: int | None, after: int | None, constant: bool) -> Axis:
    if before == after == 0:
        return axis
    if live(axis) and before is not None and after is not None and min(before, after) >= 0 and constant:
        trace.limits.expect(len(axis) + before + after)
        return np.pad(axis, (before, after), constant_values=NEVER)
    trace.protect([axis], node, "it pads these")
    return None
