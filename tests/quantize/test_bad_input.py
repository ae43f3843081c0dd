"""What int8 passes do with input that nobody wishes for: a defined result, or a reason that names what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.errors import OnnxpressError
from compress_ops.pipeline import Job, run
from compress_ops.quantize.few_bits.cluster_weights import cluster_weights
from compress_ops.quantize.few_bits.quantize_weights import quantize_weights
from compress_ops.quantize.few_bits.ternary import binarize_weights, ternarize_weights
from compress_ops.quantize.int8.dynamic import quantize_dynamic
from compress_ops.quantize.int8.static import quantize_static
from compress_ops.recipe import parse_recipe
from tests.helpers import Given, applied, arrays_of, context, model_of, noise, op_types, outputs, proto, proto_of

X = noise(16, 40, seed=1)
W, V = noise(40, 40, seed=2, scale=0.2), noise(40, 24, seed=3, scale=0.2)
BODY = "g (float[N,40] x) => (float[N,24] y) { [one] h = MatMul(x, w)  [two] y = MatMul(h, v) }"
PASSES = {
    "static": quantize_static,
    "operators": lambda model, ctx, **options: quantize_static(model, ctx, form="qoperator", **options),
    "dynamic": quantize_dynamic,
}
EVERY = pytest.mark.parametrize("quantize", PASSES.values(), ids=PASSES)


def quantized(quantize, *, w=W, v=V, x=X, **options):
    source = proto_of(BODY, w=w, v=v)
    model = model_of(source)
    change = quantize(model, context(calibration=Given({"x": x})), **options)
    return model, change, source


def relative(model, source, x=X):
    """Distance of the outputs in shares of the largest."""
    a, b = outputs(source, x=x)[0].astype(np.float64), outputs(model, x=x)[0].astype(np.float64)
    assert np.isfinite(b).all()
    return np.abs(a - b).max() / max(np.abs(a).max(), 1e-300)


@EVERY
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_declined_and_the_others_quantized(quantize, bad):
    v = V.copy()
    v[3, 5] = bad
    model, change, _ = quantized(quantize, v=v)
    assert [(d.name, d.reason) for d in change.declined] == [
        ("two", "MatMul: its weight or bias has NaN or infinite values")
    ]
    assert list(change.touched) == ["one"] and op_types(model)["MatMul"] == (2 if quantize is quantize_static else 1)


@pytest.mark.parametrize("operation", [cluster_weights, quantize_weights, ternarize_weights, binarize_weights])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_of_few_bits_are_declined_where_they_are_not_finite(operation, bad):
    weight = noise(96, 40)
    weight[3, 3] = bad
    _, change = applied(operation, model_of("g (float[B,96] x) => (float[B,40] y) { y = MatMul(x, w) }", w=weight))
    assert [declined.reason for declined in change.declined] == ["MatMul: its weight has NaN or infinite values"]
    assert not change.touched


@EVERY
@pytest.mark.parametrize("value", [0.0, 0.25, 1e-42])
def test_weights_of_one_value(quantize, value):
    """Zeros and denormals, which have no scale, become zeros; others are kept to a step of the activations."""
    x = np.abs(X)
    model, _, source = quantized(quantize, w=np.full_like(W, value), x=x)
    if value < 1e-30:
        assert not outputs(model, x=x)[0].any()
    else:
        assert relative(model, source, x) < 4 / 255  # two activations, each rounded to half of a step of 1/255


@EVERY
def test_an_outlier_in_a_weight_harms_its_channel_alone(quantize):
    w = W.copy()
    w[0, 0] = 1e6
    source = proto_of("g (float[N,40] x) => (float[N,40] y) { y = MatMul(x, w) }", w=w)
    model = model_of(source)
    quantize(model, context(calibration=Given({"x": X})))
    expected, found = outputs(source, x=X)[0], outputs(model, x=X)[0]
    if quantize is not PASSES["operators"]:  # there the outputs have one scale, which the outlier takes
        assert np.abs(found - expected)[:, 1:].max() < 0.1
    assert np.abs(found - expected)[:, 0].max() < 1e6 * np.ptp(X) / 100


@EVERY
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_activations_of_any_size(quantize, size):
    x = (X * size).astype(np.float32)
    model, change, source = quantized(quantize, x=x)
    assert len(change.touched) == 2
    assert relative(model, source, x) < 8 / 255


@pytest.mark.parametrize("first", PASSES.values(), ids=PASSES)
@pytest.mark.parametrize("second", PASSES.values(), ids=PASSES)
def test_what_is_quantized_already_is_left_alone_and_what_is_float_goes_on(first, second):
    model, *_ = quantized(first, only=["one"])
    codes = {v.name: v.const_value.numpy() for v in model.weights() if v.const_value.dtype.name == "INT8"}
    change = second(model, context(calibration=Given({"x": X})))
    assert list(change.touched) == ["two"]
    assert [d.reason.partition(": ")[2] for d in change.declined] in (
        ["its weight is quantized already"],
        ["it is quantized already"],
    )
    after = arrays_of(model)
    assert all((after[name] == code).all() for name, code in codes.items() if code.size > 1)
    again = proto(model)
    change = second(model, context(calibration=Given({"x": X})))
    assert not change.touched and len(change.declined) == 2
    assert proto(model) == again


def test_weights_in_blocks_are_quantized_already():
    model, *_ = quantized(lambda model, ctx: quantize_weights(model, ctx, method="rtn"))
    change = quantize_dynamic(model, context())
    assert {d.reason for d in change.declined} == {"MatMulNBits: it is quantized already"} and not change.touched


@pytest.mark.parametrize(
    "name", ["quantize_static", "quantize_dynamic", "quantize_weights", "keep_float", "to_float16"]
)
def test_a_pattern_that_matches_nothing(name, tmp_path):
    model_of(proto_of(BODY, w=W, v=V)).save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=X)
    recipe = f"version: 1\ndata: {{calibration: {tmp_path / 'd.npz'}}}\npasses: [{name}: {{skip: [three]}}]\n"
    with pytest.raises(OnnxpressError, match="skip pattern 'three' matches no node"):
        run(Job(parse_recipe(recipe), tmp_path / "m.onnx", tmp_path / "o.onnx"))
    assert not (tmp_path / "o.onnx").exists()
