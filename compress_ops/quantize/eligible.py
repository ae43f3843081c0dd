"""Whether an operator's weight can be stored as integers; the reasons are what the report lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..graph.edit import attribute, constant_of
from ..model import Model
from ..passes import Change, selected
from .formats import is_finite

if TYPE_CHECKING:
    import onnx_ir as ir

_OVERHEAD = 600  # bytes that the extra nodes of one quantized operator take in the file, at most

_QUANTIZED = {
    "MatMulInteger": {"MatMul", "Gemm"},
    "MatMulNBits": {"MatMul", "Gemm"},
    "QLinearMatMul": {"MatMul"},
    "QGemm": {"Gemm"},
    "ConvInteger": {"Conv"},
    "QLinearConv": {"Conv"},
    "GatherBlockQuantized": {"Gather"},
}
"""Operators on codes, and what they were before."""


def decline_quantized(model: Model, operators: Iterable[str], only: list[str], skip: list[str], change: Change) -> None:
    """Tell which nodes that were of such types are quantized already; what is float goes on without them."""
    wanted = set(operators)
    for node in model.nodes():
        if _QUANTIZED.get(node.op_type, set()) & wanted and selected(node, only, skip):
            change.decline(node.name, f"{node.op_type}: it is quantized already")


def weight_index(node: ir.Node) -> int:
    """Which input of an operator is its weight."""
    return 0 if node.op_type == "Gather" else 1


def reasons(nodes: Iterable[ir.Node]) -> dict[ir.Node, str]:
    """For each node why it stays as it is, empty where it can be quantized.

    A weight that something else reads as float would have to be stored twice, which is no gain.
    """
    found = {node: why_not(node) for node in nodes}
    able = {node for node, reason in found.items() if not reason}
    return {node: reason or _stays_float(node, able) for node, reason in found.items()}


def _stays_float(node: ir.Node, able: set[ir.Node]) -> str:
    weight = node.inputs[weight_index(node)]
    assert weight is not None
    others = [user.name for user, index in weight.uses() if user not in able or index != weight_index(user)]
    if others or weight.is_graph_output():
        return f"{node.op_type}: its weight stays float for {others[0] if others else 'an output of the model'}"
    return ""


def why_not(node: ir.Node) -> str:
    """Why the node's weight cannot become int8 or would not gain from it; empty when it can."""
    import onnx_ir as ir

    source = constant_of(node.inputs[weight_index(node)])
    if source is None and _is_dequantized(node.inputs[weight_index(node)]):
        return f"{node.op_type}: its weight is quantized already"
    if source is None:
        return f"{node.op_type}: its weight is computed, not stored"
    if source.dtype != ir.DataType.FLOAT:
        return f"{node.op_type}: its weight is {source.dtype.name.lower()}, not float32"
    if constant_of(node.inputs[1 - weight_index(node)]) is not None:
        return f"{node.op_type}: both inputs are constants; run simplify first"
    if source.size * 3 < _OVERHEAD:
        return f"{node.op_type}: its weight of {source.nbytes} bytes is too small to gain"
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    special = _SPECIAL[node.op_type](node, source) if node.op_type in _SPECIAL else ""
    if special or all(is_finite(tensor.numpy()) for tensor in (source, bias) if tensor is not None):
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


_SPECIAL: dict[str, Callable[[Any, Any], str]] = {"MatMul": _matmul, "Gemm": _gemm, "Gather": _gather}
