"""Guards behind a Softmax that cannot matter: Where(IsNaN(p), 0, p) is p where p cannot be NaN.

Softmax of a row, exp(x - max x) / sum, is NaN where the row holds NaN or +inf, or is -inf throughout. Exporters write
the guard for rows that a mask hides whole. With a mask of finite numbers (the lowest that the type has, as PyTorch's
dynamo exporter writes it, or -10000) a row hidden whole is a row of finite numbers; nor can it be -inf throughout where
a stored mask leaves a place open in every row.

What is assumed is that scores, the products that a mask is added to, are finite: below 2^100 in magnitude, in float16
below 2^14. Of others the guard made zeros, which looks like an answer; without it they come out as NaN.
"""

from __future__ import annotations

import numpy as np

from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...nodes import attribute, constant_of, maker
from ..bounds import Intervals, bounds_of
from ..edit import stand_in

_ONE_AXIS = 13  # the opset from which on Softmax is taken along one axis, not over all from an axis on


def remove_guards(model: Model) -> int:
    """Let what reads a guard that cannot matter read the Softmax; how many there were."""
    guards = [node for node in model.nodes() if _softmax_of(node) is not None]
    if not guards:
        return 0
    model.infer_shapes()
    intervals = Intervals()
    return sum(_remove(model, guard, intervals) for guard in guards)


def _remove(model: Model, guard: ir.Node, intervals: Intervals) -> bool:
    softmax = _softmax_of(guard)
    assert softmax is not None
    if not _adds_no_axis(guard, softmax) or not _is_never_nan(softmax, intervals, model.opset):
        return False
    return stand_in(softmax.outputs[0], guard.outputs[0])


def _softmax_of(guard: ir.Node) -> ir.Node | None:
    """The Softmax whose NaN a Where replaces, else None."""
    check = maker(guard.inputs[0], "IsNaN") if guard.op_type == "Where" and guard.domain in ONNX_DOMAINS else None
    if check is None or check.inputs[0] is not guard.inputs[2]:
        return None
    return maker(guard.inputs[2], "Softmax")


def _adds_no_axis(guard: ir.Node, softmax: ir.Node) -> bool:
    """Whether what stands for NaN is one number, so that the guard has the shape of the Softmax."""
    instead, shape = constant_of(guard.inputs[1]), softmax.outputs[0].shape
    return instead is not None and instead.size == 1 and len(instead.shape) <= (len(shape) if shape is not None else 0)


def _is_never_nan(softmax: ir.Node, intervals: Intervals, opset: int) -> bool:
    value = softmax.inputs[0]
    if intervals.of(value) is not None:
        return True
    masked = maker(value, "Add")
    axis = _axis_from_the_end(softmax) if opset >= _ONE_AXIS else None
    if masked is None or axis is None:
        return False
    pairs = (masked.inputs, masked.inputs[::-1])
    return any(_leaves_each_row_a_number(scores, mask, axis, intervals) for scores, mask in pairs)


def _axis_from_the_end(softmax: ir.Node) -> int | None:
    axis, shape = int(attribute(softmax, "axis", -1)), softmax.outputs[0].shape
    if axis >= 0 and shape is None:
        return None
    return axis if shape is None or axis < 0 else axis - len(shape)


def _leaves_each_row_a_number(scores: ir.Value | None, mask: ir.Value | None, axis: int, intervals: Intervals) -> bool:
    """Whether a stored mask of finite numbers and -inf has a finite one in every row, with room for the scores."""
    tensor, added = constant_of(mask), intervals.of(scores)
    if tensor is None or added is None or len(tensor.shape) < -axis:
        return False
    numbers = tensor.numpy()
    hidden = np.isneginf(numbers)
    seen = bounds_of(ir.Tensor(numbers[~hidden]))
    return seen is not None and not hidden.all(axis=axis).any() and (seen + added).rounded(tensor.dtype) is not None
