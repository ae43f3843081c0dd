"""Options of quantize_static: types, zero points, powers of two, calibrators, and what the report says of quality."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.measure.quality import Worst, decibels, weight_sqnr
from compress_ops.quantize.int8.dynamic import quantize_dynamic
from compress_ops.quantize.int8.static import quantize_static
from compress_ops.quantize.ranges.calibrate import CALIBRATORS
from compress_ops.runtime import Provider
from tests.helpers import Given, context, model_of, noise, optimized, outputs, proto_of, saved_weights, sqnr_db
from tests.quantize.int8.int8_case import CONV, CONV_WEIGHTS, IMAGES, MATMUL, NETWORKS, W, X, nearly, network, quantized

GEMM = "g (float[N,40] x) => (float[N,24] y) { y = Gemm<transB=1>(x, w, c) }"
GEMM_WEIGHTS = {"w": W.T.copy(), "c": noise(24, seed=6)}
OPERATORS = {
    "MatMul": (MATMUL, {"w": W}, X, "MatMulIntegerToFloat"),
    "Gemm": (GEMM, GEMM_WEIGHTS, X, "QGemm"),
    "Conv": (CONV, CONV_WEIGHTS, IMAGES, "QLinearConv"),
}


# --- types ---


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_unsigned_weights_run_in_integers(name, per_channel):
    text, given, x, kernel = OPERATORS[name]
    given = {**given, "w": given["w"] + np.float32(0.5)}  # what asymmetric codes are for
    source = proto_of(text, **given)
    model, change = quantized(source, {"x": x}, weight_type="uint8", per_channel=per_channel)
    stored = saved_weights(model)
    assert stored["w_uint8"].dtype == np.uint8 and "uint8" in next(iter(change.touched.values()))
    assert optimized(model)[kernel] == 1
    nearly(model, source, 5, x=x)


@pytest.mark.parametrize("per_channel", [False, True])
def test_unsigned_weights_are_the_formula(per_channel):
    weight = W + np.float32(0.5)
    model, _ = quantized(proto_of(MATMUL, w=weight), {"x": X}, weight_type="uint8", per_channel=per_channel)
    stored = saved_weights(model)
    low, high = (reduce(weight, axis=0 if per_channel else None) for reduce in (np.min, np.max))
    scale = ((np.maximum(high, 0).astype(np.float64) - np.minimum(low, 0)) / 255).astype(np.float32)
    zero = np.rint(-np.minimum(low, 0) / scale)
    np.testing.assert_array_equal(stored["w_uint8_scale"], scale)
    np.testing.assert_array_equal(stored["w_uint8_zero_point"], zero)
    np.testing.assert_array_equal(stored["w_uint8"], np.clip(np.rint(weight / scale) + zero, 0, 255))


def test_unsigned_weights_of_a_conv_have_one_zero_point():
    """QLinearConv takes one for all channels."""
    stored = saved_weights(quantized(proto_of(CONV, **CONV_WEIGHTS), {"x": IMAGES}, weight_type="uint8")[0])
    assert (stored["w_uint8_zero_point"] == 128).all()
    np.testing.assert_allclose(stored["w_uint8_scale"], np.abs(CONV_WEIGHTS["w"]).max(axis=(1, 2, 3)) / 127, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "symmetric", "zero"),
    [("uint8", None, None), ("uint8", True, 128), ("int8", None, 0), ("int8", False, None), ("uint16", True, 2**15)],
)
def test_zero_points_of_activations(kind, symmetric, zero):
    x = X + np.float32(1)
    source = proto_of(MATMUL, w=W)
    model, _ = quantized(source, {"x": x}, activation_type=kind, symmetric=symmetric)
    stored, limits = saved_weights(model), np.iinfo(kind)
    assert stored["x_zero_point"].dtype == kind
    if zero is None:
        scale = np.float32((x.max() - x.min()) / (limits.max - limits.min))
        assert stored["x_scale"] == pytest.approx(scale)
        assert stored["x_zero_point"] == np.rint(-x.min() / stored["x_scale"]) + limits.min
    else:
        assert stored["x_zero_point"] == zero
        assert stored["x_scale"] == pytest.approx(np.abs(x).max() / ((limits.max - limits.min - 1) / 2))
    nearly(model, source, 5, x=x)


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize("kind", ["uint16", "int16"])
@pytest.mark.parametrize("name", OPERATORS)
def test_sixteen_bit_activations(name, kind, opset):
    """Up to opset 20 they are an operator of onnxruntime's own. What is left is the error of the weights."""
    text, given, x, _ = OPERATORS[name]
    source = proto_of(f'<ir_version: 10, opset_import: ["": {opset}]>\n{text}', **given)
    model, _ = quantized(source, {"x": x}, activation_type=kind)
    domains = {node.domain for node in model.nodes() if node.op_type == "QuantizeLinear"}
    assert domains == {"com.microsoft" if opset < 21 else ""}
    eight, _ = quantized(source, {"x": x}, portable=False)
    errors = [np.square(outputs(m, x=x)[0] - outputs(source, x=x)[0]).sum() for m in (model, eight)]
    assert errors[0] < errors[1]
    nearly(model, source, 4, x=x)


