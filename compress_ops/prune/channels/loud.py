"""Where a channel whose weights are zero is not zero: behind exp(0) = 1, sigmoid(0) = 0.5, a constant added to all.

A sum over such values is another one after a cut, as a mean is; over values that are zero it stays.
"""

from __future__ import annotations

from ...lazy import ir
from .axes import live
from .trace import Trace

_NOT_ZERO_AT_ZERO = frozenset(
    (
        *("Acos", "Cos", "Cosh", "Equal", "Exp", "GreaterOrEqual", "HardSigmoid", "LessOrEqual", "Log", "LogSoftmax"),
        *("Not", "Reciprocal", "Sigmoid", "Softmax", "Softplus"),
    )
)
_OFFSETS = frozenset(("Add", "Max", "Mean", "Min", "Sub", "Sum", "Where"))
_WEIGHTED = frozenset(
    ("BatchNormalization", "Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "LayerNormalization", "RNN")
)


def is_loud(trace: Trace, node: ir.Node) -> bool:
    """Whether a node's results may be other than zero in channels that were made by zero weights."""
    if node.op_type in _NOT_ZERO_AT_ZERO:
        return True
    if node.op_type in _WEIGHTED or (node.op_type == "MatMul" and any(map(trace.is_constant, node.inputs))):
        return False
    if node.op_type in _OFFSETS and any(_is_offset(trace, value) for value in node.inputs):
        return True
    heard = [value in trace.loud for value in node.inputs[: 1 if node.op_type == "Div" else None]]
    return bool(heard) and (all(heard) if node.op_type == "Mul" else any(heard))


def _is_offset(trace: Trace, value: ir.Value | None) -> bool:
    """A constant that is not cut with the channels."""
    if value is None or value.dtype is None or not value.dtype.is_floating_point() or not trace.is_constant(value):
        return False
    return not any(map(live, trace.folded_layout(value)))
