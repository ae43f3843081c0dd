"""Bring a model into the form that gradients are built on, in a copy: parameters as inputs, sizes bound, constants
folded, opset new enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..errors import PassError, did_you_mean
from ..graph.clean.folding import fold
from ..graph.clean.generated import written_shape
from ..graph.clean.simplify import simplify
from ..graph.opset import require_opset
from ..graph.part import find
from ..lazy import ir
from ..model import Model, make_uniform
from ..passes import Context
from .reach import way_between, without_rule
from .rules.expand import expand

DIFFERENTIABLE_OPSET = 18
"""The opset from which reductions take their axes as inputs and scatters add up: the rules are written for it."""

_GENERATED = 1024  # elements
_ROUNDS = 8


def prepare(
    model: Model,
    of: Sequence[str],
    parameters: Sequence[str],
    inputs: Sequence[str],
    keep: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
) -> Model:
    """A copy of the model with the parameters as inputs and ``of`` and ``keep`` as its outputs."""
    copy = Model(model.ir.clone(), defaults=model.defaults, types=model.types)
    _set_outputs(copy, [*of, *keep])
    _make_inputs(copy, parameters)
    _bind(copy, shapes)
    way = way_between(copy, [find(copy, name) for name in (*parameters, *inputs)], [find(copy, name) for name in of])
    expand(copy, without_rule(way.nodes))
    require_opset(copy, DIFFERENTIABLE_OPSET)
    simplify(copy, Context(np.random.default_rng(0)), fold_batchnorm=False)
    _settle(copy)
    return copy


def _set_outputs(model: Model, names: Sequence[str]) -> None:
    """As outputs of the graph, the values keep their names through every clean-up."""
    outputs = [find(model, name) for name in dict.fromkeys(names)]
    model.graph.outputs.clear()
    model.graph.outputs.extend(outputs)
    model.drop_unused()


def _make_inputs(model: Model, names: Iterable[str]) -> None:
    """Weights that are inputs are neither folded nor merged, and every run brings its own."""
    for name in names:
        value = model.graph.initializers.get(name)
        if value is None or value.dtype is None or not value.dtype.is_floating_point():
            raise PassError(f"'{name}' cannot be trained: {_why_not(model, name, value)}")
        del model.graph.initializers[name]
        value.const_value = None
        model.graph.inputs.append(value)


def _why_not(model: Model, name: str, value: ir.Value | None) -> str:
    if value is not None:
        return f"it holds {value.dtype}"
    guess = did_you_mean(name, model.graph.initializers)
    return f"what is asked for does not depend on a weight of that name{guess}"


def _settle(model: Model) -> None:
    """Fold constants and infer shapes by turns, until neither finds more: each may be what the other waits for."""
    found = None
    for _ in range(_ROUNDS):
        _fold_small(model)
        model.infer_shapes()
        known = sum(
            value.shape is not None and value.shape.is_static() for node in model.graph for value in node.outputs
        )
        if found == (len(model.graph), known):
            break
        found = (len(model.graph), known)


def _fold_small(model: Model) -> None:
    """What simplify leaves, since it would cost room in a file: constants that the graph generates."""
    fold(model, _generates, largest_input=64, largest_output=1024)
    make_uniform(model)


def _generates(node: ir.Node) -> bool | None:
    """ConstantOfShape, which is not folded otherwise: paddings begin with it."""
    shape = written_shape(node)
    return True if shape is not None and math.prod(shape) <= _GENERATED else None


def _bind(model: Model, shapes: Mapping[str, Sequence[int]]) -> None:
    inputs = {value.name: value for value in model.graph.inputs}
    for name, shape in shapes.items():
        if name in inputs:
            inputs[name].shape = ir.Shape(shape)
    if shapes:  # what was inferred from the free sizes would contradict
        for node in model.graph:
            for value in node.outputs:
                value.shape = None
