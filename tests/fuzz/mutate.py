"""Mutations of a model: of its bytes, of any field of its protobuf, of its graph, weights, functions, external data.

Every mutation takes the random numbers and what it changes, and is drawn from the tables at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_NUMBERS = [-(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 7, 16, 99, 2**15, 2**29, 2**31, 2**40, 2**62, 2**63 - 1]
_FLOATS = [0.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"), 0.5]
_TEXTS = ["", "x", "y", "w", "é", "\u202e", "\x1b[31m", "a\nb", "a\0b", "n" * 3000, "::error::x", "../x", "float", "*"]
_OPERATORS = [
    *("Relu", "Neg", "Identity", "Softmax", "Transpose", "Shape", "Flatten", "Cast", "Sqrt", "Gelu", "ReduceMean"),
    *("Add", "Mul", "Div", "MatMul", "Gemm", "Conv", "Pow", "Reshape", "Gather", "Expand", "Tile", "ConstantOfShape"),
    *("Where", "Concat", "Slice", "Pad", "LSTM", "BatchNormalization", "LayerNormalization", "Resize", "Range"),
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Dropout", "Loop", "If", "NonZero", "TopK"),
]

Random = random.Random


# --- any field of the protobuf ---


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if field.is_repeated else (value,):
                yield from _messages(inner)


def _value(rng: Random, field: Any, names: list[str]) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice([*_TEXTS, *names])
    if field.type == field.TYPE_BYTES:
        return rng.choice([b"", b"\xff\xfe", bytes(range(256)), rng.randbytes(rng.randrange(64))])
    if field.type == field.TYPE_ENUM:
        return rng.choice([value.number for value in field.enum_type.values])
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice(_FLOATS)
    number = rng.choice([*_NUMBERS, rng.randrange(30)])
    return max(-(2**31), min(number, 2**31 - 1)) if field.type == field.TYPE_INT32 else abs(number) % 2**63


def _names(proto: Any) -> list[str]:
    return [name for node in proto.graph.node for name in (*node.output, *node.input)] or ["x"]


def field(rng: Random, proto: onnx.ModelProto) -> None:
    """Set, clear, repeat, drop or move what one field of one message holds."""
    message = rng.choice(list(_messages(proto)))
    descriptor = rng.choice(list(message.DESCRIPTOR.fields))
    value = getattr(message, descriptor.name)
    if not descriptor.is_repeated:
        _single(rng, proto, message, descriptor)
    elif not len(value) or (rng.random() < 0.3 and descriptor.type != descriptor.TYPE_MESSAGE):
        if descriptor.type != descriptor.TYPE_MESSAGE:
            value.append(_value(rng, descriptor, _names(proto)))
        else:
            value.add()
    elif descriptor.type == descriptor.TYPE_MESSAGE and rng.random() < 0.4:
        value.add().CopyFrom(rng.choice(value))
    elif rng.random() < 0.5:
        del value[rng.randrange(len(value))]
    elif descriptor.type != descriptor.TYPE_MESSAGE:
        value[rng.randrange(len(value))] = _value(rng, descriptor, _names(proto))
    else:
        value[rng.randrange(len(value))].CopyFrom(rng.choice(value))


def _single(rng: Random, proto: Any, message: Any, descriptor: Any) -> None:
    if rng.random() < 0.2:
        message.ClearField(descriptor.name)
    elif descriptor.type == descriptor.TYPE_MESSAGE:
        alike = [m for m in _messages(proto) if m.DESCRIPTOR is descriptor.message_type]
        if alike and descriptor.name != "graph":
            getattr(message, descriptor.name).CopyFrom(type(alike[0]).FromString(rng.choice(alike).SerializeToString()))
    else:
        setattr(message, descriptor.name, _value(rng, descriptor, _names(proto)))


def number(rng: Random, proto: onnx.ModelProto) -> None:
    """A number of a node's attributes or of a declared shape: where a random field seldom falls."""
    ints = [a for m in _messages(proto.graph) if isinstance(m, onnx.NodeProto) for a in m.attribute]
    dims = [m for m in _messages(proto.graph) if isinstance(m, onnx.TensorShapeProto.Dimension)]
    place = rng.choice([*ints, *dims])
    value = rng.choice([*_NUMBERS, rng.randrange(30)])
    if isinstance(place, onnx.AttributeProto):
        if place.type == place.INT:
            place.i = value
        elif place.type == place.INTS and place.ints:
            place.ints[rng.randrange(len(place.ints))] = value
        elif place.type == place.FLOAT:
            place.f = rng.choice(_FLOATS)
    elif rng.random() < 0.3:
        place.dim_param = rng.choice(["N", "T", "", "a b"])
    else:
        place.dim_value = value


# --- the graph ---


