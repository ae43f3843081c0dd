"""Tensors hold what their shapes ask for: found by arithmetic, before anything allocates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..files.protobuf import is_external, tensors
from ..lazy import ir, onnx

MOST_AXES = 32  # what NumPy 1 can hold
MOST_BYTES = 2**47  # what a 64-bit process can address


def tensor_faults(proto: Any) -> Iterator[str]:
    known = known_types()
    for tensor in tensors(proto):
        if min(tensor.dims, default=0) < 0 or tensor.data_type not in known:
            yield f"'{tensor.name}' has a negative size or an unknown type"
        elif not fits(tensor.dims):
            yield f"'{tensor.name}' has a shape that no memory holds, {shown(tensor.dims)}"
        elif not is_external(tensor) and _stored(tensor) != needed(tensor):
            yield f"'{tensor.name}' needs {needed(tensor)} bytes or numbers, {_stored(tensor)} are there"


def known_types() -> frozenset[int]:
    """The numbers of the types of elements."""
    return frozenset(dtype.value for dtype in ir.DataType if dtype is not ir.DataType.UNDEFINED)


def fits(sizes: Sequence[int]) -> bool:
    """Whether memory could be addressed for a tensor of these sizes; a size of 0 does not excuse the others."""
    return len(sizes) <= MOST_AXES and math.prod(max(size, 1) for size in sizes) < MOST_BYTES


def shown(sizes: Sequence[int]) -> str:
    """The sizes as text of bounded length."""
    return " x ".join(map(str, sizes[:8])) + (f" x ... ({len(sizes)} axes)" if len(sizes) > 8 else "")


def _stored(tensor: Any) -> int:
    """Bytes, or numbers where the tensor lists them one by one."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    return len(getattr(tensor, onnx.helper.tensor_dtype_to_field(tensor.data_type)))


def needed(tensor: Any) -> int:
    """Bytes, or numbers where the tensor lists them one by one, that the shape asks for."""
    size = int(math.prod(tensor.dims))
    dtype = ir.DataType(tensor.data_type)
    if dtype.is_string():
        return size
    if tensor.HasField("raw_data") or is_external(tensor) or dtype.bitwidth < 8:
        return -(-size * dtype.bitwidth // 8)
    return size * (2 if dtype.name.startswith("COMPLEX") else 1)
