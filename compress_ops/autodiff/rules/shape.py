"""Gradients of operators that only move elements: dy is moved back; what was copied is added up, what was cut is 0."""

from __future__ import annotations

import numpy as np

from ...lazy import ir
from ..rule import Result, formulas, gradient
from ..step import Step
from .gather import gather_back

FORMULAS = formulas(
    {
        **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), lambda step, dy: step.like(dy, step.x)),
        "SpaceToDepth": lambda step, dy: step.op("DepthToSpace", dy, blocksize=step.attribute("blocksize", 1)),
        "Trilu": lambda step, dy: step.op("Trilu", dy, step.optional(1), upper=step.attribute("upper", 1)),
    },
    stops=(1,),
)


@gradient("Transpose")
def transpose(step: Step, dy: ir.Value) -> Result:
    rank = step.rank(step.x)
    permutation = step.attribute("perm", range(rank)[::-1])
    return step.op("Transpose", dy, perm=[list(permutation).index(axis) for axis in range(rank)])


@gradient("Concat")
def concat(step: Step, dy: ir.Value) -> Result:
    axis = step.attribute("axis", 0) % step.rank(step.y)
    sizes = [step.op("Shape", x, start=axis, end=axis + 1) for x in step.inputs]
    return step.ops("Split", dy, step.op("Concat", *sizes, axis=0), outputs=len(sizes), axis=axis)


@gradient("Split", stops=(1,), outputs=None)
def split(step: Step, dy: ir.Value) -> Result:
    parts = zip(step.upstream, step.node.outputs, strict=True)
    filled = [part if part is not None else step.zeros(output) for part, output in parts]
    return step.op("Concat", *filled, axis=step.attribute("axis", 0))


@gradient("Slice", stops=(1, 2, 3, 4))
def cut(step: Step, dy: ir.Value) -> Result:
    """Steps of 1 are padded back at run time; others need the sizes."""
    steps, rank = step.fixed(4, [1]), step.rank(step.x)
    axes = [int(axis) % rank for axis in step.fixed(3, range(rank))][: step.shape(step.inputs[1])[0]]
    if (steps == 1).all():
        return _pad_back(step, dy, axes)
    for index, axis in enumerate(axes):
        size = step.shape(step.x, [axis])[0]
        start, end = int(step.fixed(1)[index]), int(step.fixed(2)[index])
        dy = gather_back(step, dy, np.arange(size)[start : end : int(steps[index])], axis, size)
    return dy


def _pad_back(step: Step, dy: ir.Value, axes: list[int]) -> ir.Value:
    """Zeros before (a start below 0 counts from the end) and behind."""
    wanted, starts, zero = step.integers(axes), step.inputs[1], step.integers([0])
    starts = step.op("Cast", starts, to=7)
    sizes = step.op("Gather", step.sizes(step.x), wanted)
    counted = step.op("Where", step.op("Less", starts, zero), step.add(starts, sizes), starts)
    before = step.op("Min", step.op("Max", counted, zero), sizes)
    behind = step.sub(step.sub(sizes, before), step.op("Gather", step.sizes(step.y), wanted))
    return step.op("Pad", dy, _on_all_axes(step, step.op("Concat", before, behind, axis=0), axes))


def _on_all_axes(step: Step, pads: ir.Value, axes: list[int]) -> ir.Value:
    """Paddings of some axes as those of all: onnxruntime 1.31 miscompiles a Pad with axes behind a Transpose."""
    rank, count = step.rank(step.x), len(axes)
    first = [axes.index(axis) if axis in axes else 2 * count for axis in range(rank)]
    second = [count + place if place < count else 2 * count for place in first]
    return step.op("Gather", step.op("Concat", pads, step.integers([0]), axis=0), step.integers([*first, *second]))


@gradient("Pad", stops=(1, 3))
def pad(step: Step, dy: ir.Value) -> Result:
    if step.attribute("mode", "constant") != "constant":
        return _mirrored(step, dy)
    rank = step.rank(step.x)
    pads = _on_all_axes(step, step.inputs[1], [int(axis) % rank for axis in step.fixed(3, range(rank))])
    return lambda: step.op("Pad", dy, step.op("Neg", pads)), None, lambda: _padding(step, dy, pads)


def _padding(step: Step, dy: ir.Value, pads: ir.Value) -> ir.Value:
    """All that is not the input."""
    inside = step.op("Pad", step.add(step.zeros(step.x), step.number(1)), pads)
    total = step.op("ReduceSum", step.mul(dy, step.sub(step.number(1), inside)), keepdims=0)
    return step.like(total, step.inputs[2])


def _mirrored(step: Step, dy: ir.Value) -> ir.Value:
    """reflect, edge and wrap copy elements of the input: which ones, the same padding of their numbers tells."""
    pads, rank = step.fixed(1), step.rank(step.x)
    axes = [int(axis) % rank for axis in step.fixed(3, range(rank))]
    for index, axis in enumerate(axes):
        width = int(pads[index]), int(pads[index + len(axes)])
        if any(width):
            size = step.shape(step.x, [axis])[0]
            copied = np.pad(np.arange(size), width, mode=step.attribute("mode", "reflect"))
            dy = gather_back(step, dy, copied, axis, size)
    return dy


@gradient("Expand", stops=(1,), broadcasts=True)
def expand(step: Step, dy: ir.Value) -> Result:
    return dy


@gradient("Tile", stops=(1,))
def tile(step: Step, dy: ir.Value) -> Result:
    """dy as [repeats, size, repeats, size, ...], summed over the repeats."""
    rank = step.rank(step.x)
    columns = [step.op("Reshape", value, step.integers([-1, 1])) for value in (step.inputs[1], step.sizes(step.x))]
    pairs = step.op("Reshape", step.op("Concat", *columns, axis=1), step.integers([-1]))
    return step.sum(step.op("Reshape", dy, pairs), range(0, 2 * rank, 2), keepdims=0)


@gradient("DepthToSpace")
def depth_to_space(step: Step, dy: ir.Value) -> Result:
    """SpaceToDepth undoes the order DCR [block, block, channel]; CRD [channel, block, block] is swapped afterwards."""
    block = step.attribute("blocksize", 1)
    deep = step.op("SpaceToDepth", dy, blocksize=block)
    if step.attribute("mode", "DCR") == "DCR":
        return deep
    sizes = step.op("Shape", step.x, start=2)
    split = step.op("Concat", step.integers([0, block * block, -1]), sizes, axis=0)
    return step.like(step.op("Transpose", step.op("Reshape", deep, split), perm=[0, 2, 1, 3, 4]), step.x)


@gradient("ReverseSequence", stops=(1,))
def reverse_sequence(step: Step, dy: ir.Value) -> Result:
    axes = {"batch_axis": step.attribute("batch_axis", 1), "time_axis": step.attribute("time_axis", 0)}
    return step.op("ReverseSequence", dy, step.inputs[1], **axes)
