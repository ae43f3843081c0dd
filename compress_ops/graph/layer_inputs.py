"""X^T X of the rows x that layers multiply with their weights, from calibration data, in bounded memory.

The rows of a MatMul or Gemm are its input's last axis. A Conv's are patches, one an output position: with kernel
indices k, strides s, dilations d and padding p, patch(j)[c, k] = x[c, j s + k d - p]. A depthwise Conv whose kernels
are one-hot lays them out. Sums are made inside the session, so [inner, inner] numbers come out, whatever the number of
samples; or [inner] numbers where the diagonal is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..errors import PassError
from ..model import Model
from ..passes import Context
from .edit import attribute
from .tap import constant, tapped

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    Array: TypeAlias = np.ndarray[Any, Any]

HELD = 2**28  # bytes of products held at a time; more of them take several passes over the data
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
    model: Model, ctx: Context, rows: Iterable[Rows], tap: Callable[[Model, Rows], ir.Node], label: str
) -> dict[Any, Array]:
    sums: dict[Any, Array] = {}
    unique = {one.key: one for one in rows}
    if not unique:
        return sums
    with tapped(model, ctx, [tap(model, one) for one in unique.values()]) as session:
        for feeds in ctx.calibration_batches(label):
            for key, part in zip(unique, session.run(feeds).values(), strict=True):
                sums[key] = sums[key] + part if key in sums else part
    if not sums:
        raise PassError("the calibration data has no batches", hint="give at least one sample")
    return sums


def _product(model: Model, rows: Rows) -> ir.Node:
    import onnx_ir as ir

    value = _float(rows.value)
    if rows.conv is not None:
        last = [0, *range(2, len(_kernel(rows.conv)) + 1), 1]
        value = ir.node("Transpose", [_patches(value, rows.conv)], {"perm": last}).outputs[0]
    flat = ir.node("Reshape", [value, constant([-1, rows.inner])]).outputs[0]
    return ir.node("Gemm", [flat, flat], {"transA": 1})


def _squares(model: Model, rows: Rows) -> ir.Node:
    """Of a Conv, the patches of sums of squares over the batch: that is much less than the patches of all samples."""
    import onnx_ir as ir

    value = _float(rows.value)
    if rows.conv is None:
        laid = ir.node("Reshape", [value, constant([-1, rows.inner])]).outputs[0]
        return _reduce(model, "ReduceSumSquare", laid, [0], keep=False)
    summed = _reduce(model, "ReduceSumSquare", value, [0], keep=True).outputs[0]
    laid = ir.node("Reshape", [_patches(summed, rows.conv), constant([0, 0, -1])]).outputs[0]
    return _reduce(model, "ReduceL1", laid, [0, 2], keep=False)


def _reduce(model: Model, operator: str, value: ir.Value, axes: list[int], keep: bool) -> ir.Node:
    """A reduction, in the form of the model's opset."""
    import onnx_ir as ir

    if model.opset >= 18:
        return ir.node(operator, [value, constant(axes)], {"keepdims": int(keep)})
    return ir.node(operator, [value], {"axes": axes, "keepdims": int(keep)})


def _float(value: ir.Value) -> ir.Value:
    """As float32; what is unknown, or float16, in which the sums would overflow, is cast."""
    import onnx_ir as ir

    if value.dtype == ir.DataType.FLOAT:
        return value
    return ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value}).outputs[0]


def _patches(value: ir.Value, conv: ir.Node) -> ir.Value:
    """[batch, channels * taps, positions...]: what each output position of the Conv sees."""
    import numpy as np
    import onnx_ir as ir

    inputs, *sizes = _kernel(conv)
    channels, taps = inputs * attribute(conv, "group", 1), math.prod(sizes)
    one_hot = np.tile(np.eye(taps, dtype=np.float32), (channels, 1)).reshape(-1, 1, *sizes)
    window = {name: a.value for name, a in conv.attributes.items()}
    return ir.node("Conv", [value, constant(one_hot)], {**window, "group": channels}).outputs[0]


def _kernel(conv: ir.Node) -> tuple[int, ...]:
    """Channels of a group and spatial sizes of a Conv's kernel."""
    kernel = conv.inputs[1]
    assert kernel is not None and kernel.shape is not None
    return tuple(int(size) for size in kernel.shape.numpy()[1:])
