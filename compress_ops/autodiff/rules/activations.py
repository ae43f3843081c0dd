"""Gradients of activation functions, with 1[.] for 1 where it holds and 0 elsewhere, s for the logistic function.

relu' = 1[y > 0]        s' = y - y^2        tanh' = 1 - y^2        softplus' = s(x)
hard sigmoid' = alpha 1[0 < y < 1]        elu' = 1 where x > 0, else y + alpha
gelu' = P(x) + x p(x), with P and p the normal distribution and density
mish' = t + x s(x) (1 - t^2), with t = tanh(softplus(x))        swish' = s + alpha x (s - s^2), with s = s(alpha x)
softmax along an axis: dx = y (dy - sum dy y)        log softmax: dx = dy - exp(y) sum dy
"""

from __future__ import annotations

import math

from ...lazy import ir
from ..rule import Result, formulas, gradient
from ..step import Step

FORMULAS = formulas(
    {
        "Relu": lambda step, dy: step.mul(dy, step.positive(step.y)),
        "ThresholdedRelu": lambda step, dy: step.mul(dy, step.mask("Greater", step.x, _parameter(step, "alpha", 1.0))),
        "Sigmoid": lambda step, dy: step.mul(dy, _logistic_slope(step, step.y)),
        "Tanh": lambda step, dy: step.sub(dy, step.mul(dy, step.square(step.y))),
        "Softplus": lambda step, dy: step.mul(dy, step.op("Sigmoid", step.x)),
        "Softsign": lambda step, dy: step.div(dy, step.square(step.add(step.number(1), step.op("Abs", step.x)))),
        "Elu": lambda step, dy: _piecewise(step, dy, step.mul(dy, step.add(step.y, _parameter(step, "alpha", 1.0)))),
        "Gelu": lambda step, dy: step.mul(dy, _gelu_slope(step, step.x)),
        "Softmax": lambda step, dy: _softmax(step, step.mul(dy, step.y)),
        "LogSoftmax": lambda step, dy: step.sub(dy, step.mul(step.op("Exp", step.y), _along_axis(step, dy))),
    }
)


def _softmax(step: Step, weighted: ir.Value) -> ir.Value:
    return step.sub(weighted, step.mul(step.y, _along_axis(step, weighted)))


def _along_axis(step: Step, value: ir.Value) -> ir.Value:
    return step.sum(value, [step.attribute("axis", -1)])


def _parameter(step: Step, name: str, default: float) -> ir.Value:
    return step.number(step.attribute(name, default))


def _logistic_slope(step: Step, s: ir.Value) -> ir.Value:
    return step.sub(s, step.square(s))


def _piecewise(step: Step, above: ir.Value, below: ir.Value) -> ir.Value:
    return step.op("Where", step.op("Greater", step.x, step.number(0)), above, below)


@gradient("LeakyRelu")
def leaky_relu(step: Step, dy: ir.Value) -> Result:
    alpha = step.attribute("alpha", 0.01)
    return step.mul(dy, step.add(step.scale(step.positive(step.x), 1 - alpha), step.number(alpha)))


@gradient("HardSigmoid")
def hard_sigmoid(step: Step, dy: ir.Value) -> Result:
    inside = step.positive(_logistic_slope(step, step.y))
    return step.mul(step.scale(dy, step.attribute("alpha", 0.2)), inside)


@gradient("HardSwish")
def hard_swish(step: Step, dy: ir.Value) -> Result:
    """x h(x) with h(x) = clip(x / 6 + 1/2, 0, 1): the derivative is h + x / 6 where h is not clipped."""
    h = step.op("HardSigmoid", step.x, alpha=1 / 6, beta=0.5)
    inside = step.positive(_logistic_slope(step, h))
    return step.mul(dy, step.add(h, step.mul(step.scale(step.x, 1 / 6), inside)))


@gradient("Celu")
def celu(step: Step, dy: ir.Value) -> Result:
    """exp(x / alpha) below 0."""
    alpha = step.attribute("alpha", 1.0)
    return _piecewise(step, dy, step.mul(dy, step.op("Exp", step.scale(step.x, 1 / alpha))))


@gradient("Selu")
def selu(step: Step, dy: ir.Value) -> Result:
    """gamma above 0, y + gamma alpha below."""
    alpha = step.attribute("alpha", 1.6732631921768188)
    gamma = step.attribute("gamma", 1.0507010221481323)
    below = step.mul(dy, step.add(step.y, step.number(gamma * alpha)))
    return _piecewise(step, step.scale(dy, gamma), below)


def _gelu_slope(step: Step, x: ir.Value) -> ir.Value:
    if step.attribute("approximate", "none") == "tanh":
        return _gelu_tanh_slope(step, x)
    half, square = step.number(0.5), step.square(x)
    distribution = step.add(half, step.scale(step.op("Erf", step.scale(x, math.sqrt(0.5))), 0.5))
    density = step.scale(step.op("Exp", step.scale(square, -0.5)), 1 / math.sqrt(2 * math.pi))
    return step.add(distribution, step.mul(x, density))


def _gelu_tanh_slope(step: Step, x: ir.Value) -> ir.Value:
    """y = x (1 + t) / 2 with t = tanh(c (x + k x^3)): y' = (1 + t) / 2 + x (1 - t^2) c (1 + 3 k x^2) / 2."""
    c, k, one, square = math.sqrt(2 / math.pi), 0.044715, step.number(1), step.square(x)
    t = step.op("Tanh", step.scale(step.mul(x, step.add(one, step.scale(square, k))), c))
    inner = step.scale(step.add(one, step.scale(square, 3 * k)), c)
    rest = step.mul(x, step.mul(step.sub(one, step.square(t)), inner))
    return step.scale(step.add(step.add(one, t), rest), 0.5)


@gradient("Mish")
def mish(step: Step, dy: ir.Value) -> Result:
    t = step.op("Tanh", step.op("Softplus", step.x))
    slope = step.sub(step.number(1), step.square(t))
    rest = step.mul(step.mul(step.x, step.op("Sigmoid", step.x)), slope)
    return step.mul(dy, step.add(t, rest))


@gradient("Swish")
def swish(step: Step, dy: ir.Value) -> Result:
    inner = step.scale(step.x, step.attribute("alpha", 1.0))
    s = step.op("Sigmoid", inner)
    return step.mul(dy, step.add(s, step.mul(inner, _logistic_slope(step, s))))
