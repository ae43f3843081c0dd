"""Weights and where they are read: as a matrix (MatMul, Gemm), a table of rows (Gather), a kernel (Conv), gates (LSTM).

A weight is looked at as [rows, inner], rows being what blocks never cross: output features of a matrix, rows of a
table, output channels of a kernel, gates of a recurrent layer. A table that is also a matrix with the same rows is
tied, and stays so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Container
from dataclasses import dataclass, field
from typing import Literal

from ...arrays import Array
from ...graph.edit import attribute
from ...graph.layers import reasons
from ...graph.layers.weights import (
    ON_CODES,
    Role,
    Site,
    is_dequantized,
    readers,
    sites_of,
    through_transpose,
    weight_indices,
)
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...passes import Change, selected
from ..int8.left import to_the_right

Operator = Literal["MatMul", "Gemm", "Gather", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN"]
OPERATORS: list[Operator] = ["MatMul", "Gemm", "Gather", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN"]


@dataclass
class Weight:
    """A stored weight with all its readers, which agree on what its rows are."""

    value: ir.Value
    tensor: ir.TensorProtocol
    rows_first: bool
    sites: list[Site] = field(default_factory=list)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape.numpy())

    @property
    def rows(self) -> int:
        if "gates" in self.roles:
            return math.prod(self.sizes[:-1])
        return self.sizes[0] if self.rows_first else self.sizes[1]

    @property
    def inner(self) -> int:
        return math.prod(self.sizes) // self.rows

    @property
    def roles(self) -> set[Role]:
        return {site.role for site in self.sites}

    @property
    def name(self) -> str:
        return self.value.name or "weight"

    def matrix(self) -> Array:
        """The numbers as [rows, inner]."""
        numbers = self.tensor.numpy()
        return numbers.reshape(self.rows, -1) if self.rows_first else numbers.T


def find_weights(
    model: Model, operators: Collection[str], only: list[str], skip: list[str], change: Change
) -> list[Weight]:
    """The weights that can be quantized, in the order of their first readers; the others are declined."""
    wanted = [node for node in model.nodes() if selected(node, only, skip)]
    nodes = [node for node in wanted if node.op_type in operators and node.domain in ONNX_DOMAINS]
    chosen = dict.fromkeys(to_the_right(model, nodes, change, stored=False))
    found: dict[ir.Value, Weight | str] = {}
    for site in (through_transpose(site) for node in chosen for site in sites_of(node)):
        if site.tensor is not None and site.value is not None and site.value not in found:
            found[site.value] = _weight(site, chosen)
        reason = found[site.value] if site.tensor is not None and site.value is not None else _why_none(site)
        if isinstance(reason, str) and reason:
            change.decline(site.node.name, f"{site.node.op_type}: {reason}")
    for node in wanted:
        if node.op_type in ON_CODES:
            change.decline(node.name, f"{node.op_type}: its weight is quantized already")
    return [weight for weight in found.values() if isinstance(weight, Weight)]


def _why_none(site: Site) -> str:
    """A lookup in a computed tensor has no weight to speak of."""
    is_lookup = site.role == "table" and not is_dequantized(site.value)
    return "" if is_lookup else reasons.stored(site)


def _weight(site: Site, chosen: Container[ir.Node]) -> Weight | str:
    """The weight with all its readers, or why it cannot be quantized."""
    assert site.value is not None and site.tensor is not None
    reason = reasons.why_not(site, _OF_WEIGHT)
    if reason:
        return reason
    sites = list(readers(site.value))
    reason = next(filter(None, (_why_not(one, chosen) for one in sites)), "")
    if not reason and len({one.rows_first for one in sites}) > 1:
        reason = "its weight is read by rows and by columns, which no block form serves"
    return reason or Weight(site.value, site.tensor, sites[0].rows_first, sites)


def _why_not(site: Site, chosen: Container[ir.Node]) -> str:
    if site.node not in chosen or site.index not in weight_indices(site.node):
        return f"{site.node.op_type} {site.node.name} reads its weight too and needs it as it is"
    return reasons.why_not(site, _OF_ROLE[site.role])


def _by_rows(site: Site) -> str:
    return "it looks up columns, not rows" if attribute(site.node, "axis", 0) != 0 else ""


def _of_matrices(site: Site) -> str:
    shape = site.node.inputs[0].shape if site.node.inputs[0] is not None else None
    return "its input is a vector" if shape is not None and len(shape) < 2 else ""


_OF_WEIGHT = (reasons.of_type("float32", "float16"), reasons.no_vector, reasons.no_output, reasons.finite)
_OF_ROLE = {
    "matrix": (reasons.of_axes(2), reasons.plain, _of_matrices, reasons.fed),
    "table": (reasons.of_axes(2), _by_rows),
    "kernel": (),
    "gates": (),
}
