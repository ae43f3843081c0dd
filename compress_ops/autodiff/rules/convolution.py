"""Gradients of convolutions. With n samples, m output channels, c input channels, positions p and taps t,

    y[n,m,p] = sum_{c,t} w[m,c,t] x[n,c,p s + t d - b]
    dx = the transposed convolution of dy with w
    dw[m,c,t] = sum_{n,p} dy[n,m,p] x[n,c,p s + t d - b]        (one matrix product a tap)

A transposed convolution is the same with x and dy in each other's place.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...lazy import ir
from ..rule import Result, gradient
from ..step import Step
from .window import Window, bare_window, spread, tap_slices, window_of


@gradient("Conv")
def convolution(step: Step, dy: ir.Value) -> Result:
    x, weight = step.inputs[:2]
    group = step.attribute("group", 1)
    window = window_of(step, _kernel(step), x, step.y)
    return (
        lambda: spread(step, dy, weight, window, x, group=group),
        lambda: _weight_gradient(step, dy, x, window, group),
        lambda: _bias_gradient(step, dy),
    )


@gradient("ConvTranspose")
def transposed_convolution(step: Step, dy: ir.Value) -> Result:
    x, weight = step.inputs[:2]
    group = step.attribute("group", 1)
    window = _transposed_window(step)
    common = {"pads": window.pads, "strides": window.strides, "dilations": window.dilations, "group": group}
    return (
        lambda: step.op("Conv", dy, weight, **common),
        lambda: _weight_gradient(step, x, dy, window, group),
        lambda: _bias_gradient(step, dy),
    )


def _kernel(step: Step) -> tuple[int, ...]:
    weight = step.inputs[1]
    return step.shape(weight, range(2, step.rank(weight)))


def _transposed_window(step: Step) -> Window:
    """Where the output's size is asked for, the paddings are what makes it so; SAME_UPPER puts less before."""
    automatic = step.attribute("auto_pad", "NOTSET")
    if automatic in ("NOTSET", "VALID") and "output_shape" not in step.node.attributes:
        return window_of(step, _kernel(step), step.y, step.x)
    axes, window = range(2, step.rank(step.x)), bare_window(step, _kernel(step))
    beyond = step.attribute("output_padding", (0,) * len(axes))
    spare = window.spare(step.shape(step.y, axes), step.shape(step.x, axes))
    totals = [max(extra - rest, 0) for extra, rest in zip(beyond, spare, strict=True)]
    return window.padded_by(totals, automatic == "SAME_UPPER")


def _bias_gradient(step: Step, dy: ir.Value) -> ir.Value:
    return step.sum(dy, [0, *range(2, step.rank(step.y))], keepdims=0)


def _weight_gradient(step: Step, small: ir.Value, large: ir.Value, window: Window, group: int) -> ir.Value:
    """[channels of small, channels of large / group, *kernel]."""
    channels, across = step.shape(step.inputs[1])[:2]
    if group == channels and across == 1 and group > 1:
        products = _by_channel(step, small, tap_slices(step, large, window))
    else:
        products = _by_matrix(step, small, large, window, group)
    return _stacked(step, products, across, window.kernel)


def _by_channel(step: Step, small: ir.Value, taps: list[ir.Value]) -> list[ir.Value]:
    """Depthwise: a sum of products a channel."""
    others = [0, *range(2, step.rank(step.x))]
    return [step.sum(step.mul(small, tap), others, keepdims=0) for tap in taps]


def _by_matrix(step: Step, small: ir.Value, large: ir.Value, window: Window, group: int) -> list[ir.Value]:
    """One product over all samples and positions a tap and group."""
    channels_first = [1, 0, *range(2, step.rank(step.x))]
    rows = _matrix(step, step.op("Transpose", small, perm=channels_first), group)
    slices = tap_slices(step, step.op("Transpose", large, perm=channels_first), window)
    columns = [_matrix(step, tap, group) for tap in slices]
    if group == 1:
        return [step.op("Gemm", rows, each, transB=1) for each in columns]
    return [step.op("MatMul", rows, step.op("Transpose", each, perm=[0, 2, 1])) for each in columns]


def _matrix(step: Step, value: ir.Value, group: int) -> ir.Value:
    """A row a channel, in one matrix a group."""
    if group == 1:
        return step.op("Flatten", value, axis=1)
    channels = step.op("Shape", value, start=0, end=1)
    per_group = step.op("Div", channels, step.integers([group]))
    return step.op("Reshape", value, step.op("Concat", step.integers([group]), per_group, step.integers([-1]), axis=0))


def _stacked(step: Step, products: Sequence[ir.Value], across: int, kernel: tuple[int, ...]) -> ir.Value:
    """A product a tap, as the last axes of one weight."""
    columns = [step.op("Reshape", product, step.integers([-1, across, 1])) for product in products]
    stacked = columns[0] if len(columns) == 1 else step.op("Concat", *columns, axis=2)
    return step.op("Reshape", stacked, step.integers([-1, across, *kernel]))
