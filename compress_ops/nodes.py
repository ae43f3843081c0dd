"""Read single things off a graph: a node's attribute, the tensor behind a value, its bytes."""

from __future__ import annotations

from typing import Any

from .lazy import ir


def constant_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor behind a value that is an initializer, else None."""
    return value.const_value if value is not None and value.is_initializer() else None


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """The Python value of a node's attribute, or the default where it is not written."""
    return node.attributes[name].value if name in node.attributes else default


def limits_of(dtype: ir.DataType) -> tuple[int, int]:
    """The least and the largest number of a type of integers."""
    bits = dtype.bitwidth
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.is_signed() else (0, 2**bits - 1)


def bytes_of(tensor: ir.TensorProtocol) -> int:
    """Bytes of what a tensor holds; of texts how long they are together, which onnx-ir does not count."""
    if not tensor.dtype.is_string():
        return int(tensor.nbytes)
    return sum(len(text) for text in tensor.numpy().reshape(-1))
