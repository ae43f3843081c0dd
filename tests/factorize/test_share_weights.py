"""share_weights: what is stored twice is stored once, and the function stays, or as near as the tolerance says."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.factorize import share_weights
from tests.helpers import applied, noise, op_types, outputs, proto_of, reloaded

X, W = noise(3, 16, seed=1), noise(16, 16)
TWICE = "g (float[N,16] x) => (float[N,16] y) { h = MatMul(x, u)  y = MatMul(h, v) }"
TIED = "g (int64[N] ids) => (float[N,50] y) { e = Gather(table, ids)  y = MatMul(e, head) }"
TABLE = noise(50, 16, seed=2)


def shared(source, **options):
    return applied(share_weights, source, **options)


def names(model):
    return {value.name for value in reloaded(model).weights()}


def test_equal_weights_are_stored_once_and_nothing_else_changes():
    source = proto_of(TWICE, u=W, v=W.copy())
    model, change = shared(source)
    assert names(model) == {"u"} and change.touched == {"v": "equal to another weight"}
    assert change.notes == {"bytes_saved": W.nbytes, "worst_difference": 0.0}
    np.testing.assert_array_equal(outputs(model, x=X)[0], outputs(source, x=X)[0])


@pytest.mark.parametrize("part", [0.5, 2.0])
def test_the_tolerance_is_relative_to_the_largest_number(part):
    tolerance = 1e-3
    near = W.copy()
    near[3, 5] += part * tolerance * np.abs(W).max()
    model, change = shared(proto_of(TWICE, u=W, v=near), tolerance=tolerance)
    assert names(model) == ({"u"} if part < 1 else {"u", "v"})
    assert change.notes["worst_difference"] == pytest.approx(part * tolerance if part < 1 else 0, rel=1e-2)
    assert bool(change.touched) == (part < 1)


def test_without_a_tolerance_near_is_not_equal():
    near = np.nextafter(W, np.float32(9))
    assert not shared(proto_of(TWICE, u=W, v=near))[1].touched


@pytest.mark.parametrize(("u", "v"), [("nan", "nan"), ("inf", "inf"), ("zero", "one"), ("float", "double")])
def test_weights_that_only_seem_near(u, v):
    kinds = {"nan": W * np.float32(np.nan), "inf": W * np.float32(np.inf), "zero": W * 0, "one": W, "float": W}
    first = kinds[u]
    second = kinds[v] + np.float32(1) if v in kinds else W.astype(np.float64)
    text = "g (float[16,16] x) => (float[16,16] y, bool[16,16] z) { y = Add(x, u)  z = IsNaN(v) }"
    _, change = shared(proto_of(text, u=first, v=second), tolerance=0.1)
    assert not change.touched or first.tobytes() == second.tobytes()


def test_single_numbers_and_integers_have_no_tolerance():
    text = "g (float[N] x) => (float[N] y, int64[2] z) { h = Add(x, a)  y = Mul(h, b)  z = Add(i, j) }"
    numbers = {"a": np.float32(1), "b": np.float32(1.001), "i": np.array([1000, 7]), "j": np.array([1001, 7])}
    assert not shared(proto_of(text, **numbers), tolerance=0.1)[1].touched


def test_a_projection_that_is_the_transpose_of_the_embedding_reads_the_embedding():
    source = proto_of(TIED, head=TABLE.T.copy(), table=TABLE)
    model, change = shared(source)
    assert names(model) == {"table"} and op_types(model)["Transpose"] == 1
    assert change.touched == {"head": "the transpose of table"}
    ids = np.array([0, 49, 7])
    np.testing.assert_array_equal(outputs(model, ids=ids)[0], outputs(source, ids=ids)[0])


def test_transposes_stay_where_they_are_not_wanted_or_not_near():
    assert not shared(proto_of(TIED, table=TABLE, head=TABLE.T.copy()), transposed=False)[1].touched
    near = (TABLE.T + np.float32(1e-4)).astype(np.float32)
    assert not shared(proto_of(TIED, table=TABLE, head=near))[1].touched
    assert shared(proto_of(TIED, table=TABLE, head=near), tolerance=1e-3)[1].touched


def test_a_symmetric_matrix_is_not_its_own_twin():
    symmetric = W + W.T
    text = "g (float[N,16] x) => (float[N,16] y) { y = MatMul(x, u) }"
    model, change = shared(proto_of(text, u=symmetric), tolerance=0.1)
    assert not change.touched and names(model) == {"u"}


def test_three_alike_share_one():
    text = "g (float[N,16] x) => (float[N,16] y) { h = MatMul(x, u)  i = MatMul(h, v)  y = MatMul(i, w) }"
    source = proto_of(text, u=W, v=W.T.copy(), w=W.copy())
    model, change = shared(source)
    assert names(model) == {"u"} and set(change.touched) == {"v", "w"}
    np.testing.assert_allclose(outputs(model, x=X)[0], outputs(source, x=X)[0], rtol=1e-5)


def test_outputs_of_the_model_stay():
    text = "g (float[N,16] x) => (float[N,16] y, float[16,16] v) { y = MatMul(x, u) }"
    model, change = shared(proto_of(text, u=W, v=W.copy()), tolerance=0.1)
    assert not change.touched and names(model) == {"u", "v"}


def test_weights_inside_a_branch_are_shared_there():
    text = """g (float[N,16] x, bool c) => (float[N,16] y) {
        y = If (c) <then_branch = t () => (float[N,16] a)
                      <float[2] p = {1, 2}, float[2] q = {1, 2}>
                      { s = ReduceSum<keepdims=0>(p)  r = ReduceMax<keepdims=0>(q)  m = Mul(x, s)  a = Mul(m, r) },
                    else_branch = e () => (float[N,16] b) { b = Identity(x) }>
    }"""
    source = proto_of(text)
    model, change = shared(source)
    assert change.touched == {"q": "equal to another weight"}
    feeds = {"x": X, "c": np.array(True)}
    np.testing.assert_array_equal(outputs(model, **feeds)[0], outputs(source, **feeds)[0])
