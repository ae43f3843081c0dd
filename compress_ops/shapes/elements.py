"""What is known of the small integer tensors that say how others are shaped, before anything runs.

An element is a number, a dimension of a value (so it follows by itself when that dimension is cut), or unknown.
Exporters build targets of Reshape, Expand and Resize from Shape, Gather, Slice, Concat and casts; with these few
operators evaluated element by element, a target such as [batch, seq, -1, 32] is seen as what it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..lazy import ir
from ..nodes import attribute, constant_of

_LONGEST = 64  # a longer integer tensor is no shape
_HALF = 2**63  # of the numbers that 64 bits tell apart; arithmetic wraps around


@dataclass(frozen=True)
class Dim:
    """The size of one dimension of a value, whatever it will be at run time."""

    value: ir.Value
    axis: int


Element: TypeAlias = int | Dim | None
Elements: TypeAlias = list[Element] | None


@dataclass
class Evaluator:
    """Elements of values, each evaluated once; ``dims`` tells what Shape gives for a value, where that is known."""

    dims: Callable[[ir.Value], Elements]
    known: dict[ir.Value, Elements] = field(default_factory=dict)

    def __call__(self, value: ir.Value | None) -> Elements:
        """The elements of an integer tensor in row-major order; None when not even their number is known."""
        if value is None:
            return None
        waiting = [value]  # chains may be longer than Python nests calls
        while waiting:
            missing = [] if waiting[-1] in self.known else self._missing(waiting[-1])
            waiting += missing
            if not missing:
                last = waiting.pop()
                if last not in self.known:
                    self.known[last] = self._constant(last) if last.is_initializer() else self._computed(last)
        return self.known[value]

    def _missing(self, value: ir.Value) -> list[ir.Value]:
        """What a value's elements are made of and is not evaluated yet."""
        node = value.producer()
        if node is None or node.op_type not in _RULES or node.op_type == "Shape":
            return []
        return [given for given in node.inputs if given is not None and given not in self.known]

    def numbers(self, value: ir.Value | None) -> list[int] | None:
        """The elements, where all of them are plain numbers."""
        found = self(value)
        numbers = [element for element in found or [] if isinstance(element, int)]
        return numbers if found is not None and len(numbers) == len(found) else None

    def _constant(self, value: ir.Value) -> Elements:
        tensor = constant_of(value)
        if tensor is None or tensor.size > _LONGEST or len(tensor.shape) > 1 or not _is_integer(tensor):
            return None
        return [int(number) for number in tensor.numpy().reshape(-1)]

    def _computed(self, value: ir.Value) -> Elements:
        node = value.producer()
        rule = _RULES.get(node.op_type) if node is not None else None
        found = rule(self, node) if rule is not None and node is not None else None
        found = _unknowns(value) if found is None else found
        return found if found is None or len(found) <= _LONGEST else None


def _unknowns(value: ir.Value) -> Elements:
    """As many unknown elements as the value has, where its shape tells that."""
    shape = value.shape
    if shape is None or len(shape) > 1 or not shape.is_static():
        return None
    length = shape.numpy()[0] if len(shape) else 1
    return [None] * length if length <= _LONGEST else None


def _is_integer(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype.name in ("INT64", "INT32", "BOOL")


def known_dims(value: ir.Value) -> Elements:
    """The dimensions of a value: numbers where its shape tells them."""
    if value.shape is None:
        return None
    return [size if isinstance(size, int) else Dim(value, axis) for axis, size in enumerate(value.shape)]


def _same(evaluate: Evaluator, node: ir.Node) -> Elements:
    return evaluate(node.inputs[0])


def _shape(evaluate: Evaluator, node: ir.Node) -> Elements:
    dims = evaluate.dims(node.inputs[0]) if node.inputs[0] is not None else None
    return None if dims is None else dims[attribute(node, "start", 0) : attribute(node, "end", len(dims))]


def _concat(evaluate: Evaluator, node: ir.Node) -> Elements:
    joined: list[Element] = []
    for value in node.inputs:
        part = evaluate(value)
        if part is None or len(joined) + len(part) > _LONGEST:
            return None
        joined += part
    return joined


def _gather(evaluate: Evaluator, node: ir.Node) -> Elements:
    data, indices = evaluate(node.inputs[0]), evaluate.numbers(node.inputs[1])
    if data is None or indices is None or any(not -len(data) <= index < len(data) for index in indices):
        return None
    return [data[index] for index in indices]


def _slice(evaluate: Evaluator, node: ir.Node) -> Elements:
    data = evaluate(node.inputs[0])
    if len(node.inputs) == 1:
        bounds = [list(attribute(node, name, [])) for name in ("starts", "ends")]
    else:
        bounds = [evaluate.numbers(value) or [] for value in node.inputs[1:3]]
    steps = (evaluate.numbers(node.inputs[4]) or []) if len(node.inputs) > 4 and node.inputs[4] is not None else [1]
    if data is None or not all(len(part) == 1 for part in (*bounds, steps)) or steps == [0]:
        return None
    return data[bounds[0][0] : bounds[1][0] : steps[0]]


def _arithmetic(evaluate: Evaluator, node: ir.Node) -> Elements:
    """Numbers with numbers; a dimension is never negative, so it never equals -1."""
    left, right = (evaluate(value) for value in node.inputs)
    if left is None or right is None or 1 not in (len(left), len(right), len(left) - len(right) + 1):
        return None
    length = max(len(left), len(right))
    pairs = zip(left * (length // len(left)), right * (length // len(right)), strict=True)
    return [_calculate(node.op_type, a, b) for a, b in pairs]


def _calculate(kind: str, left: Element, right: Element) -> Element:
    if isinstance(left, int) and isinstance(right, int):
        return (int(_OPERATIONS[kind](left, right)) + _HALF) % (2 * _HALF) - _HALF
    negative = any(isinstance(side, int) and side < 0 for side in (left, right))
    return 0 if kind == "Equal" and negative and None not in (left, right) else None


def _where(evaluate: Evaluator, node: ir.Node) -> Elements:
    parts = [evaluate(value) for value in node.inputs]
    length = max((len(part) for part in parts if part is not None), default=0)
    if any(part is None or len(part) not in (1, length) for part in parts):
        return None
    rows = zip(*(part * (length // len(part)) for part in parts if part), strict=True)
    return [(yes if choice else no) if isinstance(choice, int) else None for choice, yes, no in rows]


def _constant_of_shape(evaluate: Evaluator, node: ir.Node) -> Elements:
    shape = evaluate.numbers(node.inputs[0])
    value = attribute(node, "value", None)
    length = None if shape is None or len(shape) > 1 else shape[0] if shape else 1
    if length is None or not 0 <= length <= _LONGEST or value is None or not _is_integer(value):
        return None
    return [int(value.numpy().reshape(-1)[0])] * length


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b else 0,
    "Mod": lambda a, b: a % b if b else 0,
    "Equal": operator.eq,
}
_RULES: dict[str, Callable[[Evaluator, Any], Elements]] = {
    **dict.fromkeys(("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape"), _same),
    **dict.fromkeys(_OPERATIONS, _arithmetic),
    "Shape": _shape,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Where": _where,
    "ConstantOfShape": _constant_of_shape,
}
_HANDS_ON = frozenset(_RULES) - {"Shape", *_OPERATIONS, "ConstantOfShape"}


def hands_on(evaluate: Evaluator, node: ir.Node) -> bool:
    """Whether the dimensions that a node reads are still seen in its output, or only numbers come out."""
    found = evaluate(node.outputs[0])
    return found is not None and (node.op_type in _HANDS_ON or None not in found)
