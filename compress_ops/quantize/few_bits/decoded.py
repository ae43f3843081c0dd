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
from ...model import ONNX_DOMAINS, Model
from ...passes import Change, selected

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
        numbers = self.tensor.numpy()
        return (
            np.moveaxis(numbers, self.axis, 0).reshape(self.sizes[self.axis], -1)
            if by_channel
            else numbers.reshape(1, -1)
        )

    def turned(self) -> tuple[list[int], list[int]]:
        """The shape with the channels first, and the permutation that puts them back."""
        others = [i for i in range(len(self.sizes)) if i != self.axis]
        order = [self.axis, *others]
        return [self.sizes[i] for i in order], [order.index(i) for i in range(len(order))]


def find_stored(
    model: Model, operators: Collection[str], only: list[str], skip: list[str], change: Change
) -> list[Stored]:
    """The float weights of the given operators, each once, in the order of their first readers."""
    found: dict[ir.Value, Stored | None] = {}
    for node in model.nodes():
        if node.op_type not in operators or node.domain not in ONNX_DOMAINS or not selected(node, only, skip):
            continue
        for site in _sites_of(node):
            value, tensor = site.value, site.tensor
            if value is None or tensor is None or value in found:
                continue
            reason = _why_not(site, only, skip)
            if reason:
                change.decline(value.name, f"{node.op_type}: {reason}")
            axis = output_axis(node, len(tensor.shape), site.index)
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
