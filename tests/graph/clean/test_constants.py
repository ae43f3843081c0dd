"""Expressions of stored tensors: folded as wholes, and only where the file does not grow."""

from collections import Counter

import numpy as np
import pytest

from compress_ops.files.stored_half import stored_half
from compress_ops.graph.clean.constants import fold_constants
from tests.helpers import model_of, noise, op_types, outputs, proto_of

X = noise(4, 64)
HEADER = '<ir_version: 8, opset_import: ["": %d]>\ng (float[N,64] x) => '
SUMS = 64 * np.finfo(np.float32).eps  # of 64 products each, relative to their magnitudes


def folded(text: str, opset: int = 17, **weights):
    """The model, folded, that gives what it gave and is no larger; and what is left of its operators."""
    plain = proto_of(HEADER % opset + text, **weights)
    model = model_of(plain)
    before = model.stored_bytes()
    fold_constants(model)
    model.drop_unused()
    assert model.stored_bytes() <= before
    for old, new in zip(outputs(plain, x=X), outputs(model, x=X), strict=True):
        np.testing.assert_allclose(new, old, rtol=SUMS, atol=SUMS * np.abs(old).max())
    return model, op_types(model)


V, G = noise(64, 64), noise(64, 1, seed=1)


@pytest.mark.parametrize(
    ("opset", "text"),
    [
        (17, "n = ReduceL2<axes=[1]>(v) d = Div(g, n) w = Mul(v, d)"),
        (18, "n = ReduceL2(v, ax) d = Div(g, n) w = Mul(v, d)"),
        (13, "p = Pow(v, two) s = ReduceSum(p, ax) n = Sqrt(s) q = Div(v, n) w = Mul(q, g)"),
        (11, "p = Mul(v, v) s = ReduceSum<axes=[1]>(p) n = Sqrt(s) q = Div(v, n) w = Mul(q, g)"),
    ],
)
def test_weight_normalization_is_one_weight(opset, text):
    text = f"(float[N,64] y) {{ {text} y = Gemm<transB=1>(x, w) }}"
    used = {"two": np.float32(2), "ax": np.array([1])}
    model, left = folded(text, opset, v=V, g=G, **{name: a for name, a in used.items() if f", {name})" in text})
    assert left == Counter(Gemm=1)
    assert [value.name for value in model.weights()] == ["w"]


def test_spectral_normalization_is_one_weight():
    text = "(float[N,64] y) { m = MatMul(v, b) s = MatMul(a, m) w = Div(v, s) y = Gemm<transB=1>(x, w) }"
    assert folded(text, v=V, a=noise(64, seed=1), b=noise(64, seed=2))[1] == Counter(Gemm=1)


@pytest.mark.parametrize(
    "text",
    [
        "(float[N,64] y) { t = Mul(v, s) z = MatMul(x, t) y = MatMul(z, v) }",
        "(float[N,64] y) { t = Transpose<perm=[1,0]>(v) z = MatMul(x, t) y = MatMul(z, v) }",
        "(float[N,64] y, float[64,64] u) { y = MatMul(x, v) u = Identity(v) }",
    ],
    ids=["product", "transpose", "copy"],
)
def test_a_weight_that_stays_in_use_is_not_stored_again(text):
    weights = {"v": V, **({"s": noise(64, seed=3)} if "s)" in text else {})}
    model, _ = folded(text, **weights)
    assert sum(value.const_value.nbytes for value in model.weights()) == sum(w.nbytes for w in weights.values())


def test_slices_are_stored_where_together_they_are_the_whole():
    text = """(float[N,64] y) { q = Slice(v, z, e, ax) k = Slice(v, e, f, ax) a = Gemm<transB=1>(x, q)
        y = Gemm<transB=1>(a, k) }"""
    places = {"z": np.array([0]), "e": np.array([64]), "f": np.array([128]), "ax": np.array([0])}
    assert folded(text, v=noise(128, 64), **places)[1] == Counter(Gemm=2)
    others = text.replace("float[N,64] y)", "float[N,64] y, float[128,64] all)").replace("y = G", "all = Neg(v) y = G")
    assert folded(others, v=noise(128, 64), **places)[1]["Slice"] == 2


def test_of_an_expression_that_would_grow_its_parts_are_folded():
    """The norm of a weight in use is a small result: g / |v| takes the place of g."""
    text = """(float[N,64] y) { n = ReduceL2<axes=[1]>(v) d = Div(g, n) w = Mul(v, d) z = Gemm<transB=1>(x, w)
        y = MatMul(z, v) }"""
    assert folded(text, v=V, g=G)[1] == Counter(Mul=1, Gemm=1, MatMul=1)


def test_a_moved_half_precision_weight_stays_in_half_precision():
    text = "(float[N,64] y) { f = Cast<to=1>(v) t = Transpose<perm=[1,0]>(f) y = MatMul(x, t) }"
    model, left = folded(text, v=V.astype(np.float16))
    assert left == Counter(MatMul=1)
    assert all(stored_half(value) is not None for value in model.weights())


def test_a_scaled_half_precision_weight_stays_what_it_is():
    text = "(float[N,64] y) { f = Cast<to=1>(v) t = Mul(f, s) y = MatMul(x, t) }"
    assert folded(text, v=V.astype(np.float16), s=noise(64))[1] == Counter(Mul=1, MatMul=1)


def test_double_precision_that_is_cast_down_is_stored_as_it_is_read():
    text = "(float[N,64] y) { f = Cast<to=1>(v) y = MatMul(x, f) }"
    model, left = folded(text, v=V.astype(np.float64))
    assert left == Counter(MatMul=1)
    assert model.weight_bytes() == V.nbytes


def test_a_long_chain_on_a_weight_in_use_stays():
    steps = " ".join(f"a{i + 1} = Add(a{i}, v)" for i in range(300))
    text = f"(float[N,64] y) {{ a0 = Neg(v) {steps} z = MatMul(x, a300) y = MatMul(z, v) }}"
    model, _ = folded(text, v=(V / 300).astype(np.float32))
    assert model.weight_bytes() == V.nbytes
