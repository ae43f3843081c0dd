"""X^T X of the rows x that layers multiply with their weights, from calibration data, in bounded memory.

The rows of a MatMul or Gemm are its input's last axis. A Conv's are patches, one an output position: with kernel
indices k, strides s, dilations d and padding p, patch(j)[c, k] = x[c, j s + k d - p]. A depthwise Conv whose kernels
are one-hot lays them out. Sums are made inside the session, so [inner, inner] numbers come out, whatever the number of
samples; or [inner] numbers where the diagonal is enough. Where the patches of a batch are more than ``PATCHES`` numbers
only those of every second, third ... position in each direction are summed: neighbours see nearly the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..arrays import Array
from ..errors import PassError
from ..lazy import ir
from ..model import Model
from ..passes import Context
from .edit import attribute
from .tap import constant, reduced, tapped

HELD = 2**27  # bytes of products held at a time; more of them take several passes over the data
PATCHES = 2**23  # numbers of a layer's patches in one batch
T = TypeVar("T")


@dataclass(frozen=True)
class Rows:
    """Rows of ``inner`` numbers: the last axis of a value of the main graph, or the patches of a Conv of one group."""

    value: ir.Value
    inner: int
    conv: ir.Node | None = None

    @property
    def key(self) -> Any:
        """Equal for layers that read the same rows."""
        if self.conv is None:
            return self.value
        window = sorted((name, str(a.value)) for name, a in self.conv.attributes.items())
        return self.value, _kernel(self.conv), str(window)


def products(model: Model, ctx: Context, rows: Iterable[Rows], label: str) -> dict[Any, Array]:
    """X^T X by the rows' keys: float32 [inner, inner], summed over all batches."""
    return _summed(model, ctx, rows, _product, label)


def squares(model: Model, ctx: Context, rows: Iterable[Rows], label: str) -> dict[Any, Array]:
    """The diagonal of X^T X by the rows' keys: float32 [groups * inner]; a Conv may have any number of groups here."""
    return _summed(model, ctx, rows, _squares, label)


def in_groups(items: Iterable[T], rows_of: Callable[[T], Iterable[Rows]]) -> Iterator[list[T]]:
    """Items in order, so many at a time that their products fit (or one); layers that read the same share."""
    group: list[T] = []
    held: dict[Any, int] = {}
    for item in items:
        more = {rows.key: 8 * rows.inner**2 for rows in rows_of(item)}
        if group and sum({**held, **more}.values()) > HELD:
            yield group
            group, held = [], {}
        group.append(item)
        held.update(more)
    if group:
        yield group


def _summed(
    model: Model, ctx: Context, rows: Iterable[Rows], tap: Callable[[Model, Rows, int], ir.Node], label: str
) -> dict[Any, Array]:
    sums: dict[Any, Array] = {}
    unique = {one.key: one for one in rows}
    if not unique:
        return sums
    steps = _steps(model, ctx, unique) if tap is _product else {}
    with tapped(model, ctx, [tap(model, one, steps.get(key, 1)) for key, one in unique.items()]) as session:
        for feeds in ctx.calibration_batches(label):
            for key, part in zip(unique, session.run(feeds).values(), strict=True):
                sums[key] = sums[key] + part if key in sums else part
    if not sums:
        raise PassError("the calibration data has no batches", hint="give at least one sample")
    return sums


def _steps(model: Model, ctx: Context, unique: Mapping[Any, Rows]) -> dict[Any, int]:
    """Every how many-th position of each Conv is looked at, from what its first batch gives."""
    convs = {key: rows for key, rows in unique.items() if rows.conv is not None}
    if not convs or ctx.calibration is None:
        return {}
    shapes = [ir.node("Shape", [rows.conv.outputs[0]]) for rows in convs.values() if rows.conv is not None]
    with tapped(model, ctx, shapes) as session:
        batch = next(iter(ctx.calibration.batches(limit=1)), None)
        found = [] if batch is None else list(session.run(batch.feeds).values())
    return {key: _step(rows.inner, shape) for (key, rows), shape in zip(convs.items(), found, strict=False)}


def _step(inner: int, shape: Array) -> int:
    """The smallest step with which patches of ``inner`` numbers at the positions of an output [batch, c, ...] fit."""
    step = 1
    while inner * int(shape[0]) * math.prod(-(-int(size) // step) for size in shape[2:]) > PATCHES and step < max(
        shape
    ):
        step += 1
    return step


def _product(model: Model, rows: Rows, step: int) -> ir.Node:
    value = _float(rows.value)
    if rows.conv is not None:
        last = [0, *range(2, len(_kernel(rows.conv)) + 1), 1]
        value = ir.node("Transpose", [_patches(value, rows.conv, step)], {"perm": last}).outputs[0]
    flat = ir.node("Reshape", [value, constant([-1, rows.inner])]).outputs[0]
    return ir.node("Gemm", [flat, flat], {"transA": 1})


def _squares(model: Model, rows: Rows, step: int) -> ir.Node:
    """Of a Conv, the patches of sums of squares over the batch: that is much less than the patches of all samples."""
    value = _float(rows.value)
    if rows.conv is None:
        laid = ir.node("Reshape", [value, constant([-1, rows.inner])]).outputs[0]
        return reduced(model, "ReduceSumSquare", laid, [0])
    summed = reduced(model, "ReduceSumSquare", value, [0], keep=True).outputs[0]
    laid = ir.node("Reshape", [_patches(summed, rows.conv, step), constant([0, 0, -1])]).outputs[0]
    return reduced(model, "ReduceL1", laid, [0, 2])


def _float(value: ir.Value) -> ir.Value:
    """As float32; what is unknown, or float16, in which the sums would overflow, is cast."""
    if value.dtype == ir.DataType.FLOAT:
        return value
    return ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value}).outputs[0]


def _patches(value: ir.Value, conv: ir.Node, step: int) -> ir.Value:
    """[batch, channels * taps, positions...]: what every ``step``-th output position of the Conv sees."""
    inputs, *sizes = _kernel(conv)
    channels, taps = inputs * attribute(conv, "group", 1), math.prod(sizes)
    one_hot = np.tile(np.eye(taps, dtype=np.float32), (channels, 1)).reshape(-1, 1, *sizes)
    window = {name: a.value for name, a in conv.attributes.items()}
    strides = [step * stride for stride in attribute(conv, "strides", [1] * len(sizes))]
    return ir.node("Conv", [value, constant(one_hot)], {**window, "group": channels, "strides": strides}).outputs[0]


def _kernel(conv: ir.Node) -> tuple[int, ...]:
    """Channels of a group and spatial sizes of a Conv's kernel."""
    kernel = conv.inputs[1]
    assert kernel is not None and kernel.shape is not None
    return tuple(int(size) for size in kernel.shape.numpy()[1:])
