"""Read single things off a graph: a node's attribute, the tensor behind a value, its bytes; and a tensor made later."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from .arrays import Array
from .lazy import ir

ONNX_DOMAINS = ("", "ai.onnx")


def constant_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor behind a value that is an initializer, else None."""
    return value.const_value if value is not None and value.is_initializer() else None


def later(
    numbers: Callable[[], Array], dtype: ir.DataType, sizes: Iterable[int], name: str | None = None
) -> ir.LazyTensor:
    """A tensor that is computed when it is needed, which is while a file is written: one at a time is in memory."""
    return ir.LazyTensor(lambda: ir.Tensor(numbers(), name=name), dtype=dtype, shape=ir.Shape(sizes), name=name)


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """The Python value of a node's attribute, or the default where it is not written."""
    return node.attributes[name].value if name in node.attributes else default


def maker(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that gives a value, where it is one of these operators of ONNX's own."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in op_types and node.domain in ONNX_DOMAINS else None


def bodies(node: ir.Node) -> list[ir.Graph]:
    """The graphs that a node holds (If, Loop, Scan)."""
    single = [held.as_graph() for held in node.attributes.values() if held.type == ir.AttributeType.GRAPH]
    several = [held.as_graphs() for held in node.attributes.values() if held.type == ir.AttributeType.GRAPHS]
    return [*single, *chain(*several)]


def limits_of(dtype: ir.DataType) -> tuple[int, int]:
    """The least and the largest number of a type of integers."""
    bits = dtype.bitwidth
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.is_signed() else (0, 2**bits - 1)


def bytes_of(tensor: ir.TensorProtocol) -> int:
    """Bytes of what a tensor holds; of texts how long they are together, which onnx-ir does not count."""
    if not tensor.dtype.is_string():
        return int(tensor.nbytes)
    return sum(len(text) for text in tensor.numpy().reshape(-1))
