"""What constant folding by onnxscript needs beside it: results known to be small, and operators of the right opset.

A few bytes can ask for any size (Expand, Range, Pad).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..model import ONNX_DOMAINS, Model

if TYPE_CHECKING:
    import onnx_ir as ir

_NEVER_LARGER = {  # than all that they read
    "Abs", "Acos", "Asin", "Atan", "Cast", "CastLike", "Ceil", "Clip", "Compress", "Cos", "Erf", "Exp", "Flatten",
    "Floor", "Identity", "IsInf", "IsNaN", "Log", "Neg", "NonZero", "Not", "Reciprocal", "ReduceL1", "ReduceL2",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Round", "Shape", "Sigmoid",
    "Sign", "Sin", "Size", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Tan", "Tanh", "Transpose", "Trilu",
    "Unique", "Unsqueeze",
}  # fmt: skip
_AT_MOST_PRODUCT = {  # of the sizes of all that they read
    "Add", "And", "Div", "Equal", "Gather", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod",
    "Mul", "Or", "Pow", "Sub", "Where", "Xor",
}  # fmt: skip


_COUNTS_PARTS = 18  # the first opset in which Split has num_outputs


def forget_part_counts(model: Model) -> None:
    """onnxscript writes num_outputs where it splits into equal parts; in older opsets these are the default."""
    for node in model.nodes() if model.opset < _COUNTS_PARTS else ():
        if node.op_type == "Split" and node.domain in ONNX_DOMAINS:
            node.attributes.pop("num_outputs", None)


def stays_small(node: ir.Node, limit: int) -> bool:
    """Whether no result of a node that reads constants has more numbers than that."""
    return node.op_type in _NEVER_LARGER or all(_count(value, node) <= limit for value in node.outputs)


def _count(value: ir.Value, node: ir.Node) -> float:
    """The size by the shape that was inferred; else as much as the operator can make of its inputs."""
    if value.shape is not None and value.shape.is_static():
        return math.prod(value.shape.numpy())
    read = [given.const_value.size for given in node.inputs if given is not None and given.const_value is not None]
    if node.op_type == "Concat":
        return sum(read)
    return math.prod(read) if node.op_type in _AT_MOST_PRODUCT else math.inf
