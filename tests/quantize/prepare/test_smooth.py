"""smooth: the function stays, factors are SmoothQuant's, and int8 afterwards errs less."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.quantize.int8.dynamic import quantize_dynamic
from compress_ops.quantize.int8.static import quantize_static
from compress_ops.quantize.prepare.smooth import ALPHAS, smooth
from tests.helpers import (
    Given,
    applied,
    calibrated,
    context,
    model_of,
    noise,
    op_types,
    outputs,
    proto_of,
    saved_weights,
)

EPS = np.finfo(np.float32).eps
TOKENS, WIDTH, OUT = 64, 24, 40
X = noise(TOKENS, WIDTH, seed=1)
X[:, 3] *= 80  # the outlier channel that SmoothQuant is about
W, V = noise(WIDTH, OUT), noise(WIDTH, OUT, seed=2)
PLAIN = "g (float[N,24] x) => (float[N,40] y) { y = MatMul(x, w) }"
TWO = "g (float[N,24] x) => (float[N,40] y, float[N,40] z) { y = MatMul(x, w)  z = MatMul(x, v) }"
NORMALIZED = "g (float[N,24] x) => (float[N,40] y) { n = LayerNormalization<axis=-1>(x, s, b)  y = MatMul(n, w) }"
SCALE, BIAS = np.abs(noise(WIDTH, seed=4)) + np.float32(0.1), noise(WIDTH, seed=5)
SCALE[7] *= 60


def smoothed(source, *feeds, **options):
    """The model after the pass, checked for a kept contract and a valid graph, and what the pass told."""
    return applied(smooth, source, calibrated(*feeds or ({"x": X},)), **options)


def published(x, matrices, alpha):
    """SmoothQuant's equation 4, over all the operators that read x."""
    largest = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
    return np.abs(x).max(axis=0) ** alpha / largest ** (1 - alpha)


def same_function(model, source, **feeds):
    """To float rounding of a sum of products: the number of terms times the largest sum of absolute products."""
    for expected, found in zip(outputs(source, **feeds), outputs(model, **feeds), strict=True):
        bound = 4 * WIDTH * EPS * np.abs(feeds["x"]).max() * np.abs(W).sum(0).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


def reasons(change):
    return {declined.name: declined.reason for declined in change.declined}


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_factors_are_those_of_the_paper(alpha):
    source = proto_of(PLAIN, w=W)
    model, change = smoothed(source, alpha=alpha)
    factors = published(X, [W], alpha)
    stored = saved_weights(model)
    np.testing.assert_allclose(stored["w"], W * factors[:, None], rtol=8 * EPS)
    np.testing.assert_allclose(stored["x_smooth"], 1 / factors, rtol=8 * EPS)
    assert change.touched == {"MatMul_y": f"alpha {alpha}"}
    assert change.notes == {"activations": 1, "alpha": f"{alpha}"}
    same_function(model, source, x=X)


@pytest.mark.parametrize("sizes", [(64,), (16, 48), (1, 62, 1)], ids=str)
def test_factors_come_from_all_batches(sizes):
    feeds = [{"x": part} for part in np.split(X, np.cumsum(sizes)[:-1])]
    stored = saved_weights(smoothed(proto_of(PLAIN, w=W), *feeds, alpha=0.5)[0])
    np.testing.assert_allclose(stored["w"], W * published(X, [W], 0.5)[:, None], rtol=8 * EPS)


def test_operators_that_read_one_activation_share_the_factors():
    source = proto_of(TWO, w=W, v=V)
    model, change = smoothed(source, alpha=0.6)
    factors = published(X, [W, V], 0.6)
    stored = saved_weights(model)
    np.testing.assert_allclose(stored["w"], W * factors[:, None], rtol=8 * EPS)
    np.testing.assert_allclose(stored["v"], V * factors[:, None], rtol=8 * EPS)
    assert op_types(model)["Mul"] == 1 and change.notes["activations"] == 1
    same_function(model, source, x=X)


@pytest.mark.parametrize("opset", [17, 18])
def test_gemm_with_a_transposed_weight(opset):
    text = "g (float[N,24] x) => (float[N,40] y) { y = Gemm<transB=1>(x, w, c) }"
    source = proto_of(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}', w=W.T.copy(), c=noise(OUT))
    model, _ = smoothed(source, alpha=0.5)
    np.testing.assert_allclose(saved_weights(model)["w"], W.T * published(X, [W], 0.5), rtol=8 * EPS)
    same_function(model, source, x=X)


