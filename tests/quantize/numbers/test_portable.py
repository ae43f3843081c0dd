"""Portable weights: no pair of products leaves 16 bits, precision stays near 8 bits, and the model says what it is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compress_ops.quantize.int8.dynamic import quantize_dynamic
from compress_ops.quantize.int8.static import quantize_static
from compress_ops.quantize.numbers.formats import Symmetric
from compress_ops.quantize.numbers.portable import LEAST_SQNR, METADATA, Candidate, Portability
from tests.helpers import Given, context, model_of, noise, outputs, proto_of, reloaded, saved_weights, sqnr_db

MATMUL = "g (float[N,40] x) => (float[N,24] y) { y = MatMul(x, w) }"
GEMM = "g (float[N,40] x) => (float[N,24] y) { y = Gemm<transB=1>(x, w) }"
CONV = "g (float[N,6,7,7] x) => (float[N,8,?,?] y) { y = Conv(x, w) }"
W, KERNEL = noise(40, 24), noise(8, 6, 3, 3)
TWO = "g (float[N,40] x) => (float[N,24] y, float[N,24] z) { y = MatMul(x, w)  z = MatMul(x, v) }"
COARSE = noise(40, 24, scale=0.01)
COARSE[3:5, 7] = 1.0  # neighbours: 127 + 127 in codes, so that the rest would have a bit less
FEEDS = {MATMUL: noise(16, 40), GEMM: noise(16, 40), CONV: noise(4, 6, 7, 7)}
PASSES = {"static": quantize_static, "dynamic": quantize_dynamic}


def quantized(text, weight, quantize, **options):
    model = model_of(proto_of(text, w=weight))
    change = quantize(model, context(calibration=Given({"x": FEEDS[text]})), **options)
    return model, change


def codes_of(model):
    return saved_weights(model)["w_int8"].astype(np.int64)


def saturates(first, second):
    """Whether 255 or 0 times either code, added into 16 signed bits, can leave them."""
    sums = [255 * (np.maximum(sign * first, 0) + np.maximum(sign * second, 0)) for sign in (1, -1)]
    return (sums[0] > 2**15 - 1) | (sums[1] > 2**15)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("quantize", PASSES.values(), ids=PASSES)
def test_neighbours_of_a_matmul_cannot_saturate(quantize, per_channel):
    for portable in (True, False):
        codes = codes_of(quantized(MATMUL, W, quantize, per_channel=per_channel, portable=portable)[0])
        assert saturates(codes[1:], codes[:-1]).any() != portable


@pytest.mark.parametrize("quantize", PASSES.values(), ids=PASSES)
def test_neighbours_of_a_transposed_gemm_cannot_saturate(quantize):
    codes = codes_of(quantized(GEMM, W.T.copy(), quantize, portable=True)[0])
    codes = codes.T if quantize is quantize_static else codes  # dynamic stores it turned
    assert codes.shape == (40, 24) and not saturates(codes[1:], codes[:-1]).any()


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("quantize", PASSES.values(), ids=PASSES)
def test_no_two_weights_of_a_conv_can_saturate(quantize, per_channel):
    """Kernels differ in the order in which they sum over channels and places."""
    codes = codes_of(quantized(CONV, KERNEL, quantize, per_channel=per_channel, portable=True)[0]).reshape(8, -1)
    assert not any(saturates(codes[:, i], codes[:, j]).any() for i, j in combinations(range(codes.shape[1]), 2))


def test_a_depthwise_conv_keeps_8_bits():
    """onnxruntime's kernel for it (QLinearConv) adds in 32 bits; ConvInteger has none."""
    source = proto_of("g (float[N,32,5,5] x) => (float[N,32,?,?] y) { y = Conv<group=32>(x, w) }", w=noise(32, 1, 3, 3))
    largest = {}
    for quantize in PASSES.values():
        model, ctx = model_of(source), context(calibration=Given({"x": noise(2, 32, 5, 5)}))
        assert quantize(model, ctx, portable=True).notes["portable"] == "yes"
        largest[quantize] = np.sort(np.abs(codes_of(model).reshape(32, 9)), axis=1)[:, -2:].sum(axis=1)
    assert (largest[quantize_static] > 128).any() and (largest[quantize_dynamic] <= 254).all()
    assert np.abs(codes_of(model)).max() < 127


@settings(max_examples=80, deadline=None)
@given(weight=arrays(np.float32, (7, 3), elements=st.floats(-1e6, 1e6, width=32)), axes=st.sampled_from([None, (0,)]))
def test_no_weight_saturates(weight, axes):
    candidate, form = Candidate("w", weight, axes, 0), Symmetric()
    codes = form.codes(weight, form.scale(weight, axes, candidate.least())).astype(int)
    assert not saturates(codes[1:], codes[:-1]).any()


def test_a_column_without_such_pairs_keeps_its_scale():
    weight = np.array([[1.0, 1.0], [-1.0, 1.0], [0.005, 1.0]], np.float32)
    candidate, form = Candidate("w", weight, (0,), 0), Symmetric()
    scale = form.scale(weight, (0,), candidate.least())
    np.testing.assert_array_equal(scale[0, 0], form.scale(weight, (0,))[0, 0])
    assert scale[0, 1] == np.float32(2 / 127)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1, 1, 1)], ids=str)
def test_one_product_alone_cannot_saturate(shape):
    weight = noise(*shape)
    assert not Candidate("w", weight, None, 0 if len(shape) == 2 else None).least().any()


def test_it_costs_less_than_the_bit_that_is_given_up():
    """A bit is 6.02 dB; normal weights pair their largest with smaller ones."""
    weight = noise(384, 384)
    candidate, form = Candidate("w", weight, (0,), 0), Symmetric()
    restored = form.restored(weight, form.scale(weight, (0,)))
    plain = sqnr_db(weight, restored)
    assert plain - 4.5 < candidate.sqnr() < plain


