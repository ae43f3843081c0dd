"""Gradients of reductions over axes: dy is spread over what was reduced, weighted by the derivative.

sum: 1        mean of n: 1/n        max, min: 1 where attained, shared equally        product: y / x
|x|_1: sign x        |x|_2: x / y        sum of squares: 2 x        log sum: exp(-y)        log sum exp: exp(x - y)
cumulative sum: the cumulative sum from the other end
"""

from __future__ import annotations

from ...lazy import ir
from ..rule import Result, formulas, gradient
from ..step import Step

FORMULAS = formulas(
    {
        "ReduceSum": lambda step, dy: _spread(step, dy),
        "ReduceMean": lambda step, dy: _spread(step, step.div(dy, _count(step))),
        "GlobalAveragePool": lambda step, dy: _spread(step, step.div(dy, _count(step))),
        "ReduceProd": lambda step, dy: step.div(_kept(step, step.mul(dy, step.y)), step.x),
        "ReduceL1": lambda step, dy: step.mul(step.op("Sign", step.x), _kept(step, dy)),
        "ReduceL2": lambda step, dy: step.mul(step.x, _kept(step, step.div(dy, _above_zero(step, step.y)))),
        "ReduceSumSquare": lambda step, dy: step.mul(step.x, _kept(step, step.scale(dy, 2))),
        "ReduceLogSum": lambda step, dy: _spread(step, step.div(dy, step.op("Exp", step.y))),
        "ReduceLogSumExp": lambda step, dy: step.mul(
            step.op("Exp", step.sub(step.x, _kept(step, step.y))), _kept(step, dy)
        ),
    },
    stops=(1,),
)


def _axes(step: Step) -> list[int]:
    """The reduced axes; none given means all, or none at all. Global pooling leaves samples and channels."""
    rank = step.rank(step.x)
    if step.node.op_type.startswith("Global"):
        return list(range(2, rank))
    axes = [int(axis) % rank for axis in step.fixed(1, [])]
    return axes or ([] if step.attribute("noop_with_empty_axes", 0) else list(range(rank)))


def _kept(step: Step, value: ir.Value) -> ir.Value:
    """A reduced value with its reduced axes as 1, so that it meets x."""
    axes = _axes(step)
    return value if step.attribute("keepdims", 1) or not axes else step.op("Unsqueeze", value, step.integers(axes))


def _spread(step: Step, dy: ir.Value) -> ir.Value:
    return step.op("Expand", _kept(step, dy), step.sizes(step.x))


def _count(step: Step) -> ir.Value:
    sizes = step.op("Gather", step.sizes(step.x), step.integers(_axes(step)))
    return step.op("Cast", step.op("ReduceProd", sizes, keepdims=0), to=step.dtype)


def _above_zero(step: Step, norm: ir.Value) -> ir.Value:
    """A vector of zeros, where there is no derivative, gets 0."""
    return step.op("Max", norm, step.number(1e-30))


@gradient("ReduceMax", "ReduceMin", "GlobalMaxPool", stops=(1,))
def reduce_extreme(step: Step, dy: ir.Value) -> Result:
    attained = step.mask("Equal", step.x, _kept(step, step.y))
    return step.mul(attained, step.div(_kept(step, dy), step.sum(attained, _axes(step))))


@gradient("CumSum", stops=(1,))
def cumulative_sum(step: Step, dy: ir.Value) -> Result:
    exclusive, reverse = step.attribute("exclusive", 0), step.attribute("reverse", 0)
    return step.op("CumSum", dy, step.inputs[1], exclusive=exclusive, reverse=1 - reverse)
