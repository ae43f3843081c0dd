"""Gradients of functions of one tensor, element by element: dx = dy f'(x)."""

from __future__ import annotations

import math

from ...lazy import ir
from ..rule import Result, formulas, gradient
from ..step import Step

FORMULAS = formulas(
    {
        "Identity": lambda step, dy: dy,
        "Neg": lambda step, dy: step.op("Neg", dy),
        "Abs": lambda step, dy: step.mul(dy, step.op("Sign", step.x)),
        "Exp": lambda step, dy: step.mul(dy, step.y),
        "Log": lambda step, dy: step.div(dy, step.x),
        "Reciprocal": lambda step, dy: step.op("Neg", step.mul(dy, step.square(step.y))),
        "Sin": lambda step, dy: step.mul(dy, step.op("Cos", step.x)),
        "Cos": lambda step, dy: step.op("Neg", step.mul(dy, step.op("Sin", step.x))),
        "Tan": lambda step, dy: step.add(dy, step.mul(dy, step.square(step.y))),
        "Asin": lambda step, dy: step.div(dy, step.op("Sqrt", _rest(step))),
        "Acos": lambda step, dy: step.div(step.op("Neg", dy), step.op("Sqrt", _rest(step))),
        "Atan": lambda step, dy: step.div(dy, step.add(step.number(1), step.square(step.x))),
        "Sinh": lambda step, dy: step.mul(dy, step.op("Cosh", step.x)),
        "Cosh": lambda step, dy: step.mul(dy, step.op("Sinh", step.x)),
        "Asinh": lambda step, dy: step.div(dy, step.op("Sqrt", step.add(step.square(step.x), step.number(1)))),
        "Acosh": lambda step, dy: step.div(dy, step.op("Sqrt", step.add(step.square(step.x), step.number(-1)))),
        "Atanh": lambda step, dy: step.div(dy, _rest(step)),
        "Erf": lambda step, dy: step.mul(step.scale(dy, 2 / math.sqrt(math.pi)), _bell(step)),
        "Cast": lambda step, dy: step.op("CastLike", dy, step.x),
        "CastLike": lambda step, dy: step.op("CastLike", dy, step.x),
    }
)
_LEAST = 1e-30


def _rest(step: Step) -> ir.Value:
    """1 - x^2."""
    return step.sub(step.number(1), step.square(step.x))


def _bell(step: Step) -> ir.Value:
    """exp(-x^2)."""
    return step.op("Exp", step.op("Neg", step.square(step.x)))


@gradient("Sqrt")
def square_root(step: Step, dy: ir.Value) -> Result:
    """1/(2 y); 0 at 0, where there is no derivative: else the deviation of equal numbers would make all infinite."""
    square = step.op("Max", step.square(step.y), step.number(_LEAST))
    return step.mul(step.scale(dy, 0.5), step.div(step.y, square))


@gradient("Dropout", stops=(1, 2))
def dropout(step: Step, dy: ir.Value) -> Result:
    """Nothing is dropped in inference."""
    if step.optional(2) is not None and bool(step.fixed(2)):
        raise step.refusal("it is in training mode, which is random")
    return dy
