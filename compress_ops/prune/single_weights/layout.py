"""Weights that single zeros may fall into, each seen as [rows, taps, inputs]: an output sums over taps and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ...arrays import Array
from ...graph.edit import constant_of
from ...graph.layers import reasons
from ...graph.layers.view import View, view_of
from ...graph.layers.weights import ON_CODES, Site, is_dequantized, sites_of
from ...lazy import ir
from ...model import Model
from ...passes import Change, selected

_SMALLEST = 64  # elements; below that a tensor is a bias-like thing whose zeros gain nothing


@dataclass(frozen=True)
class Layout:
    """A view with the rows of all groups joined, and taps in front of inputs, along which patterns run."""

    view: View

    @property
    def laid_sizes(self) -> tuple[int, int, int]:
        _, _, inputs, taps = self.view.shape
        return self.view.rows, taps, inputs

    def laid(self, array: Array) -> Array:
        return self.view.of(array).swapaxes(2, 3).reshape(self.laid_sizes)

    def stored(self, laid: Array) -> Array:
        """What ``laid`` undid."""
        groups, outputs, inputs, taps = self.view.shape
        return self.view.back(laid.reshape(groups, outputs, taps, inputs).swapaxes(2, 3))


@dataclass(frozen=True)
class Weight:
    """A stored weight with its layout, which is that of its first reader, and the nodes that read it as that."""

    value: ir.Value
    readers: tuple[ir.Node, ...]

    @cached_property
    def tensor(self) -> ir.TensorProtocol:
        assert self.value.const_value is not None
        return self.value.const_value

    @cached_property
    def layout(self) -> Layout:
        return layout_of(self.readers[0], tuple(self.tensor.shape.numpy()))

    def agreed(self) -> bool:
        """Whether all readers see the same rows, taps and inputs."""
        return all(layout_of(node, self.layout.view.sizes) == self.layout for node in self.readers)


def layout_of(node: ir.Node, sizes: Sequence[int]) -> Layout:
    """How a node reads a weight of these sizes."""
    return Layout(view_of(node, sizes))


def find_weights(model: Model, only: list[str], skip: list[str], change: Change) -> list[Weight]:
    """The weights to prune, each once, however many nodes read it; a reader that is not selected protects it."""
    readers: dict[ir.Value, list[ir.Node]] = {}
    for node in model.nodes():
        for site in sites_of(node):
            if site.value is not None and constant_of(site.value) is not None:
                readers.setdefault(site.value, []).append(node)
        coded = node.op_type in ON_CODES or any(is_dequantized(site.value) for site in sites_of(node))
        if coded and selected(node, only, skip):
            change.decline(node.name, f"{node.op_type}: its weight is quantized already; prune before quantizing")
    found = [Weight(value, tuple(nodes)) for value, nodes in readers.items()]
    return [weight for weight in found if not _declined(weight, only, skip, change)]


def _declined(weight: Weight, only: list[str], skip: list[str], change: Change) -> bool:
    reason = _why_not(weight, only, skip)
    if reason:
        change.decline(weight.value.name, reason)
    return bool(reason)


def _why_not(weight: Weight, only: list[str], skip: list[str]) -> str:
    site = Site(weight.readers[0], 1, weight.value)
    if reason := reasons.of_type("float32", "float16")(site):
        return reason
    if not all(selected(user, only, skip) for user, _ in weight.value.uses()):
        return "the patterns leave out a node that reads it"
    if weight.tensor.size < _SMALLEST:
        return f"its {weight.tensor.size} elements are too few to gain"
    return reasons.why_not(site, (reasons.finite, reasons.trained))
