"""Which layers hand on to which without anything between that leaves integers: there no conversion is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...arrays import Array
from ...lazy import ir
from ...model import Model
from ...quantize.int8.placement import ABSORBED, ARITHMETIC, MOVING
from .apart import Layer

_THROUGH = ABSORBED | ARITHMETIC | MOVING


def links_of(model: Model, layers: Sequence[Layer]) -> Array:
    """Of each layer the share of its ends that lie at each other layer, [layers, layers]; rows add up to 1 at most.

    An end is what a layer reads or what reads it; what lies at none is an input, an output or an operator on floats.
    """
    number = {name: i for i, layer in enumerate(layers) for name in layer.nodes}
    shares = np.zeros((len(layers), len(layers)))
    for node in model.graph:
        if node.name in number:
            ends = [*_ends(node, number, _makers), *_ends(node, number, _readers)]
            for end in ends:
                if end is not None:
                    shares[number[node.name], end] += 1 / len(ends) / len(layers[number[node.name]].nodes)
    return shares


def _ends(
    node: ir.Node, number: dict[str, int], next_to: Callable[[ir.Node], list[ir.Node | None]]
) -> Iterator[int | None]:
    """Where ways from a node end: at layers by their number, at None elsewhere."""
    seen, todo = {node}, next_to(node)
    while todo:
        other = todo.pop()
        if other is None or (other.name not in number and other.op_type not in _THROUGH):
            yield None
        elif other.name in number:
            yield number[other.name or ""]
        elif other not in seen:
            seen.add(other)
            todo += next_to(other)


def _makers(node: ir.Node) -> list[ir.Node | None]:
    """The nodes that make what a node reads, None for an input of the graph; stored values are none."""
    read = [value for value in node.inputs if value is not None and not value.is_initializer()]
    return [value.producer() for value in read]


def _readers(node: ir.Node) -> list[ir.Node | None]:
    """The nodes that read what a node makes, None for an output of the graph."""
    made = [value for value in node.outputs if value.uses() or value.is_graph_output()]
    return [
        *(user for value in made for user, _ in value.uses()),
        *(None for value in made if value.is_graph_output()),
    ]
