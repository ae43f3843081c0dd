"""Whether an operator's weight can be stored as integers; the reasons are what the report lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ...files.stored_half import stored_bytes
from ...graph.edit import attribute, constant_of
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...passes import Change, selected
from ..numbers.formats import is_finite

RECURRENT = ("LSTM", "GRU", "RNN")
_SAVED = 600  # bytes that the extra nodes of one quantized operator take in the file, at most

_QUANTIZED = {
    "MatMulInteger": {"MatMul", "Gemm"},
    "MatMulNBits": {"MatMul", "Gemm"},
    "QLinearMatMul": {"MatMul"},
    "QGemm": {"Gemm"},
    "ConvInteger": {"Conv"},
    "QLinearConv": {"Conv"},
    "GatherBlockQuantized": {"Gather"},
    "DynamicQuantizeLSTM": {"LSTM"},
}
"""Operators on codes, and what they were before."""


def decline_quantized(model: Model, operators: Iterable[str], only: list[str], skip: list[str], change: Change) -> None:
    """Tell which nodes that were of such types are quantized already; what is float goes on without them."""
    wanted = set(operators)
    for node in model.nodes():
        if _QUANTIZED.get(node.op_type, set()) & wanted and selected(node, only, skip):
            change.decline(node.name, f"{node.op_type}: it is quantized already")


def weight_index(node: ir.Node) -> int:
    """Which input of an operator is its weight, or the first of them."""
    return 0 if node.op_type == "Gather" else 1


def weight_indices(node: ir.Node) -> tuple[int, ...]:
    """Which inputs of an operator are weights: recurrent ones have two, for what they read and for their state."""
    return (1, 2) if node.op_type in RECURRENT else (weight_index(node),)


def weights_of(node: ir.Node) -> list[ir.Value | None]:
    """The weights of an operator."""
    return [node.inputs[index] for index in weight_indices(node)]


def reasons(nodes: Iterable[ir.Node]) -> dict[ir.Node, str]:
    """For each node why it stays as it is, empty where it can be quantized.

    A weight that something else reads as float would have to be stored twice, which is no gain.
    """
    found = {node: why_not(node) for node in nodes}
    able = {node for node, reason in found.items() if not reason}
    return {node: reason or _stays_float(node, able) for node, reason in found.items()}


def _stays_float(node: ir.Node, able: set[ir.Node]) -> str:
    for weight in (weight for weight in weights_of(node) if weight is not None):
        others = [user.name for user, index in weight.uses() if user not in able or index not in weight_indices(user)]
        if others or weight.is_graph_output():
            return f"{node.op_type}: its weight stays float for {others[0] if others else 'an output of the model'}"
    return ""


def why_not(node: ir.Node) -> str:
    """Why the node's weights cannot become int8 or would not gain from it; empty when they can."""
    found = (_why_not_weight(node, weight) for weight in weights_of(node))
    return next(filter(None, found), "") or _why_not_node(node)


def is_left(node: ir.Node) -> bool:
    """Whether a MatMul's left operand alone is stored."""
    is_product = node.op_type == "MatMul" and node.domain in ONNX_DOMAINS
    return is_product and constant_of(node.inputs[0]) is not None and constant_of(node.inputs[1]) is None


def why_not_left(node: ir.Node) -> str:
    """The same for a MatMul whose stored matrix is the left operand, once it stands on the right (``left.py``)."""
    weight, right = node.inputs[:2]
    source, shape = constant_of(weight), right.shape if right is not None else None
    assert source is not None
    if len(source.shape) < 2 or (shape is not None and len(shape) < 2):
        return f"MatMul: {'its weight' if len(source.shape) < 2 else 'what it multiplies'} is a vector"
    if shape is None:
        return "MatMul: its weight stands on the left of what has an unknown number of dimensions"
    reason = _why_not_weight(node, weight)
    return reason or ("" if is_finite(source.numpy()) else "MatMul: its weight has NaN or infinite values")


def _why_not_weight(node: ir.Node, weight: ir.Value | None) -> str:
    source = constant_of(weight)
    if source is None and _is_dequantized(weight):
        return f"{node.op_type}: its weight is quantized already"
    if is_left(node) and weight is node.inputs[1]:
        return "MatMul: its stored matrix stands on the left"
    if source is None or weight is None:
        return f"{node.op_type}: its weight is computed, not stored"
    if source.dtype != ir.DataType.FLOAT:
        return f"{node.op_type}: its weight is {source.dtype.name.lower()}, not float32"
    if stored_bytes(weight) - source.size < _SAVED:
        return f"{node.op_type}: its weight of {stored_bytes(weight)} bytes is too small to gain"
    return ""


def _why_not_node(node: ir.Node) -> str:
    index = weight_index(node)
    source = constant_of(node.inputs[index])
    assert source is not None
    if constant_of(node.inputs[1 - index]) is not None:
        return f"{node.op_type}: both inputs are constants; run simplify first"
    special = _SPECIAL[node.op_type](node, source) if node.op_type in _SPECIAL else ""
    held = [constant_of(value) for value in (*weights_of(node), *node.inputs[2:4])]
    if special or all(is_finite(tensor.numpy()) for tensor in held if tensor is not None):
        return special
    return f"{node.op_type}: its weight or bias has NaN or infinite values"


def _is_dequantized(value: ir.Value | None) -> bool:
    """Whether a value is stored codes behind a DequantizeLinear."""
    source = value.producer() if value is not None else None
    return source is not None and source.op_type == "DequantizeLinear" and constant_of(source.inputs[0]) is not None


def _matmul(node: ir.Node, source: ir.TensorProtocol) -> str:
    return "MatMul: its weight is a vector" if len(source.shape) < 2 else ""


def _gemm(node: ir.Node, source: ir.TensorProtocol) -> str:
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0:
        return "Gemm: transA, alpha or beta has no integer form"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and (bias.shape is None or len(bias.shape) > 1):
        return "Gemm: its bias is no vector"
    return ""


def _gather(node: ir.Node, source: ir.TensorProtocol) -> str:
    return "" if attribute(node, "axis", 0) == 0 and len(source.shape) == 2 else "Gather: not a table of rows"


def _recurrent(node: ir.Node, source: ir.TensorProtocol) -> str:
    return f"{node.op_type}: layout 1 is not run by onnxruntime" if attribute(node, "layout", 0) else ""


_SPECIAL: dict[str, Callable[[Any, Any], str]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Gather": _gather,
    **dict.fromkeys(RECURRENT, _recurrent),
}
