"""Parameters and gradients in flat arrays: the session of a step reads and writes views of them, nothing is copied.

A slot begins at every 64th byte (a cache line). Weights of two dimensions and more come first, for they alone decay;
then the student's other parameters, then what exists only while training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ...arrays import Array
from ...errors import PassError
from ...lazy import ir
from ..losses.objective import Objective

_LINE = 16  # float32 numbers in a cache line


@dataclass(frozen=True)
class Slot:
    """Where a parameter lies in the flat arrays."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        return self.start + prod(self.shape)


@dataclass(frozen=True)
class Buffers:
    """``decaying``, ``student`` and ``size`` are where the three parts of a flat array end."""

    slots: tuple[Slot, ...]
    parameters: Array
    gradients: Array
    decaying: int
    student: int

    @property
    def size(self) -> int:
        return int(self.parameters.size)

    def views(self, flat: Array) -> dict[str, Array]:
        """The parts of a flat array by parameter, each in its shape."""
        return {slot.name: flat[slot.start : slot.stop].reshape(slot.shape) for slot in self.slots}


def flat_array(size: int) -> Array:
    """Zeros that begin at a cache line."""
    raw = np.zeros(size + _LINE, np.float32)
    start = -(raw.ctypes.data // raw.itemsize) % _LINE
    return raw[start : start + size]


def make_buffers(objective: Objective) -> Buffers:
    """Lay out the objective's parameters, filled with the values that they have in its model."""
    tensors = {name: _tensor(objective, name) for name in _names(objective)}
    parts = _parts(tensors, set(objective.helpers))
    slots, ends, start = [], [], 0
    for part in parts:
        for name in part:
            slots.append(Slot(name, tuple(tensors[name].shape.numpy()), start))
            start = -(-slots[-1].stop // _LINE) * _LINE
        ends.append(start)
    buffers = Buffers(tuple(slots), flat_array(start), flat_array(start), ends[0], ends[1])
    for name, view in buffers.views(buffers.parameters).items():
        view[...] = tensors[name].numpy()
    return buffers


def _parts(tensors: Mapping[str, ir.TensorProtocol], helpers: set[str]) -> tuple[list[str], list[str], list[str]]:
    own = [name for name in tensors if name not in helpers]
    matrices = [name for name in own if len(tensors[name].shape) > 1]
    return matrices, [name for name in own if len(tensors[name].shape) < 2], [n for n in tensors if n in helpers]


def _names(objective: Objective) -> Iterator[str]:
    seen: set[str] = set()
    for name in objective.parameters:
        if name in seen:
            raise PassError(f"'{name}' is listed twice among the parameters to train")
        seen.add(name)
        yield name
    yield from (name for name in objective.helpers if name not in seen)
    if not seen:
        raise PassError("there is nothing to train", hint="train: [patterns] must match weights that hold floats")


def _tensor(objective: Objective, name: str) -> ir.TensorProtocol:
    value = objective.model.graph.initializers.get(name)
    tensor = value.const_value if value is not None else None
    if tensor is None:
        raise PassError(f"'{name}' cannot be trained: the model has no weight of that name")
    if tensor.dtype != ir.DataType.FLOAT:
        raise PassError(
            f"'{name}' cannot be trained: it holds {tensor.dtype}, and training is in float32",
            hint="train the float32 model and convert it afterwards, or leave the weight out with train: [patterns]",
        )
    return tensor