def test_higher_ranks():
    text = "g (float[N,8,24] x) => (float[N,8,40] y) { y = MatMul(x, w) }"
    source, x = proto_of(text, w=W), X.reshape(8, 8, WIDTH)
    model, _ = smoothed(source, {"x": x}, alpha=0.5)
    np.testing.assert_allclose(saved_weights(model)["w"], W * published(X, [W], 0.5)[:, None], rtol=8 * EPS)
    same_function(model, source, x=x)


# --- where the division goes ---


def test_into_the_normalization_that_makes_the_activation():
    source = proto_of(NORMALIZED, w=W, s=SCALE, b=BIAS)
    (normalized,) = outputs(proto_of(NORMALIZED.replace("y = MatMul(n, w)", "y = Identity(n)"), s=SCALE, b=BIAS), x=X)
    model, _ = smoothed(source, alpha=0.7)
    factors = published(normalized, [W], 0.7)
    stored = saved_weights(model)
    np.testing.assert_allclose(stored["s"], SCALE / factors, rtol=32 * EPS)
    np.testing.assert_allclose(stored["b"], BIAS / factors, rtol=32 * EPS)
    assert op_types(model) == {"LayerNormalization": 1, "MatMul": 1}
    same_function(model, source, x=X)


APART = {
    "another reader": NORMALIZED.replace("y = MatMul(n, w)", "m = MatMul(n, w)  r = Neg(n)  y = Concat<axis=1>(m, r)"),
    "an output": NORMALIZED.replace("y) {", "y, float[N,24] n) {"),
    "a shared scale": NORMALIZED.replace("y = ", "q = Mul(x, s)  p = ReduceSum<keepdims=0>(q)  m = ").replace(
        "w) }", "w)  y = Add(m, p) }"
    ),
}


@pytest.mark.parametrize("text", APART.values(), ids=APART)
def test_a_multiplication_where_something_else_reads_along(text):
    source = proto_of(text.replace("float[N,40] y", "float[N,?] y"), w=W, s=SCALE, b=BIAS)
    before = op_types(model_of(source))
    model, change = smoothed(source, alpha=0.7)
    assert change.touched and op_types(model)["Mul"] == before["Mul"] + 1
    np.testing.assert_array_equal(saved_weights(model)["s"], SCALE)
    same_function(model, source, x=X)


# --- the search ---


def int8_error(x, matrix, factors):
    """Squared error of the product with activations in 8 bits (asymmetric) and weights in 8 bits per column."""
    scaled, heavier = (x / factors).astype(np.float32), (matrix * factors[:, None]).astype(np.float32)
    low, high = min(scaled.min(), 0), max(scaled.max(), 0)
    step = np.float32((high - low) / 255)
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(scaled / step) + zero, 0, 255) - zero
    columns = np.abs(heavier).max(axis=0) / 127
    return np.square((codes * step) @ (np.rint(heavier / columns) * columns) - x @ matrix).sum()


def test_the_search_finds_the_alpha_of_the_least_error():
    model, change = smoothed(proto_of(PLAIN, w=W), {"x": np.repeat(X, 16, axis=0)})  # each 16th row is looked at
    errors = {alpha: int8_error(X, W, published(X, [W], alpha)) for alpha in ALPHAS}
    best = min(errors, key=errors.__getitem__)
    assert errors[best] < 0.5 * int8_error(X, W, np.ones(WIDTH))  # the planted channel is worth it
    assert change.notes["alpha"] == f"{best}"
    np.testing.assert_allclose(saved_weights(model)["w"], W * published(X, [W], best)[:, None], rtol=8 * EPS)


def test_even_activations_are_left_alone():
    even = np.sign(noise(TOKENS, WIDTH))
    model, change = smoothed(proto_of(PLAIN, w=np.sign(W)), {"x": even})
    assert not change.touched and change.notes == {}
    assert reasons(change) == {"x": "no alpha gains 10 % of the quantization error"}
    assert op_types(model)["Mul"] == 0


