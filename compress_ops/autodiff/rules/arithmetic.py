"""Gradients of operators that combine tensors element by element, with broadcasting.

y = a b:  da = dy b, db = dy a        y = a / b:  da = dy / b, db = -dy y / b
y = a^b:  da = dy b a^(b-1), db = dy y log a        y = max_i x_i:  dx_i = dy, shared equally where several attain y
"""

from __future__ import annotations

from ...lazy import ir
from ..rule import Result, gradient
from ..step import Step


@gradient("Add", "Sum", broadcasts=True)
def add(step: Step, dy: ir.Value) -> Result:
    return [dy] * len(step.inputs)


@gradient("Sub", broadcasts=True)
def subtract(step: Step, dy: ir.Value) -> Result:
    return dy, lambda: step.op("Neg", dy)


@gradient("Mul", broadcasts=True)
def multiply(step: Step, dy: ir.Value) -> Result:
    a, b = step.inputs
    return lambda: step.mul(dy, b), lambda: step.mul(dy, a)


@gradient("Div", broadcasts=True)
def divide(step: Step, dy: ir.Value) -> Result:
    _, b = step.inputs
    return lambda: step.div(dy, b), lambda: step.op("Neg", step.div(step.mul(dy, step.y), b))


@gradient("Pow", broadcasts=True)
def power(step: Step, dy: ir.Value) -> Result:
    return lambda: _power_base(step, dy), lambda: _power_exponent(step, dy)


def _power_base(step: Step, dy: ir.Value) -> ir.Value:
    a, b = step.inputs
    exponent = step.known(1)
    if exponent is not None and (exponent == 2).all():
        return step.mul(dy, step.add(a, a))
    if exponent is not None:
        return step.mul(step.mul(dy, step.array(exponent)), step.op("Pow", a, step.array(exponent - 1.0)))
    b = step.op("Cast", b, to=step.dtype)
    return step.mul(step.mul(dy, b), step.op("Pow", a, step.sub(b, step.number(1))))


def _power_exponent(step: Step, dy: ir.Value) -> ir.Value:
    """The logarithm counts as 0 where the base is not above 0: 0^b is 0 for all b > 0."""
    a, zero = step.x, step.number(0)
    logarithm = step.op("Where", step.op("Greater", a, zero), step.op("Log", a), zero)
    return step.mul(step.mul(dy, step.y), logarithm)


@gradient("Mean", broadcasts=True)
def mean(step: Step, dy: ir.Value) -> Result:
    return [step.scale(dy, 1 / len(step.inputs))] * len(step.inputs)


@gradient("Max", "Min", broadcasts=True)
def extreme(step: Step, dy: ir.Value) -> Result:
    attained = [step.mask("Equal", x, step.y) for x in step.inputs]
    share = step.div(dy, step.op("Sum", *attained))
    return [step.mul(share, mask) for mask in attained]


@gradient("Mod", broadcasts=True)
def remainder(step: Step, dy: ir.Value) -> Result:
    """x mod m = x - m round(x / m), rounding down or (fmod) towards zero."""
    x, m = step.inputs
    return dy, lambda: step.mul(dy, step.div(step.sub(step.y, x), m))


@gradient("Where", broadcasts=True)
def where(step: Step, dy: ir.Value) -> Result:
    condition, zero = step.x, step.number(0)
    return None, lambda: step.op("Where", condition, dy, zero), lambda: step.op("Where", condition, zero, dy)


@gradient("PRelu", broadcasts=True)
def parametric_relu(step: Step, dy: ir.Value) -> Result:
    """y = x where x > 0, else slope x."""
    x, slope = step.inputs
    zero = step.number(0)
    return (
        lambda: step.op("Where", step.op("Greater", x, zero), dy, step.mul(dy, slope)),
        lambda: step.mul(dy, step.op("Min", x, zero)),
    )


@gradient("Clip", broadcasts=True)
def clip(step: Step, dy: ir.Value) -> Result:
    """What is not clipped passes; a bound gets the gradient of what was clipped to it."""
    x, y = step.x, step.y
    return (
        lambda: step.mul(dy, step.mask("Equal", x, y)),
        lambda: step.mul(dy, step.mask("Less", x, y)),
        lambda: step.mul(dy, step.mask("Greater", x, y)),
    )
