"""Which weights can be trained at all: floats on whose values an output depends smoothly."""

from __future__ import annotations

from collections.abc import Sequence

from ...model import Model
from .prepare import find
from .reach import depending


def trainable(model: Model, of: Sequence[str] | None = None) -> list[str]:
    """Names of the float weights of the main graph that gradients of ``of`` (default: all outputs) can reach.

    Left out are those that rules never differentiate (such as running statistics of BatchNormalization) and those
    that only shapes, indices or comparisons read.
    """
    targets = [find(model, name) for name in of] if of is not None else list(model.graph.outputs)
    reached = depending(model, targets)
    weights = [(name, value) for name, value in model.graph.initializers.items() if value in reached]
    return [name for name, value in weights if value.dtype is not None and value.dtype.is_floating_point()]
