"""One operator by itself, and what onnxruntime says that it gives: what it infers, or else what comes out of a run.

Free sizes are given two sets of numbers, and a size of an output is what it follows in both. One that follows none may
still depend on the contents, as the number of unique elements does: it must be the same for zeros as for random
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..errors import ModelError, OnnxpressError
from ..lazy import ir, onnx
from ..nodes import bytes_of
from ..runtime import Arrays, Port, Session, open_session, ports_as_read
from .outline import SMALL

_MOST = 2**20  # elements of an input that is made up
_FIRST, _SECOND = (3, 5, 7, 11, 13, 17, 19, 23), (59, 29, 47, 37, 43, 31, 53, 41)  # no pair is another plus a number
Key = str | tuple[str, int]
Shape = tuple[int | str | None, ...]


def ports_alone(model: ir.Model, node: ir.Node) -> Sequence[Port]:
    """What the node's outputs are, as far as onnxruntime tells; nothing where the node cannot stand alone."""
    inputs = [value for value in dict.fromkeys(node.inputs) if value is not None]
    if any(value.type is None for value in inputs) or _has_graphs(node):
        return ()
    raw = _alone(model, node, inputs)
    ports = ports_as_read(raw)
    if not ports or all(port.shape for port in ports) or any(value.shape is None for value in inputs):
        return ports
    try:
        return [replace(port, shape=shape) for port, shape in zip(ports, _observed(raw), strict=True)]
    except OnnxpressError:
        return ports


def _has_graphs(node: ir.Node) -> bool:
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(attribute.type in kinds for attribute in node.attributes.values())


def _alone(model: ir.Model, node: ir.Node, inputs: Sequence[ir.Value]) -> bytes:
    """A model of the one node; its small constants keep their numbers."""
    constants = [value.const_value for value in inputs if value.const_value is not None]
    small = {tensor.name: ir.to_proto(tensor) for tensor in constants if bytes_of(tensor) <= SMALL}
    graph = onnx.GraphProto(
        name="alone",
        node=[ir.to_proto(node)],
        input=[ir.to_proto(value) for value in inputs if value.name not in small],
        output=[onnx.ValueInfoProto(name=value.name) for value in node.outputs if value.name],
        initializer=small.values(),
    )
    versions = {domain: version for domain, version in model.opset_imports.items() if domain in ("", node.domain)}
    imports = [onnx.OperatorSetIdProto(domain=domain, version=version) for domain, version in versions.items()]
    proto = onnx.ModelProto(ir_version=model.ir_version, graph=graph, opset_import=imports)
    return bytes(proto.SerializeToString())


def _observed(raw: bytes) -> Iterator[Shape]:
    """The shapes of the outputs from three runs; empty where not even the number of axes is sure."""
    session = open_session(raw, optimize=False)
    keys = dict.fromkeys(key for port in session.inputs for key in _free(port))
    if len(keys) > len(_FIRST):
        raise ModelError("too many free sizes to tell them apart")
    first, second = (dict(zip(keys, numbers, strict=False)) for numbers in (_FIRST, _SECOND))
    runs = [session.run(_made_up(session, *how)) for how in ((first, True), (first, False), (second, True))]
    names = {(first[key], second[key]): key for key in keys if isinstance(key, str)}
    for one, zeros, other in zip(*(run.values() for run in runs), strict=True):
        sure = one.shape == zeros.shape and one.ndim == other.ndim
        yield _shape(one.shape, other.shape, names) if sure else ()


def _shape(one: Sequence[int], other: Sequence[int], names: Mapping[tuple[int, int], str]) -> Shape:
    return tuple(a if a == b else names.get((a, b)) for a, b in zip(one, other, strict=True))


def _free(port: Port) -> list[Key]:
    """The sizes of an input that are free: their names, or input and axis where they have none."""
    return [size or (port.name, axis) for axis, size in enumerate(port.shape) if not isinstance(size, int)]


def _made_up(session: Session, sizes: Mapping[Key, int], random: bool) -> Arrays:
    rng, feed = np.random.default_rng(0), {}
    for port in session.inputs:
        named = enumerate(port.shape)
        shape = [size if isinstance(size, int) else sizes[size or (port.name, axis)] for axis, size in named]
        if math.prod(shape) > _MOST or port.dtype not in np.sctypeDict:
            raise ModelError(f"no numbers are made up for '{port.name}'")
        numbers = rng.integers(0, 2, shape) if random else np.zeros(shape)
        feed[port.name] = numbers.astype(port.dtype)
    return feed
