"""Blocks of a quantized model that can be trained one after another: a layer each, or what lies between two residuals.

layer     one node that reads a quantized weight, with the bias added behind it
residual  what lies between two places where a single tensor carries all that the weights before have changed: in a
          residual network the sums, in a chain every layer

A block's inputs are tensors of the quantized model, its output is compared with the tensor that the float model
computes at the same place: of the same name, or given by the node of that name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ...graph.codebooks import computed_values
from ...lazy import ir
from ...model import Model

BlockName = Literal["layer", "residual"]
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Block:
    """``inputs`` and ``output`` are tensors of the student, ``target`` is the teacher's."""

    inputs: tuple[str, ...]
    output: str
    target: str


def find_blocks(student: Model, teacher: Model, trained: Sequence[str], kind: BlockName) -> list[Block]:
    """In graph order; ``trained`` names the quantized weights, without which nothing is a block."""
    plan = _Plan.of(student, teacher, trained)
    return list(plan.layers() if kind == "layer" else plan.residuals())


@dataclass(frozen=True)
class _Plan:
    """``computed`` depends on an input of the model, ``changed`` on a trained weight too; ``targets`` are by output."""

    student: Model
    nodes: list[ir.Node]
    computed: set[ir.Value]
    changed: set[ir.Value]
    targets: dict[ir.Value, str]

    @classmethod
    def of(cls, student: Model, teacher: Model, trained: Sequence[str]) -> _Plan:
        weights = {student.graph.initializers[name] for name in trained}
        nodes = list(student.graph)
        return cls(student, nodes, computed_values(student), _behind(nodes, weights), _targets(nodes, teacher))

    def layers(self) -> Iterator[Block]:
        for node in self.nodes:
            own = [value for value in node.inputs if value in self.changed and value not in self.computed]
            if not own or node.outputs[0] not in self.computed or node.op_type in _QUANTIZERS:
                continue
            last = self._with_bias(node.outputs[0])
            first = [self._before_quantizers(value) for value in node.inputs if value in self.computed]
            if last in self.targets:
                yield self._block([value for value in first if value is not None], last)

    def _with_bias(self, value: ir.Value) -> ir.Value:
        """The sum with a stored bias, where that alone reads the value."""
        uses = list(value.uses())
        if len(uses) != 1 or uses[0].node.op_type != "Add" or value.is_graph_output():
            return value
        total = uses[0].node.outputs[0]
        others = [other for other in uses[0].node.inputs if other is not value]
        return total if total in self.targets and not any(other in self.computed for other in others) else value

    def _before_quantizers(self, value: ir.Value | None) -> ir.Value | None:
        while value is not None and (made := value.producer()) is not None and made.op_type in _QUANTIZERS:
            value = made.inputs[0]
        return value

    def residuals(self) -> Iterator[Block]:
        """Cut wherever one changed tensor is all that later nodes and outputs read of the changed ones."""
        place: dict[ir.Node | None, int] = {node: number for number, node in enumerate(self.nodes)}
        last = {value: self._last_use(value, place) for value in self.changed & self.computed}
        live: set[ir.Value] = set()
        start = -1
        for number, node in enumerate(self.nodes):
            live |= {value for value in node.outputs if value in last}
            live = {value for value in live if last[value] > number}
            (only,) = live if len(live) == 1 else (None,)
            if only is not None and only in self.targets and place.get(only.producer(), -1) > start:
                yield self._block(self._sources(only, place, start), only)
                start = number

    def _last_use(self, value: ir.Value, place: dict[ir.Node | None, int]) -> int:
        uses = [place.get(node, len(place)) for node, _ in value.uses()]
        return max([*uses, len(place) if value.is_graph_output() else -1])

    def _sources(self, output: ir.Value, place: dict[ir.Node | None, int], start: int) -> list[ir.Value]:
        """The inputs and the floats from before a place that an output depends on; integers are computed anew."""
        found: dict[ir.Value, None] = {}
        seen, open_values = set(), [output]
        while open_values:
            value = open_values.pop()
            made = value.producer()
            floats = value.dtype is None or value.dtype.is_floating_point()
            if made is None or (floats and place.get(made, -1) <= start):
                found |= {value: None}
            elif made not in seen:
                seen.add(made)
                open_values += [each for each in made.inputs if each is not None and each in self.computed]
        return list(found)

    def _block(self, inputs: Sequence[ir.Value], output: ir.Value) -> Block:
        names = tuple(dict.fromkeys(value.name or "" for value in inputs))
        return Block(names, output.name or "", self.targets[output])


def _behind(nodes: Sequence[ir.Node], weights: set[ir.Value]) -> set[ir.Value]:
    """All that depends on one of the weights."""
    found = set(weights)
    for node in nodes:
        if any(value in found for value in node.inputs):
            found.update(node.outputs)
    return found


def _targets(nodes: Sequence[ir.Node], teacher: Model) -> dict[ir.Value, str]:
    """The teacher's tensors by the student's: of the same name, or given by the node of the same name."""
    theirs = {node.name: node for node in teacher.graph if node.name}
    names = {value.name for node in teacher.graph for value in node.outputs if value.name}
    found: dict[ir.Value, str] = {}
    for node in nodes:
        twin = theirs.get(node.name or "")
        for number, value in enumerate(node.outputs):
            given = twin.outputs[number].name if twin is not None and number < len(twin.outputs) else None
            if value.name and (value.name in names or given):
                found[value] = value.name if value.name in names else given or ""
    return found
