"""Codebooks: vectors of values that weights share, each weight stored as the number of its value."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array
from ..lazy import ir
from ..model import ONNX_DOMAINS, Model
from ..nodes import bodies


@dataclass(frozen=True)
class Codebook:
    """``values`` [n] that weights share, one codebook behind another where channels have their own, and their name."""

    name: str
    values: Array


def find_codebooks(model: Model) -> list[Codebook]:
    """Vectors of floats in the main graph that are read by stored numbers alone, never by what an input says."""
    computed = computed_values(model)
    found = []
    for name, value in model.graph.initializers.items():
        tensor, readers = value.const_value, [node for node, _ in value.uses()]
        if tensor is None or tensor.dtype.name != "FLOAT" or len(tensor.shape) != 1 or tensor.size < 2:
            continue
        if readers and not value.is_graph_output() and all(_looks_up(node, value, computed) for node in readers):
            found.append(Codebook(name, tensor.numpy()))
    return found


def computed_values(model: Model) -> set[ir.Value]:
    """The values of the main graph that depend on an input."""
    found: set[ir.Value | None] = set(model.graph.inputs)
    for node in model.graph:
        if bodies(node) or any(value in found for value in node.inputs):
            found.update(node.outputs)
    return {value for value in found if value is not None}


def _looks_up(node: ir.Node, value: ir.Value, computed: set[ir.Value]) -> bool:
    """Whether the node picks from the values by stored codes."""
    gathers = node.op_type == "Gather" and node.domain in ONNX_DOMAINS and node.inputs[0] is value
    return gathers and node.inputs[1] is not value and node.inputs[1] not in computed
