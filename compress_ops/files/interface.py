"""What callers of a model see and onnx-ir does not carry: defaults of inputs, types that hold maps, who has a shape.

All of it is taken aside when a file is read and put back when it is written. In memory an input with a default is an
input like any other, so that no pass takes the default for a constant. A type with a map in it (classifiers of
skl2onnx give such outputs) is a sequence of tensors meanwhile. Shapes that were inferred are not written: only values
that had one in the file have one in the file again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..lazy import ir, onnx
from .protobuf import bodies

Types = Mapping[str, Any]  # onnx.TypeProto by the name of a value
_HIDDEN = "onnxpress.hidden"
_MAKE_MAPS = {"ZipMap"}
_ELEMENTS = {1: "float", 8: "string", 11: "double"}  # of TensorProto; others are called as NumPy calls them


def take_types(proto: Any) -> dict[str, Any]:
    """The types of values that onnx-ir does not know, out of the protobuf; it gets a stand-in for each."""
    taken = {}
    for value in _declared(proto):
        if value.HasField("type") and not _is_known(value.type):
            taken[value.name] = onnx.TypeProto.FromString(value.type.SerializeToString())
            value.type.CopyFrom(_stand_in())
    return taken


def _declared(proto: Any) -> Iterator[Any]:
    """Every ValueInfoProto; inputs and outputs of functions are mere names."""
    for body in bodies(proto):
        yield from (*body.input, *body.output, *body.value_info) if hasattr(body, "initializer") else body.value_info


def _is_known(kind: Any) -> bool:
    """Whether there are tensors at the end of it, of a type that is told."""
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        inner = getattr(kind, which).elem_type
        return inner.WhichOneof("value") is not None and _is_known(inner)
    return bool(which != "map_type")


def _stand_in() -> Any:
    return onnx.helper.make_sequence_type_proto(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))


def put_types_back(proto: Any, types: Types) -> None:
    """Give values their own types again."""
    for value in _declared(proto):
        if value.name in types:
            value.type.CopyFrom(types[value.name])


def type_text(kind: Any) -> str:
    """``seq(map(int64, float))``"""
    match kind.WhichOneof("value"):
        case "map_type":
            return f"map({_element(kind.map_type.key_type)}, {type_text(kind.map_type.value_type)})"
        case "sequence_type":
            return f"seq({type_text(kind.sequence_type.elem_type)})"
        case "optional_type":
            return f"optional({type_text(kind.optional_type.elem_type)})"
        case "tensor_type":
            return _element(kind.tensor_type.elem_type)
    return onnx.TypeProto.__name__ if kind.WhichOneof("value") else "unknown type"


def _element(number: int) -> str:
    return _ELEMENTS.get(number) or onnx.TensorProto.DataType.Name(number).lower()


def shaped_values(proto: Any) -> frozenset[str]:
    """The inner values that the file tells type and shape of."""
    return frozenset(value.name for body in bodies(proto) for value in body.value_info)


def take_defaults(graph: ir.Graph) -> dict[str, ir.TensorProtocol]:
    """Numbers of the inputs that have a default; these are inputs and nothing else from now on."""
    taken = {}
    for value in graph.inputs:
        if value.is_initializer() and value.const_value is not None and value.name is not None:
            taken[value.name], value.const_value = value.const_value, None
            del graph.initializers[value.name]
    return taken


@contextmanager
def as_written(model: ir.Model, defaults: Mapping[str, ir.TensorProtocol], shaped: Container[str]) -> Iterator[None]:
    """Meanwhile the graph is what goes into the file: inputs have their defaults, inferred shapes are not there."""
    backed = [value for value in model.graph.inputs if value.name in defaults and not value.is_initializer()]
    for value in backed:
        value.const_value = defaults[value.name or ""]
        model.graph.register_initializer(value)
    try:
        with _without_shapes([value for value in _inner_values(model) if value.name not in shaped]):
            yield
    finally:
        for value in backed:
            del model.graph.initializers[value.name or ""]
            value.const_value = None


def _inner_values(model: ir.Model) -> Iterator[ir.Value]:
    """Values that are no inputs or outputs, and of which nothing else is told than type and shape."""
    for graph in model.graphs():
        for value in (*graph.initializers.values(), *(output for node in graph for output in node.outputs)):
            if not (value.is_graph_input() or value.is_graph_output() or value.metadata_props or value.doc_string):
                yield value


@contextmanager
def _without_shapes(values: list[ir.Value]) -> Iterator[None]:
    known = [(value, value.type, value.shape) for value in values]
    for value in values:
        value.type = value.shape = None
    try:
        yield
    finally:
        for value, kind, shape in known:
            value.type, value.shape = kind, shape


@contextmanager
def maps_hidden(model: ir.Model, nodes: Iterable[ir.Node], types: Types) -> Iterator[None]:
    """Meanwhile nodes that make or read maps belong to a domain of which nothing can be inferred."""
    found = [(node, node.domain) for node in nodes if node.op_type in _MAKE_MAPS or _touches(node, types)]
    for node, _ in found:
        node.domain = _HIDDEN
    if found:
        model.opset_imports[_HIDDEN] = 1
    try:
        yield
    finally:
        for node, domain in found:
            node.domain = domain
        model.opset_imports.pop(_HIDDEN, None)


def _touches(node: ir.Node, types: Types) -> bool:
    return any(value is not None and value.name in types for value in (*node.inputs, *node.outputs))


@contextmanager
def ports_kept(graph: ir.Graph) -> Iterator[None]:
    """What is told of inputs and outputs stays, whatever node gives them: shapes, documentation, metadata.

    Shape inference may find out more meanwhile, and a value may be made anew; names stay.
    """
    declared = {value.name: _told(value) for value in (*graph.inputs, *graph.outputs)}
    yield
    for value in (*graph.inputs, *graph.outputs):
        if value.name in declared:
            _tell(value, *declared[value.name])


def _told(value: ir.Value) -> tuple[Any, ...]:
    shape = value.shape.copy() if value.shape is not None else None
    denotation = value.type.denotation if value.type is not None else None
    return shape, denotation, value.doc_string, dict(value.metadata_props)


def _tell(value: ir.Value, shape: Any, denotation: str | None, text: str | None, metadata: dict[str, str]) -> None:
    value.shape, value.doc_string = shape, text
    if value.type is not None and value.type.denotation != denotation:
        value.type.denotation = denotation
    value.metadata_props.clear()
    value.metadata_props.update(metadata)
