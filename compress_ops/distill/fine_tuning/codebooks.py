"""Codebooks whose values learn: weights that share a few values, each stored as the number of its value.

    w_i = c_{a_i}     so     dL/dc_j = sum over i with a_i = j of dL/dw_i

which is the gradient of Gather (Han et al. 2016, Deep Compression, arXiv:1510.00149, section 3). The codes a stay. What
is trained is v with c = u v, where u is about 1 / _STEP times the distance of neighbouring values, a power of two so
that values come back exactly: as for integers, a value then moves by its distance to the next one in as many steps for
every weight. A value of exactly zero stays zero (u = 0), and so do pruned weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from .learned_steps import multiply

_STEP = 2.0**-3  # of v, from one value to the next


@dataclass(frozen=True)
class Codebook:
    """``values`` [n] that weights share, one codebook behind another where channels have their own, and their name."""

    name: str
    values: Array

    @property
    def units(self) -> Array:
        """u, float32 [n]: in each codebook of ascending values by their mean distance; 0 where the value is."""
        starts = np.concatenate([[0], np.flatnonzero(np.diff(self.values) < 0) + 1])
        sizes = np.diff([*starts, len(self.values)])
        low, high = (ends.reduceat(self.values.astype(np.float64), starts) for ends in (np.minimum, np.maximum))
        whole = float(np.ptp(self.values.astype(np.float64))) / max(len(self.values) - 1, 1)
        distance = np.where(high > low, (high - low) / np.maximum(sizes - 1, 1), whole)
        powers = 2.0 ** np.rint(np.log2(np.maximum(distance, np.finfo(np.float32).tiny) / _STEP))
        return np.where(self.values != 0, np.repeat(powers, sizes), 0).astype(np.float32)

    def numbers(self) -> Array:
        """v, float32 [n]."""
        units = self.units
        return np.divide(self.values, units, out=np.zeros_like(units), where=units != 0)


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
        holds_graphs = any(
            each.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for each in node.attributes.values()
        )
        if holds_graphs or any(value in found for value in node.inputs):
            found.update(node.outputs)
    return {value for value in found if value is not None}


def _looks_up(node: ir.Node, value: ir.Value, computed: set[ir.Value]) -> bool:
    """Whether the node picks from the values by stored codes."""
    gathers = node.op_type == "Gather" and node.domain in ONNX_DOMAINS and node.inputs[0] is value
    return gathers and node.inputs[1] is not value and node.inputs[1] not in computed


def with_units(copy: Model, books: Sequence[Codebook]) -> None:
    """Let a copy hold v and compute c = u v."""
    for book in books:
        value = copy.graph.initializers[book.name]
        value.const_value = ir.Tensor(book.numbers(), name=book.name)
        multiply(copy, value, copy.add_weight(f"{book.name}/units", ir.Tensor(book.units)))
