"""What ONNX infers of its own operators: types and shapes of inner values, put into the model in place."""

from __future__ import annotations

from typing import Any

from ..files.protobuf import bodies
from ..lazy import ir, onnx
from .lengths import is_short
from .outline import outline


def infer_standard(model: ir.Model) -> None:
    """Fill in what ONNX can infer; what it cannot, or refuses to, stays as it is.

    Numbers are handed on from node to node only where the shapes found without say that they are few.
    """
    _infer(model, data_prop=False)
    if is_short(ir.traversal.RecursiveGraphIterator(model.graph)):
        _infer(model, data_prop=True)


def _infer(model: ir.Model, *, data_prop: bool) -> None:
    proto = outline(model)
    _call_by_names_that_are_known(proto)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=False, data_prop=data_prop)
    except Exception:  # ONNX raises what its operators raise
        return
    for graph, known in zip(model.graphs(), ir.from_proto(inferred).graphs(), strict=True):
        for node, same in zip(graph, known, strict=True):  # names need not be unique between the branches of an If
            for value, found in zip(node.outputs, same.outputs, strict=False):  # the last ones may be left out
                adopt(value, found.type, found.shape)
        for value, found in zip(graph.inputs, known.inputs, strict=False):  # weights come behind those of the outline
            if value.type is None:
                adopt(value, found.type, found.shape)


def adopt(value: ir.Value, kind: ir.TypeProtocol | None, shape: ir.Shape | None) -> None:
    """Take over what was found about a value."""
    if kind is not None:
        value.type = kind
    if shape is not None:
        value.shape = shape


def _call_by_names_that_are_known(proto: Any) -> None:
    """ONNX infers nothing behind a GroupNormalization; it goes by the name of one that takes and gives the same."""
    for body in bodies(proto):
        for node in body.node:
            if node.op_type == "GroupNormalization" and node.domain in ("", "ai.onnx"):
                node.op_type = "InstanceNormalization"
