"""Which inputs and outputs of an operator may be half precision: read from the operators' own definitions.

An operator's definition names a type variable for each input and output, and the types that it may stand for. Where
``float16`` is among them, all inputs and outputs of that variable can be lowered together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...graph.edit import attribute
from ...lazy import ir, onnx
from ...model import ONNX_DOMAINS, Model
from .islands import SUMS_INTEGERS

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
    """Element types of all tensors, where shape inference or an operator's definition tells them."""
    types: Types = {}
    for graph in model.ir.graphs():
        types.update({value: _of_tensor(value) for value in (*graph.inputs, *graph.initializers.values())})
    for node in model.nodes():
        for index, value in enumerate(node.outputs):
            types[value] = _of_tensor(value) if value.type is not None else _output_type(model, node, index, types)
    return types


def _of_tensor(value: ir.Value) -> ir.DataType | None:
    """None for sequences too: their elements keep the type that the sequence declares."""
    return value.dtype if isinstance(value.type, ir.TensorType) else None


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
    """What of a node can be ``float16`` or ``bfloat16``; nothing where its definition or our policy forbids it.

    All ports of one type go together: where the type of one of them is not known, none is lowered. An output that is
    left out has no name.
    """
    inputs = {index: types.get(value) for index, value in enumerate(node.inputs) if value is not None}
    outputs = {index: types.get(value) for index, value in enumerate(node.outputs) if value.name}
    if node.op_type in _STAY or _handles_sequences(node) or not [*_floats(inputs)]:
        return Lowerable()
    if node.domain == "com.microsoft":
        known = node.op_type in MICROSOFT_HALF and None not in {*inputs.values(), *outputs.values()}
        return Lowerable(tuple(_floats(inputs)), tuple(_floats(outputs))) if known else Lowerable()
    names = _names(node.op_type, node.domain, model.opset, len(node.inputs), len(node.outputs))
    if names is None:
        return Lowerable()
    doubtful = {side[index] for side, found in zip(names, (inputs, outputs), strict=True) for index in _unknown(found)}
    allowed = _allowed(node.op_type, node.domain, model.opset, f"tensor({half})") - doubtful
    low = tuple(index for index in _floats(inputs) if names[0][index] in allowed)
    shared = {names[0][index] for index in low}
    return Lowerable(low, tuple(index for index in _floats(outputs) if names[1][index] in shared))


def _floats(types: Mapping[int, ir.DataType | None]) -> Iterator[int]:
    return (index for index, dtype in types.items() if dtype is not None and dtype.name == "FLOAT")


def _unknown(types: Mapping[int, ir.DataType | None]) -> Iterator[int]:
    return (index for index, dtype in types.items() if dtype is None)


def _handles_sequences(node: ir.Node) -> bool:
    kinds = [value.type for value in (*node.inputs, *node.outputs) if value is not None and value.type is not None]
    return not all(isinstance(kind, ir.TensorType) for kind in kinds)


def makes_float(node: ir.Node) -> bool:
    """Whether a node casts to float32 what half precision can hold: sums of 8-bit products soon leave its range."""
    if node.op_type != "Cast" or node.inputs[0] is None or attribute(node, "to", 0) != ir.DataType.FLOAT.value:
        return False
    producer = node.inputs[0].producer()
    return producer is None or producer.op_type not in SUMS_INTEGERS


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
    try:
        return onnx.defs.get_schema(op_type, opset, "" if domain in ONNX_DOMAINS else domain)
    except onnx.defs.SchemaError:
        return None
