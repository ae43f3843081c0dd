"""Write nodes into a graph: a Writer names and places them, an Editor stands in front of a node and takes its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import Array
from ..lazy import ir
from ..model import Model
from ..nodes import attribute as attribute
from ..nodes import constant_of as constant_of

MICROSOFT = "com.microsoft"


class Writer:
    """Writes nodes, each under a fresh name that begins with ``label``, at the end of the main graph or by ``place``.

    What ``onnx_ir.tape`` lacks for that: it names without looking into branches, appends only, and imports no domain.
    """

    def __init__(self, model: Model, label: str, place: Callable[[ir.Node], None] | None = None) -> None:
        self.model, self.label, self._place = model, label, place or model.graph.append

    @property
    def graph(self) -> ir.Graph:
        """The one that is written into."""
        return self.model.graph

    def op(
        self, op_type: str, *inputs: ir.Value | None, called: str = "", domain: str = "", **attributes: Any
    ) -> ir.Value:
        """Write a node with one output, which has the node's name or ``called`` for a wish; returns that output."""
        (value,) = self.ops(op_type, *inputs, outputs=1, domain=domain, **attributes)
        if called:
            value.name = self.model.fresh(called)
        return value

    def ops(
        self, op_type: str, *inputs: ir.Value | None, outputs: int, label: str = "", domain: str = "", **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """Write a node with several outputs, named after its operator or ``label``; returns its outputs."""
        name = self.model.fresh(f"{self.label}/{label or op_type}")
        made: ir.Node = ir.node(op_type, inputs, attributes, domain=domain, num_outputs=outputs, name=name)
        for i, value in enumerate(made.outputs):
            value.name = name if i == 0 else self.model.fresh(f"{name}:{i}")
        self._place(made)
        if domain:
            self.model.ir.opset_imports.setdefault(domain, 1)
        return tuple(made.outputs)

    def constant(self, wish: str, array: Array) -> ir.Value:
        """A small weight for the nodes that are written here."""
        return self.model.add_weight(wish, ir.Tensor(array), self.graph)


@dataclass
class Constants:
    """Weights of a model's main graph, each stored once however often it is asked for."""

    model: Model
    found: dict[Any, ir.Value] = field(default_factory=dict)

    def __call__(self, wish: str, array: Array) -> ir.Value:
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.found:
            self.found[key] = self.model.add_weight(wish, ir.Tensor(array))
        return self.found[key]


class Formulas(Writer):
    """Writes arithmetic at the end of the main graph."""

    def __init__(self, model: Model, label: str, constants: Constants | None = None) -> None:
        super().__init__(model, label)
        self._constants = constants or Constants(model)

    @property
    def dtype(self) -> ir.DataType:
        """The type of numbers and arrays."""
        return ir.DataType.FLOAT

    def number(self, value: float) -> ir.Value:
        return self.array(np.array(value))

    def array(self, values: Array) -> ir.Value:
        return self.stored(values.astype(self.dtype.numpy()))

    def integers(self, values: Sequence[int] | Array) -> ir.Value:
        return self.stored(np.asarray(values, np.int64))

    def stored(self, array: Array) -> ir.Value:
        return self._constants(f"{self.label}/constant", array)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.op("Add", a, b)

    def sub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.op("Sub", a, b)

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.op("Mul", a, b)

    def div(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.op("Div", a, b)

    def square(self, a: ir.Value) -> ir.Value:
        return self.mul(a, a)


class Editor(Writer):
    """Writes nodes just before ``node``, in its own graph (which may be a subgraph), named after it or ``label``."""

    def __init__(self, model: Model, node: ir.Node, label: str | None = None) -> None:
        self.node = node
        super().__init__(model, label or node.name or "", lambda made: self.graph.insert_before(node, made))

    @property
    def graph(self) -> ir.Graph:
        assert isinstance(self.node.graph, ir.Graph)
        return self.node.graph

    def replace(self, value: ir.Value) -> None:
        """Let ``value`` stand for the node's first output, under that output's name, and remove the node."""
        old = self.node.outputs[0]
        name, value.type, value.shape = old.name, old.type, old.shape
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        self.graph.remove(self.node, safe=True)
        value.name = name


def put_behind(new: ir.Value, old: ir.Value) -> None:
    """Let what reads ``old`` read ``new``, which is made of it and alike in type and shape."""
    new.type, new.shape = old.type, old.shape
    for node, index in list(old.uses()):
        if node is not new.producer():
            node.replace_input_with(index, new)


def stand_in(new: ir.Value, old: ir.Value) -> bool:
    """Let ``new`` be read instead of ``old``, as the graph's output too; False where ``new`` cannot be that output.

    An output is made in its own graph and has one name: neither an outer value nor another output can stand in.
    """
    if old.is_graph_output():
        if new.producer() is None or new.graph is not old.graph or new.is_graph_output():
            return False
        name, new.type, new.shape = old.name, old.type, old.shape
        old.name, new.name = f"{name}_replaced", name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    return True
