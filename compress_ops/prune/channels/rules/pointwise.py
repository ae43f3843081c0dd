"""Operators that treat every channel alike or on its own: elementwise ones, normalizations, pools, Q/DQ.

Normalizations over channels (and LRN, and means) see fewer channels after a cut, so they are recorded as mixing: their
result is that of the same operator over the channels that remain.
"""

from __future__ import annotations

import numpy as np

from ....graph.edit import attribute
from ....lazy import ir
from ..axes import Axis, Layout, Unclear, live
from ..even import balance
from ..trace import Trace
from .views import columns


def same(trace: Trace, node: ir.Node) -> None:
    """Each output has the axes of the first input (Relu, Cast, Dropout, ...)."""
    for output in node.outputs:
        trace.set(output, trace.folded_layout(node.inputs[0]))


def elementwise(trace: Trace, node: ir.Node) -> None:
    """Inputs broadcast against one another (Add, Mul, Where, PRelu, ...)."""
    if "axis" in node.attributes:
        raise Unclear("broadcasting by the axis attribute of old operator sets is not understood")
    layouts = [trace.folded_layout(value) for value in node.inputs if value is not None]
    trace.set(node.outputs[0], trace.broadcast_all(layouts, node))


def shape(trace: Trace, node: ir.Node) -> None:
    """Sizes are followed by the evaluator of elements, at whatever reads them."""
    rank = trace.rank(node.inputs[0]) if node.inputs[0] is not None else None
    part = slice(attribute(node, "start", None), attribute(node, "end", None))
    trace.set(node.outputs[0], [None if rank is None else len(range(rank)[part])])


def per_channel(trace: Trace, node: ir.Node) -> None:
    """BatchNormalization, InstanceNormalization: one number a channel in every further input."""
    layout = list(trace.layout(node.inputs[0]))
    for value in node.inputs[1:]:
        layout[1] = trace.join(layout[1], trace.layout(value)[0], node)
    _scale(trace, node.inputs[1])
    if node.op_type == "InstanceNormalization":
        trace.mix(layout[2:], node, "it normalizes over these")
    trace.set(node.outputs[0], layout)


def _scale(trace: Trace, value: ir.Value | None) -> None:
    trace.scales += [axis for axis in trace.layout(value) if live(axis)]


