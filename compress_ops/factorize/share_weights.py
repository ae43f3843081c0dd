"""share_weights: of weights that hold the same numbers, one is stored.

Equal: bit by bit. With a tolerance t, b is near a where max|a - b| <= t max|a|. Transposed: b = a^T, as where a model
reads words and writes them by one table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..arrays import Array
from ..graph.clean.duplicates import merge_duplicate_weights
from ..graph.edit import Editor, put_behind
from ..lazy import ir
from ..model import Model
from ..nodes import bytes_of
from ..passes import Change, Context, Promise, register

_PROBE = 64  # numbers of a weight that are looked at before it is read as a whole
_OVERHEAD = 200  # bytes that a Transpose takes in the file, about


@register("share_weights", promises=Promise.SHRINKS)
def share_weights(
    model: Model,
    ctx: Context,
    *,
    tolerance: Annotated[
        float,
        Field(ge=0, lt=1, description="How far two weights may be apart, relative to the largest number; 0: equal."),
    ] = 0.0,
    transposed: Annotated[
        bool, Field(description="Store a matrix once too where another is its transpose (tied embeddings).")
    ] = True,
) -> Change:
    """Store weights that are equal, nearly equal or transposes of one another once.

    Sharing equal weights changes nothing in what the model computes. A weight within ``tolerance`` of another of its
    type and shape, max|a - b| <= tolerance max|a|, is replaced by it; single numbers are left out. A matrix that is the
    transpose of another is read through a Transpose, which onnxruntime computes once, when it loads the model: the file
    shrinks, memory does not. low_rank and most quantize steps after it leave what they see behind a Transpose alone.
    """
    change, before = Change(), model.weight_bytes()
    _equal(model, change)
    worst = max([0.0, *_each_graph(model, change, tolerance, transposed)])
    model.drop_unused()
    change.notes = {"bytes_saved": before - model.weight_bytes(), "worst_difference": float(f"{worst:.3g}")}
    return change


def _equal(model: Model, change: Change) -> None:
    read = [value for value in model.weights() if value.uses()]
    merge_duplicate_weights(model)
    for value in read:
        if not value.uses():
            change.touch(value.name, "equal to another weight")


def _each_graph(model: Model, change: Change, tolerance: float, transposed: bool) -> Iterator[float]:
    """Merge what is near or transposed; gives the difference of each pair."""
    for graph in model.ir.graphs():
        weights = [value for value in graph.initializers.values() if _can_go(value)]
        if tolerance:
            yield from _near(_grouped(weights), change, tolerance)
        if transposed:
            yield from _transposed(model, [value for value in weights if value.uses()], change, tolerance)


def _can_go(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.dtype.is_floating_point() and tensor.size > 1 and not value.is_graph_output()


def _grouped(weights: Sequence[ir.Value]) -> list[list[ir.Value]]:
    groups: dict[Any, list[ir.Value]] = defaultdict(list)
    for value in weights:
        if value.uses() and value.const_value is not None:
            groups[value.const_value.dtype, tuple(value.const_value.shape)].append(value)
    return list(groups.values())


def _near(groups: Sequence[Sequence[ir.Value]], change: Change, tolerance: float) -> Iterator[float]:
    for values in groups:
        kept: list[_Kept] = []
        for value in values if len(values) > 1 else ():
            array = _numbers(value)
            difference, first = next(_matches(kept, array, tolerance), (0.0, None))
            if first is None:
                kept.append(_Kept(value, array))
                continue
            value.replace_all_uses_with(first)
            change.touch(value.name, f"within {difference:.2g} of {first.name}")
            yield difference


class _Kept:
    """A weight that stays, and what is known of it without reading it again."""

    def __init__(self, value: ir.Value, array: Array) -> None:
        self.value, self.probe, self.largest = value, _probe(array), float(np.abs(array).max())

    def difference(self, array: Array, tolerance: float, *, turned: bool = False) -> float:
        """max|a - b| / max|a|; infinite where a few numbers tell already that it is more than the tolerance."""
        limit = tolerance * self.largest
        if not np.isfinite(self.largest) or (not turned and np.abs(self.probe - _probe(array)).max() > limit):
            return float("inf")
        own = _numbers(self.value).T if turned else _numbers(self.value)
        apart = float(np.abs(own - array).max())
        return apart / self.largest if self.largest else float("inf" if apart else 0)


def _matches(kept: Sequence[_Kept], array: Array, tolerance: float) -> Iterator[tuple[float, ir.Value]]:
    for one in kept:
        difference = one.difference(array, tolerance)
        if difference <= tolerance:
            yield difference, one.value


def _probe(array: Array) -> Array:
    flat: Array = array.reshape(-1)
    return flat[:: max(1, flat.size // _PROBE)].copy()


def _numbers(value: ir.Value) -> Array:
    assert value.const_value is not None
    return value.const_value.numpy().astype(np.float32 if value.const_value.dtype.itemsize < 8 else np.float64)


def _transposed(model: Model, weights: Sequence[ir.Value], change: Change, tolerance: float) -> Iterator[float]:
    """Read a matrix through a Transpose of its twin; what a Gather reads stays stored as it is."""
    kept: dict[Any, list[_Kept]] = defaultdict(list)
    for value in sorted(weights, key=lambda value: not _is_table(value)):
        tensor = value.const_value
        if tensor is None or len(tensor.shape) != 2 or bytes_of(tensor) <= _OVERHEAD:
            continue
        rows, columns = tensor.shape.numpy()
        array = _numbers(value)
        found = ((one.difference(array, tolerance, turned=True), one) for one in kept[tensor.dtype, columns, rows])
        difference, twin = next(((d, one) for d, one in found if d <= tolerance), (0.0, None))
        if twin is None:
            kept[tensor.dtype, rows, columns].append(_Kept(value, array))
            continue
        _read_turned(model, value, twin.value)
        change.touch(value.name, f"the transpose of {twin.value.name}")
        yield difference


def _is_table(value: ir.Value) -> bool:
    return any(user.op_type == "Gather" for user, _ in value.uses())


def _read_turned(model: Model, value: ir.Value, twin: ir.Value) -> None:
    assert isinstance(twin.graph, ir.Graph)
    edit = Editor(model, twin.graph[0], value.name)
    put_behind(edit.op("Transpose", twin, perm=[1, 0], called=f"{value.name}_turned"), value)
