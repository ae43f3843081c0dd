"""Weights that single zeros may fall into, each seen as [rows, taps, inputs]: an output sums over taps and inputs.

A kernel [outputs, inputs, k...] has a row for each output and a tap for each position; a matrix has one tap; the rows
of a table are its entries, which nothing sums over; those of a recurrent layer its gates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...arrays import Array
from ...graph.edit import attribute, constant_of
from ...graph.fixed import why_fixed
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...passes import Change, selected

_WEIGHT_INPUTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), (1,)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
    "Gather": (0,),
}
_QUANTIZED = (
    "MatMulNBits",
    "GatherBlockQuantized",
    "MatMulInteger",
    "ConvInteger",
    "QLinear",
    "QGemm",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
)
_BY_ROWS = ("Gather", "LSTM", "GRU", "RNN")
_SMALLEST = 64  # elements; below that a tensor is a bias-like thing whose zeros gain nothing


@dataclass(frozen=True)
class Layout:
    """How a stored array becomes [rows, taps, inputs]: its axes are split, reordered, and joined again."""

    sizes: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    laid_sizes: tuple[int, int, int]

    def laid(self, array: Array) -> Array:
        return array.reshape(self.split).transpose(self.order).reshape(self.laid_sizes)

    def stored(self, laid: Array) -> Array:
        """What ``laid`` undid."""
        turned = laid.reshape([self.split[axis] for axis in self.order])
        return turned.transpose(np.argsort(self.order)).reshape(self.sizes)


@dataclass(frozen=True)
class Weight:
    """A stored weight with its layout, which is that of its first reader, and the nodes that read it as that."""

    value: ir.Value
    readers: tuple[ir.Node, ...]

    @cached_property
    def tensor(self) -> ir.TensorProtocol:
        assert self.value.const_value is not None
        return self.value.const_value

    @cached_property
    def layout(self) -> Layout:
        return layout_of(self.readers[0], tuple(self.tensor.shape.numpy()))

    def agreed(self) -> bool:
        """Whether all readers see the same rows, taps and inputs."""
        return all(layout_of(node, self.layout.sizes) == self.layout for node in self.readers)


def layout_of(node: ir.Node, sizes: Sequence[int]) -> Layout:
    """How a node reads a weight of these sizes."""
    if node.op_type == "ConvTranspose":  # [inputs of all groups, outputs of one, k...]
        groups = int(attribute(node, "group", 1))
        split = (groups, sizes[0] // groups, sizes[1], math.prod(sizes[2:]))
        return _layout(sizes, split, (0, 2, 3, 1), rows=2, taps=1)
    if node.op_type == "Conv":
        return _layout(sizes, (sizes[0], sizes[1], math.prod(sizes[2:])), (0, 2, 1), rows=1, taps=1)
    if node.op_type in _BY_ROWS or attribute(node, "transB", 0) or len(sizes) == 1:
        return _layout(sizes, (math.prod(sizes[:-1]), sizes[-1]), (0, 1), rows=1, taps=0)
    return _layout(sizes, (math.prod(sizes[:-2]), *sizes[-2:]), (0, 2, 1), rows=2, taps=0)


def _layout(sizes: Sequence[int], split: tuple[int, ...], order: tuple[int, ...], rows: int, taps: int) -> Layout:
    """The first ``rows`` axes of the new order are joined to rows, the next ``taps`` to taps, the last are inputs."""
    turned = [split[axis] for axis in order]
    parts = turned[:rows], turned[rows : rows + taps], turned[rows + taps :]
    first, second, third = map(math.prod, parts)
    return Layout(tuple(sizes), split, order, (first, second, third))


def find_weights(model: Model, only: list[str], skip: list[str], change: Change) -> list[Weight]:
    """The weights to prune, each once, however many nodes read it; a reader that is not selected protects it."""
    readers: dict[ir.Value, list[ir.Node]] = {}
    for node, value in ((one, value) for one in model.nodes() for value in _weights_of(one)):
        if value is not None and constant_of(value) is not None:
            readers.setdefault(value, []).append(node)
        elif selected(node, only, skip) and _is_quantized(node, value):
            change.decline(node.name, f"{node.op_type}: its weight is quantized already; prune before quantizing")
    found = [Weight(value, tuple(nodes)) for value, nodes in readers.items()]
    return [weight for weight in found if not _declined(weight, only, skip, change)]


def _weights_of(node: ir.Node) -> list[ir.Value | None]:
    indices = _WEIGHT_INPUTS.get(node.op_type, ()) if node.domain in ONNX_DOMAINS else ()
    return [node.inputs[index] for index in indices] or [None]  # one that has none may be quantized


def _is_quantized(node: ir.Node, weight: ir.Value | None) -> bool:
    producer = weight.producer() if weight is not None else None
    stored = producer is not None and producer.op_type == "DequantizeLinear" and constant_of(producer.inputs[0])
    return bool(stored) or node.op_type.startswith(_QUANTIZED)


def _declined(weight: Weight, only: list[str], skip: list[str], change: Change) -> bool:
    reason = _why_not(weight, only, skip)
    if reason:
        change.decline(weight.value.name, reason)
    return bool(reason)


def _why_not(weight: Weight, only: list[str], skip: list[str]) -> str:
    tensor = weight.tensor
    if tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return f"it is {tensor.dtype.name.lower()}, not a float"
    if not all(selected(user, only, skip) for user, _ in weight.value.uses()):
        return "the patterns leave out a node that reads it"
    if tensor.size < _SMALLEST:
        return f"its {tensor.size} elements are too few to gain"
    return why_fixed(tensor) if np.isfinite(tensor.numpy()).all() else "it has NaN or infinite values"
