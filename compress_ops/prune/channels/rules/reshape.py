"""Reshape and Flatten: which dimensions become which, in blocks of equal size.

Dimensions are matched from the left while they are equal, then from the right by equal products (row-major: equal
trailing products mean equal flat indices). What is left holds sizes that nobody knows, such as batch * heads; there
the innermost (or outermost) known dimensions still correspond when one divides the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....arrays import Array
from ....graph.edit import attribute
from ....lazy import ir
from ....shapes.elements import Element
from ..axes import Axis, Folded, Layout, Unclear, declared, labels_of, live, size_of
from ..trace import Trace
from .demands import demanded
from .views import columns, merge, split


def reshape(trace: Trace, node: ir.Node) -> None:
    layout, elements = trace.folded_layout(node.inputs[0]), _target(trace, node)
    if elements is None:
        raise Unclear("its target shape is not understood")
    sizes = _sizes(trace, node, layout, elements)
    result = _regroup(trace, layout, sizes, node)
    copied = [
        element == 0 and position < len(layout) and layout[position] is result[position]
        for position, element in enumerate(elements)
    ]
    trace.follow(node, 1, [-1 if same else element for same, element in zip(copied, elements, strict=True)], result)
    trace.set(node.outputs[0], result)


def _target(trace: Trace, node: ir.Node) -> list[Element] | None:
    """The target's elements; where it is computed beyond understanding, as many unknowns as the output has axes."""
    if len(node.inputs) < 2:
        return None
    known, rank = trace.elements(node.inputs[1]), trace.rank(node.outputs[0])
    return known if known is not None else None if rank is None else [None] * rank


def _sizes(trace: Trace, node: ir.Node, layout: Layout, elements: Sequence[Element]) -> list[Axis]:
    """Sizes (or names) of the output, from the target, from shape inference and from the weights that read it."""
    shape = declared(node.outputs[0])
    inferred = shape if shape is not None and len(shape) == len(elements) else [None] * len(elements)
    sizes: list[Axis] = []
    for position, element in enumerate(elements):
        axis: Axis = layout[position] if element == 0 and position < len(layout) else trace.axis_of(element)
        size: Axis = size_of(axis)
        size = inferred[position] if size is None or size == -1 else size
        sizes.append(size if isinstance(size, int) else demanded(node.outputs[0], position, len(elements)) or size)
    return [None if size == -1 else size for size in sizes]


