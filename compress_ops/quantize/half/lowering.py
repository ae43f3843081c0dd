"""Rewrite chosen nodes to half precision: weights are stored so, casts stand where float32 and half meet.

Inputs and outputs of the model, and of every subgraph, keep their types. A value is cast once for all nodes of a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...graph.edit import Writer
from ...lazy import ir
from ...model import Model
from ...nodes import later
from .half_types import Lowerable, makes_float


@dataclass
class Lowering:
    """``chosen`` nodes, with the inputs and outputs that become ``half``; ``followers`` take what they are given."""

    model: Model
    half: ir.DataType
    chosen: Mapping[ir.Node, Lowerable]
    followers: Mapping[ir.Node, Lowerable]
    low: set[ir.Value] = field(default_factory=set)
    casts: dict[Any, ir.Value] = field(default_factory=dict)

    def apply(self) -> None:
        self._lower_casts()
        for node, parts in self.chosen.items():
            self.low.update(node.outputs[i] for i in parts.outputs)
        outputs = [(graph, value) for graph in self.model.ir.graphs() for value in graph.outputs if value in self.low]
        self._lower_weights()
        for node in self.model.nodes():
            self._connect(node)
        for value in self.low:
            value.type = ir.TensorType(self.half)
        for graph, value in outputs:
            self._restore_output(graph, value)

    def _lower_casts(self) -> None:
        """A Cast to float32 whose readers all want half precision casts to that at once."""
        for node in self.model.nodes():
            readers = list(node.outputs[0].uses()) if makes_float(node) else []
            if readers and not node.outputs[0].is_graph_output() and all(self._wants(*use) for use in readers):
                node.attributes["to"] = ir.AttrInt64("to", self.half.value)
                self.low.add(node.outputs[0])

    def _wants(self, node: ir.Node, index: int) -> bool:
        return node in self.chosen and index in self.chosen[node].inputs

    def _lower_weights(self) -> None:
        """Weights that only lowered nodes read are stored in half precision; others get a copy when it is needed."""
        for value in self.model.weights():
            uses = list(value.uses())
            if uses and not value.is_graph_output() and all(self._wants(*use) for use in uses):
                assert value.const_value is not None
                value.const_value, value.type = lowered(value.const_value, self.half), ir.TensorType(self.half)
                self.low.add(value)

    def _connect(self, node: ir.Node) -> None:
        """Give every float input the type that the node reads."""
        for index, value in enumerate(node.inputs):
            if value is None:
                continue
            if self._wants(node, index):
                if value not in self.low:
                    node.replace_input_with(index, self._as(value, self.half, node))
            elif value in self.low and (node not in self.followers or index not in self.followers[node].inputs):
                node.replace_input_with(index, self._as(value, ir.DataType.FLOAT, node))

    def _as(self, value: ir.Value, dtype: ir.DataType, node: ir.Node) -> ir.Value:
        """The value in another type: a copy of a weight, or a Cast right behind what makes the value."""
        key = (value, dtype, node.graph)
        if key not in self.casts:
            tensor = value.const_value if value.is_initializer() else None
            if tensor is not None:
                name = f"{value.name}_{dtype.name.lower()}"
                self.casts[key] = self.model.add_weight(name, lowered(tensor, dtype), value.graph)
            else:
                self.casts[key] = self._cast(value, dtype, node)
        return self.casts[key]

    def _cast(self, value: ir.Value, dtype: ir.DataType, node: ir.Node) -> ir.Value:
        assert isinstance(node.graph, ir.Graph)
        producer, place = value.producer(), partial(node.graph.insert_before, node.graph[0])
        if producer is not None and producer.graph is node.graph:
            place = partial(node.graph.insert_after, producer)
        writer = Writer(self.model, value.name or "", place)
        made = writer.op("Cast", value, to=dtype.value, called=f"{value.name}_{dtype.name.lower()}")
        made.type, made.shape = ir.TensorType(dtype), value.shape
        return made

    def _restore_output(self, graph: Any, value: ir.Value) -> None:
        """Cast an output back to float32, under its own name."""
        producer = value.producer()
        assert producer is not None and isinstance(graph, ir.Graph)
        restored = self._as(value, ir.DataType.FLOAT, producer)
        graph.outputs[:] = [restored if output is value else output for output in graph.outputs]
        name = value.name
        value.name, restored.name = self.model.fresh(f"{name}_{self.half.name.lower()}"), name


def lowered(tensor: ir.TensorProtocol, dtype: ir.DataType) -> ir.LazyTensor:
    """The tensor rounded to another float type, when it is needed."""
    return later(lambda: tensor.numpy().astype(dtype.numpy()), dtype, tensor.shape.numpy(), tensor.name)
