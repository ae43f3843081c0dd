"""How long an axis must be because of the weights that will sum over it, where shape inference does not know.

Exporters write Reshape(x, [batch, seq, -1]) in front of a MatMul: only the MatMul's weight tells what -1 will be.
"""

from __future__ import annotations

from ....graph.edit import attribute
from ....lazy import ir

_STEPS = 8  # operators to look behind


def demanded(value: ir.Value, axis: int, rank: int, steps: int = _STEPS) -> int | None:
    """The length of one of so many axes, from the first weight found that sums over it."""
    found = (_by(node, index, axis, rank, steps) for node, index in value.uses())
    return next((size for size in found if size is not None), None)


def _by(node: ir.Node, index: int, axis: int, rank: int, steps: int) -> int | None:
    weight = node.inputs[1] if len(node.inputs) > 1 and index == 0 else None
    shape = weight.const_value.shape.numpy() if weight is not None and weight.const_value is not None else ()
    if node.op_type == "MatMul" and len(shape) > 1 and axis == rank - 1:
        return int(shape[-2])
    if node.op_type == "Conv" and shape and axis == 1:
        return int(shape[1] * attribute(node, "group", 1))
    if node.op_type == "Transpose" and steps and "perm" in node.attributes:
        return demanded(node.outputs[0], list(node.attributes["perm"].as_ints()).index(axis), rank, steps - 1)
    return demanded(node.outputs[0], axis, rank, steps - 1) if node.op_type in _KEEP and steps else None


_KEEP = frozenset(("Relu", "Identity", "Cast", "Dropout", "Sigmoid", "Tanh", "Clip", "LeakyRelu", "Erf", "Softmax"))