def flatten(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(node.inputs[0])
    axis = attribute(node, "axis", 1)
    axis += len(layout) if axis < 0 else 0
    parts = layout[:axis], layout[axis:]
    trace.set(node.outputs[0], [merge(trace, part, node) if part else 1 for part in parts])


def _regroup(trace: Trace, layout: Layout, sizes: list[Axis], node: ir.Node) -> Layout:
    """The output's axes, given the input's axes and the output's sizes."""
    left = 0
    while left < min(len(layout), len(sizes)) and _equal(size_of(layout[left]), sizes[left]):
        left += 1
    rest, wanted = layout[left:], _resolved([size_of(axis) for axis in layout[left:]], sizes[left:])
    blocks: list[Layout] = []
    while rest or wanted:
        taken = _last_block([size_of(axis) for axis in rest], wanted)
        if taken is None:
            blocks.append(_unequal(trace, rest, wanted, node))
            break
        inner, outer = taken
        blocks.append(_exact(trace, rest[len(rest) - inner :], wanted[len(wanted) - outer :], node))
        rest, wanted = rest[: len(rest) - inner], wanted[: len(wanted) - outer]
    return layout[:left] + [axis for block in reversed(blocks) for axis in block]


def _equal(left: object, right: object) -> bool:
    return left is not None and left == right


def _resolved(given: Sequence[Axis], wanted: list[Axis]) -> list[Axis]:
    """Fill in the one unknown size that follows from all others."""
    names = [size for size in given if not isinstance(size, int)]
    others = [size for size in wanted if not isinstance(size, int)]
    unknown = [size for size in others if size is None or size not in names]
    if None in names or len(unknown) != 1 or len(others) - 1 != len(names):
        return wanted
    total = math.prod(size for size in given if isinstance(size, int))
    known = math.prod(size for size in wanted if isinstance(size, int))
    position = next(i for i, size in enumerate(wanted) if size is unknown[0])
    whole = known and total % known == 0
    return [*wanted[:position], total // known, *wanted[position + 1 :]] if whole else wanted


def _last_block(given: Sequence[Axis], wanted: Sequence[Axis]) -> tuple[int, int] | None:
    """How many last axes on either side have the same product; None where unknown sizes are in the way."""
    if not given or not wanted:
        return (len(given), len(wanted)) if all(size == 1 for size in (*given, *wanted)) else None
    if isinstance(given[-1], str) and given[-1] == wanted[-1]:
        return 1, 1
    inner = outer = 1
    while inner <= len(given) and outer <= len(wanted):
        sizes = [size for size in (*given[-inner:], *wanted[-outer:]) if isinstance(size, int)]
        if len(sizes) < inner + outer:
            return None
        left, right = math.prod(sizes[:inner]), math.prod(sizes[inner:])
        if left == right:
            return inner, outer
        inner, outer = (inner + 1, outer) if left < right else (inner, outer + 1)
    return None


def _exact(trace: Trace, given: Layout, wanted: Sequence[Axis], node: ir.Node) -> Layout:
    flat = merge(trace, given, node) if given else 1
    if len(wanted) <= 1:
        return [flat] if wanted else []
    sizes = [size for size in wanted if isinstance(size, int)]
    if not live(flat):
        return list(wanted)
    return _through_ones(given, sizes) or split(trace, flat, sizes, node)


def _through_ones(given: Layout, sizes: list[int]) -> Layout | None:
    """Axes that only gain or lose neighbours of size 1 stay what they are."""
    large = [axis for axis in given if size_of(axis) != 1]
    if [size_of(axis) for axis in large] != [size for size in sizes if size != 1]:
        return None
    remaining = iter(large)
    return [next(remaining) if size != 1 else 1 for size in sizes]


def _unequal(trace: Trace, given: Layout, wanted: list[Axis], node: ir.Node) -> Layout:
    """Blocks with unknown sizes: what lies behind the last of these, else the first axes, may divide one another."""
    first, last = _behind(given), _behind(wanted)
    inner = given[first:]
    if first and isinstance(folded := given[first - 1], Folded):
        inner = [folded.labels, *inner]
    if any(map(live, inner)):
        result, used = _inner(trace, merge(trace, inner, node), wanted, last, node), given[max(first - 1, 0) :]
    elif given and wanted and live(given[0]) and isinstance(wanted[0], int):
        result, used = [_outer(trace, given[0], wanted[0], node), *wanted[1:]], given[:1]
    else:
        result, used = list(wanted), []
    carried = any(labels_of(axis) is not None for axis in result)
    left_over = [axis for axis in given if not (carried and any(axis is one for one in used))]
    trace.protect(left_over, node, "it mixes channels with a dimension of unknown size")
    return result


def _behind(axes: Sequence[Axis]) -> int:
    """Where the axes begin that have no axis of unknown size behind them."""
    return max((i + 1 for i, axis in enumerate(axes) if not isinstance(size_of(axis), int)), default=0)


def _outer(trace: Trace, axis: Array, size: int, node: ir.Node) -> Axis:
    if len(axis) % size == 0 and size > 1:
        return columns(trace, axis, (size, len(axis) // size), 0, node)
    if size % len(axis):
        return size
    trace.limits.expect(size)
    return np.repeat(axis, size // len(axis))


def _inner(trace: Trace, flat: Axis, wanted: list[Axis], last: int, node: ir.Node) -> Layout:
    """Channels behind an unknown size, as the axes behind another; what does not fit there is folded into it."""
    result, sizes = list(wanted), [size for size in wanted[last:] if isinstance(size, int)]
    room = math.prod(sizes)
    if live(flat) and room % len(flat) == 0:
        trace.limits.expect(room)
        result[last:] = _grid(trace, np.tile(flat, room // len(flat)), sizes, node)
    elif live(flat) and room and len(flat) % room == 0 and last == 1:
        folded, *result[last:] = _grid(trace, flat, [len(flat) // room, *sizes], node)
        result[0] = Folded(folded) if live(folded) else result[0]
    return result


def _grid(trace: Trace, flat: Array, sizes: Sequence[int], node: ir.Node) -> Layout:
    return [flat] if len(sizes) == 1 else split(trace, flat, sizes, node)
