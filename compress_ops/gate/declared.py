"""Types and shapes that graphs declare: known elements, and sizes that memory could hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..files.protobuf import attributes, bodies
from .tensors import fits, known_types, shown


def type_faults(proto: Any) -> Iterator[str]:
    known = known_types()
    for value in proto.graph.input:
        if not value.type.WhichOneof("value"):
            yield f"input '{value.name}' has no type"
    for name, declared in _types(proto):
        yield from _faults(declared, name, known)


def _faults(declared: Any, name: str, known: frozenset[int]) -> Iterator[str]:
    for tensor in _tensor_types(declared):
        if tensor.elem_type not in known:
            yield f"'{name}' is declared with an unknown type of elements, {tensor.elem_type}"
        sizes = [dim.dim_value for dim in tensor.shape.dim]
        if not fits(sizes):
            yield f"'{name}' is declared with a shape that no memory holds, {shown(sizes)}"


def forget_negative_sizes(proto: Any) -> None:
    """A negative size stands for one that is not known, as old exporters meant it and onnxruntime takes it."""
    for _, declared in _types(proto):
        for tensor in _tensor_types(declared):
            for dim in tensor.shape.dim:
                if dim.dim_value < 0:
                    dim.ClearField("dim_value")


def _types(proto: Any) -> Iterator[tuple[str, Any]]:
    """Every declared type, with the name of what has it."""
    for body in bodies(proto):
        graph_ports = () if not hasattr(body, "initializer") else (*body.input, *body.output)
        for value in (*graph_ports, *body.value_info):
            if value.HasField("type"):
                yield value.name, value.type
    for attribute in attributes(proto):
        for declared in (*([attribute.tp] if attribute.HasField("tp") else []), *attribute.type_protos):
            yield attribute.name, declared


def _tensor_types(declared: Any) -> Iterator[Any]:
    """The types of tensors in a type: itself, or those that a sequence, an optional or a map holds."""
    kind = declared.WhichOneof("value")
    inner: Any = getattr(declared, kind) if kind else None
    if kind in ("tensor_type", "sparse_tensor_type"):
        yield inner
    elif kind == "map_type":
        yield from _tensor_types(inner.value_type)
    elif kind in ("sequence_type", "optional_type"):
        yield from _tensor_types(inner.elem_type)
