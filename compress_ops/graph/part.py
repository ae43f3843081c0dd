"""A part of a model as a model of its own: values are found by name, fed instead of computed, asked for as outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import PassError, did_you_mean
from ..lazy import ir
from ..model import Model


def find(model: Model, name: str) -> ir.Value:
    """The value of the main graph that has this name."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    known = {value.name: value for value in values if value.name}
    if name not in known:
        raise PassError(f"the model has no tensor '{name}'{did_you_mean(name, known)}")
    return known[name]


def part(model: Model, given: Mapping[str, tuple[ir.DataType, ir.Shape | None]], wanted: Sequence[str]) -> Model:
    """A copy that gives the ``wanted`` values; those ``given``, by type and shape, are inputs, whatever made them."""
    copy = model.copy()
    for name, (dtype, shape) in given.items():
        value = find(copy, name)
        if value not in copy.graph.inputs:
            fed = ir.Value(name=name, type=ir.TensorType(dtype), shape=shape)
            value.name = copy.fresh(f"{name}/computed")
            value.replace_all_uses_with(fed)
            copy.graph.inputs.append(fed)
    copy.graph.outputs[:] = [find(copy, name) for name in wanted]
    drop_unread(copy)
    return copy


def drop_unread(model: Model) -> None:
    """Remove nodes, weights and inputs that nothing reads."""
    model.drop_unused()
    for value in [value for value in model.graph.inputs if not value.uses()]:
        model.graph.inputs.remove(value)
