"""Write a loss behind a model: nodes with fresh names, scalars as inputs, means over positions.

A position is what a loss says one number about: a sample, a token, a pixel. Losses are means over positions,

    L = sum_i w_i l_i / sum_i w_i,

where w_i is 0 for padding and 1 elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...graph.edit import Formulas
from ...lazy import ir

TINY = 1e-12
"""Keeps quotients and roots of what may be zero finite."""
SHORTEST = 1e-8
"""Vectors that are shorter have no direction: they are divided by this (as in PyTorch's cosine_similarity)."""


class LossGraph(Formulas):
    """Appends nodes to a model's graph."""

    def input(self, wish: str, shape: Sequence[int | str | None], dtype: ir.DataType) -> ir.Value:
        """A further input of the graph."""
        value = ir.Value(name=self.model.fresh(wish), shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self.model.graph.inputs.append(value)
        return value

    def scalar(self, wish: str) -> ir.Value:
        """A float32 number that is given with every batch."""
        return self.input(wish, [], ir.DataType.FLOAT)

    def total(self, values: Sequence[ir.Value]) -> ir.Value:
        return values[0] if len(values) == 1 else self.op("Sum", *values)

    def sum(self, value: ir.Value, axes: Sequence[int], keepdims: int = 0) -> ir.Value:
        return self.op("ReduceSum", value, self.integers(axes), keepdims=keepdims)

    def mean(self, value: ir.Value, axes: Sequence[int], keepdims: int = 0) -> ir.Value:
        return self.op("ReduceMean", value, self.integers(axes), keepdims=keepdims)

    def mean_of_all(self, value: ir.Value) -> ir.Value:
        return self.op("ReduceMean", value, keepdims=0)

    def positive(self, value: ir.Value) -> ir.Value:
        """The value, which is nowhere below 0, kept away from 0."""
        return self.op("Add", value, self.number(TINY))

    def where(self, condition: ir.Value, then: ir.Value, otherwise: float) -> ir.Value:
        return self.op("Where", condition, then, self.number(otherwise))

    def is_above(self, value: ir.Value, bound: float) -> ir.Value:
        return self.op("Greater", value, self.number(bound))

    def length(self, value: ir.Value, axes: Sequence[int], keepdims: int = 0) -> ir.Value:
        """|x|, no less than SHORTEST; of what is shorter the gradient is that of a constant."""
        squares = self.sum(self.square(value), axes, keepdims)
        return self.op("Sqrt", self.op("Max", squares, self.number(SHORTEST**2)))

    def float32(self, value: ir.Value) -> ir.Value:
        return value if value.dtype == ir.DataType.FLOAT else self.op("Cast", value, to=ir.DataType.FLOAT)

    def mean_over_positions(self, value: ir.Value, weights: ir.Value | None) -> ir.Value:
        """The mean above, of one number a position; weights lack axes at the end where they hold for all of these."""
        if weights is None:
            return self.mean_of_all(value)
        spread = self.op("Expand", weights, self.op("Shape", value))
        total = self.op("ReduceSum", self.mul(value, spread), keepdims=0)
        return self.div(total, self.positive(self.op("ReduceSum", spread, keepdims=0)))
