"""Learned step sizes of activations and weights, and the int32 biases that go by them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.distill.fine_tuning.integer_biases import find_biases, stored, with_float_biases
from compress_ops.distill.fine_tuning.learned_steps import activation_scales, with_factors
from compress_ops.distill.fine_tuning.unrounded import Steps, unrounded
from compress_ops.model import Model
from compress_ops.passes import Change
from tests.distill.fine_tuning.tuning_case import error, slope, static, tuned
from tests.helpers import array_of, arrays_of, model_of, noise, outputs, put

Array = np.ndarray[Any, Any]
ROUNDING = 64 * float(np.finfo(np.float32).eps)
PAIR = """<ir_version: 10, opset_import: ["": 21]> agraph (float[N,6] x) => (float[N,6] y) {
  q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"""
SCALE, ZERO = np.float32(0.01), np.uint8(100)  # the range is -1 to 1.55


def pair() -> Model:
    return model_of(PAIR, s=SCALE, z=ZERO)


def slope_of_factor(model: Model, x: Array, dy: Array) -> float:
    """dL/dr of L = sum dy y at r = 1, as the engine finds it."""
    copy = model.copy()
    (factor,) = with_factors(copy, ["s"]).values()
    return float(slope(copy, factor, dy, {"x": x, factor: np.ones((), np.float32)}))


def test_the_slope_of_a_factor_is_that_of_lsq() -> None:
    """dL/dr = s sum dy (round(x/s) - x/s) inside the range and s sum dy (q - z) outside, in float64."""
    x, dy = noise(50, 6, seed=1, scale=1.5), noise(50, 6, seed=2)
    ratio = x.astype(np.float64) / np.float64(SCALE)
    codes = np.clip(np.rint(ratio) + ZERO, 0, 255)
    inside = (ratio + ZERO > 0) & (ratio + ZERO < 255)
    terms = float(SCALE) * dy * np.where(inside, np.rint(ratio) - ratio, codes - ZERO)
    assert 0 < inside.sum() < inside.size
    assert slope_of_factor(pair(), x, dy) == pytest.approx(terms.sum(), abs=ROUNDING * np.abs(terms).sum())


def test_where_everything_is_clipped_it_is_the_true_slope() -> None:
    """y = s (q - z) with q at an end of its range is linear in s: central differences are exact there."""
    x, dy, h = np.where(noise(50, 6) > 0, 5, -5).astype(np.float32), noise(50, 6, seed=2), np.float32(2.0**-7)
    ends = [outputs(model_of(PAIR, s=SCALE * (1 + sign * h), z=ZERO), x=x)[0] for sign in (1, -1)]
    difference = float(((ends[0] - ends[1]) * dy).sum() / (2 * h))
    total = float(np.abs(ends[0] * dy).sum())
    assert slope_of_factor(pair(), x, dy) == pytest.approx(difference, abs=ROUNDING * total / float(h))


def widened(by: float) -> tuple[Model, Model]:
    """A quantized model whose input's step was chosen too large."""
    model, teacher = static(per_channel=False, portable=False)
    put(model, "x_scale", array_of(model, "x_scale") * np.float32(by))
    return model, teacher


def test_steps_of_activations_are_learned() -> None:
    """A step 16 times too large costs most of the accuracy; weights alone cannot make up for it."""
    errors = {}
    for learned in (False, True):
        model, teacher = widened(16)
        change = tuned(model, teacher, learn_activation_scales=learned, learning_rate=2e-2)
        errors[learned] = error(model, teacher)
    assert change.touched["x_scale"].startswith("steps changed by up to")
    assert errors[True] < errors[False] / 2


@pytest.mark.parametrize("per_channel", [True, False])
def test_int32_biases_keep_the_scale_of_input_times_weight(per_channel: bool) -> None:
    model, teacher = static(per_channel=per_channel, portable=False)
    far, before = error(model, teacher), arrays_of(model)
    change = tuned(model, teacher, learn_scales=True, learn_activation_scales=True, epochs=15)
    after = arrays_of(model)
    assert not change.declined and {"w1_int8_scale", "x_scale", "b1_int32"} <= set(change.touched)
    assert (after["w1_int8_scale"] != before["w1_int8_scale"]).all() and error(model, teacher) < far
    np.testing.assert_array_equal(after["b1_int32_scale"], after["x_scale"] * after["w1_int8_scale"])
    assert after["b1_int32"].dtype == np.int32 and after["b1_int32"].shape == before["b1_int32"].shape


def test_a_bias_that_is_not_trained_keeps_its_value() -> None:
    """Within half a step of the new scale, and half a one of the old."""
    model, teacher = static(per_channel=False, portable=False)
    before = arrays_of(model)
    change = tuned(model, teacher, learn_scales=True, train=["w1*"])
    after = arrays_of(model)
    assert change.touched["b1_int32"] == "rounded for the new scales"
    moved = after["b1_int32"] * after["b1_int32_scale"] - before["b1_int32"] * before["b1_int32_scale"]
    assert (np.abs(moved) <= (after["b1_int32_scale"] + before["b1_int32_scale"]) / 2).all()


def test_float_biases_compute_what_integer_ones_do_and_come_back() -> None:
    model, _ = static(per_channel=True, portable=False)
    (bias,) = find_biases(model)
    copy, x = model.copy(), noise(20, 6, seed=3)
    with_float_biases(copy, [bias])
    copy.check()
    np.testing.assert_allclose(outputs(copy, x=x)[0], outputs(model, x=x)[0], rtol=ROUNDING, atol=ROUNDING)
    back = stored(bias, array_of(copy, bias.name), model)
    np.testing.assert_array_equal(back[bias.name], arrays_of(model)[bias.name])


def test_a_bias_that_is_read_otherwise_too_holds_its_scales() -> None:
    model, _ = static(per_channel=False, portable=False)
    (node,) = [node for node in model.graph if node.outputs[0].name == "b1_int32_dequantized"]
    doubled = ir.node("Add", [node.outputs[0], node.outputs[0]], name="twice")
    doubled.outputs[0].name, doubled.outputs[0].type = "twice", ir.TensorType(ir.DataType.FLOAT)
    doubled.outputs[0].shape = ir.Shape([64])
    model.graph.insert_after(node, doubled)
    model.graph.outputs.append(doubled.outputs[0])
    change = Change()
    assert not find_biases(model) and not unrounded(model, ["*"], Steps(of_weights=True), change).factors
    assert "an int32 bias has the scale" in change.declined[0].reason


def test_a_step_that_something_else_reads_is_left() -> None:
    text = PAIR.replace("y = Deq", "t = Identity(s) y = Deq")
    assert activation_scales(pair()) == ["s"] and not activation_scales(model_of(text, s=SCALE, z=ZERO))