def test_sixteen_bits_are_refused_where_the_provider_has_none():
    ctx = context(calibration=Given({"x": X}), providers=(Provider("tensorrt"),))
    with pytest.raises(PassError, match="provider 'tensorrt' has no int16 activations"):
        quantize_static(model_of(MATMUL, w=W), ctx, activation_type="int16")


@pytest.mark.parametrize("weight_type", ["int8", "uint8"])
@pytest.mark.parametrize("name", OPERATORS)
def test_powers_of_two(name, weight_type):
    text, given, x, _ = OPERATORS[name]
    source = proto_of(text, **given)
    model, _ = quantized(source, {"x": x}, power_of_two=True, weight_type=weight_type, portable=False)
    plain = saved_weights(quantized(source, {"x": x}, weight_type=weight_type, portable=False)[0])
    for key, scale in saved_weights(model).items():
        if key.endswith("_scale"):
            assert (np.frexp(scale)[0] == 0.5).all()
            assert ((scale >= plain[key]).all() and (scale < 2 * plain[key]).all()) or "int32" in key
    nearly(model, source, 9, x=x)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_each_calibrator_gives_a_model_near_the_float_one(calibrator):
    source = NETWORKS["residual"][0]
    model, change = quantized(source, {"x": IMAGES}, {"x": IMAGES}, calibrator=calibrator)
    assert change.touched
    (expected,), (found,) = outputs(source, x=IMAGES), outputs(model, x=IMAGES)
    assert decibels(np.square(expected).sum(), np.square(expected - found).sum()) > 15


@pytest.mark.parametrize("op", ["Sigmoid", "LeakyRelu<alpha=0.1>", "Softmax<axis=1>"])
def test_sensitive_operators_stay_float_unless_they_are_named(op):
    """A gate, as in SiLU: what the operator gives is not what the next Conv reads."""
    source = network(f"a = Conv(x, u)  s = {op}(a)  m = Mul(a, s)  y = Conv(m, w)")
    kind = op.partition("<")[0]
    plain, change = quantized(source, {"x": IMAGES})
    assert f"{kind}_s" not in change.touched and "Mul_m" not in change.touched
    assert optimized(plain)[kind] == 1
    named, change = quantized(source, {"x": IMAGES}, only=["*", kind])
    assert change.touched[f"{kind}_s"] == f"{kind} in integers" and "Mul_m" in change.touched
    assert optimized(named)[f"QLinear{kind}"] == 1
    assert f"{kind}_s" not in quantized(source, {"x": IMAGES}, only=["*", kind], skip=[f"{kind}_s"])[1].touched
    for model in (plain, named):
        nearly(model, source, 12, x=IMAGES)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_data_that_never_exercises_an_activation(calibrator):
    empty = {"x": X[:0]}
    model, change = quantized(proto_of(MATMUL, w=W), empty, empty, calibrator=calibrator)
    assert [d.reason for d in change.declined] == ["MatMul: its activations are empty throughout the calibration data"]
    for feeds in ([empty, {"x": X}], [{"x": X}, empty]):
        model, change = quantized(proto_of(MATMUL, w=W), *feeds, calibrator=calibrator)
        assert not change.declined and saved_weights(model)["x_scale"] <= np.float32(np.ptp(X) / 255 * 1.001)


# --- quality ---


def test_sqnr_of_weights_is_that_of_the_stored_codes():
    model, change = quantized(proto_of(MATMUL, w=W), {"x": X}, portable=False)
    stored = saved_weights(model)
    restored = stored["w_int8"] * stored["w_int8_scale"]
    expected = sqnr_db(W, restored)
    found = {entry["name"]: entry for entry in change.notes["worst"]}
    assert found["w"] == {"name": "w", "sqnr_db": pytest.approx(expected, abs=0.051)}
    assert change.touched == {"MatMul_y": f"MatMul to int8, {found['w']['sqnr_db']} dB"}


