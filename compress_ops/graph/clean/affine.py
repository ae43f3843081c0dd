"""Constant scales and shifts after a linear operator become part of it: a (W x + b) + c = (a W) x + (a b + c).

a and c are one number, or one for each output channel. Exporters leave such pairs behind when they decompose batch
normalization or learned scales.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...arrays import Array
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ..edit import constant_of, stand_in
from ..layers.scaling import absorb, linear_before, numbers, output_channels, scale_and_shift

_PARTS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "Mul": lambda constant: (constant, 0 * constant),
    "Div": lambda constant: (1 / constant, 0 * constant),
    "Add": lambda constant: (0 * constant + 1, constant),
    "Sub": lambda constant: (0 * constant + 1, -constant),
}
"""Scale and shift that an operator with a constant second operand stands for."""


def fold_affine(model: Model) -> None:
    """Fold Mul, Div, Add and Sub by a constant into the Conv, ConvTranspose or Gemm whose output they alone read."""
    for node in model.nodes():
        if node.op_type in _PARTS and node.domain in ONNX_DOMAINS:
            _try_fold(model, node)


def _try_fold(model: Model, node: ir.Node) -> None:
    index = _constant_operand(node)
    linear = linear_before(node, 1 - index) if index is not None else None
    if index is None or linear is None or len(linear.outputs[0].uses()) != 1:
        return
    constant = _per_channel(numbers(node.inputs[index]), linear, node.op_type)
    if constant is not None and stand_in(linear.outputs[0], node.outputs[0]):
        scale_and_shift(model, linear, *_PARTS[node.op_type](constant))
        absorb(linear, node)


def _constant_operand(node: ir.Node) -> int | None:
    """Which input is the constant; a constant minuend or dividend is no scale and shift."""
    found = [i for i, value in enumerate(node.inputs) if constant_of(value) is not None]
    return found[0] if len(found) == 1 and (found[0] == 1 or node.op_type in ("Mul", "Add")) else None


def _per_channel(constant: Array, linear: ir.Node, op_type: str) -> Array | None:
    """The constant as one finite number per output channel; None where it varies along other axes or adds an axis."""
    weight = constant_of(linear.inputs[1])
    assert weight is not None
    rank, channels = len(weight.shape), output_channels(linear)
    shape = (1,) * (rank - constant.ndim) + constant.shape
    along_channels = (1, channels) + (1,) * (rank - 2)
    if constant.ndim > rank or (constant.size != 1 and shape != along_channels) or not np.isfinite(constant).all():
        return None
    if op_type == "Div" and not constant.all():
        return None
    return np.broadcast_to(constant.reshape(-1), (channels,))
