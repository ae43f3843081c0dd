"""Zeros that stay: w' = m w with m in {0, 1}, so that training does not put back what pruning took away.

What is zero exactly in a weight of two dimensions and more was pruned (or is padding): numbers that are trained are
hardly ever. A weight of zeros alone is one that was begun there, such as the last of a block, unless it held something
else before the model was pruned. Of codebooks, and of what pack_sparse stores, the zero is the value of many weights.
Channels that are silenced for now (``Model.silenced``) may come back: they are learned anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...arrays import Array
from ...graph.codebooks import find_codebooks
from ...model import Model
from ...report import units
from ..training.train import Training, write_weights

Write = Callable[[Model, Mapping[str, Array]], None]


@dataclass(frozen=True)
class Mask:
    """Elements of weights, by name, that are not zero; where a mask is False the weight is held at zero."""

    kept: Mapping[str, Array] = field(default_factory=dict)

    def on_step(self, training: Training) -> None:
        buffers = training.session.buffers
        views = buffers.views(buffers.parameters)
        for name, keep in self.kept.items():
            if name in views:  # an adapter may be trained beside it instead
                views[name] *= keep

    def around(self, write: Write) -> Write:
        """Write weights, and zero again what is zero."""

        def masked(student: Model, values: Mapping[str, Array]) -> None:
            write(student, values)
            weights = student.graph.initializers
            held = {name: _numbers(weights[name]) * keep for name, keep in self.kept.items() if name in weights}
            write_weights(student, held)

        return masked if self.kept else write

    def told(self) -> str:
        """How many they are; that of a codebook stands for more than one."""
        zeros = sum(keep.size - int(keep.sum()) for keep in self.kept.values())
        return f"{zeros:,} in {units.things(len(self.kept), 'weight')}"


def zeros_of(model: Model, names: Iterable[str]) -> Mask:
    """The zeros of a model's weights that are to stay."""
    books = {book.name for book in find_codebooks(model)}
    before = model.reference.graph.initializers if model.reference is not None else {}
    kept = {}
    for name in names:
        numbers = _numbers(model.graph.initializers[name])
        can_be_pruned = (numbers.ndim > 1 or name in books) and not numbers.all()
        if can_be_pruned and (numbers.any() or (name in before and _numbers(before[name]).any())):
            kept[name] = (numbers != 0) | _silenced(model, name)
    return Mask(kept)


def _silenced(model: Model, name: str) -> Array | bool:
    """Where a weight was made zero for now."""
    held = (tensors[name].numpy() != 0 for tensors in model.silenced.values() if name in tensors)
    return next(held, False)


def _numbers(value: Any) -> Array:
    return value.const_value.numpy()
