"""Weights that are stored in another form as a whole, and decoded in front of whatever reads them.

Since every reader gets the decoded tensor, tied weights stay tied and no reader needs to know. onnxruntime folds the
decoding when it loads the model: time and memory of a run are those of the float model, loading takes 0.2 s longer for
every 10 million weights or so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...arrays import Array
from ...files.stored_half import stored_bytes
from ...graph.layers import reasons
from ...graph.layers.view import output_axis
from ...graph.layers.weights import Site, sites_of
from ...graph.packing import packed_bytes
from ...lazy import ir
from ...measure.quality import decibels
from ...model import Model
from ...passes import Change, selected
from ..int8.eligible import chosen

Operator = Literal["Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN"]
OPERATORS: list[Operator] = ["Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN"]
MINIMUM_OPSET = 11
_OVERHEAD = 600  # bytes that the nodes of one weight take in the file, about


@dataclass(frozen=True)
class Stored:
    """A weight to be stored in another form; ``axis`` is that of the channels of what reads it first."""

    value: ir.Value
    tensor: ir.TensorProtocol
    axis: int

    @property
    def name(self) -> str:
        return self.value.name or "weight"

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape.numpy())

    def rows(self, by_channel: bool) -> Array:
        """The numbers as [channels, others], or all in one row."""
        numbers, first = self.tensor.numpy(), self.axis if by_channel else 0
        return np.moveaxis(numbers, first, 0).reshape(self.sizes[first] if by_channel else 1, -1)

    def turned(self, by_channel: bool) -> tuple[list[int], list[int]]:
        """The shape with the channels first, and the permutation that puts them back."""
        first = self.axis if by_channel else 0
        order = [first, *(i for i in range(len(self.sizes)) if i != first)]
        return [self.sizes[i] for i in order], np.argsort(order).tolist()


def signal_to_noise(rows: Array, restored: Array) -> float:
    """SQNR in dB of the rows of a weight."""
    parts = (rows, rows - restored)
    return decibels(*(float(np.einsum("ri,ri->", part, part, dtype=np.float64)) for part in parts))


def find_stored(
    model: Model, operators: Collection[str], only: list[str], skip: list[str], change: Change
) -> list[Stored]:
    """The float weights of the given operators, each once, in the order of their first readers."""
    found: dict[ir.Value, Stored | None] = {}
    for site in (site for node in chosen(model, operators, only, skip) for site in _sites_of(node)):
        value, tensor = site.value, site.tensor
        if value is None or tensor is None or value in found:
            continue
        reason = _why_not(site, only, skip)
        if reason:
            change.decline(value.name, f"{site.node.op_type}: {reason}")
        axis = output_axis(site.node, len(tensor.shape), site.index)
        found[value] = None if reason else Stored(value, tensor, axis)
    return [stored for stored in found.values() if stored is not None]


def gains(stored: Stored, bases: Collection[int], extra: int, change: Change) -> bool:
    """Whether packed codes with ``extra`` bytes beside them are smaller than the weight; declines it where not."""
    room = packed_bytes(stored.tensor.size, tuple(bases)) + extra + _OVERHEAD
    present = stored_bytes(stored.value)
    if room >= present:
        change.decline(stored.name, f"its {present} bytes would take {room}")
    return room < present


def _sites_of(node: ir.Node) -> list[Site]:
    left = [Site(node, 0, node.inputs[0])] if node.op_type == "MatMul" else []
    return [site for site in (*left, *sites_of(node)) if site.tensor is not None]


def _why_not(site: Site, only: list[str], skip: list[str]) -> str:
    assert site.value is not None
    reason = reasons.why_not(site, (reasons.of_type("float32", "float16"), reasons.no_vector, reasons.no_output))
    if reason:
        return reason
    users = (user for user, _ in site.value.uses() if user.op_type != "Transpose")
    others = [user for user in users if not selected(user, only, skip)]
    if others:
        return f"the patterns leave out {others[0].name}, which reads its weight too"
    return reasons.finite(site)
