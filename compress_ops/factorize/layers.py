"""The linear operators whose weight can be factorized, and why others cannot.

A table of rows (Gather) that is an output layer too, through a Transpose or as a Gemm's transB, is tied: it is one
weight of that layer, and its lookups go with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..graph.edit import attribute, constant_of
from ..graph.fixed import why_fixed
from ..lazy import ir
from ..model import ONNX_DOMAINS, Model
from ..passes import Change, matches, selected


@dataclass(frozen=True)
class Layer:
    """A MatMul, Gemm or Conv with a weight that no other such layer reads; ``lookups`` are the Gathers that do."""

    node: ir.Node
    tensor: ir.TensorProtocol
    lookups: tuple[ir.Node, ...] = ()

    @property
    def value(self) -> ir.Value:
        """The stored weight."""
        value, _ = _stored(self.node)
        assert value is not None
        return value

    @property
    def is_conv(self) -> bool:
        return self.node.op_type == "Conv"

    @property
    def inner(self) -> int:
        """How many numbers of its input each output is made of."""
        sizes = self.tensor.shape.numpy()
        if self.is_conv:
            return math.prod(sizes[1:])
        return int(sizes[1] if self._by_rows else sizes[0])

    def weight(self) -> Array:
        """float64: the kernel as it is stored, or the matrix as [inner, outputs]."""
        weight: Array = self.tensor.numpy().astype(np.float64)
        return weight.T if self._by_rows else weight

    @property
    def _by_rows(self) -> bool:
        """Whether the matrix is stored as [outputs, inner]."""
        return bool(attribute(self.node, "transB", 0)) != _stored(self.node)[1]

    def reading(self) -> tuple[float, ...]:
        """Input positions per output position on each axis of a Conv; its strides where sizes are not known."""
        axes = range(2, len(self.tensor.shape))
        strides = attribute(self.node, "strides", [1] * len(axes))
        sizes = [_sizes(self.node.inputs[0]), _sizes(self.node.outputs[0])]
        return tuple(
            sizes[0][axis] / sizes[1][axis] if all(axis in known for known in sizes) else stride
            for axis, stride in zip(axes, strides, strict=True)
        )


def _sizes(value: ir.Value | None) -> dict[int, int]:
    """The sizes of a value that are known, by axis."""
    if value is None or value.shape is None:
        return {}
    return {axis: size for axis, size in enumerate(value.shape) if isinstance(size, int) and size > 0}


def find_layers(
    model: Model, operators: Sequence[str], only: list[str], skip: list[str], change: Change
) -> Iterator[Layer]:
    """The layers that can be factorized, in order; the others are declined."""
    for node in model.nodes():
        if node.op_type in operators and node.domain in ONNX_DOMAINS and selected(node, only, skip):
            lookups = _lookups(node)
            tensor, reason = constant_of(_stored(node)[0]), why_not(node, lookups)
            kept = [lookup.name for lookup in lookups if any(matches(pattern, lookup) for pattern in skip)]
            if reason or kept:
                change.decline(node.name, f"{node.op_type}: {reason or f'{kept[0]} reads its table, and is skipped'}")
            elif tensor is not None:
                yield Layer(node, tensor, lookups)


def _stored(node: ir.Node) -> tuple[ir.Value | None, bool]:
    """The value that a node has for its weight, and whether it reads it through a Transpose, as tied tables are."""
    value = node.inputs[1]
    turn = value.producer() if value is not None else None
    if value is None or turn is None or turn.op_type != "Transpose" or turn.domain not in ONNX_DOMAINS:
        return value, False
    tensor = constant_of(turn.inputs[0])
    turns = tensor is not None and len(tensor.shape) == 2 and list(attribute(turn, "perm", [1, 0])) == [1, 0]
    alone = len(value.uses()) == 1 and not value.is_graph_output()
    return (turn.inputs[0], True) if turns and alone else (value, False)


def _lookups(node: ir.Node) -> tuple[ir.Node, ...]:
    """The Gathers that look up rows of a layer's weight; none where it is not stored as [outputs, inner]."""
    value, turned = _stored(node)
    if value is None or bool(attribute(node, "transB", 0)) == turned:
        return ()
    return tuple(user for user, index in value.uses() if index == 0 and _looks_up_rows(user))


def _looks_up_rows(node: ir.Node) -> bool:
    return node.op_type == "Gather" and node.domain in ONNX_DOMAINS and attribute(node, "axis", 0) == 0


def why_not(node: ir.Node, lookups: Sequence[ir.Node] = ()) -> str:
    """Why a node's weight cannot be factorized; empty when it can. ``lookups`` may read it as well."""
    value, turned = _stored(node)
    tensor, made = constant_of(value), value.producer() if value is not None else None
    if made is not None and made.op_type == "DequantizeLinear":
        return "its weight is quantized already; factorize in front of the step that quantizes"
    if value is None or tensor is None or (turned and not lookups):
        return "its weight is computed, not stored"
    if tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE):
        return f"its weight is {tensor.dtype.name.lower()}, not floating point"
    if len(value.uses()) > 1 + len(lookups) or value.is_graph_output():
        return "its weight is read by others too, or is an output"
    if constant_of(node.inputs[0]) is not None:
        return "both inputs are constants; run simplify first"
    reason = _SPECIAL[node.op_type](node, tuple(tensor.shape.numpy())) or why_fixed(tensor)
    if reason or np.isfinite(tensor.numpy()).all():
        return reason or ("" if tensor.numpy().any() else "its weight is zero throughout")
    return "its weight has NaN or infinite values"


def _matmul(node: ir.Node, sizes: tuple[int, ...]) -> str:
    return "" if len(sizes) == 2 else f"its weight has {len(sizes)} dimensions, not 2"


def _gemm(node: ir.Node, sizes: tuple[int, ...]) -> str:
    return "its input is transposed (transA)" if attribute(node, "transA", 0) else ""


def _conv(node: ir.Node, sizes: tuple[int, ...]) -> str:
    return "its channels are in groups" if attribute(node, "group", 1) != 1 else ""


_SPECIAL: dict[str, Callable[[Any, tuple[int, ...]], str]] = {"MatMul": _matmul, "Gemm": _gemm, "Conv": _conv}
