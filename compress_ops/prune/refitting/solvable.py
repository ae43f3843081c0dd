"""The layers that refit solves: y = x W + b with a stored W, and what of the original they are to reproduce.

A layer ends where its sum ends: behind the Add of a bias that follows a MatMul, and behind the Add of a shortcut,
where the layer is the later of the two summands. It then makes up for what the shortcut lost (the "enhanced" residual
branch of He, Zhang, Sun 2017, arXiv:1707.06168).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...arrays import Array
from ...graph.edit import constant_of
from ...graph.layers import reasons
from ...graph.layers.view import View, view_of_weight
from ...graph.layers.weights import LINEAR, Site
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...passes import Change, selected
from ..channels.axes import subgraphs

LARGEST = 8192  # numbers that one output sums over; the sums over data then take 0.5 GB
LARGEST_SPARSE = 2048  # the same where zeros must stay, since every output then has equations of its own


@dataclass(frozen=True)
class Layer:
    """A linear operator; ``total`` is the value that is to be as in the original, ``shortcut`` what is added to it.

    ``bias`` is the value that holds b, at input ``place`` of the node ``adder``; a MatMul alone has no adder.
    """

    node: ir.Node
    weight: ir.Value
    total: ir.Value
    adder: ir.Node | None = None
    place: int = 2
    shortcut: ir.Value | None = None

    @property
    def name(self) -> str:
        return self.node.name or "?"

    @property
    def source(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def bias(self) -> ir.Value | None:
        if self.adder is None or len(self.adder.inputs) <= self.place:
            return None
        return self.adder.inputs[self.place]

    @cached_property
    def view(self) -> View:
        """The weight as [groups, outputs, inputs, taps]."""
        return view_of_weight(self.node)

    @property
    def groups(self) -> int:
        return self.view.shape[0]

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.view.sizes

    @property
    def outputs(self) -> int:
        """Numbers that the layer gives for each row."""
        return self.view.rows

    @property
    def inner(self) -> int:
        """Numbers that each output sums over."""
        return self.view.inner

    @property
    def backwards(self) -> slice:
        """How taps are gone through: the kernel of a ConvTranspose runs backwards."""
        return slice(None, None, -1 if self.node.op_type == "ConvTranspose" else 1)

    def matrices(self) -> Array:
        """The weight as float64 [groups, inner, outputs of a group]."""
        assert self.weight.const_value is not None
        seen = self.view.of(self.weight.const_value.numpy().astype(np.float64))[..., self.backwards]
        return np.moveaxis(seen, 1, -1).reshape(self.groups, self.inner, -1)

    def bias_row(self) -> Array:
        """b as float64 [groups, 1, outputs of a group]; zeros where there is none."""
        tensor = constant_of(self.bias)
        row = np.zeros(self.outputs) if tensor is None else tensor.numpy().astype(np.float64)
        return np.broadcast_to(row.reshape(-1), self.outputs).reshape(self.groups, 1, -1)

    def write(self, model: Model, matrices: Array, bias: Array | None) -> None:
        """Store a new weight and, where the layer has a place for it, a new bias; names, shapes and types stay."""
        old = self.weight.const_value
        assert old is not None
        array = self._stored(matrices).reshape(self.sizes).astype(old.dtype.numpy())
        self.weight.const_value = ir.Tensor(array, name=old.name)
        if bias is not None and self.adder is not None:
            self._write_bias(model, bias.reshape(-1).astype(old.dtype.numpy()))

    def _stored(self, matrices: Array) -> Array:
        """The weight from [groups, inner, outputs of a group]."""
        groups, outputs, inputs, taps = self.view.shape
        seen = np.moveaxis(matrices.reshape(groups, inputs, taps, outputs), -1, 1)
        return self.view.back(seen[..., self.backwards])

    def _write_bias(self, model: Model, numbers: Array) -> None:
        value, adder = self.bias, self.adder
        assert adder is not None
        tensor = constant_of(value)
        shape = tensor.shape.numpy() if tensor is not None and tensor.size == numbers.size else numbers.shape
        new = ir.Tensor(numbers.reshape(shape), name=value.name if value is not None else None)
        if value is not None and len(value.uses()) == 1 and tensor is not None and tensor.size == numbers.size:
            value.const_value = new
            return
        wish = value.name if value is not None and value.name else f"{self.weight.name}_bias"
        adder.resize_inputs(max(len(adder.inputs), self.place + 1))
        adder.replace_input_with(self.place, model.add_weight(wish, new))


def find_layers(model: Model, only: list[str], skip: list[str], change: Change) -> list[Layer]:
    """The layers that can be solved, in graph order; the others are declined."""
    order = {node: position for position, node in enumerate(model.graph)}
    found = []
    for node in model.nodes():
        if node.op_type not in LINEAR or node.domain not in ONNX_DOMAINS or not selected(node, only, skip):
            continue
        facts = (reasons.outside_branches(model.graph), *_FACTS)
        reason = reasons.why_not(Site(node, 1, node.inputs[1]), facts)
        if reason:
            change.decline(node.name, reason)
        else:
            found.append(_layer(node, order))
    return found


def _unfit(site: Site) -> str:
    """ConvTranspose with sizes that are not written as padding; sums over more numbers than equations are made for."""
    node, tensor = site.node, site.tensor
    if node.op_type == "ConvTranspose" and ("output_shape" in node.attributes or "auto_pad" in node.attributes):
        return "output_shape and auto_pad of a ConvTranspose are not solved for"
    assert tensor is not None
    inner = view_of_weight(node).inner
    limit = LARGEST if tensor.numpy().all() else LARGEST_SPARSE
    return f"each output sums over {inner} numbers, more than {limit}" if inner > limit else ""


def _floating(site: Site) -> str:
    assert site.tensor is not None
    return (
        "" if site.tensor.dtype.is_floating_point() else f"its weight is {site.tensor.dtype.name.lower()}, not a float"
    )


_FACTS = (
    reasons.stored,
    reasons.fed,
    _floating,
    reasons.alone,
    reasons.matrix,
    reasons.plain,
    reasons.finite,
    _unfit,
)


def _given(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value


def _layer(node: ir.Node, order: dict[ir.Node, int]) -> Layer:
    weight, total = _given(node.inputs[1]), node.outputs[0]
    outputs = Layer(node, weight, total).outputs
    adder, place = (node, 2) if node.op_type != "MatMul" else (None, 0)
    if node.op_type == "MatMul" and (add := _sole_add(total)) is not None:
        place = 1 - list(add.inputs).index(total)
        if _is_vector(add.inputs[place], outputs):
            adder, total = add, add.outputs[0]
    elif node.op_type == "Gemm" and len(node.inputs) > 2 and not _is_vector(node.inputs[2], outputs):
        adder = None
    shortcut = _shortcut(node, total, order)
    return Layer(node, weight, shortcut[1] if shortcut else total, adder, place, shortcut[0] if shortcut else None)


def _sole_add(value: ir.Value) -> ir.Node | None:
    """The Add that alone reads a value, and once."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    return node if node.op_type == "Add" and node.domain in ONNX_DOMAINS and node.graph is value.graph else None


