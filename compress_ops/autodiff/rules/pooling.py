"""Gradients of pooling.

maximum:  dy goes to the input that attained it        average of c inputs:  each of them gets dy / c
p-norm y = (sum |x|^p)^(1/p):  dx = sign(x) |x|^(p-1) times the sum of dy y^(1-p) over the windows that hold x
"""

from __future__ import annotations

import math

import numpy as np

from ...arrays import Array
from ...lazy import ir
from ..rule import Result, gradient
from ..step import Step
from .window import Window, spread, window_of


@gradient("MaxPool")
def max_pool(step: Step, dy: ir.Value) -> Result:
    if step.attribute("auto_pad", "NOTSET") == "NOTSET":
        window = window_of(step, step.attribute("kernel_shape", ()), step.x, step.y)
        if _tiles(step, window):
            return _from_blocks(step, dy, window)
    return _from_indices(step, dy)


def _tiles(step: Step, window: Window) -> bool:
    """Whether the windows tile an image: none overlap, nothing is left over."""
    sizes = step.dims(step.x)[2:]
    fits = all(isinstance(size, int) and size % k == 0 for size, k in zip(sizes, window.kernel, strict=True))
    return fits and len(sizes) == 2 and window.strides == window.reach == window.kernel and not window.padded


def _repeated(step: Step, value: ir.Value, window: Window) -> ir.Value:
    """Each element as a block of the window's size."""
    scales = step.stored(np.array([1, 1, *window.kernel], np.float32))
    where = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return step.op("Resize", value, None, scales, mode="nearest", **where)


def _from_blocks(step: Step, dy: ir.Value, window: Window) -> ir.Value:
    """Several maxima in one window share; much faster than by index."""
    attained = step.zero(step.sub(step.x, _repeated(step, step.y, window)))
    share = step.op("AveragePool", attained, kernel_shape=window.kernel, strides=window.kernel)
    one = step.scale(step.div(dy, share), 1 / math.prod(window.kernel))
    return step.mul(attained, _repeated(step, one, window))


def _from_indices(step: Step, dy: ir.Value) -> ir.Value:
    """The operator's second output says where in the whole flat input each maximum was."""
    if step.attribute("storage_order", 0):
        raise step.refusal("its indices are in column-major order")
    flat = step.integers([-1])
    indices = step.op("Reshape", step.output(1), flat)
    zeros = step.op("Reshape", step.zeros(step.x), flat)
    spent = step.op("ScatterElements", zeros, indices, step.op("Reshape", dy, flat), reduction="add")
    return step.like(spent, step.x)


@gradient("AveragePool")
def average_pool(step: Step, dy: ir.Value) -> Result:
    window = window_of(step, step.attribute("kernel_shape", ()), step.x, step.y)
    share = step.div(dy, _window_sizes(step, window))
    return _repeated(step, share, window) if _tiles(step, window) else _spread_evenly(step, share, window)


@gradient("LpPool")
def norm_pool(step: Step, dy: ir.Value) -> Result:
    p = step.attribute("p", 2)
    window = window_of(step, step.attribute("kernel_shape", ()), step.x, step.y)
    share = step.mul(dy, step.op("Pow", step.y, step.number(1 - p)))
    return step.mul(_spread_evenly(step, share, window), _norm_slope(step, p))


def _norm_slope(step: Step, p: int) -> ir.Value:
    if p == 2:
        return step.x
    magnitude = step.op("Pow", step.op("Abs", step.x), step.number(p - 1))
    return step.mul(step.op("Sign", step.x), magnitude)


def _spread_evenly(step: Step, share: ir.Value, window: Window) -> ir.Value:
    """Channels count as samples here: one kernel of ones serves them all."""
    kernel = step.array(np.ones((1, 1, *window.kernel)))
    sizes = step.op("Concat", step.integers([-1, 1]), step.op("Shape", step.y, start=2), axis=0)
    return step.like(spread(step, step.op("Reshape", share, sizes), kernel, window, step.x), step.x)


def _window_sizes(step: Step, window: Window) -> ir.Value:
    """How many inputs each window averages: all its taps, or those inside the input where padding does not count."""
    ceil, counted = step.attribute("ceil_mode", 0), step.attribute("count_include_pad", 0)
    if not ceil and (counted or not window.padded):
        return step.number(int(np.prod(window.kernel)))
    axes = range(2, step.rank(step.x))
    sizes = zip(step.shape(step.x, axes), step.shape(step.y, axes), strict=True)
    per_axis = [_taps_inside(window, axis, *size, bool(counted)) for axis, size in enumerate(sizes)]
    counts = per_axis[0]
    for more in per_axis[1:]:
        counts = counts[..., None] * more
    return step.array(counts)


def _taps_inside(window: Window, axis: int, inputs: int, outputs: int, counted: bool) -> Array:
    taps = np.arange(window.kernel[axis]) * window.dilations[axis] - window.begins[axis]
    positions = np.arange(outputs)[:, None] * window.strides[axis] + taps
    low, high = (-window.begins[axis], inputs + window.ends[axis]) if counted else (0, inputs)
    return np.asarray(((positions >= low) & (positions < high)).sum(1))


@gradient("GlobalLpPool")
def global_norm_pool(step: Step, dy: ir.Value) -> Result:
    p = step.attribute("p", 2)
    return step.mul(step.mul(dy, step.op("Pow", step.y, step.number(1 - p))), _norm_slope(step, p))
