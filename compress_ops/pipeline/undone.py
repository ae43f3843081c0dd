"""A later step must not undo what an earlier one gained: zeros of pruned weights, the few values of clustered ones.

What counts are the numbers that a layer computes with, in whatever form they are stored: what a DequantizeLinear or a
codebook gives is decoded. Layers are told by name; one that was cut or written anew is no longer judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..arrays import Array
from ..errors import BrokenPromise, Place
from ..graph.codebooks import computed_values
from ..graph.edit import constant_of
from ..lazy import ir
from ..model import Model
from ..passes import Gain
from ..recipe import Step
from ..report import units
from ..report.report import StepReport
from ..runtime import open_session

Layer = tuple[str, int]  # the name of a node, and which input


def numbers_left(numbers: Array) -> int:
    """Those that are not zero."""
    return int(np.count_nonzero(numbers))


def different_numbers(numbers: Array) -> int:
    return int(np.unique(numbers).size)


@dataclass(frozen=True)
class _Kind:
    """``measure`` gives less where more was gained; of all numbers the share ``slack`` more is no fault."""

    measure: Callable[[Array], int]
    slack: float
    unit: str


_KINDS: Mapping[Gain, _Kind] = {
    Gain.ZEROS: _Kind(numbers_left, 0.01, "numbers that are not zero"),
    Gain.CODEBOOK: _Kind(different_numbers, 0, "different numbers"),
}


@dataclass
class Gains:
    """What steps gained so far: by kind and layer how much, and the title of the step."""

    held: dict[tuple[Gain, Layer], tuple[int, str]] = field(default_factory=dict)

    def settle(
        self, model: Model, step: Step, report: StepReport, readers: Mapping[str, list[Layer]], place: Place, title: str
    ) -> None:
        """After a step: what was gained before must still be there; then count in what the step gained itself.

        ``readers`` are those of each weight as they were before the step.
        """
        numbers = _Numbers(model)
        if not step.options.allow_undone:
            self._check(numbers, place, title)
        if step.operation.gives is not None:
            for layer in (layer for name in report.touched for layer in readers.get(name, ())):
                found = numbers.of(layer)
                left = _KINDS[step.operation.gives].measure(found) if found is not None else None
                if found is not None and left is not None and left < found.size:
                    self.held[step.operation.gives, layer] = left, title

    def _check(self, numbers: _Numbers, place: Place, title: str) -> None:
        for (gain, layer), (before, earlier) in self.held.items():
            kind, found = _KINDS[gain], numbers.of(layer)
            if found is not None and (now := kind.measure(found)) > before + kind.slack * found.size:
                raise BrokenPromise(
                    f"{title} undoes what {earlier} gained: the weight of {layer[0]} had {before:,} {kind.unit} and "
                    f"has {now:,}",
                    hint="put the one before the other or leave one out; allow_undone: true on the step permits this",
                    place=place,
                )

    def notes(self, model: Model) -> Iterator[str]:
        """What of the zeros is there at the end."""
        layers = [layer for gain, layer in self.held if gain is Gain.ZEROS]
        numbers = _Numbers(model)
        found = [(array.size, numbers_left(array)) for layer in layers if (array := numbers.of(layer)) is not None]
        if found:
            share = 1 - sum(left for _, left in found) / sum(size for size, _ in found)
            told = units.things(len(found), "pruned layer")
            yield f"Sparsity of the result: {share:.1%} of the weights of {told} are zero."


def readers_of(model: Model) -> dict[str, list[Layer]]:
    """The layers that read each weight."""
    return {
        weight.name or "": [(node.name or "", index) for node, index in weight.uses()] for weight in model.weights()
    }


class _Numbers:
    """The weights that layers of a model compute with, one at a time."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._nodes = {node.name: node for node in model.nodes()}
        self._computed = computed_values(model)

    def of(self, layer: Layer) -> Array | None:
        """None where the layer is not there any more, or its weight depends on an input."""
        node = self._nodes.get(layer[0])
        value = node.inputs[layer[1]] if node is not None and layer[1] < len(node.inputs) else None
        if value is None or value in self._computed:
            return None
        stored = constant_of(value)
        return stored.numpy() if stored is not None else self._decoded(value)

    def _decoded(self, value: ir.Value) -> Array | None:
        """What constants give, computed by onnxruntime."""
        part = self._model.copy()
        known = {made.name: made for node in part.graph for made in node.outputs}
        if value.name not in known:  # inside a branch
            return None
        part.graph.outputs[:] = [known[value.name]]
        part.graph.inputs.clear()
        part.drop_unused()
        with part.exported() as path:
            (array,) = open_session(path).run({}).values()
        return array
