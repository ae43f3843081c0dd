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
from ...graph.edit import attribute
from ...graph.packing import packed_bytes
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...passes import Change, selected
from ..int8.eligible import RECURRENT
from ..numbers.formats import is_finite

Operator = Literal["Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN"]
OPERATORS: list[Operator] = ["Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN"]
MINIMUM_OPSET = 11
_WEIGHT_INPUTS = {"Gather": (0,), "MatMul": (0, 1), **dict.fromkeys(RECURRENT, (1, 2))}
_OVERHEAD = 600  # bytes that the nodes of one weight take in the file, about
WORST = 10  # tensors whose quality is reported


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
        for value in _weights_of(node):
            if value not in found:
                reason = _why_not(value, only, skip)
                if reason:
                    change.decline(value.name, f"{node.op_type}: {reason}")
                assert value.const_value is not None
                found[value] = None if reason else Stored(value, value.const_value, _channel_axis(node, value))
    return [stored for stored in found.values() if stored is not None]


def gains(stored: Stored, bases: Collection[int], extra: int, change: Change) -> bool:
    """Whether packed codes with ``extra`` bytes beside them are smaller than the weight; declines it where not."""
    room = packed_bytes(stored.tensor.size, tuple(bases)) + extra + _OVERHEAD
    present = stored_bytes(stored.value)
    if room >= present:
        change.decline(stored.name, f"its {present} bytes would take {room}")
    return room < present


def _weights_of(node: ir.Node) -> list[ir.Value]:
    chosen = [node.inputs[i] for i in _WEIGHT_INPUTS.get(node.op_type, (1,)) if i < len(node.inputs)]
    return [v for v in chosen if v is not None and v.is_initializer() and v.const_value is not None]


def _why_not(value: ir.Value, only: list[str], skip: list[str]) -> str:
    tensor = value.const_value
    assert tensor is not None
    if tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return f"its weight is {tensor.dtype.name.lower()}, not float32 or float16"
    if len(tensor.shape) < 2:
        return "its weight is a vector"
    if value.is_graph_output():
        return "its weight is an output of the graph"
    others = [user for user, _ in value.uses() if user.op_type != "Transpose" and not selected(user, only, skip)]
    if others:
        return f"the patterns leave out {others[0].name}, which reads its weight too"
    return "" if is_finite(tensor.numpy()) else "its weight has NaN or infinite values"


def _channel_axis(node: ir.Node, value: ir.Value) -> int:
    """Output channels of a kernel or matrix, rows of a table, gates of a recurrent layer."""
    if node.op_type in ("Conv", "Gather"):
        return 0
    if node.op_type in ("ConvTranspose", *RECURRENT):
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    assert value.shape is not None
    return len(value.shape) - (1 if value is node.inputs[1] else 2)
