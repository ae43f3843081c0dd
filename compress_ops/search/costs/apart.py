"""The layers that a choice is made for, and a model in which each of them stands alone.

A layer is what must be chosen together: nodes of the main graph that hold weights, with all others that read one of the
same weights. In the model of layers apart each node reads inputs of its own, and what it gives is an output: one pass
over it changes all layers as if each were the only one, and one session of onnxruntime computes all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ...graph.layers.weights import Site, sites_of, through_transpose, weight_indices
from ...graph.part import drop_unread
from ...lazy import ir
from ...model import Model
from ...nodes import constant_of


@dataclass(frozen=True)
class Layer:
    """Nodes by name, in the order of the graph, and the type of the first; ``parameters`` counts stored numbers."""

    nodes: tuple[str, ...]
    kind: str
    parameters: int

    @property
    def name(self) -> str:
        return self.nodes[0]


@dataclass(frozen=True)
class Apart:
    """``model`` holds every layer alone.

    ``inputs`` maps its inputs to the values of the whole model that they stand for, ``outputs`` each of its outputs to
    the value of the whole model that it is; ``of`` gives the outputs of each layer.
    """

    model: Model
    inputs: dict[str, str]
    outputs: dict[str, str]
    of: list[tuple[str, ...]]


def layers_of(model: Model) -> list[Layer]:
    """Every layer, in the order of the graph. Nodes that a pattern of a recipe could not tell apart are left out."""
    named = Counter(node.name for node in model.nodes())
    kinds = {node.op_type for node in model.nodes()}
    nodes = [node for node in model.graph if _has_weights(node) and named[node.name] == 1 and node.name not in kinds]
    return [_layer(group) for group in _sharing(nodes)]


def _has_weights(node: ir.Node) -> bool:
    stored = [_stored(site) for site in sites_of(node)]
    read = [value for value in node.inputs if value is not None and constant_of(value) is None]
    return bool(weight_indices(node)) and all(value is not None for value in stored) and bool(read)


def _stored(site: Site) -> ir.Value | None:
    """The initializer that a node reads as a weight, also behind a Transpose, if it holds float32."""
    value = through_transpose(site).value
    tensor = constant_of(value)
    return value if tensor is not None and tensor.dtype == ir.DataType.FLOAT else None


def _weights(node: ir.Node) -> list[ir.Value]:
    return [value for site in sites_of(node) if (value := _stored(site)) is not None]


def _sharing(nodes: Sequence[ir.Node]) -> Iterator[list[ir.Node]]:
    """Nodes in groups that share weights, by the first of each."""
    group_of: dict[ir.Value, list[ir.Node]] = {}
    for node in nodes:
        found = [group_of[value] for value in _weights(node) if value in group_of]
        group = found[0] if found else []
        for other in found[1:]:
            if other is not group:
                group.extend(other)
        group.append(node)
        group_of.update({value: group for member in group for value in _weights(member)})
    yield from {id(group): group for group in group_of.values()}.values()


def _layer(nodes: Sequence[ir.Node]) -> Layer:
    stored = dict.fromkeys(value for node in nodes for value in _weights(node))
    sizes = [value.const_value.size for value in stored if value.const_value is not None]
    return Layer(tuple(node.name or "" for node in nodes), nodes[0].op_type, sum(sizes))


def apart(model: Model, layers: Iterable[Layer]) -> Apart:
    """A copy of the model in which every layer stands alone; weights are shared with the model."""
    copy = model.copy()
    nodes = {node.name: node for node in copy.graph}
    members = [[nodes[name] for name in layer.nodes] for layer in layers]
    given = [[value for node in each for value in node.outputs if _is_used(value)] for each in members]
    inputs = _feed_alone(copy, [node for each in members for node in each])
    copy.graph.outputs[:] = [value for each in given for value in each]
    copy.defaults = {}
    drop_unread(copy)
    of = [tuple(value.name or "" for value in each) for each in given]
    return Apart(copy, inputs, {name: name for each in of for name in each}, of)


def _feed_alone(model: Model, nodes: Sequence[ir.Node]) -> dict[str, str]:
    """Let nodes read inputs of their own in place of what is computed; by name of the input what it stands for."""
    stored, fed = _stored_values(model), dict[ir.Value, ir.Value]()
    for node in nodes:
        for index, value in enumerate(node.inputs):
            if value is not None and value not in stored:
                if value not in fed:
                    fed[value] = ir.Value(name=model.fresh(f"{value.name}/read"), type=value.type, shape=value.shape)
                node.replace_input_with(index, fed[value])
    model.graph.inputs[:] = list(fed.values())
    return {own.name or "": value.name or "" for value, own in fed.items()}


def _stored_values(model: Model) -> set[ir.Value]:
    """Weights, and what nodes make of these alone."""
    stored = set(model.graph.initializers.values())
    for node in model.graph:
        if node.inputs and all(value is None or value in stored for value in node.inputs):
            stored.update(node.outputs)
    return stored


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()