def _is_vector(value: ir.Value | None, length: int) -> bool:
    """Whether a value is a constant with one number per output."""
    tensor = constant_of(value)
    return tensor is not None and tensor.size == length and tensor.shape.numpy()[-1:] == (length,)


def _shortcut(node: ir.Node, total: ir.Value, order: dict[ir.Node, int]) -> tuple[ir.Value, ir.Value] | None:
    """What is added to the layer's result, and the sum, where the former is computed before the layer."""
    add = _sole_add(total)
    if add is None:
        return None
    other = add.inputs[1 - list(add.inputs).index(total)]
    if other is None or other.is_initializer():
        return None
    producer = other.producer()
    earlier = producer is None or (producer in order and order[producer] < order[node])
    return (other, add.outputs[0]) if earlier else None


def sweeps(model: Model, layers: list[Layer], held: int) -> Iterator[list[Layer]]:
    """Layers that may share a pass over the data, in the order in which they must be solved.

    A layer's depth is one more than that of the deepest layer before it; of each depth, so many at a time as need
    ``held`` bytes for their sums (or one).
    """
    depths = _depths(model, {layer.node: layer for layer in layers})
    for depth in sorted(set(depths.values())):
        part: list[Layer] = []
        size = 0
        for layer in (layer for layer in layers if depths[layer.node] == depth):
            more = 16 * layer.groups * layer.inner**2  # to fit, and held out
            if part and size + more > held:
                yield part
                part, size = [], 0
            part, size = [*part, layer], size + more
        yield part


def _depths(model: Model, layers: dict[ir.Node, Layer]) -> dict[ir.Node, int]:
    of: dict[ir.Value | None, int] = {}
    found: dict[ir.Node, int] = {}
    for node in model.graph:
        depth = max((of.get(value, 0) for value in _reads(node)), default=0)
        layer = layers.get(node)
        if layer is not None:
            depth = found[node] = 1 + max(depth, of.get(layer.shortcut, 0))
        of.update(dict.fromkeys(node.outputs, depth))
    return found


def _reads(node: ir.Node) -> Iterator[ir.Value | None]:
    """What a node reads, what its subgraphs read of the outside included."""
    yield from node.inputs
    for graph in subgraphs(node):
        for inner in graph:
            yield from _reads(inner)
