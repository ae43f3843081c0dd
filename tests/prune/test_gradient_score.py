"""The gradient score against central differences: how the loss answers when what makes a unit is scaled."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.model import Model
from compress_ops.passes import Context
from compress_ops.prune.channels import find_groups, prepare
from compress_ops.prune.gradient import first_order
from compress_ops.prune.prune_channels import prune_channels
from tests.helpers import Given, context, model_of, noise, outputs

TEXT = """agraph (float[N,2,5,5] x) => (float[N,3] y, float[N,2] z) {
    a = Conv(x, w1, b1)
    r = Sigmoid(a)
    p = ReduceMean<axes=[2,3], keepdims=0>(r)
    y = Gemm(p, w2)
    z = Gemm(p, w3)
}"""
WEIGHTS = {"w1": noise(4, 2, 3, 3), "b1": noise(4), "w2": noise(4, 3, seed=1), "w3": noise(4, 2, seed=2)}
FEEDS = [{"x": noise(3, 2, 5, 5, seed=5)}, {"x": noise(2, 2, 5, 5, seed=6)}]
STEP = 1e-2  # central differences are off by step^2 times a third derivative: 1e-4 of numbers near 1
CLOSE = 5e-3


def of(*feeds: dict[str, np.ndarray]) -> Context:
    return context(calibration=Given(*feeds))


def scores(model: Model, ctx: Context) -> list:
    prepare(model)
    grouping = find_groups(model)
    return first_order(model, ctx, grouping, grouping.groups)


def loss(weights: dict[str, np.ndarray], feed: dict[str, np.ndarray]) -> float:
    return sum(float(np.mean(np.square(y.astype(np.float64)))) / 2 for y in outputs(model_of(TEXT, **weights), **feed))


def slope(unit: int, feed: dict[str, np.ndarray]) -> float:
    """dL/ds of w1[unit] * s at s = 1, which is sum w dL/dw."""
    ends = []
    for scale in (1 + STEP, 1 - STEP):
        w1 = WEIGHTS["w1"].copy()
        w1[unit] *= scale
        ends.append(loss({**WEIGHTS, "w1": w1}, feed))
    return (ends[0] - ends[1]) / (2 * STEP)


def test_it_is_the_square_of_the_slope_of_each_batch() -> None:
    expected = [sum(slope(unit, feed) ** 2 for feed in FEEDS) for unit in range(4)]
    (found,) = scores(model_of(TEXT, **WEIGHTS), of(*FEEDS))
    assert np.allclose(found, expected, rtol=CLOSE)


def test_a_channel_that_moves_nothing_goes_first() -> None:
    deaf = {**WEIGHTS, "w2": WEIGHTS["w2"].copy(), "w3": WEIGHTS["w3"].copy()}
    deaf["w2"][2] = deaf["w3"][2] = 0
    model = model_of(TEXT, **deaf)
    before = outputs(model, **FEEDS[0])
    prune_channels(model, of(*FEEDS), ratio=0.25, score="gradient", round_to=1)
    for left, right in zip(before, outputs(model, **FEEDS[0]), strict=True):
        assert np.allclose(left, right, atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model = model_of(TEXT, **WEIGHTS)
    prepare(model)
    names, before = [node.name for node in model.nodes()], {w.name: w.const_value for w in model.weights()}
    scores(model, of(*FEEDS))
    assert [node.name for node in model.nodes()] == names
    assert {w.name: w.const_value for w in model.weights()} == before


def test_operators_without_a_gradient_are_named() -> None:
    text = "agraph (float[N,4] x) => (float[N,3] y) { a = Gemm(x, w1) b = Shrink(a) y = Gemm(b, w2) }"
    model = model_of(text, w1=noise(4, 8), w2=noise(8, 3))
    with pytest.raises(PassError, match="score 'gradient': no gradient is known for Shrink"):
        prune_channels(model, of({"x": noise(2, 4)}), ratio=0.5, score="gradient")


def test_outputs_that_are_no_floats() -> None:
    text = "agraph (float[N,4] x) => (int64[N] y) { a = Gemm(x, w1) b = Gemm(a, w2) y = ArgMax<axis=1, keepdims=0>(b) }"
    model = model_of(text, w1=noise(4, 8), w2=noise(8, 3))
    with pytest.raises(PassError, match="needs an output of floating-point numbers"):
        prune_channels(model, of({"x": noise(2, 4)}), ratio=0.5, score="gradient")
