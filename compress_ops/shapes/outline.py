"""A model as a small protobuf: structure, types and small constants, without the contents of its weights.

Large weights are inputs there: ONNX and onnxruntime see what they are, and nothing is read, computed or copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..files.protobuf import is_external
from ..lazy import ir, onnx

SMALL = 1024  # bytes; shapes, axes and paddings are looked at, weights are not


def outline(model: ir.Model) -> Any:
    """The ModelProto of the model's outline; large weights of subgraphs stay references that lead nowhere."""
    with _without_contents(model):
        proto = ir.to_proto(model)
    left_out = [tensor for tensor in proto.graph.initializer if is_external(tensor)]
    kept = [tensor for tensor in proto.graph.initializer if not is_external(tensor)]
    proto.graph.input.extend(_port(tensor) for tensor in left_out)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto


@contextmanager
def _without_contents(model: ir.Model) -> Iterator[None]:
    weights = [value for graph in model.graphs() for value in graph.initializers.values()]
    large = {v: v.const_value for v in weights if v.const_value is not None and _is_large(v.const_value)}
    try:
        for value, tensor in large.items():
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor("-", 0, 0, tensor.dtype, shape=shape, name=value.name or "")
        yield
    finally:
        for value, tensor in large.items():
            value.const_value = tensor


def _is_large(tensor: ir.TensorProtocol) -> bool:
    """Texts are not: they cannot lie outside."""
    return not tensor.dtype.is_string() and tensor.nbytes > SMALL


def _port(tensor: Any) -> Any:
    return onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
