"""Weights that are stored in half precision and cast to float32 where they are read are weights like others.

A file of half the size, computed in float32, is written as Cast(weight in float16). In memory such a weight is a
float32 initializer, marked with the type that it is stored in; in the file it is what it was. So every pass sees it,
and whoever counts bytes counts those of the file. A pass that gives it other numbers keeps the mark: they are stored as
the others were, unless they leave the type's range.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count

import numpy as np

from ..lazy import ir
from ..nodes import bytes_of

_MARK = "stored in half precision"


@dataclass(frozen=True)
class StoredHalf:
    """How a float32 weight lies in the file: its type there, the names of the stored tensor and of the Cast behind it.

    ``stored`` is the tensor as it was read, ``wide`` what it became here: what nobody changed is written as it came.
    """

    dtype: ir.DataType
    name: str
    cast: str
    stored: ir.TensorProtocol | None = None
    wide: ir.TensorProtocol | None = None


def stored_half(value: ir.Value) -> StoredHalf | None:
    """The mark of a float32 weight that is stored in half precision, else None."""
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or value.is_graph_input() or value.is_graph_output():
        return None
    mark = value.meta.get(_MARK)
    return mark if isinstance(mark, StoredHalf) else None


def mark_stored_half(value: ir.Value, like: StoredHalf) -> None:
    """Let a float32 weight be stored in the type of another one."""
    value.meta[_MARK] = StoredHalf(like.dtype, f"{value.name}_{like.dtype.name.lower()}", f"{value.name}/Cast")


def store_like(value: ir.Value, other: ir.Value) -> None:
    """Let a float32 weight be stored as another is, where that is in half precision."""
    if (half := stored_half(other)) is not None:
        mark_stored_half(value, half)


def stored_bytes(value: ir.Value) -> int:
    """Bytes that a weight takes in the file."""
    tensor, half = value.const_value, stored_half(value)
    if tensor is None:
        return 0
    return bytes_of(tensor) if half is None else int(tensor.size * half.dtype.itemsize)


def widen(model: ir.Model) -> None:
    """Make a marked float32 weight of every weight in half precision that is read through Casts to float32 alone."""
    for graph in model.graphs():
        for source in list(graph.initializers.values()):
            if _is_only_widened(source):
                _widen(graph, source)


def _is_only_widened(source: ir.Value) -> bool:
    tensor = source.const_value
    if tensor is None or tensor.dtype not in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return False
    uses = list(source.uses())
    outside = source.is_graph_input() or source.is_graph_output()
    return bool(uses) and not outside and all(_widens(node) for node, _ in uses)


def _widens(node: ir.Node) -> bool:
    if node.op_type != "Cast" or node.domain not in ("", "ai.onnx") or "to" not in node.attributes:
        return False
    return node.attributes["to"].value == ir.DataType.FLOAT and not node.outputs[0].is_graph_output()


def _widen(graph: ir.Graph, source: ir.Value) -> None:
    casts, stored = [node for node, _ in source.uses()], source.const_value
    assert stored is not None
    name, wide = casts[0].outputs[0].name, _in_type(stored, ir.DataType.FLOAT, casts[0].outputs[0].name)
    weight = ir.Value(name=name, type=ir.TensorType(wide.dtype), shape=ir.Shape(wide.shape.numpy()), const_value=wide)
    weight.meta[_MARK] = StoredHalf(stored.dtype, source.name or "", casts[0].name or "", stored, wide)
    for cast in casts:
        cast.outputs[0].replace_all_uses_with(weight)
        assert cast.graph is not None
        cast.graph.remove(cast, safe=True)
    del graph.initializers[source.name or ""]
    graph.register_initializer(weight)


@contextmanager
def as_stored(model: ir.Model) -> Iterator[None]:
    """Meanwhile the graph is as it lies in the file, with a Cast behind what is stored in half precision."""
    found = [(graph, list(graph.initializers.values())) for graph in model.graphs()]
    taken = {value.name for value in _values(model)} if any(any(map(stored_half, all_)) for _, all_ in found) else set()
    casts = [(v, _narrow(graph, v, taken)) for graph, values in found for v in values if _is_written_half(v)]
    try:
        yield
    finally:
        for weight, cast in casts:
            cast.outputs[0].replace_all_uses_with(weight)
            assert cast.graph is not None
            cast.graph.remove(cast, safe=True)
        for graph, values in found if casts else ():
            _set_initializers(graph, values)


def _set_initializers(graph: ir.Graph, values: list[ir.Value]) -> None:
    for name in list(graph.initializers):
        del graph.initializers[name]
    for value in values:
        graph.register_initializer(value)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from (*graph.inputs, *graph.initializers.values())
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        yield from node.outputs


def _is_written_half(value: ir.Value) -> bool:
    """Whether a marked weight still has numbers that its type can hold."""
    half, tensor = stored_half(value), value.const_value
    if half is None or tensor is None or tensor is half.wide:
        return half is not None
    largest = max(float(np.abs(tensor.numpy()).max(initial=0)), 0.0)
    return not np.isfinite(largest) or largest <= float(half.dtype.max)


def _narrow(graph: ir.Graph, weight: ir.Value, taken: set[str | None]) -> ir.Node:
    half, wide = stored_half(weight), weight.const_value
    assert half is not None and wide is not None
    name = next(wish for wish in chain([half.name], (f"{half.name}_{i}" for i in count(1))) if wish not in taken)
    taken.add(name)
    tensor = half.stored if half.stored is not None and wide is half.wide else _in_type(wide, half.dtype, name)
    source = ir.Value(name=name, type=ir.TensorType(half.dtype), shape=weight.shape, const_value=tensor)
    cast: ir.Node = ir.node("Cast", [source], {"to": ir.DataType.FLOAT.value}, name=half.cast)
    cast.outputs[0].type, cast.outputs[0].shape = weight.type, weight.shape
    weight.replace_all_uses_with(cast.outputs[0])
    del graph.initializers[weight.name or ""]
    cast.outputs[0].name = weight.name
    graph.register_initializer(source)
    graph.insert_before(graph[0], cast)
    return cast


def _in_type(tensor: ir.TensorProtocol, dtype: ir.DataType, name: str | None) -> ir.LazyTensor:
    """The numbers in another type, made when they are needed."""
    return ir.LazyTensor(
        lambda: ir.Tensor(tensor.numpy().astype(dtype.numpy()), name=name),
        dtype=dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=name,
    )
