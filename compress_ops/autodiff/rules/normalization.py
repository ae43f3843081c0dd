"""Gradients of normalizations: y = scale z + bias with z = (x - mean) / deviation over some axes, where
deviation = sqrt(variance + epsilon). With g = scale dy and averages E over those axes,

    dx = (g - E g - z E(g z)) / deviation        dscale = sum dy z        dbias = sum dy

where mean and variance are those of x. Where they are given (running statistics, or numbers that the graph computes),
dx = g / deviation, dmean = -sum g / deviation and dvariance = -1/2 sum g z / deviation^2.
Local response normalization y = x d^-beta, d = bias + (alpha / size) sum of x^2 over near channels:

    dx = dy d^-beta - (2 alpha beta / size) x sum over near channels of dy x d^(-beta-1)
"""

from __future__ import annotations

from collections.abc import Sequence

from ...lazy import ir
from ..rule import Entry, Result, gradient
from ..step import Step


def _centred(step: Step, x: ir.Value, axes: Sequence[int], epsilon: float) -> tuple[ir.Value, ir.Value]:
    """z and 1 / deviation, computed anew."""
    wanted = step.integers(axes)
    difference = step.sub(x, step.op("ReduceMean", x, wanted))
    variance = step.op("ReduceMean", step.square(difference), wanted)
    inverse = step.op("Reciprocal", step.op("Sqrt", step.add(variance, step.number(epsilon))))
    return step.mul(difference, inverse), inverse


def _through(step: Step, g: ir.Value, z: ir.Value, inverse: ir.Value, axes: Sequence[int]) -> ir.Value:
    """dx = (g - E g - z E(g z)) / deviation."""
    wanted = step.integers(axes)
    along = step.mul(z, step.op("ReduceMean", step.mul(g, z), wanted))
    return step.mul(step.sub(step.sub(g, step.op("ReduceMean", g, wanted)), along), inverse)


def _channelwise(step: Step, value: ir.Value, rank: int) -> ir.Value:
    """One number a channel, shaped to meet [samples, channels, ...]."""
    return step.op("Reshape", value, step.integers([-1, *[1] * (rank - 2)]))


def _by_own_statistics(step: Step, dy: ir.Value, axes: Sequence[int]) -> Sequence[Entry]:
    """Of a layer that scales channels, and takes mean and variance of x over these axes."""
    x, scale = step.inputs[:2]
    rank = step.rank(x)
    others = [0, *range(2, rank)]
    z, inverse = _centred(step, x, axes, step.attribute("epsilon", 1e-5))
    return (
        lambda: _through(step, step.mul(dy, _channelwise(step, scale, rank)), z, inverse, axes),
        lambda: step.sum(step.mul(dy, z), others, keepdims=0),
        lambda: step.sum(dy, others, keepdims=0),
    )


@gradient("BatchNormalization")
def batch_normalization(step: Step, dy: ir.Value) -> Result:
    """The running statistics that a node gives besides while it trains are not differentiated."""
    if step.attribute("training_mode", 0):
        return _by_own_statistics(step, dy, [0, *range(2, step.rank(step.x))])
    return _by_given_statistics(step, dy)


def _by_given_statistics(step: Step, dy: ir.Value) -> Result:
    x, scale, _, mean, variance = step.inputs
    rank = step.rank(x)
    others = [0, *range(2, rank)]
    deviation = step.op("Sqrt", step.add(variance, step.number(step.attribute("epsilon", 1e-5))))

    def total() -> ir.Value:
        return step.sum(dy, others, keepdims=0)

    def to_scale() -> ir.Value:
        difference = step.sub(x, _channelwise(step, mean, rank))
        return step.div(step.sum(step.mul(dy, difference), others, keepdims=0), deviation)

    def to_variance() -> ir.Value:
        spread = step.square(deviation)
        return step.scale(step.div(step.mul(scale, to_scale()), spread), -0.5)

    return (
        lambda: step.mul(dy, _channelwise(step, step.div(scale, deviation), rank)),
        to_scale,
        total,
        lambda: step.op("Neg", step.div(step.mul(scale, total()), deviation)),
        to_variance,
    )


@gradient("LayerNormalization")
def layer_normalization(step: Step, dy: ir.Value) -> Result:
    """Scale and bias broadcast over the leading axes; the node itself gives mean and 1 / deviation, as float32."""
    x, scale = step.inputs[:2]
    rank = step.rank(x)
    axes = range(step.attribute("axis", -1) % rank, rank)
    mean, inverse = (_as(step, step.output(index)) for index in (1, 2))
    z = step.mul(step.sub(x, mean), inverse)
    return (
        lambda: _through(step, step.mul(dy, scale), z, inverse, axes),
        lambda: step.broadcast(step.mul(dy, z)),
        lambda: step.broadcast(dy),
    )


