"""Put an objective together: targets as inputs, the student's values beside them, L = sum_k w_k L_k behind both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...autodiff import DIFFERENTIABLE_OPSET
from ...errors import PassError
from ...graph.opset import require_opset
from ...graph.part import drop_unread
from ...lazy import ir
from ...model import Model
from .choice import Weights
from .graph import LossGraph
from .objective import Objective
from .pairs import Inputs, LabelForm, Pairs, Shape, Target
from .terms import LOSSES, LossName, Pair

TEMPERATURE = "temperature"


@dataclass(frozen=True)
class Wanted:
    """What an objective is to say. ``outputs`` go by the names of the student's outputs, ``pairs`` are inner tensors.

    ``mask`` is the shape of the padding mask of one batch; ``labels`` says how labels come, if a loss reads them.
    """

    weights: Weights
    parameters: Sequence[str]
    outputs: Mapping[str, Target]
    pairs: Sequence[Target] = ()
    labels: LabelForm | None = None
    mask: Shape | None = None


def build_objective(student: Model, wanted: Wanted, rng: np.random.Generator) -> tuple[Objective, Inputs]:
    """Write the losses behind a copy of the student; maps between widths begin at random."""
    model = student.copy()
    require_opset(model, DIFFERENTIABLE_OPSET)
    model.infer_shapes()
    graph = LossGraph(model, "loss")
    temperature = graph.scalar(TEMPERATURE)
    pairs = Pairs(graph, temperature, wanted.mask, wanted.labels, rng)
    terms = {name: _term(graph, name, _tensors(pairs, wanted, name), wanted) for name in wanted.weights}
    weights = {name: graph.scalar(f"weight/{name}") for name in terms}
    loss = graph.op("Identity", graph.total([graph.mul(term, weights[name]) for name, term in terms.items()]))
    model.graph.outputs[:] = [loss, *terms.values()]
    drop_unread(model)
    model.infer_shapes()
    objective = Objective(
        model=model,
        loss=loss.name or "",
        terms={name: term.name or "" for name, term in terms.items()},
        weights={name: value.name or "" for name, value in weights.items()},
        parameters=[*wanted.parameters, *pairs.helpers],
        targets=pairs.inputs.names,
        settings={TEMPERATURE: temperature.name or ""} if temperature.uses() else {},
        helpers=pairs.helpers,
    )
    return objective, pairs.inputs


def _tensors(pairs: Pairs, wanted: Wanted, name: LossName) -> list[Pair]:
    """The tensors that a loss speaks of."""
    loss = LOSSES[name]
    if loss.of_pairs and wanted.pairs:
        return [pairs.inner(i, target, mapped=loss.mapped) for i, target in enumerate(wanted.pairs)]
    natures = {output: target.nature for output, target in wanted.outputs.items() if target.nature is not None}
    outputs = loss.outputs(natures) if loss.outputs else []
    if not outputs:
        hint = "give pairs: {student tensor: teacher tensor}" if loss.of_pairs else "leave it out of the loss"
        raise PassError(f"loss '{name}' has nothing to compare in this model", hint=hint)
    if loss.of_labels:
        return [pairs.labelled(wanted.outputs[outputs[0]])]
    return [pairs.output(output, wanted.outputs[output]) for output in outputs]


def _term(graph: LossGraph, name: LossName, pairs: Sequence[Pair], wanted: Wanted) -> ir.Value:
    """The sum over outputs, the mean over pairs of inner tensors."""
    written = LossGraph(graph.model, f"loss/{name}")
    total = graph.total([LOSSES[name].term(written, pair) for pair in pairs])
    count = len(pairs) if LOSSES[name].of_pairs and wanted.pairs else 1
    term = written.div(total, written.number(count))
    term.name = graph.model.fresh(f"loss/{name}")
    return term
