"""Gradients of operators that combine tensors element by element, with broadcasting.

y = a b:  da = dy b, db = dy a        y = a / b:  da = dy / b, db = -dy y / b
y = a^b:  da = dy b a^(b-1), db = dy y log a        y = max_i x_i:  dx_i = dy, shared equally where several attain y
y = x mod m = x - m round(x / m), rounding down or (fmod) towards zero:  dx = dy, dm = dy (y - x) / m
"""

from __future__ import annotations

from ...lazy import ir
from ..rule import Result, formulas, gradient
from ..step import Step

FORMULAS = formulas(
    {
        "Add": lambda step, dy: (dy, dy),
        "Sum": lambda step, dy: [dy] * len(step.inputs),
        "Mean": lambda step, dy: [step.scale(dy, 1 / len(step.inputs))] * len(step.inputs),
        "Sub": lambda step, dy: (dy, lambda: step.op("Neg", dy)),
        "Mul": lambda step, dy: (lambda: step.mul(dy, step.inputs[1]), lambda: step.mul(dy, step.x)),
        "Pow": lambda step, dy: (lambda: _power_base(step, dy), lambda: _power_exponent(step, dy)),
        "Mod": lambda step, dy: (dy, lambda: step.mul(dy, step.div(step.sub(step.y, step.x), step.inputs[1]))),
    },
    broadcasts=True,
)


@gradient("Div", broadcasts=True)
def divide(step: Step, dy: ir.Value) -> Result:
    _, b = step.inputs
    return lambda: step.div(dy, b), lambda: step.op("Neg", step.div(step.mul(dy, step.y), b))


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


@gradient("Max", "Min", broadcasts=True)
def extreme(step: Step, dy: ir.Value) -> Result:
    attained = [step.mask("Equal", x, step.y) for x in step.inputs]
    share = step.div(dy, step.op("Sum", *attained))
    return [step.mul(share, mask) for mask in attained]


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
