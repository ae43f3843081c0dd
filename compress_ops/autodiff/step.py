"""One step back: a node, the gradients of its outputs, and the means to write nodes behind the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import PassError
from ..graph.edit import Constants, Formulas, attribute, constant_of
from ..lazy import ir

_STATIC = "give the sizes of the model's inputs (shapes=...), so that every size is known"


@dataclass
class Shared:
    """What is written once for the whole graph: constants, and the run-time shapes of values."""

    constants: Constants
    shapes: dict[ir.Value, ir.Value] = field(default_factory=dict)


class Step(Formulas):
    """What a rule sees. ``upstream`` holds the gradient of each output, None where nothing flows back."""

    def __init__(self, node: ir.Node, upstream: tuple[ir.Value | None, ...], shared: Shared) -> None:
        super().__init__(shared.constants.model, f"{node.name}/gradient", shared.constants)
        self.node, self.upstream, self._shared = node, upstream, shared

    @property
    def x(self) -> ir.Value:
        """The first input."""
        return self.inputs[0]

    @property
    def y(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """The inputs of a node that leaves none out; ``optional`` asks for one that may be missing."""
        return self.node.inputs  # type: ignore[return-value]

    def optional(self, index: int) -> ir.Value | None:
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def attribute(self, name: str, default: Any) -> Any:
        return attribute(self.node, name, default)

    def scale(self, value: ir.Value, factor: float) -> ir.Value:
        """The value times a number."""
        return value if factor == 1 else self.mul(value, self.number(factor))

    def sum(self, value: ir.Value, axes: Sequence[int], keepdims: int = 1) -> ir.Value:
        return self.op("ReduceSum", value, self.integers(axes), keepdims=keepdims) if axes else value

    def positive(self, value: ir.Value) -> ir.Value:
        """1 where the value is above 0, else 0."""
        if self.dtype == ir.DataType.FLOAT:  # a ramp this steep is a step, in one operator (Where and Sign are slow)
            return self.op("HardSigmoid", value, alpha=1e30, beta=0.0)
        return self.mask("Greater", value, self.number(0))

    def zero(self, value: ir.Value) -> ir.Value:
        """1 where the value, nowhere above 0, is 0, else 0."""
        if self.dtype == ir.DataType.FLOAT:
            return self.op("HardSigmoid", value, alpha=1e30, beta=1.0)
        return self.mask("Equal", value, self.number(0))

    def mask(self, comparison: str, a: ir.Value, b: ir.Value) -> ir.Value:
        """1 where the comparison holds, else 0."""
        return self.op("Cast", self.op(comparison, a, b), to=self.dtype)

    @property
    def dtype(self) -> ir.DataType:
        """The floating-point type of this node's gradients."""
        values = (*self.node.outputs, *self.node.inputs)
        types = (value.dtype for value in values if value is not None and value.dtype is not None)
        return next((dtype for dtype in types if dtype.is_floating_point()), ir.DataType.FLOAT)

    def rank(self, value: ir.Value) -> int:
        if value.shape is None:
            raise PassError(f"{self.where}: the rank of '{value.name}' is not known", hint=_STATIC)
        return value.shape.rank()

    def dims(self, value: ir.Value) -> tuple[int | str | None, ...]:
        """Sizes, symbolic names and None (unknown)."""
        self.rank(value)
        assert value.shape is not None
        return tuple(size if isinstance(size, int) else size.value for size in value.shape)

    def shape(self, value: ir.Value, axes: Sequence[int] | None = None) -> tuple[int, ...]:
        """The sizes (of some axes), all of which must be known."""
        dims = self.dims(value)
        wanted = [dims[axis] for axis in (range(len(dims)) if axes is None else axes)]
        if not all(isinstance(size, int) for size in wanted):
            raise PassError(f"{self.where}: the gradient needs the sizes of '{value.name}' {list(dims)}", hint=_STATIC)
        return tuple(size for size in wanted if isinstance(size, int))

    def sizes(self, value: ir.Value) -> ir.Value:
        """The shape as a list of integers in the graph: a constant where it is known, else found at run time."""
        if value.shape is not None and value.shape.is_static():
            return self.integers(self.shape(value))
        if value not in self._shared.shapes:
            self._shared.shapes[value] = self.op("Shape", value)
        return self._shared.shapes[value]

    def like(self, gradient: ir.Value, value: ir.Value) -> ir.Value:
        """The gradient in the shape of the value (as many elements, in the same order)."""
        return self.op("Reshape", gradient, self.sizes(value), allowzero=1)

    def shaped(self, gradient: ir.Value, dims: Sequence[int | str | None]) -> ir.Value:
        """States the gradient's shape; where it is not the input's, the engine sums it down to that."""
        gradient.shape, gradient.type = ir.Shape(dims), ir.TensorType(self.dtype)
        return gradient

    def broadcast(self, gradient: ir.Value) -> ir.Value:
        """States that the gradient has the output's shape."""
        return self.shaped(gradient, self.dims(self.y))

    def output(self, index: int) -> ir.Value:
        """An output of the node, which it need not have given so far."""
        if len(self.node.outputs) <= index:
            self.node.resize_outputs(index + 1)
        value = self.node.outputs[index]
        value.name = value.name or self.model.fresh(f"{self.node.name}/output_{index}")
        return value

    def zeros(self, value: ir.Value) -> ir.Value:
        """Zeros in the shape of the value."""
        return self.op("ConstantOfShape", self.sizes(value), value=ir.tensor(np.zeros(1, self.dtype.numpy())))

    def known(self, index: int) -> Array | None:
        """The contents of a constant input; None where the input is left out or not constant."""
        tensor = constant_of(self.optional(index))
        return tensor.numpy() if tensor is not None else None

    def fixed(self, index: int, default: Sequence[int] | None = None) -> Array:
        """The contents of an input that must be constant; the default where it is left out."""
        if self.optional(index) is None and default is not None:
            return np.asarray(default, np.int64)
        known = self.known(index)
        if known is None:
            raise self.refusal(f"input {index} is not a constant")
        return known

    @property
    def where(self) -> str:
        return f"{self.node.op_type} '{self.node.name}'"

    def refusal(self, reason: str) -> PassError:
        """The error of a rule that does not cover this node."""
        return PassError(f"{self.where} has no gradient: {reason}", hint="train only what lies behind it")