def _as(step: Step, statistic: ir.Value) -> ir.Value:
    """What is float32 whatever the layer works in."""
    return statistic if step.dtype == ir.DataType.FLOAT else step.op("Cast", statistic, to=step.dtype)


@gradient("RMSNormalization")
def root_mean_square_normalization(step: Step, dy: ir.Value) -> Result:
    """y = scale z, z = x / sqrt(E x^2 + epsilon): dx = (g - z E(g z)) / deviation."""
    x, scale = step.inputs[:2]
    rank = step.rank(x)
    axes = step.integers(range(step.attribute("axis", -1) % rank, rank))
    square = step.op("ReduceMean", step.square(x), axes)
    inverse = step.op("Reciprocal", step.op("Sqrt", step.add(square, step.number(step.attribute("epsilon", 1e-5)))))
    z, g = step.mul(x, inverse), step.mul(dy, scale)

    def to_input() -> ir.Value:
        along = step.mul(z, step.op("ReduceMean", step.mul(g, z), axes))
        return step.mul(step.sub(g, along), inverse)

    return to_input, lambda: step.broadcast(step.mul(dy, z))


@gradient("InstanceNormalization")
def instance_normalization(step: Step, dy: ir.Value) -> Result:
    return _by_own_statistics(step, dy, range(2, step.rank(step.x)))


@gradient("GroupNormalization")
def group_normalization(step: Step, dy: ir.Value) -> Result:
    """Scale and bias hold one number a group before opset 21, one a channel from there on."""
    x, scale = step.inputs[:2]
    groups, rank = step.attribute("num_groups", 1), step.rank(x)
    grouped = step.integers([0, groups, -1])
    per_group = step.model.opset < 21
    z, inverse = _centred(step, step.op("Reshape", x, grouped), [2], step.attribute("epsilon", 1e-5))
    meets = step.integers([groups, 1] if per_group else [-1, *[1] * (rank - 2)])
    rows = step.op("Reshape", dy, grouped) if per_group else dy
    aligned = z if per_group else step.like(z, x)
    others = [0, 2] if per_group else [0, *range(2, rank)]

    def to_input() -> ir.Value:
        g = step.op("Reshape", step.mul(rows, step.op("Reshape", scale, meets)), grouped)
        return step.like(_through(step, g, z, inverse, [2]), x)

    return (
        to_input,
        lambda: step.sum(step.mul(rows, aligned), others, keepdims=0),
        lambda: step.sum(rows, others, keepdims=0),
    )


@gradient("LpNormalization")
def norm_normalization(step: Step, dy: ir.Value) -> Result:
    """y = x / |x|_p along an axis: dx = (dy - sign(y) |y|^(p-1) sum dy y) / |x|_p, for p = 1 and 2."""
    axis, p = [step.attribute("axis", -1)], step.attribute("p", 2)
    norm = step.op("ReduceL2" if p == 2 else "ReduceL1", step.x, step.integers(axis))
    slope = step.y if p == 2 else step.op("Sign", step.x)
    along = step.mul(slope, step.sum(step.mul(dy, step.y), axis))
    return step.div(step.sub(dy, along), norm)


@gradient("LRN")
def local_response_normalization(step: Step, dy: ir.Value) -> Result:
    size, alpha = step.attribute("size", 1), step.attribute("alpha", 1e-4)
    beta, x = step.attribute("beta", 0.75), step.x
    before = (size - 1) // 2
    near = _near_channels(step, step.square(x), before, size)
    d = step.add(step.scale(near, alpha / size), step.number(step.attribute("bias", 1.0)))
    direct = step.mul(dy, step.op("Pow", d, step.number(-beta)))
    spent = _near_channels(step, step.div(step.mul(direct, x), d), size - 1 - before, size)
    return step.sub(direct, step.mul(step.scale(x, 2 * alpha * beta / size), spent))


def _near_channels(step: Step, value: ir.Value, before: int, size: int) -> ir.Value:
    """Sums over a window of channels: averages over the second axis of [samples, channels, rest], times the size."""
    planes = step.op("Reshape", value, step.integers([0, 1, step.shape(step.x)[1], -1]))
    pads = [before, 0, size - 1 - before, 0]
    means = step.op("AveragePool", planes, kernel_shape=[size, 1], pads=pads, count_include_pad=1)
    return step.scale(step.like(means, step.x), size)
