"""The gradient score against central differences: how far the outputs move when what reads a unit is scaled."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.model import Model
from compress_ops.passes import Context
from compress_ops.prune.channels import find_groups, prepare
from compress_ops.prune.prune_channels import prune_channels
from compress_ops.prune.scores.gradient import first_order
from tests.helpers import Given, context, model_of, noise, outputs

TEXT = """agraph (float[N,2,5,5] x) => (float[N,3] y, float[N,2] z) {
    a = Conv(x, w1, b1)  r = Sigmoid(a)  p = ReduceMean<axes=[2,3], keepdims=0>(r)  y = Gemm(p, w2)  z = Gemm(p, w3)
}"""
WEIGHTS = {"w1": noise(4, 2, 3, 3), "b1": noise(4), "w2": noise(4, 3, seed=1), "w3": noise(4, 2, seed=2)}
FEEDS = [{"x": noise(3, 2, 5, 5, seed=5)}, {"x": noise(2, 2, 5, 5, seed=6)}]
STEP = 1e-2  # central differences are off by step^2 times a third derivative: none here, the outputs are linear in it
BATCHES = 50  # with 8 probes each, of relative variance 2 at most: a standard error of sqrt(2 / 400)
CLOSE = 4 * 0.071


def of(*feeds: dict[str, np.ndarray]) -> Context:
    return context(calibration=Given(*feeds))


def scores(model: Model, ctx: Context) -> list:
    prepare(model)
    grouping = find_groups(model)
    return first_order(model, ctx, grouping, grouping.groups)


def moved(unit: int, feed: dict[str, np.ndarray]) -> float:
    """Sum over outputs of |dy/ds|^2 / |y|^2, where s scales what reads the unit."""
    ends = []
    for scale in (1 + STEP, 1 - STEP):
        scaled = {name: WEIGHTS[name].copy() for name in ("w2", "w3")}
        for weight in scaled.values():
            weight[unit] *= scale
        ends.append([y.astype(np.float64) for y in outputs(model_of(TEXT, **{**WEIGHTS, **scaled}), **feed)])
    slopes = [(up - down) / (2 * STEP) for up, down in zip(*ends, strict=True)]
    whole = outputs(model_of(TEXT, **WEIGHTS), **feed)
    return sum(float(np.square(slope).sum() / np.square(y).sum()) for slope, y in zip(slopes, whole, strict=True))


def test_it_is_how_far_the_outputs_move() -> None:
    expected = [BATCHES * sum(moved(unit, feed) for feed in FEEDS) for unit in range(4)]
    (found,) = scores(model_of(TEXT, **WEIGHTS), of(*FEEDS * BATCHES))
    assert np.allclose(found, expected, rtol=CLOSE)


def test_samples_that_pull_in_opposite_directions_do_not_cancel() -> None:
    text = "agraph (float[N,2] x) => (float[N,1] y) { a = MatMul(x, w1) y = MatMul(a, w2) }"
    weights = {"w1": np.eye(2, dtype=np.float32), "w2": np.ones((2, 1), np.float32)}
    feed = {"x": np.array([[10, 1], [-10, 1]], np.float32)}
    (found,) = scores(model_of(text, **weights), of(*[feed] * 50))
    assert found[0] > 20 * found[1]


def test_a_normalization_behind_the_filter_does_not_hide_it() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, w1)  n = InstanceNormalization(a, scale, shift)  y = Conv(n, w2) }"""
    shrinking = np.repeat(np.float32([1, 0.5, 0.25, 0.125]), 2).reshape(1, 4, 2)[..., 0]
    weights = {"w1": noise(4, 3, 1, 1), "scale": np.ones(4, np.float32), "shift": noise(4) * 0,
               "w2": shrinking.reshape(1, 4, 1, 1) * np.ones((2, 4, 1, 1), np.float32)}  # fmt: skip
    (found,) = scores(model_of(text, **weights), of(*[{"x": noise(2, 3, 4, 4, seed=3)}] * 50))
    assert np.all(np.diff(found) < 0)


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
    text = "agraph (float[N,4] x) => (float[N,3] y) { a = Gemm(x, w1) b = Gemm(a, w2) y = Shrink(b) }"
    model = model_of(text, w1=noise(4, 8), w2=noise(8, 3))
    with pytest.raises(PassError, match="score 'gradient': no gradient is known for Shrink"):
        prune_channels(model, of({"x": noise(2, 4)}), ratio=0.5, score="gradient")


def test_outputs_that_are_no_floats() -> None:
    text = "agraph (float[N,4] x) => (int64[N] y) { a = Gemm(x, w1) b = Gemm(a, w2) y = ArgMax<axis=1, keepdims=0>(b) }"
    model = model_of(text, w1=noise(4, 8), w2=noise(8, 3))
    with pytest.raises(PassError, match="needs an output of floating-point numbers"):
        prune_channels(model, of({"x": noise(2, 4)}), ratio=0.5, score="gradient")
