"""correct_bias: the mean output of each quantized layer is that of the float layer again, whatever form it has."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.errors import BrokenPromise, PassError
from compress_ops.graph.clean.simplify import simplify
from compress_ops.model import load
from compress_ops.quantize.few_bits.quantize_weights import quantize_weights
from compress_ops.quantize.int8.dynamic import quantize_dynamic
from compress_ops.quantize.int8.static import quantize_static
from compress_ops.quantize.mend.correct_bias import correct_bias
from tests.helpers import (
    SAMPLES,
    Given,
    context,
    model_of,
    noise,
    op_types,
    optimized,
    outputs,
    proto,
    saved_weights,
)
from tests.quantize.mend.mend_case import error_of, made, rounded, source_of

X = np.abs(noise(64, 40, seed=1)) + 1  # E[x] is far from zero: errors of weights become mean errors
W = noise(40, 24, seed=2)
B = noise(24, seed=3)
IMAGES = np.abs(noise(4, 6, 7, 7, seed=4)) + 1
K, D = noise(8, 6, 3, 3, seed=5), noise(8, seed=6)


LAYERS = {
    "gemm": (source_of("y = Gemm(x, w, b)", w=W, b=B), X),
    "gemm without bias": (source_of("y = Gemm(x, w)", w=W), X),
    "gemm transposed": (source_of("y = Gemm<transB=1>(x, w, b)", w=np.ascontiguousarray(W.T), b=B), X),
    "matmul": (source_of("y = MatMul(x, w)", w=W), X),
    "matmul and add": (source_of("h = MatMul(x, w)  y = Add(h, b)", w=W, b=B), X),
    "conv": (source_of("y = Conv(x, k, d)", IMAGES, "float[N,8,5,5] y", k=K, d=D), IMAGES),
    "conv without bias": (source_of("y = Conv(x, k)", IMAGES, "float[N,8,5,5] y", k=K), IMAGES),
    "depthwise": (
        source_of("y = Conv<group=6>(x, k)", IMAGES, "float[N,42,5,5] y", k=noise(42, 1, 3, 3, seed=7)),
        IMAGES,
    ),
}
COARSE = {"per_channel": False, "portable": True}
QUANTIZERS = {
    "static": lambda model, ctx: quantize_static(model, ctx, **COARSE),
    "dynamic": lambda model, ctx: quantize_dynamic(model, ctx, **COARSE),
}


def quantized(source, x, quantize, correct=True, split=1, **options):
    """Quantized, and corrected with the model from before: the model, and what correct_bias told."""
    model, ctx = rounded(source, quantize, *(part for part in (x[:split], x[split:]) if len(part)))
    before = model.contract()
    change = correct_bias(model, ctx, **options) if correct else None
    assert model.contract() == before
    onnx.checker.check_model(proto(model), full_check=True)
    return model, change


def mean_error(model, source, x):
    """E[y' - y] of each channel (axis 1; the last one where there are two)."""
    difference = outputs(model, x=x)[0].astype(np.float64) - outputs(source, x=x)[0]
    return difference.mean(axis=(0, *range(2, difference.ndim)))


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize(("source", "x"), LAYERS.values(), ids=LAYERS)
def test_the_mean_error_is_gone(source, x, quantize):
    """What stays is half a step of an int32 bias, and half a step of a quantized output."""
    plain, _ = quantized(source, x, quantize, correct=False)
    model, change = quantized(source, x, quantize)
    before, after = np.abs(mean_error(plain, source, x)), np.abs(mean_error(model, source, x))
    assert len(change.touched) == 1 and not change.declined
    step = np.ptp(outputs(source, x=x)[0]) / 255 if "Conv" in {n.op_type for n in source.graph.node} else 0
    assert after.max() < max(before.max() / 20, step / 8)
    assert after.max() < before.max() / 2


def test_the_rule_on_the_codes_of_a_bias():
    source, x = LAYERS["gemm"]
    plain, _ = quantized(source, x, QUANTIZERS["static"], correct=False)
    model, _ = quantized(source, x, QUANTIZERS["static"])
    stored, found = saved_weights(plain), saved_weights(model)
    scale = stored["b_int32_scale"].astype(np.float64)
    wanted = stored["b_int32"] - np.rint(mean_error(plain, source, x) / scale)
    codes = next(array for name, array in found.items() if name.startswith("b_int32") and array.dtype == np.int32)
    assert np.abs(codes - wanted).max() <= 1 and np.abs(wanted - stored["b_int32"]).max() > 10
    assert proto(model).ByteSize() <= proto(plain).ByteSize() + 64


def test_the_rule_on_a_float_bias():
    source, x = LAYERS["matmul and add"]
    plain, _ = quantized(source, x, QUANTIZERS["dynamic"], correct=False)
    model, _ = quantized(source, x, QUANTIZERS["dynamic"], split=len(x))
    bias = next(array for array in saved_weights(model).values() if array.shape == (24,) and array.dtype == np.float32)
    eps = 64 * np.finfo(np.float32).eps * np.abs(outputs(source, x=x)[0]).max()
    np.testing.assert_allclose(bias, B - mean_error(plain, source, x), rtol=0, atol=eps)
    assert op_types(model) == op_types(plain)


def test_weights_in_blocks():
    source = source_of("y = MatMul(x, w)", w=W)

    def four_bits(model, ctx):
        return quantize_weights(model, ctx, bits=4, block_size=32, method="rtn")

    plain, _ = quantized(source, X, four_bits, correct=False)
    model, change = quantized(source, X, four_bits)
    assert change.touched
    assert np.abs(mean_error(model, source, X)).max() < np.abs(mean_error(plain, source, X)).max() / 20


DEEP = """h = Gemm(x, a, b)  r = Relu(h)  i = Gemm(r, c, b)  s = Relu(i)  y = Gemm(s, c, b)"""
DEEP_WEIGHTS = {"a": noise(40, 24, seed=8), "b": B, "c": noise(24, 24, seed=9) + 0.5}


def test_each_layer_sees_those_before_it_corrected():
    """One bias and one weight serve several layers; each gets a bias of its own."""
    source = source_of(DEEP, **DEEP_WEIGHTS)
    for quantize in QUANTIZERS.values():
        plain, _ = quantized(source, X, quantize, correct=False)
        model, change = quantized(source, X, quantize)
        assert len(change.touched) == 3
        assert np.abs(mean_error(model, source, X)).max() < np.abs(mean_error(plain, source, X)).max() / 10


def test_layers_that_do_not_depend_on_one_another_share_a_run():
    source = source_of("h = Gemm(x, a, b)  i = Gemm(x, w, b)  s = Add(h, i)  y = Gemm(s, c, b)", w=W, **DEEP_WEIGHTS)
    model, ctx = rounded(source, quantize_dynamic, X)
    shown: dict[str, list[object]] = {}
    ctx.progress = lambda items, label, total=None: shown.setdefault(label, [*items])
    correct_bias(model, ctx)
    assert len(shown["correct_bias"]) == 2
    assert ctx.calibration.passes == 1 + 1  # the float model; the second group goes on from what the first one read


def test_integer_kernels_stay_integer():
    source, x = LAYERS["conv without bias"]
    run_nodes = optimized(quantized(source, x, QUANTIZERS["static"])[0])
    assert "QLinearConv" in run_nodes and "Conv" not in run_nodes


def test_an_output_that_is_read_too_is_corrected_for_all():
    source = source_of("h = MatMul(x, w)  y = Relu(h)", y="float[N,24] y, float[N,24] h", w=W)
    model, _ = quantized(source, X, QUANTIZERS["dynamic"])
    y, h = outputs(model, x=X)
    expected = outputs(source, x=X)[1]
    np.testing.assert_array_equal(y, np.maximum(h, 0))
    assert np.abs((h.astype(np.float64) - expected).mean(axis=0)).max() < 1e-4 * np.abs(expected).max()


def test_batches_count_by_their_size():
    source, x = LAYERS["gemm"]
    one, _ = quantized(source, x, QUANTIZERS["static"])
    model, ctx = rounded(source, QUANTIZERS["static"], x[:1], x[1:4], x[4:])
    correct_bias(model, ctx)
    found = saved_weights(model)
    for name, array in saved_weights(one).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=2 if array.dtype == np.int32 else 0)


