"""Operators without a rule of their own that ONNX defines by other operators (Attention, RotaryEmbedding, Shrink, ...):
in their place stands their definition, whose operators have rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...lazy import ir, ir_passes, onnx
from ...model import ONNX_DOMAINS, Model

_DOMAIN = "onnxpress.definition"
_NEVER = frozenset({"Bernoulli", "DynamicQuantizeLinear", "SequenceMap"})
"""Random; rounding, whose parts are flat where its own gradient is not known; loops."""


def expand(model: Model, nodes: Iterable[ir.Node]) -> None:
    """Replace these nodes of the main graph, as far as they have a definition."""
    wanted = [node for node in nodes if node.domain in ONNX_DOMAINS and node.op_type not in _NEVER]
    if wanted:
        model.infer_shapes()  # a definition depends on the types of the inputs
    found = {node: body for node in wanted if (body := _definition(node, model.opset)) is not None}
    for number, (node, body) in enumerate(found.items()):
        _state_defaults(node, model.opset)
        node.domain, node.op_type = _DOMAIN, f"{node.op_type}_{number}"
        body.domain, body.name = node.domain, node.op_type
        function: ir.Function = ir.from_proto(body)
        model.ir.functions[function.identifier()] = function
    if found:
        model.ir.opset_imports[_DOMAIN] = 1
        ir_passes.InlinePass()(model.ir)
        del model.ir.opset_imports[_DOMAIN]


def _state_defaults(node: ir.Node, opset: int) -> None:
    """A definition speaks of attributes by name: where a node leaves one out, it means the default."""
    from onnx import defs

    for name, known in defs.get_schema(node.op_type, opset, "").attributes.items():
        if name not in node.attributes and known.default_value.name:
            node.attributes[name] = ir.from_proto(known.default_value)


def _definition(node: ir.Node, opset: int) -> onnx.FunctionProto | None:
    """None also where an operator that it is made of means something else in this version."""
    from onnx import defs

    text = _text(defs.get_schema(node.op_type, opset, ""), node, opset) if defs.has(node.op_type, opset, "") else b""
    if not text:
        return None
    body = onnx.FunctionProto.FromString(text)
    body.opset_import[0].version = opset
    del body.output[len(node.outputs) :]
    made = {name for inner in body.node for name in inner.output}
    return body if made.issuperset(body.output) else None


def _text(schema: Any, node: ir.Node, opset: int) -> bytes:
    if schema.has_function:
        return bytes(schema.get_function_with_opset_version(opset))
    if not schema.has_context_dependent_function:
        return b""
    proto = ir.to_proto(node).SerializeToString()
    types = [_type(value) for value in node.inputs]
    return bytes(schema.get_context_dependent_function_with_opset_version(opset, proto, types))


def _type(value: ir.Value | None) -> bytes:
    proto = onnx.TypeProto() if value is None else ir.to_proto(value).type
    return bytes(proto.SerializeToString())
