"""Products whose stored matrix is the left operand."""

import numpy as np
import pytest

from compress_ops.catalogue import PASSES
from tests.helpers import Given, context, model_of, noise, op_types, outputs, proto_of

TEXT = "g (float[B,64,N] x) => (float[B,64,N] y) { a = MatMul(W, x) b = Relu(a) y = MatMul(V, b) }"
W, V, X = noise(64, 64, scale=0.2), noise(64, 64, seed=1, scale=0.2), noise(2, 64, 5)
ROUNDED = 1 / 32  # of two products with weights and activations in 8 bits, relative


@pytest.mark.parametrize("stack", [(), (2,)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("quantize_dynamic", {}),
        ("quantize_dynamic", {"per_channel": False}),
        ("quantize_static", {}),
        ("quantize_static", {"form": "qoperator"}),
        ("quantize_weights", {"bits": 8}),
        ("quantize_weights", {"bits": 8, "storage": "decoded"}),
    ],
)
def test_it_is_quantized_like_a_right_one(name, options, stack):
    weights = {"W": np.broadcast_to(W, (*stack, 64, 64)).copy(), "V": V}
    plain = proto_of(TEXT, **weights)
    model = model_of(plain)
    before = model.stored_bytes()
    change = PASSES[name](model, context(calibration=Given({"x": X})), **options)
    wanted, got = outputs(plain, x=X)[0], outputs(model, x=X)[0]
    assert np.linalg.norm(got - wanted) < ROUNDED * np.linalg.norm(wanted)
    if name == "quantize_weights" and stack:
        assert [d.reason for d in change.declined] == ["MatMul: its left matrix has 3 dimensions, not 2"]
        assert list(change.touched) == ["MatMul_y"]
    else:
        assert {"MatMul_a", "MatMul_y"} <= set(change.touched)
        assert model.stored_bytes() < 0.5 * before


def test_each_output_has_a_scale():
    model = model_of(TEXT, W=W * np.geomspace(1e-3, 1e3, 64, dtype=np.float32)[:, None], V=V)
    PASSES["quantize_dynamic"](model, context())
    assert model.graph.initializers["W_scale"].const_value.shape.numpy() == (64,)


def test_a_matrix_that_two_products_share_is_stored_once():
    text = TEXT.replace("V, b", "W, b")
    model = model_of(text, W=W)
    PASSES["quantize_dynamic"](model, context())
    assert [value.name for value in model.weights() if value.name.startswith("W_int8")] == ["W_int8"]


def test_one_that_stands_on_both_sides_stays():
    plain = proto_of("g (float[64,64] x) => (float[64,64] y) { a = MatMul(W, x) y = MatMul(a, W) }", W=W)
    model = model_of(plain)
    change = PASSES["quantize_dynamic"](model, context())
    assert {d.name: d.reason for d in change.declined} == {
        "MatMul_a": "MatMul: its left matrix stays float for MatMul_y",
        "MatMul_y": "MatMul: its weight stays float for MatMul_a",
    }
    assert op_types(model) == {"MatMul": 2}


def test_a_table_that_is_a_left_matrix_too_is_stored_once():
    text = """g (int64[N] i, float[64,M] x) => (float[N,64] e, float[64,M] y) { e = Gather(W, i) y = MatMul(W, x) }"""
    model = model_of(text, W=W)
    PASSES["quantize_weights"](model, context(), bits=8)
    left = op_types(model)
    assert (left["GatherBlockQuantized"], left["MatMulNBits"]) == (1, 1)
    assert len([value for value in model.weights() if value.const_value.nbytes > W.size / 2]) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[64] x) => (float[64] y) { y = MatMul(W, x) }", "MatMul: what it multiplies is a vector"),
        (
            "g (float[64,N] x, int64[K] s) => (float[A] y) { r = Reshape(x, s) z = MatMul(W, r) y = Identity(z) }",
            "MatMul: its weight stands on the left of what has an unknown number of dimensions",
        ),
    ],
)
def test_the_reason_is_true_where_it_stays(text, reason):
    change = PASSES["quantize_dynamic"](model_of(text, W=W), context())
    assert [declined.reason for declined in change.declined] == [reason]


def test_smoothing_says_where_it_stands():
    change = PASSES["smooth"](model_of(TEXT, W=W, V=V), context(calibration=Given({"x": X})))
    assert {declined.reason for declined in change.declined} == {"MatMul: its stored matrix stands on the left"}