def test_notes_are_short_for_many_activations():
    layers = "  ".join(f"h{i + 1} = MatMul(h{i}, w{i})" for i in range(12))
    body = layers.replace("h0", "x").replace("h12", "y")
    text = f"g (float[N,24] x) => (float[N,24] y) {{ {body} }}"
    squares = {f"w{i}": noise(WIDTH, WIDTH, seed=i, scale=WIDTH**-0.5) for i in range(12)}
    _, change = smoothed(proto_of(text, **squares), alpha=0.5)
    assert change.notes == {"activations": 12, "alpha": "0.5"}


@pytest.mark.parametrize("quantize", [quantize_dynamic, quantize_static], ids=["dynamic", "static"])
def test_int8_errs_less_afterwards(quantize):
    source, data = proto_of(NORMALIZED, w=W, s=SCALE, b=BIAS), Given({"x": X})
    errors = []
    for model in (model_of(source), smoothed(source)[0]):
        quantize(model, context(calibration=data), portable=False)
        errors.append(np.square(outputs(model, x=X)[0] - outputs(source, x=X)[0]).sum())
    assert errors[1] < 0.7 * errors[0]


# --- the edge ---


@pytest.mark.parametrize("alpha", [None, 0.5])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 5, 17, 63])
def test_a_number_that_is_not_finite_is_seen_in_any_batch(bad, row, alpha):
    """Also in rows that the search does not sample: 5 is no multiple of 16."""
    x = X.copy()
    x[row, 3] = bad
    source = proto_of(
        TWO.replace("z = MatMul(x, v)", "h = Clip(x, l, u)  z = MatMul(h, v)"), w=W, v=V, l=X.min(), u=X.max()
    )
    before = saved_weights(model_of(source))
    model, change = smoothed(source, *({"x": part} for part in np.split(x, 4)), alpha=alpha, only=["MatMul_y"])
    assert reasons(change) == {"x": "the activation is not finite on the calibration data"}
    assert not change.touched
    np.testing.assert_array_equal(saved_weights(model)["w"], before["w"])


def test_channels_that_are_never_used_keep_their_weights():
    x = X.copy()
    x[:, 5] = 0
    weight = W.copy()
    weight[9] = 0
    source = proto_of(PLAIN, w=weight)
    model, _ = smoothed(source, {"x": x}, alpha=0.5)
    stored = saved_weights(model)
    np.testing.assert_array_equal(stored["w"][[5, 9]], weight[[5, 9]])
    assert (stored["x_smooth"][[5, 9]] == 1).all() and np.isfinite(stored["x_smooth"]).all()
    same_function(model, source, x=x)


DECLINED = {
    "computed": ("t = Neg(w)  y = MatMul(x, t)", {"w": W}, "MatMul: its weight is computed, not stored"),
    "shared": (
        "a = MatMul(x, w)  n = Neg(w)  b = MatMul(x, n)  y = Add(a, b)",
        {"w": W},
        "others read its weight too",
    ),
    "a stack": (
        "e = Unsqueeze(x, i)  s = MatMul(e, w)  y = Squeeze(s, i)",
        {"w": W[None], "i": np.array([0])},
        "3 dimensions, not 2",
    ),
    "not finite": ("y = MatMul(x, w)", {"w": np.full_like(W, np.nan)}, "NaN or infinite"),
}


@pytest.mark.parametrize(("body", "given", "reason"), DECLINED.values(), ids=DECLINED)
def test_what_is_declined(body, given, reason):
    _, change = smoothed(proto_of(f"g (float[N,24] x) => (float[N,40] y) {{ {body} }}", **given), alpha=0.5)
    assert not change.touched and any(reason in told for told in reasons(change).values())


def test_patterns_and_operators_choose():
    source = proto_of(TWO, w=W, v=V)
    assert set(smoothed(source, skip=["MatMul_y"], alpha=0.5)[1].touched) == {"MatMul_z"}
    assert set(smoothed(source, only=["MatMul_y"], alpha=0.5)[1].touched) == {"MatMul_y"}
    assert not smoothed(source, operators=["Gemm"])[1].touched
    model, _ = smoothed(source, only=["MatMul_y"], alpha=0.5)
    same_function(model, source, x=X)


def test_no_batches_is_a_clear_error():
    with pytest.raises(PassError, match="no batches"):
        smooth(model_of(PLAIN, w=W), context(calibration=Given()))
