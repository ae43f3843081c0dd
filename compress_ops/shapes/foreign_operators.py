"""What onnxruntime infers of operators that ONNX does not know, or infers nothing of.

onnxruntime infers types and shapes when it reads a model, before it looks for kernels or weights: it is given the
outline with the values in question as outputs. A few operators (Scaler, Normalizer, CDist) have no inference there
either: they are run by themselves on made-up numbers (see alone.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from ..files.protobuf import inner_nodes
from ..lazy import ir, onnx
from ..runtime import Port, ports_as_read
from .alone import ports_alone
from .onnx_inference import adopt
from .outline import outline


def infer_foreign(model: ir.Model) -> bool:
    """Fill in what onnxruntime tells of foreign operators; whether anything was learned."""
    nodes = [node for node in _foreign_nodes(model) if any(map(_lacks, node.outputs))]
    before = _missing(nodes)
    if before:
        _ask_for_all(model, [value for node in nodes if node.graph is model.graph for value in node.outputs])
        for node in nodes:
            if any(map(_lacks, node.outputs)):
                _take(node.outputs, ports_alone(model, node))
    return _missing(nodes) < before


def _ask_for_all(model: ir.Model, values: Iterable[ir.Value]) -> None:
    """One reading of the whole outline tells of values that stand behind one another."""
    wanted = [value for value in values if _lacks(value)]
    if wanted:
        proto = outline(model)
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in wanted)
        _keep_what_leads_to(proto.graph, {value.name for value in wanted})
        _take(wanted, ports_as_read(proto.SerializeToString()))


def _keep_what_leads_to(graph: Any, names: set[str | None]) -> None:
    """Other nodes may be of kinds that onnxruntime does not take here, such as those that make maps."""
    kept = []
    for node in reversed(graph.node):
        if names & set(node.output):
            kept.append(node)
            names.update(name for one in (node, *inner_nodes(node)) for name in one.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _take(values: Iterable[ir.Value], ports: Iterable[Port]) -> None:
    """onnxruntime gives no sizes for a shape that it does not know, as for that of a single number."""
    known = {port.name: port for port in ports}
    for value in values:
        port = known.get(value.name or "")
        kind = element_type(port.dtype) if port is not None else None
        if port is not None and kind is not None and _lacks(value):
            adopt(value, ir.TensorType(kind), ir.Shape(port.shape) if port.shape else None)


def element_type(name: str) -> ir.DataType | None:
    """ONNX's element type for what a port calls its own; None for sequences and maps."""
    return ir.DataType.__members__.get({"float32": "FLOAT", "float64": "DOUBLE"}.get(name, name.upper()))


def _missing(nodes: Iterable[ir.Node]) -> int:
    return sum((value.type is None) + (value.shape is None) for node in nodes for value in node.outputs if value.name)


def _lacks(value: ir.Value) -> bool:
    """Whether type or shape of a value that is there are unknown."""
    return bool(value.name) and (value.type is None or value.shape is None)


def _foreign_nodes(model: ir.Model) -> Iterator[ir.Node]:
    versions = model.opset_imports
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_identifier() not in model.functions:
            domain = "" if node.domain == "ai.onnx" else node.domain
            if not _infers(node.op_type, domain, versions.get(domain, versions.get("ai.onnx", 1))):
                yield node


@cache
def _infers(operator: str, domain: str, version: int) -> bool:
    """Whether ONNX infers something of what an operator gives."""
    try:
        schema = onnx.defs.get_schema(operator, version, domain)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_type_and_shape_inference_function or schema.has_function or operator == "GroupNormalization")
