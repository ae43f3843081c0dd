"""Gathers that read a flattened tensor in its own order: PyTorch's as_strided, which is how some means are exported.

    y = Gather(Reshape(x, [-1]), i)    with i[n, c, h, w] = (n C + c) H W + h W + w    is a Reshape of x

The indices are sums of ranges, scaled by strides: a grid with a size and a stride along each axis. Where each stride is
the product of the sizes behind it, and the sizes are those of x but for ones, the Gather becomes a Reshape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...graph.edit import Editor, attribute, constant_of
from ...lazy import ir
from ...model import Model
from ...shapes.elements import Evaluator, known_dims

Size: TypeAlias = "int | str"  # a number, or the name of one
_LONGEST = 2**20  # a longer tensor of indices is not looked at


@dataclass(frozen=True)
class Grid:
    """Indices start + sum over axes of stride * position; an axis of one index has stride 0."""

    sizes: tuple[Size, ...]
    strides: tuple[int, ...]
    start: int = 0


def read_in_order(model: Model) -> int:
    """Replace such gathers by reshapes; returns how many."""
    evaluate, done = Evaluator(known_dims), 0
    for node in model.nodes():
        if node.op_type == "Gather" and (source := _source(node)) is not None:
            grid, shape = _grid(node.inputs[1], evaluate), _named(source)
            if grid is not None and shape is not None and _covers(grid, shape):
                edit = Editor(model, node)
                target = [size if isinstance(size, int) else -1 for size in grid.sizes]
                edit.replace(edit.op("Reshape", source, edit.constant("shape", np.array(target, np.int64))))
                done += 1
    return done


def _source(node: ir.Node) -> ir.Value | None:
    """What was flattened for the node to read."""
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    if maker is None or maker.op_type != "Reshape" or attribute(node, "axis", 0) != 0:
        return None
    target = constant_of(maker.inputs[1])
    return maker.inputs[0] if target is not None and target.numpy().tolist() == [-1] else None


def _named(value: ir.Value) -> list[Size] | None:
    """A shape in which every size is a number or has a name."""
    sizes = [size if isinstance(size, int) else size.value for size in value.shape or ()]
    known = [size for size in sizes if size is not None]
    return known if known and len(known) == len(sizes) else None


def _covers(grid: Grid, shape: Sequence[Size]) -> bool:
    """Whether a grid counts all numbers of a tensor of that shape, one after the other."""
    names = [size for size in grid.sizes if isinstance(size, str)]
    large = [size for size in grid.sizes if size != 1]
    if names and (len(names) > 1 or large[0] != names[0]):
        return False
    step, strides = 1, []
    for size in reversed(grid.sizes):
        strides.append(0 if size == 1 else step)
        step *= size if isinstance(size, int) else 1
    others = [size for size in shape if isinstance(size, str)]
    same = others == names and math.prod(size for size in shape if isinstance(size, int)) == step
    return same and grid.start == 0 and tuple(reversed(strides)) == grid.strides


def _grid(value: ir.Value | None, evaluate: Evaluator) -> Grid | None:
    if value is None:
        return None
    if (tensor := constant_of(value)) is not None:
        return _written(tensor)
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Range":
        return _range(node, evaluate)
    if node.op_type in ("Add", "Mul"):
        left, right = (_grid(side, evaluate) for side in node.inputs)
        combine = _sum if node.op_type == "Add" else _product
        return None if left is None or right is None else combine(left, right)
    if node.op_type in ("Cast", "Identity"):
        return _grid(node.inputs[0], evaluate)
    if node.op_type in ("Reshape", "Unsqueeze"):
        return _with_ones(_grid(node.inputs[0], evaluate), _named(value))
    return None


def _written(tensor: ir.TensorProtocol) -> Grid | None:
    """Constant indices, where they make a grid."""
    if tensor.dtype.name not in ("INT32", "INT64") or not 0 < tensor.size <= _LONGEST:
        return None
    array = tensor.numpy().astype(np.int64)
    start = int(array.reshape(-1)[0])
    ahead = [tuple(int(axis == other) for other in range(array.ndim)) for axis in range(array.ndim)]
    strides = [int(array[one]) - start if size > 1 else 0 for one, size in zip(ahead, array.shape, strict=True)]
    along = [stride * np.arange(size) for stride, size in zip(strides, array.shape, strict=True)]
    expected = start + sum(np.ix_(*along)) if along else np.array(start)
    return Grid(array.shape, tuple(strides), start) if np.array_equal(array, expected) else None


def _range(node: ir.Node, evaluate: Evaluator) -> Grid | None:
    """0, 1, 2 ... up to a number or to the size of a dimension."""
    start, limit, delta = (evaluate(value) for value in node.inputs)
    if start != [0] or delta != [1] or not limit:
        return None
    if isinstance(limit[0], int):
        return Grid((limit[0],), (int(limit[0] > 1),)) if limit[0] > 0 else None
    names = _named(limit[0].value) if limit[0] is not None else None
    return Grid((names[limit[0].axis],), (1,)) if names is not None and limit[0] is not None else None


def _sum(left: Grid, right: Grid) -> Grid | None:
    rank = max(len(left.sizes), len(right.sizes))
    left, right = _padded(left, rank), _padded(right, rank)
    sizes = [b if a == 1 else a for a, b in zip(left.sizes, right.sizes, strict=True)]
    fits = all({a, b} <= {size, 1} for a, b, size in zip(left.sizes, right.sizes, sizes, strict=True))
    strides = [a + b for a, b in zip(left.strides, right.strides, strict=True)]
    return Grid(tuple(sizes), tuple(strides), left.start + right.start) if fits else None


def _product(left: Grid, right: Grid) -> Grid | None:
    """A grid times one number."""
    if not set(right.sizes) <= {1}:
        left, right = right, left
    if not set(right.sizes) <= {1}:
        return None
    left = _padded(left, max(len(left.sizes), len(right.sizes)))
    return Grid(left.sizes, tuple(stride * right.start for stride in left.strides), left.start * right.start)


def _padded(grid: Grid, rank: int) -> Grid:
    more = rank - len(grid.sizes)
    return Grid((1,) * more + grid.sizes, (0,) * more + grid.strides, grid.start)


def _with_ones(grid: Grid | None, shape: Sequence[Size] | None) -> Grid | None:
    """The same indices in a shape that has more, or fewer, axes of one index."""
    if grid is None or shape is None:
        return None
    several = [(size, stride) for size, stride in zip(grid.sizes, grid.strides, strict=True) if size != 1]
    kept = [size for size in shape if size != 1]
    if len(kept) != len(several) or any(
        int in map(type, pair) and pair[0] != pair[1] for pair in _pairs(kept, several)
    ):
        return None
    remaining = iter(several)
    sizes, strides = zip(*((1, 0) if size == 1 else next(remaining) for size in shape), strict=True)
    return Grid(sizes, strides, grid.start)


def _pairs(sizes: Sequence[Size], several: Sequence[tuple[Size, int]]) -> list[tuple[Size, Size]]:
    return [(size, own) for size, (own, _) in zip(sizes, several, strict=True)]
