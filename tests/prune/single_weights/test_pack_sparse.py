"""pack_sparse: the same numbers from fewer bytes, and nothing of the decoding left once onnxruntime has loaded it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_ops.prune.single_weights.pack_sparse import pack_sparse
from compress_ops.quantize.int8.static import quantize_static
from tests.graphs import branches
from tests.helpers import Given, context, model_of, noise, op_types, optimized, outputs, proto, reloaded

MATMUL = "g (float[B,48] x) => (float[B,40] y) { h = MatMul(x, w)  y = Add(h, b) }"
WIDE = "g (float[B,96] x) => (float[B,80] y) { y = MatMul(x, w) }"
BIAS = noise(40, seed=9)


def sparse(*shape, zeros=0.8, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < zeros, 0, rng.standard_normal(shape)).astype(dtype)


def run(model, **feeds):
    return outputs(model, **feeds)[0]


@pytest.mark.parametrize("zeros", [0.4, 0.8, 0.99])
def test_the_same_numbers_from_fewer_bytes(zeros):
    weight, x = sparse(96, 80, zeros=zeros), noise(3, 96)
    model = model_of(WIDE, w=weight)
    before, plain = len(proto(model).SerializeToString()), run(model, x=x)
    change = pack_sparse(model, context())
    np.testing.assert_array_equal(run(model, x=x), plain)
    after = len(proto(reloaded(model)).SerializeToString())
    values = np.count_nonzero(weight)
    stored = 4 * (values + 1) + weight.size // 8
    assert change.notes == {"bytes_before": weight.nbytes, "bytes_after": stored + 900}
    assert change.touched == {"w": f"{weight.nbytes} -> {stored + 900} bytes, {1 - values / weight.size:.1%} zeros"}
    table, nodes = 2048, 2000  # nodes, names and shapes take a little more in a model with one weight
    assert weight.nbytes - stored - table - nodes < before - after < weight.nbytes - stored - table


@settings(max_examples=15, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    zeros=st.floats(0.5, 1),
    dtype=st.sampled_from([np.float32, np.float16, np.float64, np.int8, np.uint8]),
    seed=st.integers(0, 999),
)
def test_any_shape_and_type_is_decoded_exactly(shape, zeros, dtype, seed):
    names = {np.float32: "float", np.float16: "float16", np.float64: "double", np.int8: "int8", np.uint8: "uint8"}
    weight = (10 * sparse(300, *shape, zeros=zeros, seed=seed)).astype(dtype)
    kind, sizes = names[dtype], ",".join(map(str, weight.shape))
    model = model_of(f"g (int64[B] x) => ({kind}[B,{sizes.partition(',')[2]}] y) {{ y = Gather(w, x) }}", w=weight)
    pack_sparse(model, context())
    found = run(model, x=np.arange(300))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, weight)


def test_onnxruntime_runs_the_dense_graph():
    dense = model_of(MATMUL, w=sparse(48, 40), b=BIAS)
    packed = model_of(MATMUL, w=sparse(48, 40), b=BIAS)
    pack_sparse(packed, context())
    assert op_types(packed)["CumSum"] == 1
    assert optimized(packed, "ORT_ENABLE_ALL") == optimized(dense, "ORT_ENABLE_ALL")


CONV = "g (float[B,16,9,9] x) => (float[B,48,7,7] y) { h = Conv(x, w, b)  y = Relu(h) }"


def test_quantized_weights_are_packed_and_still_run_as_integers(tmp_path):
    model = model_of(CONV, w=sparse(48, 16, 3, 3, zeros=0.8), b=noise(48))
    x = noise(4, 16, 9, 9)
    quantize_static(model, context(calibration=Given({"x": x})))
    plain, operators = run(model, x=x), optimized(model, "ORT_ENABLE_ALL")
    assert operators["QLinearConv"] == 1
    change = pack_sparse(model, context())
    assert len(change.touched) == 1 and change.notes["bytes_before"] == 6912
    np.testing.assert_array_equal(run(model, x=x), plain)
    assert optimized(model, "ORT_ENABLE_ALL") == operators


def test_of_codes_the_most_frequent_one_is_left_out():
    codes = np.where(sparse(99, 64) == 0, 131, np.random.default_rng(1).integers(0, 256, (99, 64))).astype(np.uint8)
    text = """g (float[B,99] x) => (float[B,64] y) {
        w = DequantizeLinear(q, s, z)  y = MatMul(x, w) }"""
    model = model_of(text, q=codes, s=np.float32(0.1), z=np.uint8(131))
    x = noise(3, 99)
    plain = run(model, x=x)
    pack_sparse(model, context())
    values = next(value.const_value.numpy() for value in model.weights() if value.name == "q_values")
    assert values[0] == 131 and (values[1:] != 131).all()
    np.testing.assert_array_equal(run(model, x=x), plain)


def test_what_is_not_finite_is_kept_as_it_is():
    weight = sparse(48, 40)
    weight[3, :3] = np.nan, np.inf, -np.inf
    model = model_of("g (int64[B] x) => (float[B,40] y) { y = Gather(w, x) }", w=weight)
    pack_sparse(model, context())
    np.testing.assert_array_equal(run(model, x=np.arange(48)), weight)


def test_a_weight_of_nothing_but_zeros():
    model = model_of(MATMUL, w=np.zeros((48, 40), np.float32), b=BIAS)
    pack_sparse(model, context())
    np.testing.assert_array_equal(run(model, x=noise(2, 48)), np.stack([BIAS, BIAS]))


def test_dense_weights_are_declined_with_both_sizes():
    model = model_of(MATMUL, w=noise(48, 40), b=BIAS)
    change = pack_sparse(model, context())
    assert [(d.name, d.reason) for d in change.declined] == [
        (
            "w",
            f"its 7680 bytes would take {240 + 4 * 1921 + 900}: 0.0% of it are zeros; "
            "put prune_weights: {ratio: 0.7} in front",
        )
    ]
    assert change.touched == {} and change.notes == {"bytes_before": 0, "bytes_after": 0}
    assert op_types(model) == {"MatMul": 1, "Add": 1}


def test_what_saves_less_than_the_decoding_takes_is_declined():
    model = model_of("g (float[B,16] x) => (float[B,40] y) { y = MatMul(x, w) }", w=sparse(16, 40, zeros=0.9))
    change = pack_sparse(model, context())
    assert [d.name for d in change.declined] == ["w"] and "2048 bytes" in change.declined[0].reason
    assert op_types(model) == {"MatMul": 1}


def test_other_types_and_outputs_are_declined():
    text = "g (int64[B] x) => (int64[B,40] y, float[48,40] w) { y = Gather(t, x)  z = Gather(w, x) }"
    model = model_of(text, t=sparse(48, 40).astype(np.int64), w=sparse(48, 40))
    assert {d.name: d.reason for d in pack_sparse(model, context()).declined} == {
        "t": "it is int64",
        "w": "it is an output of the graph",
    }


def test_patterns_choose():
    text = "g (float[B,48] x) => (float[B,40] y, float[B,40] z) { y = MatMul(x, u)  z = MatMul(x, v) }"
    for options, expected in (({"only": ["MatMul_y"]}, {"u"}), ({"skip": ["MatMul_y"]}, {"v"}), ({}, {"u", "v"})):
        model = model_of(text, u=sparse(48, 40), v=sparse(48, 40, seed=1))
        assert set(pack_sparse(model, context(), **options).touched) == expected


def test_a_shared_weight_is_decoded_once():
    model = model_of("g (float[2,40] x) => (float[2,40] y) { h = MatMul(x, w)  y = MatMul(h, w) }", w=sparse(40, 40))
    plain = run(model, x=noise(2, 40))
    pack_sparse(model, context())
    assert op_types(model)["CumSum"] == 1
    np.testing.assert_array_equal(run(model, x=noise(2, 40)), plain)


def test_weights_of_branches():
    text = branches("float[2,48] x", "float[2,40]", "a = MatMul(x, w)", "m = MatMul(x, w)  o = Neg(m)")
    model = model_of(text, w=sparse(48, 40))
    feeds = [{"c": np.array(c), "x": noise(2, 48)} for c in (True, False)]
    plain = [run(model, **feed) for feed in feeds]
    assert set(pack_sparse(model, context()).touched) == {"w"}
    for feed, expected in zip(feeds, plain, strict=True):
        np.testing.assert_array_equal(run(model, **feed), expected)


def test_a_second_run_finds_nothing_to_do():
    model = model_of(MATMUL, w=sparse(48, 40), b=BIAS)
    pack_sparse(model, context())
    before = proto(model).SerializeToString()
    assert not pack_sparse(model, context()).touched
    assert proto(model).SerializeToString() == before


def test_packing_waits_for_the_save():
    model = model_of(MATMUL, w=sparse(48, 40), b=BIAS)
    pack_sparse(model, context())
    lazy = [value.name for value in model.weights() if type(value.const_value).__name__ == "LazyTensor"]
    assert sorted(lazy) == ["w_bits", "w_values"]


def test_an_old_opset_is_raised():
    model = model_of('<ir_version: 8, opset_import: ["": 9]>\n' + MATMUL, w=sparse(48, 40), b=BIAS)
    assert pack_sparse(model, context()).touched and model.opset == 11
