"""One dimension seen as several, and several as one: what Reshape, Flatten, heads and groups do to labels.

Row-major order: an index of a flat dimension of size n1 * n2 is i1 * n2 + i2. Only a whole row (all i2 of one i1) or
a whole column can be cut from such a grid, so splitting picks one factor to live and joins labels along the others.
That property (every class takes the same number of indices from each row) survives any later joins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....arrays import Array
from ....lazy import ir
from ..axes import Axis, Layout, Unclear, live
from ..labels import NEVER
from ..trace import Trace


def merge(trace: Trace, axes: Sequence[Axis], node: ir.Node) -> Axis:
    """Several axes as one, row-major; an index that two channels share cannot follow either, so both stay."""
    if len(axes) == 1:
        return axes[0]
    axes = _heads_alone(trace, _without_repeats(trace, axes, node), node)
    sizes = [len(axis) if live(axis) else axis for axis in axes]
    numbers = [size for size in sizes if isinstance(size, int)]
    if not any(map(live, axes)):
        return math.prod(numbers) if len(numbers) == len(sizes) else None
    if len(numbers) < len(sizes):
        raise Unclear("it flattens channels with a dimension of unknown size")
    trace.limits.expect(math.prod(numbers))
    flat = np.zeros(1, np.int64)
    for axis, size in zip(axes, numbers, strict=True):
        outer, inner = flat[:, None], axis if live(axis) else np.zeros(size, np.int64)
        both = (outer != NEVER) & (inner != NEVER)
        for labels in np.broadcast_arrays(outer, inner):
            trace.protect([labels[both]], node, "it flattens two dimensions of channels into one")
        flat = np.where(both, NEVER, np.maximum(outer, inner)).reshape(-1)
    return flat


def _without_repeats(trace: Trace, axes: Sequence[Axis], node: ir.Node) -> Sequence[Axis]:
    """Where channels meet a written number of repetitions (shared keys of attention), only the channels are cut."""
    repeats = [axis for axis in axes if live(axis) and trace.is_generated(axis)]
    if len(repeats) == sum(map(live, axes)):
        return axes
    trace.protect(repeats, node, "it repeats channels as often")
    return [len(axis) if any(axis is repeat for repeat in repeats) and live(axis) else axis for axis in axes]


def _heads_alone(trace: Trace, axes: Sequence[Axis], node: ir.Node) -> Sequence[Axis]:
    """Where whole heads are asked for and meet channels of their own (one head of keys for all), these stay."""
    alive = [axis for axis in axes if live(axis)]
    heads = [axis for axis in alive if trace.heads and trace.is_heads(axis)]
    if not 0 < len(heads) < len(alive):
        return axes
    others = [axis for axis in alive if not any(axis is head for head in heads)]
    trace.protect(others, node, "only whole heads go")
    return [len(axis) if live(axis) and any(axis is other for other in others) else axis for axis in axes]


def split(trace: Trace, axis: Axis, sizes: Sequence[int], node: ir.Node) -> Layout:
    """One axis as a grid of the given sizes, one of which carries the channels on."""
    grid: Layout = list(sizes)
    if live(axis) and math.prod(sizes) == len(axis):
        candidates = _candidates(trace, axis.reshape(sizes))
        if candidates:
            chosen = candidates[min(trace.choices.get(node, 0), len(candidates) - 1)]
            grid[chosen] = columns(trace, axis, sizes, chosen, node)
            trace.splits.append((node, axis, len(candidates)))
    elif live(axis):
        raise Unclear(f"it splits {len(axis)} channels into {list(sizes)}")
    return grid


def _candidates(trace: Trace, grid: Array) -> list[int]:
    """Factors in order of preference: those that join nothing, then the innermost (or, for heads, the outermost)."""
    factors = [factor for factor, size in enumerate(grid.shape) if size > 1]
    roots = trace.labels.roots(grid)
    constant = {f for f in factors if (_first(roots, f) == np.moveaxis(roots, f, 0).reshape(grid.shape[f], -1).T).all()}
    inner_first = factors if trace.heads else factors[::-1]
    return sorted(inner_first, key=lambda factor: factor not in constant)


def _first(grid: Array, factor: int) -> Array:
    return np.moveaxis(grid, factor, 0).reshape(grid.shape[factor], -1)[:, 0]


def columns(trace: Trace, axis: Array, sizes: Sequence[int], factor: int, node: ir.Node) -> Array:
    """The labels along one factor of a grid, each joined with all that share its position there."""
    grid = np.moveaxis(axis.reshape(sizes), factor, 0).reshape(sizes[factor], -1)
    first = np.ascontiguousarray(grid[:, 0])
    others = grid[:, 1:]
    trace.labels.join(
        np.repeat(first, others.shape[1]), others.reshape(-1), trace.why(node, "it cuts a grid of channels")
    )
    return first
