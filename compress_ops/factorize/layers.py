"""The linear operators whose weight can be factorized, and why others cannot.

A table of rows (Gather) that is an output layer too, through a Transpose or as a Gemm's transB, is tied: it is one
weight of that layer, and its lookups go with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..graph.edit import attribute
from ..graph.layers import reasons
from ..graph.layers.weights import Site, is_dequantized, through_transpose
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
        value = _site(self.node).value
        assert value is not None
        return value

    @property
    def is_conv(self) -> bool:
        return self.node.op_type == "Conv"

    @property
    def inner(self) -> int:
        """How many numbers of its input each output is made of."""
        sizes = self.tensor.shape.numpy()
        return math.prod(sizes[1:]) if self._by_rows else int(sizes[0])

    def weight(self) -> Array:
        """float64: the kernel as it is stored, or the matrix as [inner, outputs]."""
        weight: Array = self.tensor.numpy().astype(np.float64)
        return weight.T if self._by_rows and not self.is_conv else weight

    @property
    def _by_rows(self) -> bool:
        return _site(self.node).rows_first

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
            tensor, reason = _site(node).tensor, why_not(node, lookups)
            kept = [lookup.name for lookup in lookups if any(matches(pattern, lookup) for pattern in skip)]
            if reason or kept:
                change.decline(node.name, f"{node.op_type}: {reason or f'{kept[0]} reads its table, and is skipped'}")
            elif tensor is not None:
                yield Layer(node, tensor, lookups)


def _site(node: ir.Node) -> Site:
    """Where a node reads its weight: through a Transpose, as tied tables are, only if nothing else reads that."""
    site = Site(node, 1, node.inputs[1])
    seen = through_transpose(site)
    if site.value is None or not seen.turned or len(site.value.uses()) > 1 or site.value.is_graph_output():
        return site
    return seen


def _lookups(node: ir.Node) -> tuple[ir.Node, ...]:
    """The Gathers that look up rows of a layer's weight; none where it is not stored as [outputs, inner]."""
    site = _site(node)
    if site.value is None or not site.rows_first or site.role != "matrix":
        return ()
    return tuple(user for user, index in site.value.uses() if index == 0 and _looks_up_rows(user))


def _looks_up_rows(node: ir.Node) -> bool:
    return node.op_type == "Gather" and node.domain in ONNX_DOMAINS and attribute(node, "axis", 0) == 0


def why_not(node: ir.Node, lookups: Sequence[ir.Node] = ()) -> str:
    """Why a node's weight cannot be factorized; empty when it can. ``lookups`` may read it as well."""
    site = _site(node)
    if is_dequantized(site.value):
        return "its weight is quantized already; factorize in front of the step that quantizes"
    if site.value is None or site.tensor is None or (site.turned and not lookups):
        return "its weight is computed, not stored"
    if len(site.value.uses()) > 1 + len(lookups):
        return "others read its weight too"
    return reasons.why_not(site, (*_FACTS, *_OF_OPERATOR[node.op_type], reasons.trained, reasons.finite, _nonzero))


def _nonzero(site: Site) -> str:
    return "" if site.tensor is not None and site.tensor.numpy().any() else "its weight is zero throughout"


_FACTS = (reasons.of_type("float32", "float16", "double"), reasons.no_output, reasons.fed)
_OF_OPERATOR = {"MatMul": (reasons.of_axes(2),), "Gemm": (reasons.untransposed,), "Conv": (reasons.ungrouped,)}