def _body(rng: Random, proto: Any) -> Any:
    bodies = [m for m in _messages(proto) if isinstance(m, (onnx.GraphProto, onnx.FunctionProto)) and m.node]
    return rng.choice(bodies) if bodies else proto.graph


def rewire(rng: Random, proto: onnx.ModelProto) -> None:
    """A node reads another value, or none."""
    node = rng.choice(_body(rng, proto).node or [onnx.NodeProto()])
    if node.input:
        names = [*_names(proto), *(tensor.name for tensor in proto.graph.initializer), ""]
        node.input[rng.randrange(len(node.input))] = rng.choice(names)


def operator(rng: Random, proto: onnx.ModelProto) -> None:
    """A node becomes one of another operator, mostly without its attributes."""
    node = rng.choice(_body(rng, proto).node or [onnx.NodeProto()])
    node.op_type, node.domain = rng.choice(_OPERATORS), ""
    if rng.random() < 0.8:
        del node.attribute[:]


def insert(rng: Random, proto: onnx.ModelProto) -> None:
    """A new node between a value and one of its readers, or none."""
    body = _body(rng, proto)
    reader = rng.choice(body.node or [onnx.NodeProto()])
    if not reader.input:
        return
    index, name = rng.randrange(len(reader.input)), f"new{rng.randrange(1000)}"
    kind = rng.choice(_OPERATORS)
    attributes = {"to": rng.choice([1, 6, 7, 9, 10, 11, 16])} if kind == "Cast" else {}
    others = [rng.choice([*_names(proto), "x"]) for _ in range(rng.randrange(3))]
    body.node.append(helper.make_node(kind, [reader.input[index], *others], [name], name=name, **attributes))
    reader.input[index] = name


def remove(rng: Random, proto: onnx.ModelProto) -> None:
    """A node goes; what it gave comes from its first input, or from nowhere."""
    body = _body(rng, proto)
    if not body.node:
        return
    node = body.node.pop(rng.randrange(len(body.node)))
    for reader in body.node if node.input and rng.random() < 0.8 else ():
        for index, name in enumerate(reader.input):
            if name in node.output:
                reader.input[index] = node.input[0]


def repeat(rng: Random, proto: onnx.ModelProto) -> None:
    """A stretch of nodes once more, under new names, behind a reader of its own; or of the same names."""
    body = _body(rng, proto)
    if not body.node:
        return
    start = rng.randrange(len(body.node))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in body.node[start : start + 3]]
    if rng.random() < 0.9:
        new = {name: f"{name}_again" for node in copies for name in node.output if name}
        for node in copies:
            node.name += "_again" if node.name else ""
            node.input[:], node.output[:] = ([new.get(n, n) for n in names] for names in (node.input, node.output))
    body.node.extend(copies)
    if isinstance(body, onnx.GraphProto) and copies[-1].output:
        body.output.add().name = copies[-1].output[0]


def port(rng: Random, proto: onnx.ModelProto) -> None:
    """An inner value becomes an output, a weight an input, an output or an input goes."""
    graph, kind = proto.graph, rng.randrange(4)
    if kind == 0:
        graph.output.add().name = rng.choice(_names(proto))
    elif kind == 1 and graph.initializer:
        tensor = rng.choice(graph.initializer)
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    elif kind == 2 and graph.output:
        graph.output.pop(rng.randrange(len(graph.output)))
    elif graph.input:
        graph.input.pop(rng.randrange(len(graph.input)))


def branch(rng: Random, proto: onnx.ModelProto) -> None:
    """A node moves into both branches of an If."""
    node = rng.choice(proto.graph.node or [onnx.NodeProto()])
    if len(node.output) != 1:
        return
    inner = [onnx.NodeProto.FromString(node.SerializeToString()) for _ in range(2)]
    bodies = [helper.make_graph([n], f"b{i}", [], [onnx.ValueInfoProto(name=n.output[0])]) for i, n in enumerate(inner)]
    condition = numpy_helper.from_array(np.array(rng.random() < 0.5), "condition")
    proto.graph.initializer.append(condition)
    made = helper.make_node("If", ["condition"], list(node.output), then_branch=bodies[0], else_branch=bodies[1])
    node.CopyFrom(made)


def function(rng: Random, proto: onnx.ModelProto) -> None:
    """A node becomes a call of a function that holds it; now and then the function calls itself."""
    node = rng.choice(proto.graph.node or [onnx.NodeProto()])
    own = helper.make_opsetid("local", 1)
    made = onnx.FunctionProto(name=f"f{rng.randrange(3)}", domain="local", opset_import=[*proto.opset_import, own])
    made.input.extend(dict.fromkeys(node.input))
    made.output.extend(node.output)
    made.node.append(node)
    call = helper.make_node(made.name, list(made.input), list(node.output), domain="local")
    if rng.random() < 0.1:
        made.node.append(call)
    if "local" not in [entry.domain for entry in proto.opset_import]:
        proto.opset_import.append(own)
    proto.functions.append(made)
    node.CopyFrom(call)


