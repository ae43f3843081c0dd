"""Nodes fit their operator: known, with inputs, outputs and attributes as a schema takes them.

The schema is ONNX's, or that of onnxruntime, which has operators of its own, in the standard domain too. One of them
has to agree. A domain that neither knows is somebody's own: nothing is known of its operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from ..errors import ProviderError
from ..files.protobuf import bodies_of
from ..lazy import onnx
from ..runtime import onnxruntime_module
from .functions import Key, key_of
from .graphs import called
from .imports import plain, versions

_SINGLE = "Single"  # a port that must be there


class _Signature(NamedTuple):
    """What a schema says of a node: how many ports, which must have a value, and attributes: type, whether required."""

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    needed_inputs: frozenset[int]
    needed_outputs: frozenset[int]
    attributes: Mapping[str, tuple[str, bool]]


def operator_faults(proto: Any) -> Iterator[str]:
    functions = {key_of(f.domain, f.name, f.overload): (len(f.input), len(f.output)) for f in proto.functions}
    for outer in (proto.graph, *proto.functions):
        imports = versions(proto.opset_import if outer is proto.graph else outer.opset_import)
        for body in bodies_of(outer):
            for node in body.node:
                for fault in _node_faults(node, imports, functions, in_function=outer is not proto.graph):
                    yield f"{called(node)} {fault}"


def _node_faults(
    node: Any, imports: Mapping[str, int], functions: Mapping[Key, tuple[int, int]], *, in_function: bool
) -> Iterator[str]:
    domain = plain(node.domain)
    ports = functions.get(key_of(node.domain, node.op_type, node.overload))
    if ports is not None:
        if len(node.input) > ports[0] or len(node.output) > ports[1]:
            yield f"has more inputs or outputs than its function, which has {ports[0]} and {ports[1]}"
    elif domain == "" and domain not in imports:
        yield "is of the standard operator set, which is not imported"
    elif domain == "" and in_function:  # onnxruntime crashes on operators of its own there
        signature = _onnx_signature(node.op_type, domain, imports[domain])
        unknown = [f"is of an operator that ONNX (version {imports[domain]}) lacks, which no function may hold"]
        yield from _signature_faults(node, signature) if signature is not None else unknown
    else:
        yield from _schema_faults(node, domain, imports.get(domain, 1))


def _schema_faults(node: Any, domain: str, version: int) -> Iterator[str]:
    """The faults by the first schema, unless another has none; those of a domain that no schema is of are not known."""
    first: list[str] = []
    for source in (_onnx_signature, _onnxruntime_signature):
        signature = source(node.op_type, domain, version)
        faults = list(_signature_faults(node, signature)) if signature is not None else None
        if faults == []:
            return
        first = first or faults or []
    if not first and (domain in ("", "ai.onnx.ml") or domain in _onnxruntime_domains()):
        first = [f"is of an operator that neither ONNX (version {version} of its operators) nor onnxruntime knows"]
    yield from first


def _signature_faults(node: Any, signature: _Signature) -> Iterator[str]:
    sides = (
        ("inputs", node.input, signature.inputs, signature.needed_inputs),
        ("outputs", node.output, signature.outputs, signature.needed_outputs),
    )
    for side, names, (least, most), needed in sides:
        if not least <= len(names) <= most:
            yield f"has {len(names)} {side} where its operator takes {_span(least, most)}"
        if any(index in needed and not name for index, name in enumerate(names)):
            yield f"leaves out one of its {side} that must be there"
    given = {attribute.name: attribute for attribute in node.attribute}
    for name, attribute in given.items():
        if name not in signature.attributes and not name.startswith("__"):
            yield f"has an attribute '{name}', which its operator does not have"
        elif name in signature.attributes and _type_name(attribute) != signature.attributes[name][0]:
            yield f"has an attribute '{name}' of the wrong type"
    for name, (_, required) in signature.attributes.items():
        if required and name not in given:
            yield f"lacks the attribute '{name}'"


def _span(least: int, most: int) -> str:
    return f"{least} or more" if most == 2**31 - 1 else str(least) if least == most else f"{least} to {most}"


def _type_name(attribute: Any) -> str:
    return str(onnx.AttributeProto.AttributeType.Name(attribute.type))


@cache
def _onnx_signature(operator: str, domain: str, version: int) -> _Signature | None:
    try:
        return _signature(onnx.defs.get_schema(operator, version, domain))
    except onnx.defs.SchemaError:
        return None


@cache
def _onnxruntime_signature(operator: str, domain: str, version: int) -> _Signature | None:
    listed = _onnxruntime_schemas().get((domain, operator), [])
    newest = max((s for s in listed if s.since_version <= version), key=lambda s: s.since_version, default=None)
    return _signature(newest) if newest is not None else None


@cache
def _onnxruntime_schemas() -> dict[tuple[str, str], list[Any]]:
    """onnxruntime's own list; empty where it is not installed or does not give one."""
    found: dict[tuple[str, str], list[Any]] = {}
    try:
        listed: Callable[[], list[Any]] = onnxruntime_module().capi._pybind_state.get_all_operator_schema
    except (ProviderError, AttributeError):
        return found
    for schema in listed():
        found.setdefault((plain(schema.domain), schema.name), []).append(schema)
    return found


@cache
def _onnxruntime_domains() -> frozenset[str]:
    return frozenset(domain for domain, _ in _onnxruntime_schemas())


def _signature(schema: Any) -> _Signature:
    needed_inputs, needed_outputs = (
        frozenset(index for index, port in enumerate(ports) if port.option.name == _SINGLE)
        for ports in (schema.inputs, schema.outputs)
    )
    return _Signature(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        needed_inputs,
        needed_outputs,
        {name: (attribute.type.name, attribute.required) for name, attribute in schema.attributes.items()},
    )