# --- the decision, and where it is told ---


@pytest.mark.parametrize("quantize", PASSES.values(), ids=PASSES)
@pytest.mark.parametrize("portable", [True, False, "auto"])
def test_the_model_and_the_report_say_which(quantize, portable):
    model, change = quantized(MATMUL, W, quantize, portable=portable)
    assert change.notes["portable"] == ("no" if portable is False else "yes")
    assert reloaded(model).ir.metadata_props[METADATA] == ("false" if portable is False else "true")


def test_auto_decides_by_what_each_weight_keeps():
    rows = noise(400, 24)
    rows[:, 0] = np.where(np.arange(400) < 2, 1, 3e-2 * rows[:, 0])
    good, bad = Candidate("good", W, (0,), 0), Candidate("bad", rows[:, :1], None, 0)
    assert good.sqnr() > LEAST_SQNR > bad.sqnr()
    auto = Portability("auto")
    np.testing.assert_array_equal(auto.least(good), good.least())
    assert auto.whole and auto.notes() == {"portable": "yes"}
    assert not auto.least(bad).any() and not auto.whole
    told = f"all but 1 of 2 weights: bad would have {bad.sqnr():.1f} dB, less than 30;"
    assert auto.notes()["portable"].startswith(told)
    for asked, note in ((True, "yes"), (False, "no")):
        all_or_none = Portability(asked)
        assert all(all_or_none.least(one).any() == asked for one in (good, bad))
        assert all_or_none.whole == asked and all_or_none.notes() == {"portable": note}


def test_auto_counts_no_weight_that_cannot_saturate():
    auto = Portability("auto")
    auto.least(Candidate("depthwise", noise(8, 1, 3, 3), None, None, saturates=False))
    auto.least(Candidate("bad", COARSE, None, 0))
    assert auto.notes()["portable"].startswith("no: bad would have")


def saturating_product(x, codes):
    """u8 times s8 as processors without VNNI add it: neighbours in pairs, into 16 bits that saturate."""
    products = x.astype(np.int64)[:, :, None] * codes.astype(np.int64)[None]
    pairs = products[:, 0::2] + products[:, 1::2]
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1)


@pytest.mark.parametrize("quantize", PASSES.values(), ids=PASSES)
def test_one_coarse_weight_leaves_the_others_portable(quantize):
    """Held against the arithmetic of an older processor, whichever neighbours its kernel pairs."""
    model = model_of(proto_of(TWO, w=W, v=COARSE))
    change = quantize(model, context(calibration=Given({"x": FEEDS[MATMUL]})), per_channel=False)
    assert change.notes["portable"].startswith("all but 1 of 2 weights: v would have")
    assert reloaded(model).ir.metadata_props[METADATA] == "false"
    stored = saved_weights(model)
    x = np.full((1, 38), 255)
    for first in (0, 1):
        codes = {name: stored[f"{name}_int8"][first : first + 38].astype(np.int64) for name in "wv"}
        np.testing.assert_array_equal(saturating_product(x, codes["w"]), x @ codes["w"])
    assert (saturating_product(x, codes["v"]) != x @ codes["v"]).any()


@pytest.mark.parametrize("quantize", PASSES.values(), ids=PASSES)
def test_auto_says_why_not(quantize):
    weight = noise(40, 24, scale=0.01)
    weight[3:5, 7] = 1.0
    model, change = quantized(MATMUL, weight, quantize, per_channel=False)
    assert "w would have" in change.notes["portable"] and "without VNNI" in change.notes["portable"]
    assert reloaded(model).ir.metadata_props[METADATA] == "false"
    plain, _ = quantized(MATMUL, weight, quantize, per_channel=False, portable=False)
    np.testing.assert_array_equal(codes_of(model), codes_of(plain))


def test_one_step_that_is_not_portable_decides_for_the_model():
    text = "g (float[N,40] x) => (float[N,24] y, float[N,24] z) { y = MatMul(x, w)  z = MatMul(x, v) }"
    for order in ((True, False), (False, True)):
        model = model_of(proto_of(text, w=W, v=noise(40, 24, seed=2)))
        for portable, name in zip(order, ("MatMul_y", "MatMul_z"), strict=True):
            quantize_dynamic(model, context(), portable=portable, only=[name])
        assert model.ir.metadata_props[METADATA] == "false"


def test_tables_and_unsigned_weights_are_portable_by_nature():
    text = "g (int64[N] i) => (float[N,24] y) { y = Gather(w, i) }"
    for portable in (True, False):
        model = model_of(proto_of(text, w=W))
        change = quantize_dynamic(model, context(), portable=portable)
        assert "portable" not in change.notes and METADATA not in model.ir.metadata_props
    model, change = quantized(MATMUL, W, quantize_static, weight_type="uint8", portable=False)
    assert change.notes["portable"] == "yes" and model.ir.metadata_props[METADATA] == "true"


@pytest.mark.parametrize("quantize", PASSES.values(), ids=PASSES)
@pytest.mark.parametrize("text", [MATMUL, CONV], ids=["MatMul", "Conv"])
def test_results_stay_near_the_float_model(quantize, text):
    weight, x = KERNEL if text == CONV else W, FEEDS[text]
    (expected,) = outputs(proto_of(text, w=weight), x=x)
    (found,) = outputs(quantized(text, weight, quantize, portable=True)[0], x=x)
    span = expected.max() - expected.min()
    np.testing.assert_allclose(found, expected, rtol=0, atol=6 * span / 255)
