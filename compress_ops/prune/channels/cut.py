"""Cut units out of a model: weights, the numbers in the graph that count channels, and the shapes on record.

Weights become lazy tensors over the old ones, so that only one is in memory at a time when the model is saved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...graph.edit import Editor, constant_of
from ...lazy import ir
from .axes import Axis, Count, Folded, live
from .groups import Grouping
from .trace import Trace


@dataclass(frozen=True)
class Trimmed:
    """A weight that was cut, with its sizes before and after."""

    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]


def cut(grouping: Grouping, units: Array) -> list[Trimmed]:
    """Remove these units from the model in place; returns the weights that became smaller."""
    grouping.trace.model.keep_reference()
    kept = Kept(grouping.trace, units)
    trimmed = [done for weight in grouping.trace.weights if (done := _trim(kept, weight)) is not None]
    _rewrite_counts(kept)
    _update_shapes(kept)
    _remember(kept)
    return trimmed


class Kept:
    """Which indices remain when some units go."""

    def __init__(self, trace: Trace, units: Array) -> None:
        self.trace = trace
        self._kept = np.ones(trace.labels.count, bool)
        self._kept[units] = False

    def of(self, labels: Array) -> Array:
        return self._kept[self.trace.labels.roots(labels)]

    def count(self, labels: Array) -> int:
        return int(np.count_nonzero(self.of(labels)))


def _trim(kept: Kept, weight: ir.Value) -> Trimmed | None:
    tensor = weight.const_value
    assert tensor is not None
    masks = {axis: kept.of(labels) for axis, labels in enumerate(kept.trace.weights[weight]) if live(labels)}
    groups = kept.trace.grouped.get(weight)
    if groups is not None:
        masks[1] = kept.of(groups)
    masks = {axis: mask for axis, mask in masks.items() if not mask.all()}
    if not masks:
        return None
    before = tuple(tensor.shape.numpy())
    after = tuple(int(masks[axis].sum(-1).max()) if axis in masks else size for axis, size in enumerate(before))
    shape = ir.Shape(after)
    weight.const_value = ir.LazyTensor(
        lambda: ir.Tensor(_taken(tensor.numpy(), masks), dtype=tensor.dtype, name=weight.name),
        dtype=tensor.dtype,
        shape=shape,
        name=weight.name,
    )
    weight.shape = shape.copy()
    return Trimmed(weight.name or "?", before, after)


def _taken(array: Array, masks: Mapping[int, Array]) -> Array:
    """The array without what the masks leave out; a mask of two dimensions differs for each group of rows."""
    for axis in sorted(masks, reverse=True):
        mask = masks[axis]
        if mask.ndim == 1:
            array = array.take(np.flatnonzero(mask), axis)
        else:
            parts = np.split(array, len(mask))
            array = np.concatenate(
                [part.take(np.flatnonzero(row), axis) for part, row in zip(parts, mask, strict=True)]
            )
    return array


def _rewrite_counts(kept: Kept) -> None:
    changes: dict[tuple[ir.Node, int | str], list[Count]] = defaultdict(list)
    for count in kept.trace.counts:
        if not kept.of(count.labels).all():
            changes[count.node, count.where].append(count)
    for (node, where), counts in changes.items():
        numbers = {count.position: -1 if count.inferred else kept.count(count.labels) for count in counts}
        if isinstance(where, str):
            _rewrite_attribute(node, where, numbers, kept)
        else:
            _rewrite_input(kept, node, where, numbers)


def _rewrite_attribute(node: ir.Node, name: str, numbers: dict[int | None, int], kept: Kept) -> None:
    if None in numbers:
        node.attributes[name] = ir.AttrInt64(name, numbers[None])
        return
    written = node.attributes[name].as_ints() if name in node.attributes else _all_counts(kept, node, name)
    node.attributes[name] = ir.AttrInt64s(name, [numbers.get(i, old) for i, old in enumerate(written)])


def _all_counts(kept: Kept, node: ir.Node, where: int | str) -> list[int]:
    """Every number for a place in which nothing was written (Split into equal parts)."""
    return [kept.count(count.labels) for count in kept.trace.counts if count.node is node and count.where == where]


def _rewrite_input(kept: Kept, node: ir.Node, index: int, numbers: dict[int | None, int]) -> None:
    model = kept.trace.model
    value = node.inputs[index] if index < len(node.inputs) else None
    positions = {position: number for position, number in numbers.items() if position is not None}
    if value is None:
        node.resize_inputs(max(index + 1, len(node.inputs)))
        node.attributes.pop("num_outputs", None)
        new = np.array(_all_counts(kept, node, index), np.int64)
        target = model.add_weight(f"{node.name}/sizes", ir.Tensor(new), _graph(node))
    else:
        target = _replaced(kept, node, value, positions)
    node.replace_input_with(index, target)


def _replaced(kept: Kept, node: ir.Node, value: ir.Value, numbers: dict[int, int]) -> ir.Value:
    """A value like the old one, a constant or computed, but with some elements written anew."""
    tensor, producer = constant_of(value), value.producer()
    if tensor is not None:
        new = tensor.numpy().copy()
        new.reshape(-1)[list(numbers)] = list(numbers.values())
        return kept.trace.model.add_weight(value.name or "sizes", ir.Tensor(new), _graph(node))
    if producer is not None and producer.op_type == "Concat" and (parts := _parts(kept, producer)) is not None:
        return _concatenated(kept, node, producer, parts, numbers)
    return _overwritten(kept, node, value, numbers)


def _parts(kept: Kept, concat: ir.Node) -> list[tuple[int, int]] | None:
    """First and last + 1 position of each input of a Concat."""
    lengths = [kept.trace.elements(value) for value in concat.inputs]
    ends = np.cumsum([len(length) if length is not None else 0 for length in lengths]).tolist()
    return None if None in lengths else list(zip([0, *ends[:-1]], ends, strict=True))


def _concatenated(
    kept: Kept, node: ir.Node, concat: ir.Node, parts: list[tuple[int, int]], numbers: dict[int, int]
) -> ir.Value:
    """A Concat of its own for this node, in which constant parts hold the new numbers."""
    inputs: list[ir.Value | None] = []
    for value, (start, end) in zip(concat.inputs, parts, strict=True):
        inside = {position - start: number for position, number in numbers.items() if start <= position < end}
        inputs.append(_replaced(kept, node, value, inside) if inside and value is not None else value)
    return Editor(kept.trace.model, node).op("Concat", *inputs, axis=0)


def _overwritten(kept: Kept, node: ir.Node, value: ir.Value, numbers: dict[int, int]) -> ir.Value:
    """Where(written, new numbers, old ones), for a value that is computed."""
    length = len(kept.trace.elements(value) or [])
    written, new = np.zeros(length, bool), np.zeros(length, value.dtype.numpy() if value.dtype else np.int64)
    written[list(numbers)], new[list(numbers)] = True, list(numbers.values())
    model, graph = kept.trace.model, _graph(node)
    constants = [model.add_weight(f"{node.name}/sizes", ir.Tensor(array), graph) for array in (written, new)]
    return Editor(model, node).op("Where", *constants, value)


def _graph(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)
    return node.graph


def _update_shapes(kept: Kept) -> None:
    """Sizes that shape inference recorded for inner values are those of the old widths."""
    for value, layout in kept.trace.layouts.items():
        if layout is None or value.shape is None or value.is_initializer() or len(layout) != len(value.shape):
            continue
        value.shape = ir.Shape([_size(kept, axis, size) for axis, size in zip(layout, value.shape, strict=True)])


def _size(kept: Kept, axis: Axis, size: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    """A name may stand for a product with the old number ("4*batch"), so it goes where channels are folded."""
    if isinstance(axis, Folded) and not kept.of(axis.labels).all():
        return ir.SymbolicDim(None)
    return kept.count(axis) if live(axis) else size


def _remember(kept: Kept) -> None:
    """Which indices of the reference's values remain; earlier cuts count in."""
    for value, layout in kept.trace.layouts.items():
        for axis, labels in enumerate(layout or []):
            if value.is_initializer() or not value.name or not live(labels) or (mask := kept.of(labels)).all():
                continue
            axes = kept.trace.model.kept.setdefault(value.name, {})
            axes[axis] = axes.get(axis, np.arange(len(mask)))[mask]