# --- what is declined ---


def test_a_layer_that_is_gone_is_declined():
    source = source_of("h = Gemm(x, w, b)  y = Relu(h)", w=W, b=B)
    model, ctx = model_of(source), context(calibration=Given({"x": X}))
    ctx.earlier = model_of(source_of("z = Gemm(x, w, b)  y = Relu(z)", w=W, b=B))
    ctx.earlier.graph[0].name = "elsewhere"
    quantize_static(model, ctx)
    change = correct_bias(model, ctx)
    assert not change.touched
    assert [d.reason for d in change.declined] == ["Gemm: nothing in the quantized model has the name of its output"]


def test_outputs_that_are_not_finite_are_declined():
    source = source_of("n = Log(x)  y = MatMul(n, w)", w=W)
    model, ctx = rounded(source, quantize_dynamic, X - 1.5)
    change = correct_bias(model, ctx)
    assert not change.touched
    assert [d.reason for d in change.declined] == ["MatMul: its outputs are not finite on the calibration data"]


def test_an_exact_layer_has_nothing_to_correct():
    """Whole numbers within 8 bits lose nothing."""
    whole = np.rint(noise(40, 24, scale=30)).clip(-127, 127).astype(np.float32)
    whole[0] = 127
    x = np.rint(noise(64, 40, scale=40)).clip(0, 255).astype(np.float32)
    x[0, 0] = 255
    _, change = quantized(
        source_of("y = Gemm(x, w, b)", w=whole, b=np.zeros(24, np.float32)),
        x,
        lambda m, c: quantize_static(m, c, portable=False),
    )
    assert not change.touched
    assert {d.reason for d in change.declined} == {"Gemm: its mean error is less than half a step of its bias"}


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize("name", ["gemm without bias", "matmul", "conv without bias"])
def test_layers_without_a_bias_can_stay_so(name, quantize):
    model, change = quantized(*LAYERS[name], quantize, add_missing=False)
    assert not change.touched
    assert [d.reason.partition(": ")[2] for d in change.declined] == ["it has no bias, and add_missing is false"]
    assert op_types(model) == op_types(quantized(*LAYERS[name], quantize, correct=False)[0])