@pytest.mark.parametrize("size", [1.0, 1e30, 1e-30], ids=["", "huge", "tiny"])
@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16"])
def test_sqnr_of_activations_is_that_of_their_codes(kind, size):
    x = (X * size).astype(np.float32)
    model, change = quantized(proto_of(MATMUL, w=W), {"x": x}, activation_type=kind)
    stored, limits = saved_weights(model), np.iinfo(kind)
    scale, zero = np.float64(stored["x_scale"]), stored["x_zero_point"].astype(np.int64)
    restored = (np.clip(np.rint(x / scale) + zero, limits.min, limits.max) - zero) * scale
    expected = sqnr_db(x, restored)
    (found,) = [entry for entry in change.notes["worst"] if entry["name"] == "x"]
    assert found == {"name": "x", "sqnr_db": pytest.approx(expected, abs=0.1)}  # one code of a thousand off by rounding


def test_what_a_moving_average_clips_is_told():
    """The range is that of the first batch mixed with a tenth of the second; quality is looked at on the first."""
    first, second = X, X / 10
    model, change = quantized(proto_of(MATMUL, w=W), {"x": first}, {"x": second}, calibrator="moving_average")
    stored = saved_weights(model)
    scale, zero = np.float64(stored["x_scale"]), int(stored["x_zero_point"])
    low, high = -zero * scale, (255 - zero) * scale
    expected = ((first < low - scale / 2) | (first > high + scale / 2)).mean()
    (found,) = [entry for entry in change.notes["worst"] if entry["name"] == "x"]
    assert expected > 0 and found["clipped"] == pytest.approx(expected, rel=0.01)


def test_activations_that_were_counted_are_listed_with_what_is_clipped():
    x = X.copy()
    x[0, 0] = 40
    options = {"calibrator": "percentile", "percentile": 99.0, "portable": False}
    _, change = quantized(proto_of(MATMUL, w=W), {"x": x}, **options)
    worst = change.notes["worst"]
    assert [entry["name"] for entry in worst] == ["x", "w"]
    assert worst[0]["clipped"] == pytest.approx(0.01, abs=0.003) and "clipped" not in worst[1]
    clipped = np.clip(x, *np.sort(x, axis=None)[[3, -4]])
    expected = sqnr_db(x, clipped)
    assert worst[0]["sqnr_db"] == pytest.approx(expected, abs=1)
    assert change.notes["clipped"] == f"{100 * worst[0]['clipped']:.2g} %"


@pytest.mark.parametrize("quantize", [quantize_static, quantize_dynamic], ids=["static", "dynamic"])
def test_the_ten_worst_are_listed_in_order(quantize):
    layers = "  ".join(f"h{i + 1} = MatMul(h{i}, w{i})" for i in range(12)).replace("h12", "y").replace("h0", "x")
    given = {f"w{i}": noise(24, 24, seed=i) for i in range(12)}
    given["w7"][3] *= 100
    model = model_of(f"g (float[N,24] x) => (float[N,24] y) {{ {layers} }}", **given)
    change = quantize(model, context(calibration=Given({"x": noise(4, 24)})), per_channel=False)
    worst = change.notes["worst"]
    assert len(worst) == 10
    assert [entry["sqnr_db"] for entry in worst] == sorted(entry["sqnr_db"] for entry in worst)
    assert json.loads(json.dumps(worst)) == list(worst)
    assert str(worst) == f"{worst[0]['sqnr_db']} dB ({worst[0]['name']})"


def test_worst_as_text():
    assert str(Worst([{"name": "w", "sqnr_db": np.inf}])) == "identical (w)"
    assert str(Worst([{"name": "w", "sqnr_db": 30.1}])) == "30.1 dB (w)"
    assert str(Worst([{"name": f"/layer/{20 * 'n'}", "sqnr_db": 30.1}])) == f"30.1 dB (...{20 * 'n'})"


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_sqnr_does_not_depend_on_the_size_of_numbers(scale):
    weight = noise(50, 50) * np.float32(scale)
    assert weight_sqnr(weight, weight * np.float32(0.9)) == pytest.approx(20, abs=0.01)
    assert weight_sqnr(weight, weight) == np.inf
    assert weight_sqnr(np.zeros(3, np.float32), np.ones(3, np.float32)) == -np.inf