# --- weights ---


def _weight(rng: Random, proto: Any) -> TensorProto:
    return rng.choice(proto.graph.initializer or [TensorProto()])


def resize(rng: Random, proto: onnx.ModelProto) -> None:
    """A weight of other sizes, with as many numbers as these ask for."""
    tensor = _weight(rng, proto)
    dims = list(tensor.dims) or [1]
    dims[rng.randrange(len(dims))] = rng.choice([0, 1, 2, 3, 9])
    dims = rng.choice([dims, dims[::-1], [*dims, 1], dims[1:], [int(np.prod(dims))]])
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.ones(dims, np.float32) * rng.choice([0, 0.3, 2]), name))


def retype(rng: Random, proto: onnx.ModelProto) -> None:
    """A weight of another type of elements, with the bytes that it asks for."""
    tensor = _weight(rng, proto)
    kind = rng.choice([1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 16, 17, 21, 22, 23])
    bits = helper.tensor_dtype_to_np_dtype(kind).itemsize * 8 if kind not in (21, 22, 23) else 4
    size = int(np.prod(tensor.dims))
    made = TensorProto(name=tensor.name, data_type=kind, dims=tensor.dims, raw_data=rng.randbytes(-(-size * bits // 8)))
    tensor.CopyFrom(made)


def poison(rng: Random, proto: onnx.ModelProto) -> None:
    """Weights that are all zero, constant, huge or not numbers."""
    tensor = _weight(rng, proto)
    if tensor.data_type in (1, 10, 11) and tensor.data_location == 0:
        array = numpy_helper.to_array(tensor).copy()
        array[...] = rng.choice(_FLOATS) if array.size else 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def constant(rng: Random, proto: onnx.ModelProto) -> None:
    """A weight becomes a Constant node, or a constant of a computed shape."""
    if not proto.graph.initializer:
        return
    tensor = proto.graph.initializer.pop(rng.randrange(len(proto.graph.initializer)))
    if rng.random() < 0.6:
        proto.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
        return
    sizes = [*tensor.dims] if rng.random() < 0.7 else [rng.choice([0, 1, 2**20, 2**29, 2**40, -1]) for _ in tensor.dims]
    proto.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), "sizes"))
    proto.graph.node.insert(0, helper.make_node("ConstantOfShape", ["sizes"], [tensor.name]))


def outside(rng: Random, proto: onnx.ModelProto, folder: Path) -> None:
    """A weight moves into a file of its own; what the model says of the file is right, mostly."""
    tensor = _weight(rng, proto)
    raw = tensor.raw_data or b"\0" * 8
    (folder / "w.data").write_bytes(b"\0" * 16 + raw)
    entries = {"location": "w.data", "offset": "16", "length": str(len(raw))}
    if rng.random() < 0.6:
        key = rng.choice(list(entries))
        wild = ["", "-1", "8", "x", "0", "99999999999", "a\0b", "n" * 300, "../w.data", "/etc/passwd", "m.onnx"]
        entries[key] = rng.choice(wild)
    if rng.random() < 0.1:
        entries.pop(rng.choice(list(entries)))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


# --- bytes ---


def flip(rng: Random, raw: bytearray) -> None:
    for _ in range(rng.randrange(1, 6)):
        raw[rng.randrange(len(raw))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def cut(rng: Random, raw: bytearray) -> None:
    start = rng.randrange(len(raw))
    del raw[start : start + rng.choice([1, 2, 8, len(raw)])]


def paste(rng: Random, raw: bytearray) -> None:
    start, place = rng.randrange(len(raw)), rng.randrange(len(raw))
    raw[place:place] = raw[start : start + rng.randrange(1, 40)]


_FIELDS: list[Callable[[Random, onnx.ModelProto], None]] = [field, field, field, number, number, number]
_GRAPH = [rewire, operator, insert, remove, repeat, port, branch, function, resize, retype, poison, constant]
_BYTES: list[Callable[[Random, bytearray], None]] = [flip, flip, cut, paste]


def mutated(rng: Random, proto: onnx.ModelProto, folder: Path) -> bytes:
    """The bytes of the model after one to three mutations; ``folder`` is where external data may lie."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        rng.choice(rng.choice([_FIELDS, _GRAPH, _GRAPH]))(rng, proto)
    if rng.random() < 0.05:
        outside(rng, proto, folder)
    raw = bytearray(proto.SerializeToString())
    if rng.random() < 0.08:
        rng.choice(_BYTES)(rng, raw)
    return bytes(raw)
