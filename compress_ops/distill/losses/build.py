"""Put an objective together: targets as inputs, the student's values beside them, L = sum_k w_k L_k behind both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...autodiff import DIFFERENTIABLE_OPSET
from ...errors import PassError
from ...graph.opset import require_opset
from ...graph.part import drop_unread
from ...lazy import ir
from ...model import Model
from .choice import OF_PAIRS, Weights, outputs_for
from .graph import LossGraph
from .objective import Objective
from .pairs import LabelForm, Pairs, Shape, Target
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


@dataclass(frozen=True)
class Inputs:
    """The inputs of an objective that bring targets: by output, by number of the pair, and those of labels and mask."""

    outputs: dict[str, str] = field(default_factory=dict)
    pairs: dict[int, str] = field(default_factory=dict)
    labels: str | None = None
    mask: str | None = None

    @property
    def names(self) -> list[str]:
        single = [name for name in (self.labels, self.mask) if name is not None]
        return [*self.outputs.values(), *self.pairs.values(), *single]


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
    inputs = Inputs(pairs.of_outputs, pairs.of_pairs, pairs.labels_name, pairs.mask_name)
    objective = Objective(
        model=model,
        loss=loss.name or "",
        terms={name: term.name or "" for name, term in terms.items()},
        weights={name: value.name or "" for name, value in weights.items()},
        parameters=[*wanted.parameters, *pairs.helpers],
        targets=inputs.names,
        settings={TEMPERATURE: temperature.name or ""} if temperature.uses() else {},
        helpers=pairs.helpers,
    )
    return objective, inputs


def _tensors(pairs: Pairs, wanted: Wanted, name: LossName) -> list[Pair]:
    """The tensors that a loss speaks of."""
    if name in OF_PAIRS and wanted.pairs:
        return [pairs.inner(i, target, mapped=name == "hidden") for i, target in enumerate(wanted.pairs)]
    natures = {output: target.nature for output, target in wanted.outputs.items() if target.nature is not None}
    outputs = outputs_for(name, natures) if name not in ("hidden", "attention") else []
    if not outputs:
        hint = "give pairs: {student tensor: teacher tensor}" if name in OF_PAIRS else "leave it out of the loss"
        raise PassError(f"loss '{name}' has nothing to compare in this model", hint=hint)
    if name == "cross_entropy":
        return [pairs.labelled(wanted.outputs[outputs[0]])]
    return [pairs.output(output, wanted.outputs[output]) for output in outputs]


def _term(graph: LossGraph, name: LossName, pairs: Sequence[Pair], wanted: Wanted) -> ir.Value:
    """The sum over outputs, the mean over pairs of inner tensors."""
    written = LossGraph(graph.model, f"loss/{name}")
    total = graph.total([LOSSES[name](written, pair) for pair in pairs])
    count = len(pairs) if name in OF_PAIRS and wanted.pairs else 1
    term = written.div(total, written.number(count))
    term.name = graph.model.fresh(f"loss/{name}")
    return term
