"""Attributes: each once in its node, with a value of the type that it says and no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..files.protobuf import bodies
from ..lazy import onnx
from .graphs import called

_FIELDS = {  # where an attribute of a type keeps its value
    "FLOAT": "f",
    "INT": "i",
    "STRING": "s",
    "TENSOR": "t",
    "GRAPH": "g",
    "SPARSE_TENSOR": "sparse_tensor",
    "TYPE_PROTO": "tp",
    "FLOATS": "floats",
    "INTS": "ints",
    "STRINGS": "strings",
    "TENSORS": "tensors",
    "GRAPHS": "graphs",
    "SPARSE_TENSORS": "sparse_tensors",
    "TYPE_PROTOS": "type_protos",
}
_MESSAGES = ("t", "g", "tp")  # numbers and texts that are absent are 0 and empty


def attribute_faults(proto: Any) -> Iterator[str]:
    for body in bodies(proto):
        for node in body.node:
            if len({attribute.name for attribute in node.attribute}) < len(node.attribute):
                yield f"{called(node)} has an attribute twice"
            for attribute in node.attribute:
                if not _is_of_its_type(attribute):
                    yield f"{called(node)} has an attribute '{attribute.name}' whose value is not of its type"


def _is_of_its_type(attribute: Any) -> bool:
    own = _FIELDS.get(onnx.AttributeProto.AttributeType.Name(attribute.type))
    held = {field.name for field, _ in attribute.ListFields()} & {*_FIELDS.values()}
    lacks = own in _MESSAGES and not held and not attribute.ref_attr_name
    return own is not None and not lacks and not held - {own}
