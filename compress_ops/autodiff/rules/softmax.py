"""Gradients of Softmax and LogSoftmax along an axis.

y = softmax(x):  dx = y (dy - sum dy y)        y = log softmax(x):  dx = dy - exp(y) sum dy
"""

from __future__ import annotations

from ...lazy import ir
from ..rule import Result, gradient
from ..step import Step


@gradient("Softmax")
def softmax(step: Step, dy: ir.Value) -> Result:
    axis = step.attribute("axis", -1)
    weighted = step.mul(dy, step.y)
    return step.sub(weighted, step.mul(step.y, step.sum(weighted, [axis])))


@gradient("LogSoftmax")
def log_softmax(step: Step, dy: ir.Value) -> Result:
    axis = step.attribute("axis", -1)
    return step.sub(dy, step.mul(step.op("Exp", step.y), step.sum(dy, [axis])))
