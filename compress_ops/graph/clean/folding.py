"""Constant folding by onnxscript, kept from what a few bytes can ask of it (Expand, Range, Pad, SplitToSequence)."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...shapes.lengths import is_short
from ..edit import attribute
from .quiet import quietly, set_aside

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
_MOST_PARTS = 1024  # of a sequence: onnxscript makes an output of a Split of each


def fold(
    model: Model,
    judge: Callable[[ir.Node], bool | None],
    *,
    largest_input: int = 2**62,
    largest_output: int = 2**62,
    infer: bool = True,
) -> bool:
    """Compute what constants of at most so many numbers give; tells whether there was any.

    ``judge`` says of a node whether it is to be computed, or leaves that to onnxscript's own rules (None).
    """
    from onnxscript import optimizer

    if not is_short(model.nodes()):  # it infers shapes, too
        return False
    limits = {"input_size_limit": largest_input, "output_size_limit": largest_output}
    long = [node for node in model.nodes() if node.op_type == "SplitToSequence" and _is_long(node)]
    with quietly(), set_aside(model, long):
        found = optimizer.fold_constants_ir(model.ir, onnx_shape_inference=infer, should_fold=judge, **limits)
    _forget_part_counts(model)
    return bool(found.modified)


def _is_long(node: ir.Node) -> bool:
    """Whether what it splits may come in many parts."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    axis = attribute(node, "axis", 0)
    size = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else 0
    return isinstance(size, int) and size > _MOST_PARTS


def _forget_part_counts(model: Model) -> None:
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
