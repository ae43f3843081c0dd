"""Operators that move values without computing: Concat, Split, Slice, Gather, Transpose, Expand, Pad and the like.

Their rules do with the labels what the operator does with the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...graph.edit import attribute
from .elements import Element, Elements
from .labels import NEVER, Array
from .trace import Axis, Layout, Trace, Unclear, live, subgraphs

if TYPE_CHECKING:
    import onnx_ir as ir


_END = 2**31 - 1  # exporters write this, or more, for "to the end"


def concat(trace: Trace, node: ir.Node) -> None:
    layouts = [trace.layout(value) for value in node.inputs]
    along = attribute(node, "axis", 1) % len(layouts[0])
    result = (
        layouts[0][:along] + [_end_to_end(trace, [layout[along] for layout in layouts], node)] + layouts[0][along + 1 :]
    )
    for layout in layouts[1:]:
        for axis in range(len(result)):
            if axis != along:
                result[axis] = trace.join(result[axis], layout[axis], node)
    trace.set(node.outputs[0], result)


def _end_to_end(trace: Trace, parts: list[Axis], node: ir.Node) -> Axis:
    sizes = [len(part) if live(part) else part for part in parts]
    known = [size for size in sizes if isinstance(size, int)]
    if not any(map(live, parts)):
        return sum(known) if len(known) == len(sizes) else None
    if len(known) < len(sizes):
        trace.protect(parts, node, "it joins these end to end with something of unknown size")
        return None
    return np.concatenate(
        [part if live(part) else np.full(size, NEVER) for part, size in zip(parts, known, strict=True)]
    )


def split(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(node.inputs[0])
    axis = attribute(node, "axis", 0) % len(layout)
    channels = layout[axis]
    sizes = _split_sizes(trace, node, channels)
    ends = np.cumsum(sizes) if live(channels) else []
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
    layout = list(trace.layout(node.inputs[0]))
    bounds, axes = _bounds(trace, node, len(layout))
    for position, axis in enumerate(axes):
        start, end, step = (part[position] for part in bounds)
        layout[axis] = _sliced(trace, node, layout[axis], (start, end, step), position)
    trace.set(node.outputs[0], layout)


def _bounds(trace: Trace, node: ir.Node, rank: int) -> tuple[list[list[int | None]], list[int]]:
    """Starts, ends and steps (None where computed), and the axes that they are for."""
    if len(node.inputs) == 1:
        starts, ends = (list(attribute(node, name, [])) for name in ("starts", "ends"))
        axes, steps = list(attribute(node, "axes", range(len(starts)))), [1] * len(starts)
        return [starts, ends, steps], [axis % rank for axis in axes]
    given = [*node.inputs, None, None][1:5]
    written = trace.elements.numbers(given[2]) if given[2] is not None else None
    if given[2] is not None and written is None:
        raise Unclear("its axes are computed")
    found = [trace.elements(value) for value in (given[0], given[1], given[3])]
    length = len(written) if written is not None else next((len(part) for part in found if part), rank)
    unknown: list[int | None] = [None] * length
    starts, ends = ([e if isinstance(e, int) else None for e in part] if part else unknown for part in found[:2])
    steps = [e if isinstance(e, int) else None for e in found[2] or []] if given[3] is not None else [1] * length
    return [starts, ends, steps or unknown], [axis % rank for axis in written or range(length)]


def _sliced(
    trace: Trace, node: ir.Node, axis: Axis, bounds: tuple[int | None, int | None, int | None], position: int
) -> Axis:
    start, end, step = bounds
    if start == 0 and step == 1 and end is not None and end >= _END:
        return axis
    if not live(axis):
        known = isinstance(axis, int) and None not in bounds
        return len(range(axis)[start:end:step]) if known and isinstance(axis, int) else None
    if start is None or end is None or step != 1:
        trace.protect([axis], node, "where it cuts these is computed, or it takes every n-th")
        return None
    begin, stop, _ = slice(start, end).indices(len(axis))
    names: tuple[int | str, int | str] = ("starts", "ends") if len(node.inputs) == 1 else (1, 2)
    if begin:
        trace.count(node, names[0], position, axis[:begin])
    if stop < len(axis) or end < len(axis):
        trace.count(node, names[1], position, axis[:stop])
    return axis[begin:stop]


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


def transpose(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(node.inputs[0])
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
    layout = trace.layout(node.inputs[0])
    axes = _axes(trace, node, len(layout))
    if axes is None:
        if any(not isinstance(size, int) and not live(size) for size in layout):
            raise Unclear("which dimensions it drops depends on their size")
        axes = [axis for axis, size in enumerate(layout) if not live(size) and size == 1]
    trace.set(node.outputs[0], [size for axis, size in enumerate(layout) if axis not in axes])


def unsqueeze(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(node.inputs[0])
    given = attribute(node, "axes", None) or trace.elements.numbers(node.inputs[1])
    axes = [axis % (len(layout) + len(given)) for axis in given]
    remaining = iter(layout)
    rank = len(layout) + len(given)
    trace.set(node.outputs[0], [1 if axis in axes else next(remaining) for axis in range(rank)])


def expand(trace: Trace, node: ir.Node) -> None:
    layout, target = trace.layout(node.inputs[0]), trace.elements(node.inputs[1])
    if target is None:
        raise Unclear("its target shape is not understood")
    rank = max(len(layout), len(target))
    padded: Layout = [1] * (rank - len(layout)) + layout
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
        result.append(_repeated(axis, times))
    trace.set(node.outputs[0], result)


def _repeated(axis: Axis, times: int | None) -> Axis:
    if times is None or not (live(axis) or isinstance(axis, int)):
        return axis if times == 1 else None
    return np.tile(axis, times) if live(axis) else axis * times


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
        return np.pad(axis, (before, after), constant_values=NEVER)
    trace.protect([axis], node, "it pads these")
    return None


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
