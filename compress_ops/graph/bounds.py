"""Bounds that numbers cannot leave, by interval arithmetic (Moore 1966) over the graph.

    [a, b] + [c, d] = [a + c, b + d],   [a, b] [c, d] = [min, max of ac, ad, bc, bd],   -[a, b] = [-b, -a]
    [a, b] / [c, d] = [min, max of a/c, a/d, b/c, b/d] where c and d have one sign
Rounding is monotonic, so bounds rounded to the value's type hold for what is computed in that type. Stored tensors
have the bounds of their numbers, integers those of their type. Of products of activations no bound is known; one is
assumed, far above what a model that works has and far below the end of the type.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..lazy import ir
from ..model import ONNX_DOMAINS
from .edit import constant_of

_ASSUMED = {"FLOAT": 2.0**100, "DOUBLE": 2.0**100, "BFLOAT16": 2.0**100, "FLOAT16": 2.0**14}
_PRODUCTS = {"MatMul", "Gemm", "Einsum"}
_SAME = {"Identity", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Flatten", "Slice", "Tile"}
_DEEPEST = 64  # nodes looked through; masks are made by a dozen


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``, none of them NaN; a bound may be infinite until it is ``rounded``."""

    low: float
    high: float

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __sub__(self, other: Interval) -> Interval:
        return self + -other

    def __mul__(self, other: Interval) -> Interval:
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(corners), max(corners))

    def __truediv__(self, other: Interval) -> Interval:
        if other.low <= 0 <= other.high:
            return Interval(-math.inf, math.inf)
        corners = [a / b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(corners), max(corners))

    def __or__(self, other: Interval) -> Interval:
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def rounded(self, dtype: ir.DataType) -> Interval | None:
        """The bounds in a floating-point type; None where one leaves its range."""
        with np.errstate(over="ignore"):
            low, high = (float(dtype.numpy().type(bound)) for bound in (self.low, self.high))
        return Interval(low, high) if np.isfinite([low, high]).all() else None


@dataclass
class Intervals:
    """Bounds of a model's values, each found once. Types of values must be known (``Model.infer_shapes``)."""

    found: dict[ir.Value, Interval | None] = field(default_factory=dict)

    def of(self, value: ir.Value | None, depth: int = 0) -> Interval | None:
        """Bounds of a value; None where none are known, or where it may be NaN or infinite."""
        if value is None or value.dtype is None or depth > _DEEPEST:
            return None
        if value not in self.found:
            interval = self._bounds(value, depth)
            floats = interval is not None and value.dtype.is_floating_point()
            self.found[value] = interval.rounded(value.dtype) if interval and floats else interval
        return self.found[value]

    def _bounds(self, value: ir.Value, depth: int) -> Interval | None:
        assert value.dtype is not None
        tensor, node = constant_of(value), value.producer()
        if tensor is not None:
            return bounds_of(tensor)
        if not value.dtype.is_floating_point():
            return _of_integers(value.dtype)
        if node is None or node.domain not in ONNX_DOMAINS:
            return None
        if node.op_type in _PRODUCTS and value.dtype.name in _ASSUMED:
            most = _ASSUMED[value.dtype.name]
            return Interval(-most, most)
        first, last, rule = _RULES.get(node.op_type, (0, 0, _union))
        operands = [self.of(operand, depth + 1) for operand in node.inputs[first:last]]
        known = [operand for operand in operands if operand is not None]
        return rule(known) if known and len(known) == len(operands) else None


def bounds_of(tensor: ir.TensorProtocol) -> Interval | None:
    """Least and largest number of a stored tensor; None where there is none, or one that is not finite."""
    if tensor.size == 0 or tensor.dtype.is_string():
        return None
    numbers = tensor.numpy().astype(np.float64)
    return Interval(float(numbers.min()), float(numbers.max())) if np.isfinite(numbers).all() else None


def _of_integers(dtype: ir.DataType) -> Interval | None:
    if dtype == ir.DataType.BOOL:
        return Interval(0, 1)
    if not dtype.is_integer():
        return None
    limits = np.iinfo(dtype.numpy()) if dtype.bitwidth >= 8 else None
    return Interval(float(limits.min), float(limits.max)) if limits is not None else None


def _union(operands: list[Interval]) -> Interval:
    first, *others = operands
    for other in others:
        first |= other
    return first


_Rule = Callable[[list[Interval]], Interval]
_RULES: dict[str, tuple[int, int | None, _Rule]] = {  # the first and last of the inputs that count, and how
    **dict.fromkeys((*_SAME, "Cast", "Gather"), (0, 1, _union)),
    "Concat": (0, None, _union),
    "Where": (1, 3, _union),
    "Add": (0, 2, lambda pair: pair[0] + pair[1]),
    "Sub": (0, 2, lambda pair: pair[0] - pair[1]),
    "Mul": (0, 2, lambda pair: pair[0] * pair[1]),
    "Div": (0, 2, lambda pair: pair[0] / pair[1]),
    "Neg": (0, 1, lambda one: -one[0]),
}