def layer_normalization(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(node.inputs[0])
    parameters = [trace.layout(value) for value in node.inputs[1:] if value is not None]
    result = trace.broadcast_all([layout, *parameters], node)
    _scale(trace, node.inputs[1])
    axis = attribute(node, "axis", -1)
    trace.mix(result[axis:], node, "it normalizes over these")
    trace.set(node.outputs[0], result)
    for output in node.outputs[1:]:
        trace.set(output, [*result[:axis], *[1 for _ in result[axis:]]])


def normalization(trace: Trace, node: ir.Node) -> None:
    """LpNormalization along one axis, MeanVarianceNormalization along several."""
    layout = trace.layout(node.inputs[0])
    axes = [attribute(node, "axis", -1)] if node.op_type == "LpNormalization" else attribute(node, "axes", [0, 2, 3])
    trace.mix([layout[axis] for axis in axes], node, "it normalizes over these")
    trace.set(node.outputs[0], layout)


def reverse_sequence(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(node.inputs[0])
    axes = attribute(node, "time_axis", 0), attribute(node, "batch_axis", 1)
    trace.protect([layout[axis] for axis in axes], node, "it turns these round")
    trace.set(node.outputs[0], layout)


def trilu(trace: Trace, node: ir.Node) -> None:
    layout = trace.folded_layout(node.inputs[0])
    trace.protect(layout[-2:], node, "what it keeps depends on where these stand")
    trace.set(node.outputs[0], layout)


def group_normalization(trace: Trace, node: ir.Node) -> None:
    """As many channels from each group: the groups stay, each normalizes over fewer channels."""
    layout, groups = list(trace.layout(node.inputs[0])), attribute(node, "num_groups", 1)
    for value in node.inputs[1:]:
        parameters = trace.layout(value)[0]
        if live(parameters) and live(layout[1]) and len(parameters) == len(layout[1]):
            layout[1] = trace.join(layout[1], parameters, node)
            _scale(trace, value)
        else:
            trace.protect([parameters], node, "it has one number a group")
    if live(layout[1]):
        balance(trace, layout[1], groups, node)
    trace.mix(layout[1:2], node, "it normalizes over these, in groups")
    trace.set(node.outputs[0], layout)


def local_response(trace: Trace, node: ir.Node) -> None:
    trace.mix(trace.layout(node.inputs[0])[1:2], node, "it normalizes over neighbouring channels")
    same(trace, node)


def pool(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(node.inputs[0])
    trace.protect(layout[2:], node, "it pools over these")
    for output in node.outputs:
        trace.set(output, [*layout[:2], *[None for _ in layout[2:]]])


def global_pool(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(node.inputs[0])
    trace.protect(layout[2:], node, "it pools over these")
    trace.set(node.outputs[0], [*layout[:2], *[1 for _ in layout[2:]]])


def along_axis(trace: Trace, node: ir.Node) -> None:
    """Softmax, CumSum, TopK ...: indices along one axis depend on one another, so that axis stays."""
    layout = list(trace.folded_layout(node.inputs[0]))
    axis = axis_of(trace, node, len(layout))
    coerced = node.op_type in ("Softmax", "LogSoftmax", "Hardmax") and trace.model.opset < 13
    last = len(layout) if coerced else axis + 1
    trace.protect(layout[axis:last], node, "its result along this dimension depends on all of it")
    layout[axis:last] = [len(part) if live(part) else part for part in layout[axis:last]]
    for output in node.outputs:
        trace.set(output, layout if node.op_type not in ("TopK",) else [*layout[:axis], None, *layout[axis + 1 :]])


def axis_of(trace: Trace, node: ir.Node, rank: int) -> int:
    default = {"TopK": -1, "CumSum": 0, "ArgMax": 0, "ArgMin": 0}.get(
        node.op_type, -1 if trace.model.opset >= 13 else 1
    )
    axis = attribute(node, "axis", default)
    if node.op_type == "CumSum":
        axis = (trace.elements.numbers(node.inputs[1]) or [0])[0]
    return int(axis + rank if axis < 0 else axis)


EXACT_REDUCTIONS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")


def reduce(trace: Trace, node: ir.Node) -> None:
    """A sum over channels that are zero stays what it is; any other, a mean or a maximum is recorded as mixing."""
    layout = trace.layout(node.inputs[0])
    axes = _reduced(trace, node, len(layout))
    gone = [layout[axis] for axis in axes]
    if node.op_type in ("ReduceProd", "ReduceLogSum", "ArgMax", "ArgMin"):
        trace.protect(gone, node, "its result depends on all of these")
    elif node.op_type not in EXACT_REDUCTIONS or node.inputs[0] in trace.loud:
        trace.mix(gone, node, "it reduces over these")
    kept = [[1] if axis in axes else [size] for axis, size in enumerate(layout)]
    if not attribute(node, "keepdims", 1):
        kept = [[] if axis in axes else [size] for axis, size in enumerate(layout)]
    trace.set(node.outputs[0], [size for part in kept for size in part])


def _reduced(trace: Trace, node: ir.Node, rank: int) -> set[int]:
    axes = attribute(node, "axes", None)
    if node.op_type in ("ArgMax", "ArgMin"):
        axes = [attribute(node, "axis", 0)]
    elif len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = trace.elements.numbers(node.inputs[1])
        if axes is None:
            raise Unclear("its axes are computed")
    if not axes:
        return set() if attribute(node, "noop_with_empty_axes", 0) else set(range(rank))
    return {axis % rank for axis in axes}


def quantization(trace: Trace, node: ir.Node) -> None:
    """QuantizeLinear, DequantizeLinear: one scale for all, or one an index along an axis."""
    layout = list(trace.layout(node.inputs[0]))
    if attribute(node, "block_size", 0):
        raise Unclear("its scales belong to blocks of weights")
    axis = attribute(node, "axis", 1)
    for value in node.inputs[1:3]:
        scale: Axis = (trace.layout(value) or [1])[0] if value is not None else 1
        if live(scale) or scale != 1:
            layout[axis] = trace.join(layout[axis], scale, node)
    trace.set(node.outputs[0], layout)


def space_to_depth(trace: Trace, node: ir.Node) -> None:
    layout, block = trace.layout(node.inputs[0]), attribute(node, "blocksize", 1)
    channels = layout[1]
    trace.protect(layout[2:], node, "it turns these into channels")
    if not live(channels):
        return trace.set(node.outputs[0], None)

    trace.limits.expect(len(channels) * block * block)
    trace.set(node.outputs[0], [layout[0], np.tile(channels, block * block), None, None])


def depth_to_space(trace: Trace, node: ir.Node) -> None:
    layout, block = trace.layout(node.inputs[0]), attribute(node, "blocksize", 1)
    channels, area = layout[1], block * block
    trace.protect(layout[2:], node, "it puts channels between these")
    if not live(channels) or len(channels) == area:
        trace.protect([channels], node, "it turns these into positions")
        return trace.set(node.outputs[0], None)
    outer = attribute(node, "mode", "DCR") == "CRD"
    sizes = (len(channels) // area, area) if outer else (area, len(channels) // area)
    made: Layout = [layout[0], columns(trace, channels, sizes, 0 if outer else 1, node), None, None]
    trace.set(node.outputs[0], made)
