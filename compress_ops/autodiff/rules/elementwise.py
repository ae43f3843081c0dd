"""Gradients of functions of one tensor, element by element: dx = dy f'(x).

exp' = y        log' = 1/x        sqrt' = 1/(2 y)        (1/x)' = -y^2        tan' = 1 + y^2
arcsin' = (1 - x^2)^(-1/2)        arctan' = 1/(1 + x^2)        erf' = 2 pi^(-1/2) exp(-x^2)
"""

from __future__ import annotations

import math

from ...lazy import ir
from ..rule import Result, gradient
from ..step import Step

_LEAST = 1e-30


@gradient("Neg")
def negative(step: Step, dy: ir.Value) -> Result:
    return step.op("Neg", dy)


@gradient("Abs")
def absolute(step: Step, dy: ir.Value) -> Result:
    return step.mul(dy, step.op("Sign", step.x))


@gradient("Sqrt")
def square_root(step: Step, dy: ir.Value) -> Result:
    """0 at 0, where there is no derivative: else the deviation of equal numbers would make all gradients infinite."""
    square = step.op("Max", step.mul(step.y, step.y), step.number(_LEAST))
    return step.mul(step.scale(dy, 0.5), step.div(step.y, square))


@gradient("Exp")
def exponential(step: Step, dy: ir.Value) -> Result:
    return step.mul(dy, step.y)


@gradient("Log")
def logarithm(step: Step, dy: ir.Value) -> Result:
    return step.div(dy, step.x)


@gradient("Reciprocal")
def reciprocal(step: Step, dy: ir.Value) -> Result:
    return step.op("Neg", step.mul(dy, step.mul(step.y, step.y)))


@gradient("Sin")
def sine(step: Step, dy: ir.Value) -> Result:
    return step.mul(dy, step.op("Cos", step.x))


@gradient("Cos")
def cosine(step: Step, dy: ir.Value) -> Result:
    return step.op("Neg", step.mul(dy, step.op("Sin", step.x)))


@gradient("Tan")
def tangent(step: Step, dy: ir.Value) -> Result:
    return step.add(dy, step.mul(dy, step.mul(step.y, step.y)))


@gradient("Asin", "Acos")
def inverse_sine(step: Step, dy: ir.Value) -> Result:
    root = step.op("Sqrt", step.sub(step.number(1), step.mul(step.x, step.x)))
    return step.div(dy if step.node.op_type == "Asin" else step.op("Neg", dy), root)


@gradient("Atan")
def inverse_tangent(step: Step, dy: ir.Value) -> Result:
    return step.div(dy, step.add(step.number(1), step.mul(step.x, step.x)))


@gradient("Sinh")
def hyperbolic_sine(step: Step, dy: ir.Value) -> Result:
    return step.mul(dy, step.op("Cosh", step.x))


@gradient("Cosh")
def hyperbolic_cosine(step: Step, dy: ir.Value) -> Result:
    return step.mul(dy, step.op("Sinh", step.x))


@gradient("Asinh", "Acosh")
def inverse_hyperbolic(step: Step, dy: ir.Value) -> Result:
    """(x^2 + 1)^(-1/2) and (x^2 - 1)^(-1/2)."""
    one = step.number(1 if step.node.op_type == "Asinh" else -1)
    return step.div(dy, step.op("Sqrt", step.add(step.mul(step.x, step.x), one)))


@gradient("Atanh")
def inverse_hyperbolic_tangent(step: Step, dy: ir.Value) -> Result:
    return step.div(dy, step.sub(step.number(1), step.mul(step.x, step.x)))


@gradient("Erf")
def error_function(step: Step, dy: ir.Value) -> Result:
    bell = step.op("Exp", step.op("Neg", step.mul(step.x, step.x)))
    return step.mul(step.scale(dy, 2 / math.sqrt(math.pi)), bell)


@gradient("Identity")
def identity(step: Step, dy: ir.Value) -> Result:
    return dy


@gradient("Cast", "CastLike")
def cast(step: Step, dy: ir.Value) -> Result:
    return [step.op("CastLike", dy, step.x), None][: len(step.inputs)]


@gradient("Dropout", stops=(1, 2))
def dropout(step: Step, dy: ir.Value) -> Result:
    """Nothing is dropped in inference."""
    if step.optional(2) is not None and bool(step.fixed(2)):
        raise step.refusal("it is in training mode, which is random")
    return dy, None, None
