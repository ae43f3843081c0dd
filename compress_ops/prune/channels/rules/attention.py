"""Attention as one operator (ONNX 23): softmax(scale Q K^T + mask) V, head by head.

Query heads that share a head of keys and values go with it. The size of heads can be cut where the scale is written
(``write_scales``): else the operator takes it from that size.
"""

from __future__ import annotations

import math

import numpy as np

from ....arrays import Array
from ....lazy import ir
from ....model import ONNX_DOMAINS, Model
from ..axes import Axis, Layout, Unclear, labels_of, live, size_of
from ..trace import Trace


def write_scales(model: Model) -> None:
    """Write the scale that follows from the size of heads, where it is left to the operator."""
    for node in model.nodes():
        if node.op_type == "Attention" and node.domain in ONNX_DOMAINS and "scale" not in node.attributes:
            shape = node.inputs[0].shape if node.inputs[0] is not None else None
            size = shape[-1] if shape is not None and len(shape) == 4 else None
            if isinstance(size, int) and size > 0:
                node.attributes["scale"] = ir.AttrFloat32("scale", 1 / math.sqrt(size))


def attention(trace: Trace, node: ir.Node) -> None:
    if any(value is not None for value in (*node.inputs[4:], *node.outputs[1:])):
        raise Unclear("it keeps keys and values of earlier steps")
    query, keys, values = (trace.layout(value) for value in node.inputs[:3])
    if not len(query) == len(keys) == len(values) == 4:
        raise Unclear("its heads lie in one dimension with their channels")
    trace.protect([trace.join(keys[2], values[2], node)], node, "its result depends on all of these")
    heads = _heads(trace, node, query[1], trace.join(keys[1], values[1], node))
    size = trace.join(query[3], keys[3], node)
    if "scale" not in node.attributes:
        trace.protect([size], node, "it scales by their number")
    heads = _masked(trace, node, heads)
    trace.head_labels += [labels for labels in [labels_of(heads)] if labels is not None]
    trace.set(node.outputs[0], [query[0], heads, query[2], values[3]])


def _heads(trace: Trace, node: ir.Node, queries: Axis, keys: Axis) -> Axis:
    """Each head of keys serves as many query heads, one after the other."""
    if size_of(keys) == 1:
        return queries
    return trace.join(queries, _repeated(trace, queries, keys) if live(keys) else keys, node)


def _repeated(trace: Trace, queries: Axis, keys: Array) -> Axis:
    size = size_of(queries)
    if not isinstance(size, int) or size % len(keys):
        return keys
    trace.limits.expect(size)
    return np.repeat(keys, size // len(keys))


def _masked(trace: Trace, node: ir.Node, heads: Axis) -> Axis:
    """A mask may have an axis of heads; along the others it counts positions."""
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return heads
    mask: Layout = trace.layout(node.inputs[3])
    trace.protect([*mask[:-3], *mask[-2:]], node, "these are positions of its mask")
    return trace.broadcast(heads, mask[-3], node) if len(mask) > 2 else heads
