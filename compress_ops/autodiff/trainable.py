"""Which weights can be trained: floats on whose values an output depends smoothly, and that were learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph.part import find
from ..lazy import ir
from ..model import Model
from .reach import depending

_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}
_STATISTICS = {("BatchNormalization", 3), ("BatchNormalization", 4)}
"""What was measured and not learned: running means and variances."""
_LAYERS = {
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "MatMul",
    "PRelu",
}
_BEFORE_WAVES = {
    "Cast",
    "Concat",
    "Div",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MatMul",
    "Mul",
    "Neg",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
_INFINITY = 1e18
"""The square of a larger number is none in float32: it stands for infinity, such as where attention may not look."""


def trainable(model: Model, of: Sequence[str] | None = None) -> list[str]:
    """Names of the float weights of the main graph that gradients of ``of`` (default: all outputs) can reach.

    Left out: running statistics of BatchNormalization, what only shapes, indices or comparisons read, single numbers
    outside layers (constants of a formula), scales of quantizers, frequencies of sines and cosines (positions are
    encoded so), and outside layers what holds infinities (masks) or whole numbers that differ (grids, strides).
    """
    targets = [find(model, name) for name in of] if of is not None else list(model.graph.outputs)
    reached = depending(model, targets)
    return [name for name, value in model.graph.initializers.items() if value in reached and _is_weight(value)]


def _is_weight(value: ir.Value) -> bool:
    uses = {(node.op_type, index) for node, index in value.uses()}
    readers = {operator for operator, _ in uses}
    floats = value.dtype is not None and value.dtype.is_floating_point()
    many = value.const_value is not None and value.const_value.size > 1
    if not floats or uses & _STATISTICS or readers & _QUANTIZERS or not (many or readers & _LAYERS):
        return False
    return not (_is_made_up(value, readers) or _is_frequency(value))


def _is_made_up(value: ir.Value, readers: set[str]) -> bool:
    """Infinities, and whole numbers that differ (grids, strides, masks): nothing is learned to be that.

    Weights of layers and tables are not looked at: their numbers may still lie on the disk.
    """
    if readers & (_LAYERS | {"Gather"}) or value.const_value is None:
        return False
    numbers = value.const_value.numpy().astype(np.float64)
    finite = bool((np.abs(numbers) < _INFINITY).all())
    return not finite or bool((numbers == np.round(numbers)).all() and np.ptp(numbers) > 0)


def _is_frequency(value: ir.Value) -> bool:
    """A vector whose products only sines and cosines read."""
    sizes = value.const_value.shape.numpy() if value.const_value is not None else ()
    return sum(size > 1 for size in sizes) == 1 and _ends_in_waves(value)


def _ends_in_waves(value: ir.Value) -> bool:
    if not value.uses() or value.is_graph_output():
        return False
    return all(
        node.op_type in ("Sin", "Cos") or (node.op_type in _BEFORE_WAVES and _ends_in_waves(node.outputs[0]))
        for node, _ in value.uses()
    )