@pytest.mark.parametrize("name", ["gemm", "matmul and add", "conv"])
def test_layers_with_a_bias_need_none(name):
    for quantize in QUANTIZERS.values():
        assert quantized(*LAYERS[name], quantize, add_missing=False)[1].touched


def test_patterns_choose_layers():
    source = source_of(DEEP, **DEEP_WEIGHTS)
    assert set(quantized(source, X, QUANTIZERS["static"], skip=["Gemm_h"])[1].touched) == {"Gemm_i", "Gemm_y"}


# --- in a recipe, on real models ---


@pytest.mark.parametrize(("name", "gain"), [("digits-cnn", 3), ("digits-mlp", 1.5)])
def test_real_models_come_closer_on_unseen_images(name, gain, tmp_path):
    """The float model that it compares with is the one right before quantization: folded, its ranges evened out."""
    steps = ["simplify", "equalize: {least_gain: 0.0}", "quantize_static: {per_channel: false, portable: true}"]
    plain = error_of(made(tmp_path / "plain.onnx", name, *steps), name)
    assert error_of(made(tmp_path / "corrected.onnx", name, *steps, "correct_bias"), name) * gain < plain


def test_a_step_before_any_quantization_is_a_fault(tmp_path):
    with pytest.raises(PassError, match="before quantization is needed"):
        made(tmp_path / "o.onnx", "digits-mlp", "correct_bias")


def test_a_step_that_changes_nothing_lists_the_reasons(tmp_path):
    steps = ["simplify", "quantize_static", 'correct_bias: {only: ["Relu"]}']
    with pytest.raises(BrokenPromise, match="correct_bias changed nothing"):
        made(tmp_path / "o.onnx", "digits-mlp", *steps)


def test_a_copy_of_a_model_is_edited_apart():
    model = load(SAMPLES / "digits-cnn.onnx")
    simplify(model, context())
    before, other = proto(model), model.copy()
    quantize_dynamic(other, context())
    assert proto(model) == before and op_types(other)["ConvInteger"] == 6
