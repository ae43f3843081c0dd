"""equalize: the function stays, the ranges of each channel meet, and one scale per weight then does."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

from compress_ops.graph.clean.simplify import simplify
from compress_ops.model import load
from compress_ops.quantize.int8.static import quantize_static
from compress_ops.quantize.prepare.equalize import equalize
from tests.helpers import (
    SAMPLES,
    Given,
    applied,
    context,
    model_of,
    noise,
    op_types,
    outputs,
    proto,
    proto_of,
    saved_weights,
)

EPS = np.finfo(np.float32).eps
UNEVEN = np.exp(np.random.default_rng(7).uniform(-2, 2, 24)).astype(np.float32)  # ranges within a factor of 55
X = noise(9, 16, seed=1)
W1, B1, W2, B2 = noise(16, 24, seed=2) * UNEVEN, noise(24, seed=3), noise(24, 10, seed=4), noise(10, seed=5)
MLP = "g (float[N,16] x) => (float[N,10] y) { h = Gemm(x, a, b)  r = Relu(h)  y = Gemm(r, c, d) }"
MLP_WEIGHTS = {"a": W1, "b": B1, "c": W2, "d": B2}


def equalized(source, /, **options):
    return applied(equalize, source, **options)


def same(model, source, /, depth=256, **feeds):
    """Equal to float rounding: each of ``depth`` products and sums may round once."""
    for expected, found in zip(outputs(source, **feeds), outputs(model, **feeds), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=depth * EPS * np.abs(expected).max())


def test_the_rule_on_two_layers():
    model, change = equalized(proto_of(MLP, **MLP_WEIGHTS))
    s = np.sqrt(np.abs(W1).max(axis=0).astype(np.float64) / np.abs(W2).max(axis=1))
    found = {name.removesuffix("_1"): array for name, array in saved_weights(model).items()}
    for name, expected in {"a": W1 / s, "b": B1 / s, "c": W2 * s[:, None], "d": B2}.items():
        np.testing.assert_allclose(found[name], expected, rtol=4 * EPS)
    same(model, proto_of(MLP, **MLP_WEIGHTS), x=X)
    assert set(change.touched) == {"Gemm_h", "Gemm_y"} and list(change.notes["precision"]) == ["Gemm_h -> Gemm_y"]


def test_a_factor_has_a_limit():
    model, _ = equalized(proto_of(MLP, **MLP_WEIGHTS), limit=1.5)
    s = np.clip(np.sqrt(np.abs(W1).max(axis=0) / np.abs(W2).max(axis=1)), 1 / 1.5, 1.5)
    np.testing.assert_allclose(saved_weights(model)["a"], W1 / s, rtol=4 * EPS)


def image_network(body, declared="float[N,10,?,?] y", **given):
    kernels = {
        "k": noise(12, 6, 3, 3, seed=1) * UNEVEN[:12, None, None, None],
        "b": noise(12, seed=2),
        "dw": noise(12, 1, 3, 3, seed=3) * UNEVEN[12:, None, None, None],
        "two": noise(12, 6, 3, 3, seed=10),  # two groups
        "p": noise(10, 12, 1, 1, seed=4),
        "t": noise(12, 5, 3, 3, seed=5),  # two groups of a ConvTranspose: 12 inputs, 10 outputs
        "u": noise(6, 12, 2, 2, seed=6) * UNEVEN[:12, None, None],
        "slope": noise(12, 1, 1, seed=8),
        "m": noise(12, 10, seed=9),
        "wide": noise(10, 12 * 36, seed=11),
    }
    names = {name: array for name, array in kernels.items() if re.search(rf"\b{name}\b(?! =)", body)} | given
    return proto_of(f"g (float[N,6,8,8] x) => ({declared}) {{ {body} }}", **names)


IMAGES = noise(3, 6, 8, 8, seed=12)
CHAINS = {
    "relu": "h = Conv(x, k, b)  r = Relu(h)  y = Conv(r, p)",
    "no bias, nothing between": "h = Conv(x, k)  y = Conv(h, p)",
    "leaky": "h = Conv(x, k, b)  r = LeakyRelu<alpha=0.3>(h)  y = Conv(r, p)",
    "prelu": "h = Conv(x, k, b)  r = PRelu(h, slope)  y = Conv(r, p)",
    "clip from zero": "h = Conv(x, k, b)  z = Constant<value=float {0}>()  r = Clip(h, z)  y = Conv(r, p)",
    "depthwise": "h = Conv(x, k, b)  r = Relu(h)  d = Conv<group=12>(r, dw)  s = Relu(d)  y = Conv(s, p)",
    "groups": "h = Conv(x, k, b)  r = Relu(h)  d = Conv<group=2>(r, two)  s = Relu(d)  y = Conv(s, p)",
    "transposed": "h = ConvTranspose(x, u, b)  r = Relu(h)  y = ConvTranspose<group=2>(r, t)",
    "max pool": "h = Conv(x, k, b)  r = Relu(h)  m1 = MaxPool<kernel_shape=[2,2], pads=[1,1,1,1]>(r)  y = Conv(m1, p)",
    "mean pool": "h = Conv(x, k, b)  m1 = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1]>(h)  y = Conv(m1, p)",
}
TO_COLUMNS = {
    "global pool": "h = Conv(x, k, b)  q = GlobalAveragePool(h)  f = Flatten(q)  y = MatMul(f, m)",
    "flatten": "h = Conv(x, k, b)  r = Relu(h)  f = Flatten(r)  y = Gemm<transB=1>(f, wide)",
}
CASES = {name: image_network(body) for name, body in CHAINS.items()}
CASES |= {name: image_network(body, "float[N,10] y") for name, body in TO_COLUMNS.items()}


@pytest.mark.parametrize("source", CASES.values(), ids=CASES)
def test_the_function_stays_and_the_ranges_meet(source):
    model, change = equalized(source, limit=1e4)
    same(model, source, x=IMAGES)
    assert change.touched
    _, second = equalized(model, limit=1e4)
    assert not second.touched, "nothing is left to even out"
    assert any("even already" in declined.reason for declined in second.declined)


def test_ranges_of_a_chain_meet_between_all_of_its_layers():
    source = image_network(CHAINS["depthwise"])
    array = saved_weights(equalized(source, limit=1e4)[0])
    sizes = {name: np.abs(array[name]).max(axis=(2, 3)) for name in ("k", "dw", "p")}
    np.testing.assert_allclose(sizes["k"].max(axis=1), sizes["dw"][:, 0], rtol=4e-3)  # settled to 1e-3 a round
    np.testing.assert_allclose(sizes["dw"][:, 0], sizes["p"].max(axis=0), rtol=4e-3)


def test_matmul_with_a_bias_behind_it():
    text = "g (float[N,5,16] x) => (float[N,5,10] y) { h = MatMul(x, a)  k = Add(b, h)  r = Relu(k)  y = MatMul(r, c) }"
    source = proto_of(text, a=W1, b=B1, c=W2)
    model, change = equalized(source)
    assert set(change.touched) == {"MatMul_h", "MatMul_y"} and op_types(model)["Add"] == 1
    same(model, source, x=noise(4, 5, 16))


@pytest.mark.parametrize("bias", [np.float32(2), noise(1), noise(1, 24), noise(9, 1)], ids=lambda bias: str(bias.shape))
def test_every_form_of_bias_of_gemm(bias):
    source = proto_of(MLP.replace("Gemm(x, a, b)", "Gemm<alpha=0.5, beta=2.0>(x, a, b)"), **MLP_WEIGHTS | {"b": bias})
    same(equalized(source)[0], source, x=X)


# --- what it is good for ---


def error(source, x, prepare, **options):
    model = model_of(source)
    if prepare:
        equalize(model, context())
    quantize_static(model, context(calibration=Given({"x": x})), **options)
    difference = outputs(model, x=x)[0] - outputs(source, x=x)[0].astype(np.float64)
    return float(np.square(difference).mean())


def test_one_scale_per_weight_then_does():
    """Channels differ by a factor of 55; what the first layer makes small, the second makes large again."""
    bodies = "h = Conv(x, k)  r = Relu(h)  y = Conv(r, p)"
    undone = noise(10, 12, 1, 1, seed=4) / UNEVEN[None, :12, None, None]
    source = image_network(bodies, p=undone)
    plain, evened = (error(source, IMAGES, prepare, per_channel=False) for prepare in (False, True))
    assert evened < plain / 20


# --- what is declined ---

DECLINED = {
    "relu6": (
        "h = Conv(x, k, b)  z = Constant<value=float {0}>()  s = Constant<value=float {6}>()  r = Clip(h, z, s)"
        "  y = Conv(r, p)",
        "Conv: Clip follows, and its bounds do not scale with a channel",
    ),
    "sigmoid": (
        "h = Conv(x, k, b)  r = Sigmoid(h)  y = Conv(r, p)",
        "Conv: Sigmoid follows, through which channels cannot be scaled",
    ),
    "two readers": (
        "h = Conv(x, k, b)  r = Relu(h)  y0 = Conv(r, p)  n = Relu(r)  n2 = Conv(n, p2)  y = Add(y0, n2)",
        "Conv: 2 nodes read its output; only one may",
    ),
    "shared weight": (
        "h = Conv(x, k, b)  r = Relu(h)  q = Conv(r, p)  o = Conv(x, k, b)  s = Conv(o, p3)  y = Add(q, s)",
        "Conv: others read its weight too",
    ),
    "computed bias": ("c = Neg(b)  h = Conv(x, k, c)  y = Conv(h, p)", "Conv: its bias is computed, not stored"),
    "computed weight": ("c = Neg(k)  h = Conv(x, c)  y = Conv(h, p)", "Conv: its weight is computed, not stored"),
}


@pytest.mark.parametrize(("body", "reason"), DECLINED.values(), ids=DECLINED)
def test_what_cannot_be_scaled_is_declined_with_its_reason(body, reason):
    source = image_network(body, **{n: noise(10, 12, 1, 1) for n in ("p2", "p3") if f" {n}" in body})
    before = proto(model_of(source))
    model, change = equalized(source)
    assert not change.touched and reason in {declined.reason for declined in change.declined}
    assert proto(model) == before


def test_an_inner_value_that_is_an_output_stays():
    source = proto_of(MLP.replace("(float[N,10] y)", "(float[N,10] y, float[N,24] r)"), **MLP_WEIGHTS)
    model, change = equalized(source)
    assert not change.touched
    assert change.declined[0].reason == "Gemm: its output is an output of the graph"
    same(model, source, x=X)


def test_a_bias_that_others_read_stays_for_them():
    text = MLP.replace("y = Gemm(r, c, d) }", "o = Gemm(r, c, d)  n = Neg(b)  t = ReduceSum(n)  y = Add(o, t) }")
    source = proto_of(text, **MLP_WEIGHTS)
    model, change = equalized(source)
    assert change.touched
    same(model, source, x=X)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(bad):
    broken = W1.copy()
    broken[3, 4] = bad
    _, change = equalized(proto_of(MLP, **MLP_WEIGHTS | {"a": broken}))
    assert not change.touched
    assert {d.reason for d in change.declined if d.name == "Gemm_h"} == {"Gemm: its chain has NaN or infinite weights"}


@pytest.mark.parametrize("size", [0.0, 1e-40, 1e-12])
def test_a_channel_without_weights_stays_as_it_is(size):
    """Its output is its bias, which a factor of sqrt(r1 / r2) would blow up."""
    weight = W1.copy()
    weight[:, 3] = size
    source = proto_of(MLP, **MLP_WEIGHTS | {"a": weight})
    model, _ = equalized(source, limit=1e30)
    found = saved_weights(model)
    assert np.array_equal(found["a"][:, 3], weight[:, 3]) and np.array_equal(found["c"][3], W2[3])
    same(model, source, x=X)


def test_nothing_to_do():
    _, change = equalized("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    assert not change.touched and not change.declined


def test_a_product_of_activations_is_no_layer():
    text = "g (float[N,16] x) => (float[N,N] y) { t = Transpose(x)  s = Relu(t)  y = MatMul(x, s) }"
    _, change = equalized(text)
    assert not change.touched and not change.declined


def test_quantized_layers_are_declined():
    model = model_of(proto_of(MLP, **MLP_WEIGHTS))
    quantize_static(model, context(calibration=Given({"x": X})))
    _, change = equalized(model)
    assert not change.touched
    told = "Gemm: its weight is quantized already; equalize in front of the step that quantizes"
    assert told in {declined.reason for declined in change.declined}


def test_patterns_choose_layers():
    source = image_network(CHAINS["depthwise"])
    assert set(equalized(source, skip=["Conv_y"])[1].touched) == {"Conv_h", "Conv_d"}
    change = equalized(source, only=["Conv_h"])[1]
    assert not change.touched
    assert change.declined[0].reason == "Conv: Conv Conv_d, which follows, is not selected"


@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp"])
def test_real_models_keep_their_function(name):
    path = SAMPLES / f"{name}.onnx"
    model, images = load(path), np.load(path.with_name("digits-test.npz"))["image"][:32]
    simplify(model, context())
    change = equalize(model, context(), least_gain=0)
    assert len(change.touched) >= 3
    same(model, onnx.load(path), depth=1024, image=images)


def test_even_chains_are_left_alone():
    """What there is to gain is the noise of both weights by the formula, R1^2 sum r2^2 + R2^2 sum r1^2."""
    source = proto_of(MLP, **MLP_WEIGHTS | {"a": noise(16, 24, seed=2)})
    r1, r2 = np.abs(noise(16, 24, seed=2)).max(axis=0), np.abs(W2).max(axis=1)
    even = np.sqrt(r1 * r2)
    before = r1.max() ** 2 * (r2**2).sum() + r2.max() ** 2 * (r1**2).sum()
    gain = 1 - 2 * even.max() ** 2 * (even**2).sum() / before
    assert equalized(source, least_gain=float(gain) * 0.99)[1].touched
    change = equalized(source, least_gain=float(gain) * 1.01)[1]
    assert not change.touched
    assert change.declined[-1].reason.endswith(f"ranges of channels are even already; {gain:.0%} of noise to gain")


def test_a_bias_that_does_not_fit_is_declined():
    """A damaged model: onnxruntime tells only when it runs."""
    source = proto_of(MLP, **{**MLP_WEIGHTS, "b": noise(2, seed=3)})
    _, change = equalized(model_of(source))
    assert not change.touched and change.declined[0].reason == "Gemm: its bias does not fit its outputs"
