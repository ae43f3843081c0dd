"""Which weights can be trained: floats on whose values an output depends smoothly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...model import Model
from .prepare import find
from .reach import depending

if TYPE_CHECKING:
    import onnx_ir as ir

_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}
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


def trainable(model: Model, of: Sequence[str] | None = None) -> list[str]:
    """Names of the float weights of the main graph that gradients of ``of`` (default: all outputs) can reach.

    Left out: what rules never differentiate (such as running statistics of BatchNormalization), what only shapes,
    indices or comparisons read, single numbers outside layers (constants of a formula), and scales of quantizers.
    """
    targets = [find(model, name) for name in of] if of is not None else list(model.graph.outputs)
    reached = depending(model, targets)
    return [name for name, value in model.graph.initializers.items() if value in reached and _is_weight(value)]


def _is_weight(value: ir.Value) -> bool:
    readers = {node.op_type for node, _ in value.uses()}
    floats = value.dtype is not None and value.dtype.is_floating_point()
    many = value.const_value is not None and value.const_value.size > 1
    return floats and not readers & _QUANTIZERS and (many or bool(readers & _LAYERS))
