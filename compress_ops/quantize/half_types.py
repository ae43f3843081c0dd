"""Which inputs and outputs of an operator may be half precision: read from the operators' own definitions.

An operator's definition names a type variable for each input and output, and the types that it may stand for. Where
``float16`` is among them, all inputs and outputs of that variable can be lowered together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ..graph.edit import attribute
from ..model import ONNX_DOMAINS, Model

if TYPE_CHECKING:
    import onnx_ir as ir

MICROSOFT_HALF = frozenset(
    {
        "Attention",
        "BiasGelu",
        "FastGelu",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "Gelu",
        "MultiHeadAttention",
        "QuickGelu",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
"""Operators of onnxruntime's own domain whose float inputs and outputs may all be float16."""

_STAY = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "CastLike", "If", "Loop", "Scan"})
Types = dict["ir.Value", "ir.DataType | None"]


@dataclass(frozen=True)
class Lowerable:
    """Positions of a node's float inputs and outputs that can be half precision together."""

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()


def types_of(model: Model) -> Types:
    """Element types of all values, where shape inference or an operator's definition tells them."""
    types: Types = {}
    for graph in model.ir.graphs():
        types.update({value: value.dtype for value in (*graph.inputs, *graph.initializers.values())})
    for node in model.nodes():
        for index, value in enumerate(node.outputs):
            types[value] = value.dtype if value.dtype is not None else _output_type(model, node, index, types)
    return types


def _output_type(model: Model, node: ir.Node, index: int, types: Types) -> ir.DataType | None:
    """The type that an output shares with an input, by the operator's definition."""
    if node.op_type in MICROSOFT_HALF:
        return next((types.get(value) for value in node.inputs if value is not None), None)
    names = _names(node.op_type, node.domain, model.opset, len(node.inputs), len(node.outputs))
    if names is None:
        return None
    shared = (
        types.get(value)
        for value, name in zip(node.inputs, names[0], strict=True)
        if value is not None and name == names[1][index]
    )
    return next(shared, None)


def lowerable(model: Model, node: ir.Node, types: Types, half: str) -> Lowerable:
    """What of a node can be ``float16`` or ``bfloat16``; nothing where its definition or our policy forbids it."""
    import onnx_ir as ir

    floats_in = [i for i, v in enumerate(node.inputs) if v is not None and types.get(v) == ir.DataType.FLOAT]
    floats_out = [i for i, v in enumerate(node.outputs) if v.name and types.get(v) == ir.DataType.FLOAT]
    if node.op_type in _STAY or not floats_in:
        return Lowerable()
    if node.domain == "com.microsoft":
        known = node.op_type in MICROSOFT_HALF
        return Lowerable(tuple(floats_in), tuple(floats_out)) if known else Lowerable()
    names = _names(node.op_type, node.domain, model.opset, len(node.inputs), len(node.outputs))
    if names is None:
        return Lowerable()
    allowed = _allowed(node.op_type, node.domain, model.opset, f"tensor({half})")
    inputs = tuple(i for i in floats_in if names[0][i] in allowed)
    shared = {names[0][i] for i in inputs}
    return Lowerable(inputs, tuple(i for i in floats_out if names[1][i] in shared))


def makes_float(node: ir.Node) -> bool:
    """Whether a node casts something else than a float to float32."""
    import onnx_ir as ir

    return node.op_type == "Cast" and attribute(node, "to", 0) == ir.DataType.FLOAT.value


@cache
def _names(
    op_type: str, domain: str, opset: int, inputs: int, outputs: int
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Names of the type variables of a node's inputs and outputs."""
    schema = _schema(op_type, domain, opset)
    if schema is None:
        return None
    sides = ((schema.inputs, inputs), (schema.outputs, outputs))
    if any(count and not formal for formal, count in sides):
        return None
    first, second = (tuple(formal[min(i, len(formal) - 1)].type_str for i in range(count)) for formal, count in sides)
    return first, second


@cache
def _allowed(op_type: str, domain: str, opset: int, half: str) -> frozenset[str]:
    """Type variables that may stand for the half type."""
    schema = _schema(op_type, domain, opset)
    constraints = [] if schema is None else schema.type_constraints
    return frozenset(rule.type_param_str for rule in constraints if half in rule.allowed_type_strs)


@cache
def _schema(op_type: str, domain: str, opset: int) -> Any:
    import onnx

    try:
        return onnx.defs.get_schema(op_type, opset, "" if domain in ONNX_DOMAINS else domain)
    except onnx.defs.SchemaError:
        return None
