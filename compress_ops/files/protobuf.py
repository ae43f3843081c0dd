"""Ways through a ModelProto: its bodies, nodes, attributes and tensors, and what a tensor says of its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TENSOR, _GRAPH, _TENSORS, _GRAPHS = 4, 5, 9, 10  # AttributeProto.AttributeType; importing onnx takes long
_EXTERNAL = 1  # TensorProto.DataLocation


def bodies(proto: Any) -> Iterator[Any]:
    """Every graph, and every function, whose body is not a graph."""
    yield from bodies_of(proto.graph)
    for function in proto.functions:
        yield from bodies_of(function)


def bodies_of(body: Any) -> Iterator[Any]:
    """A graph or a function, and the graphs in its nodes."""
    yield body
    for node in body.node:
        for graph in subgraphs(node):
            yield from bodies_of(graph)


def subgraphs(node: Any) -> Iterator[Any]:
    """The graphs that a node holds itself."""
    for attribute in node.attribute:
        if attribute.type == _GRAPH:
            yield attribute.g
        elif attribute.type == _GRAPHS:
            yield from attribute.graphs


def inner_nodes(node: Any) -> Iterator[Any]:
    """The nodes of all graphs in a node."""
    return (inner for graph in subgraphs(node) for body in bodies_of(graph) for inner in body.node)


def attributes(proto: Any) -> Iterator[Any]:
    return (attribute for body in bodies(proto) for node in body.node for attribute in node.attribute)


def tensors(proto: Any) -> Iterator[Any]:
    """Every TensorProto of the model: initializers and attributes, in subgraphs and functions too."""
    yield from initializers(proto)
    yield from node_tensors(proto)


def initializers(proto: Any) -> Iterator[Any]:
    for body in bodies(proto):
        yield from getattr(body, "initializer", ())


def node_tensors(proto: Any) -> Iterator[Any]:
    for attribute in attributes(proto):
        if attribute.type == _TENSOR:
            yield attribute.t
        elif attribute.type == _TENSORS:
            yield from attribute.tensors


def is_external(tensor: Any) -> bool:
    return bool(tensor.data_location == _EXTERNAL)


def external_entries(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def set_location(tensor: Any, location: str) -> None:
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = location
