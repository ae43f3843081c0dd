"""Integer islands: what an integer kernel replaces keeps float32, and its neighbours do not."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.pipeline.integer_kernels import integer_kernels
from compress_ops.quantize.few_bits.quantize_weights import quantize_weights
from compress_ops.quantize.half.float16 import to_float16
from compress_ops.quantize.half.islands import integer_islands
from compress_ops.quantize.int8.dynamic import quantize_dynamic
from compress_ops.quantize.int8.static import quantize_static
from compress_ops.runtime import CPU
from tests.helpers import Given, context, model_of, noise, op_types, outputs, proto

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
CONV = """g (float[N, 8, 12, 12] x, int64[N] i) => (float[N, 8] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, W, b) r = Relu(a) c = Conv<pads = [1, 1, 1, 1]>(r, V, b) d = Clip(c, zero, six)
    p = GlobalAveragePool(d) f = Flatten(p) e = Gather(E, i) y = Mul(f, e) }"""
CONV_WEIGHTS = {
    "W": noise(8, 8, 3, 3, scale=0.1),
    "V": noise(8, 8, 3, 3, seed=1, scale=0.1),
    "b": noise(8),
    "E": noise(99, 8),
}
CONV_WEIGHTS |= {"zero": np.float32(0), "six": np.float32(6)}
CONV_FEED = {"x": noise(8, 8, 12, 12), "i": np.arange(8)}
RESIDUAL = """g (float[N, 32] x, int64[N] i) => (float[N, 32] y) {
    e = Gather(E, i) s = Add(x, e) a = MatMul(s, W) ab = Add(a, b) r = Relu(ab) t = MatMul(r, V) y = Add(t, s) }"""
RESIDUAL_WEIGHTS = {
    "W": noise(32, 32, scale=0.1),
    "V": noise(32, 32, seed=1, scale=0.1),
    "b": noise(32),
    "E": noise(99, 32),
}
RESIDUAL_FEED = {"x": noise(8, 32), "i": np.arange(8)}

CASES = {
    "static convolutions": (CONV, CONV_WEIGHTS, CONV_FEED, quantize_static, {}),
    "static matrices": (RESIDUAL, RESIDUAL_WEIGHTS, RESIDUAL_FEED, quantize_static, {}),
    "dynamic matrices": (RESIDUAL, RESIDUAL_WEIGHTS, RESIDUAL_FEED, quantize_dynamic, {"operators": ["MatMul"]}),
    "dynamic convolutions": (CONV, CONV_WEIGHTS, CONV_FEED, quantize_dynamic, {"operators": ["Conv"]}),
    "weights in blocks": (RESIDUAL, RESIDUAL_WEIGHTS, RESIDUAL_FEED, quantize_weights, {"only": ["MatMul"]}),
    "weights in blocks, as QDQ": (
        RESIDUAL,
        RESIDUAL_WEIGHTS,
        RESIDUAL_FEED,
        quantize_weights,
        {"only": ["MatMul"], "storage": "qdq"},
    ),
}


@pytest.mark.parametrize(("text", "weights", "feed", "quantize", "options"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("with_data", [False, True])
def test_float16_keeps_every_integer_kernel(text, weights, feed, quantize, options, with_data):
    model = model_of(HEADER + text, **weights)
    quantize(model, context(calibration=Given(feed)), **options)
    before, (plain,) = integer_kernels(model, CPU), outputs(model, **feed)
    change = to_float16(model, context(calibration=Given(feed) if with_data else None))
    assert integer_kernels(model, CPU).total() >= max(before.total(), 1)
    assert {"Gather_e"} <= set(change.touched)
    assert {value.dtype.name for value in model.weights() if value.name == "E"} == {"FLOAT16"}
    (found,) = outputs(model, **feed)
    assert np.abs(found - plain).max() < 0.02 * np.abs(plain).max()


def test_sums_of_integers_are_never_cast_to_float16():
    """A sum of 512 products of 8-bit codes may be 16 million; float16 ends at 65504."""
    model = model_of(
        HEADER + "g (float[N, 512] x) => (float[N, 64] y) { a = MatMul(x, W) y = Relu(a) }",
        W=np.ones((512, 64), np.float32),
    )
    quantize_dynamic(model, context(), operators=["MatMul"])
    to_float16(model, context())
    x = np.full((1, 512), 8, np.float32)
    assert np.allclose(outputs(model, x=x)[0], 4096, rtol=0.01)


def test_float_layers_behind_codes_are_no_island():
    """A Gemm whose own weight is float is lowered, though codes reach it."""
    text = """g (float[N, 32] x) => (float[N, 8] y) {
        q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, W) }"""
    model = model_of(HEADER + text, s=np.float32(0.1), z=np.uint8(128), W=noise(32, 8))
    assert not integer_islands(model)
    assert set(to_float16(model, context()).touched) == {"MatMul_y"}
    assert op_types(model)["DequantizeLinear"] == 1 and proto(model).graph.output[0].type.tensor_type.elem_type == 1
