"""Gradients of operators that take or put elements by index.

y = x[i]:  dx is dy added up at i        y = x with u put at i:  dx = dy with 0 put at i, du = dy[i]
"""

from __future__ import annotations

from collections.abc import Callable

from ...lazy import ir
from ..rule import Result, gradient
from ..step import Step
from .gather import gather_back, scatter_rows


@gradient("Gather")
def gather(step: Step, dy: ir.Value) -> Result:
    """A table of embeddings gets a gradient of its full size: freeze it where that is not wanted."""
    axis = step.attribute("axis", 0) % step.rank(step.x)
    size, known = step.dims(step.x)[axis], step.known(1)
    if known is None or known.ndim > 1 or not isinstance(size, int):
        return scatter_rows(step, dy, step.inputs[1], axis)
    if known.ndim == 0:
        dy = step.op("Unsqueeze", dy, step.integers([axis]))
    return gather_back(step, dy, known.reshape(-1) % size, axis, size)


@gradient("GatherElements")
def gather_elements(step: Step, dy: ir.Value) -> Result:
    axis = step.attribute("axis", 0)
    return step.op("ScatterElements", step.zeros(step.x), step.inputs[1], dy, axis=axis, reduction="add")


@gradient("GatherND")
def gather_nd(step: Step, dy: ir.Value) -> Result:
    if step.attribute("batch_dims", 0):
        raise step.refusal("batch_dims is not 0")
    return step.op("ScatterND", step.zeros(step.x), step.inputs[1], dy, reduction="add")


@gradient("ScatterElements")
def scatter_elements(step: Step, dy: ir.Value) -> Result:
    indices, axis = step.inputs[1], step.attribute("axis", 0)
    return (
        lambda: _uncovered(step, dy, lambda zeros: step.op("ScatterElements", dy, indices, zeros, axis=axis)),
        None,
        lambda: step.op("GatherElements", dy, indices, axis=axis),
    )


@gradient("ScatterND")
def scatter_nd(step: Step, dy: ir.Value) -> Result:
    indices = step.inputs[1]
    return (
        lambda: _uncovered(step, dy, lambda zeros: step.op("ScatterND", dy, indices, zeros)),
        None,
        lambda: step.op("GatherND", dy, indices),
    )


def _uncovered(step: Step, dy: ir.Value, cover: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """The gradient of what was put into: none where it was covered, all of it where it was added to."""
    reduction = step.attribute("reduction", "none")
    if reduction not in ("none", "add"):
        raise step.refusal(f"reduction is '{reduction}'")
    return dy if reduction == "add" else cover(step.zeros(step.inputs[2]))


@gradient("TopK")
def top_k(step: Step, dy: ir.Value) -> Result:
    zeros, indices = step.zeros(step.x), step.output(1)
    return step.op("ScatterElements", zeros, indices, dy, axis=step.attribute("axis", -1))


@gradient("OneHot", stops=(0, 1, 2))
def one_hot(step: Step, dy: ir.Value) -> Result:
    """Its two values, off and on, are constants of a formula."""
    return ()
