"""quantize_dynamic against plain NumPy, onnxruntime's own quantizer, and the kernels that onnxruntime really runs."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest

from compress_ops.quantize.int8.dynamic import quantize_dynamic
from tests.helpers import (
    applied,
    context,
    model_of,
    noise,
    op_types,
    optimized,
    outputs,
    proto,
    proto_of,
    saved_weights,
)
from tests.quantize.int8.int8_case import MATMUL, W, largest_pair

EPS = np.finfo(np.float32).eps


def quantized(source, /, **options):
    """The model after the pass, checked for a kept contract and a valid graph, and what the pass told.

    All 8 bits of the weights are used: test_portable.py is about the others.
    """
    return applied(quantize_dynamic, source, **{"portable": False, **options})


def symmetric(weight, axis, limit=127):
    """Plain rule: scale = max|w| / limit over ``axis``, codes = round(w / scale)."""
    scale = (np.abs(weight).max(axis=axis, keepdims=True) / np.float32(limit)).astype(np.float32)
    scale = np.where(scale == 0, np.float32(1), scale)
    return np.rint(weight / scale).astype(np.int8), scale


def asymmetric(x):
    """ONNX DynamicQuantizeLinear, from its text in the standard."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = np.float32((high - low) / np.float32(255)) or np.float32(1)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.clip(np.rint(x / scale) + zero, 0, 255) - zero, scale


def step_bound(x, weight_scale, absolute_weight_sums, terms):
    """|error| of sum(x w) when x is off by half an activation step and w by half a weight step, per output."""
    step = (max(x.max(), 0) - min(x.min(), 0)) / 255
    largest = np.abs(x).max()
    return absolute_weight_sums * step + terms * weight_scale / 2 * (largest + step) + 64 * EPS * largest


def close(found, expected):
    """Same integers, same scales: only the float products at the end may round differently."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=8 * EPS * np.abs(expected).max())


X = noise(3, 40, seed=1)


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_matmul_is_the_formula(per_channel, portable):
    model, change = quantized(proto_of(MATMUL, w=W), per_channel=per_channel, portable=portable)
    largest = np.maximum(np.abs(W).max(axis=0), largest_pair(W) if portable else 0)
    scale = (largest if per_channel else largest.max(keepdims=True)).reshape(1, -1) / np.float32(127)
    codes = np.rint(W / scale).astype(np.int8)
    stored = saved_weights(model)
    np.testing.assert_array_equal(stored["w_int8"], codes)
    np.testing.assert_array_equal(stored["w_scale"], scale.reshape(-1) if per_channel else scale.reshape(()))
    x_codes, x_scale = asymmetric(X)
    close(outputs(model, x=X)[0], x_codes @ codes.astype(np.float64) * x_scale * scale)
    assert list(change.touched) == ["MatMul_y"] and not change.declined


def test_the_result_is_within_half_steps_of_the_float_model():
    model, _ = quantized(proto_of(MATMUL, w=W))
    error = np.abs(outputs(model, x=X)[0] - X @ W)
    assert (error <= step_bound(X, symmetric(W, 0)[1].reshape(-1), np.abs(W).sum(0), 40)).all()


@pytest.mark.parametrize("per_channel", [False, True])
def test_codes_and_scales_are_those_of_onnxruntimes_quantizer(tmp_path, per_channel):
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as theirs

    source = proto_of(MATMUL, w=W)
    onnx.save(source, tmp_path / "m.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs(tmp_path / "m.onnx", tmp_path / "q.onnx", per_channel=per_channel, weight_type=QuantType.QInt8)
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
    model, _ = quantized(source, per_channel=per_channel)
    ours = saved_weights(model)
    np.testing.assert_array_equal(ours["w_int8"], expected["w_quantized"])
    np.testing.assert_allclose(ours["w_scale"], expected["w_scale"], rtol=2 * EPS)
    close(outputs(model, x=X)[0], outputs(onnx.load(tmp_path / "q.onnx"), x=X)[0])
    assert model.weight_bytes() <= sum(array.nbytes for array in expected.values())


@pytest.mark.parametrize("x_shape", [(2, 5, 40), (40,), (2, 3, 5, 40)], ids=str)
def test_matmul_with_inputs_of_other_ranks(x_shape):
    y_shape = (*x_shape[:-1], 24)
    text = (
        f"g (float[{','.join(map(str, x_shape))}] x) => (float[{','.join(map(str, y_shape))}] y) {{ y = MatMul(x, w) }}"
    )
    model, _ = quantized(proto_of(text, w=W))
    x = noise(*x_shape, seed=4)
    codes, scale = symmetric(W, 0)
    x_codes, x_scale = asymmetric(x)
    close(outputs(model, x=x)[0], x_codes @ codes.astype(np.float64) * x_scale * scale[0])


@pytest.mark.parametrize("per_channel", [False, True])
def test_matmul_with_a_stack_of_matrices(per_channel):
    weight = noise(3, 40, 24)
    text = "g (float[3,5,40] x) => (float[3,5,24] y) { y = MatMul(x, w) }"
    model, _ = quantized(proto_of(text, w=weight), per_channel=per_channel)
    x = noise(3, 5, 40, seed=4)
    codes, scale = symmetric(weight, 1 if per_channel else None)
    x_codes, x_scale = asymmetric(x)
    close(outputs(model, x=x)[0], x_codes @ codes.astype(np.float64) * x_scale * scale)


@pytest.mark.parametrize("bias", [None, (24,), (1,), ()], ids=str)
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("per_channel", [False, True])
def test_gemm(transposed, bias, per_channel):
    c = {} if bias is None else {"c": noise(*bias, seed=6)}
    text = f"g (float[N,40] x) => (float[N,24] y) {{ y = Gemm<transB={transposed}>(x, w{', c' * len(c)}) }}"
    model, change = quantized(proto_of(text, w=W.T.copy() if transposed else W, **c), per_channel=per_channel)
    assert list(change.touched) == ["Gemm_y"]
    codes, scale = symmetric(W, 0 if per_channel else None)
    x_codes, x_scale = asymmetric(X)
    close(outputs(model, x=X)[0], x_codes @ codes.astype(np.float64) * x_scale * scale + c.get("c", 0))


CONVS = {
    "2-D": ("Conv<pads=[1,1,1,1]>", (8, 6, 3, 3), (2, 6, 7, 7)),
    "strides and dilations": ("Conv<strides=[2,1], dilations=[1,2]>", (8, 6, 3, 3), (2, 6, 9, 9)),
    "same padding": ('Conv<auto_pad="SAME_UPPER", strides=[2,2]>', (8, 6, 3, 3), (2, 6, 8, 8)),
    "groups": ("Conv<group=2>", (8, 6, 3, 3), (2, 12, 5, 5)),
    "depthwise": ("Conv<group=32, pads=[1,1,1,1]>", (32, 1, 3, 3), (1, 32, 5, 5)),
    "1-D": ("Conv<pads=[1,1]>", (8, 12, 3), (2, 12, 9)),
    "3-D": ("Conv", (8, 4, 2, 3, 2), (1, 4, 4, 5, 4)),
}


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("op", "shape", "x_shape"), CONVS.values(), ids=CONVS)
def test_conv(op, shape, x_shape, bias, per_channel):
    """The oracle: onnxruntime's float Conv on the dequantized weight and the dequantized input."""
    dims = ",".join(map(str, x_shape))
    rank = ",".join("?" * len(shape))
    text = f"g (float[{dims}] x) => (float[{rank}] y) {{ y = {op}(x, w{', c' * bias}) }}"
    weight, x = noise(*shape), noise(*x_shape, seed=2) + np.float32(0.5)
    c = {"c": noise(shape[0], seed=3)} if bias else {}
    model, change = quantized(proto_of(text, w=weight, **c), per_channel=per_channel)
    assert list(change.touched) == ["Conv_y"] and op_types(model)["ConvInteger"] == 1
    codes, scale = symmetric(weight, tuple(range(1, len(shape))) if per_channel else None)
    x_codes, x_scale = asymmetric(x)
    integers = proto_of(text, w=codes.astype(np.float32), c=np.zeros(shape[0], np.float32))
    (product,) = outputs(integers, x=x_codes.astype(np.float32))
    channel = (1, -1) + (1,) * (len(shape) - 2)
    scale = np.broadcast_to(scale.reshape(-1), shape[0]).reshape(channel)
    expected = product.astype(np.float64) * x_scale * scale + (c["c"].reshape(channel) if bias else 0)
    close(outputs(model, x=x)[0], expected)


TABLE = noise(50, 12)


@pytest.mark.parametrize("rows", [[[0, 49], [7, 7]], [[-1, -50], [3, -2]]], ids=["positive", "negative"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_embedding(rows, per_channel):
    text = "g (int64[N,L] i) => (float[N,L,12] y) { y = Gather(t, i) }"
    model, _ = quantized(proto_of(text, t=TABLE), per_channel=per_channel)
    table = saved_weights(model)
    codes, scale = table["t_int8"], table["t_scale"].astype(np.float32)
    expected = np.abs(TABLE).max(axis=1 if per_channel else None, keepdims=True) / 127
    assert (scale >= expected * (1 - EPS)).all()  # rounded up where it is stored as float16
    assert (scale <= expected * (1 + 2.0**-10)).all()
    np.testing.assert_array_equal(codes, np.rint(TABLE / scale).astype(np.int8))
    found = outputs(model, i=np.array(rows))[0]
    np.testing.assert_array_equal(found, (codes.astype(np.float32) * scale)[np.array(rows)])
    assert (
        np.abs(found - TABLE[np.array(rows)]) <= np.broadcast_to(scale, TABLE.shape)[np.array(rows)] / 2 * 1.0001
    ).all()


def test_an_embedding_whose_scales_do_not_fit_float16():
    table = TABLE * np.float32(1e-6)
    text = "g (int64[N] i) => (float[N,12] y) { y = Gather(t, i) }"
    model, _ = quantized(proto_of(text, t=table))
    assert saved_weights(model)["t_scale"].dtype == np.float32
    scale = np.abs(table).max(1, keepdims=True) / 127
    assert (np.abs(outputs(model, i=np.arange(50))[0] - table) <= scale * 0.5001).all()


TIED = "g (int64[N] i) => (float[N,60] y) { h = Gather(t, i)  y = Gemm<transB=1>(h, t) }"


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_table_that_is_the_head_too(per_channel):
    table = noise(60, 40)
    model, change = quantized(proto_of(TIED, t=table), per_channel=per_channel)
    assert set(change.touched) == {"Gather_h", "Gemm_y"}
    assert "t" not in saved_weights(model)
    rows = np.array([5, 59, 0])
    largest = float(np.abs(table).max())
    step = largest / 127 * (1 + 2.0**-10)
    h = table[rows]
    bound = step_bound(h, step, np.abs(table).sum(1), 40) + step / 2 * np.abs(table).sum(1)
    assert (np.abs(outputs(model, i=rows)[0] - h @ table.T) <= bound).all()


def test_a_weight_of_two_layers_is_stored_once():
    text = "g (float[N,40] x) => (float[N,40] y) { h = MatMul(x, w)  y = MatMul(h, w) }"
    model, change = quantized(proto_of(text, w=noise(40, 40)))
    assert len(change.touched) == 2
    assert sum(a.nbytes for a in saved_weights(model).values() if a.dtype == np.int8) == 40 * 40 + 1


def test_per_tensor_codes_of_a_tied_weight_are_stored_once():
    text = "g (int64[N] i) => (float[N,40] y) { h = Gather(t, i)  y = MatMul(h, t) }"
    model, _ = quantized(proto_of(text, t=noise(40, 40)), per_channel=False)
    assert sum(a.nbytes for a in saved_weights(model).values() if a.dtype == np.int8) == 40 * 40 + 1


SHARED = {
    "a skipped reader": ("h = MatMul(x, w)  y = MatMul(h, w)", {"skip": ["MatMul_y"]}, "MatMul_y"),
    "another operator": ("h = MatMul(x, w)  y = Mul(h, w)", {}, "Mul_y"),
    "a transposed reader": ("h = MatMul(x, w)  t = Transpose(w)  y = MatMul(h, t)", {}, "Transpose_t"),
}


@pytest.mark.parametrize(("body", "options", "reader"), SHARED.values(), ids=SHARED)
def test_a_weight_that_stays_float_elsewhere_is_not_stored_twice(body, options, reader):
    """int8 beside float32 would make the file larger, not smaller."""
    source = proto_of(f"g (float[40,40] x) => (float[40,40] y) {{ {body} }}", w=noise(40, 40))
    before = model_of(source).weight_bytes()
    model, change = quantized(source, **options)
    assert model.weight_bytes() <= before
    assert reader in {d.name: d.reason for d in change.declined}["MatMul_h"]


def test_a_weight_that_is_an_output_is_not_stored_twice():
    source = proto_of("g (float[N,40] x) => (float[N,24] y, float[40,24] w) { y = MatMul(x, w) }", w=W)
    model, change = quantized(source)
    assert model.weight_bytes() <= W.nbytes and "output" in change.declined[0].reason


# --- subgraphs ---

BRANCHES = """g (bool c, float[N,40] x) => (float[N,24] y) {
    y = If (c) <then_branch = t () => (float[N,24] a) { a = MatMul(x, w) },
                else_branch = e () => (float[N,24] b) { m = MatMul(x, w)  b = Neg(m) }> }"""


def test_one_weight_in_both_branches():
    model, change = quantized(proto_of(BRANCHES, w=W))
    assert len(change.touched) == 2
    codes, scale = symmetric(W, 0)
    x_codes, x_scale = asymmetric(X)
    expected = x_codes @ codes.astype(np.float64) * x_scale * scale
    close(outputs(model, c=np.array(True), x=X)[0], expected)
    close(outputs(model, c=np.array(False), x=X)[0], -expected)
    assert sum(a.nbytes for a in saved_weights(model).values() if a.dtype == np.int8 and a.size > 1) == W.size


def test_a_weight_of_a_branch_and_of_the_graph_behind_it():
    text = BRANCHES.replace("y = If", "q = If").replace("=> (float[N,24] y)", "=> (float[N,24] y, float[N,24] q)")
    source = proto_of(text[: text.rindex("}")] + " y = MatMul(x, w) }", w=W)
    model, _ = quantized(source)
    y, q = outputs(model, c=np.array(False), x=X)
    np.testing.assert_array_equal(y, -q)


def test_a_weight_inside_a_loop():
    text = """g (float[N,40] x) => (float[N,40] y) <int64 n = {2}, bool k = {1}> {
        y = Loop (n, k, x) <body = b (int64 i, bool ci, float[N,40] s) => (bool co, float[N,40] t)
            { co = Identity(ci)  t = MatMul(s, w) }> }"""
    weight = noise(40, 40, scale=0.1)
    model, change = quantized(proto_of(text, w=weight))
    assert list(change.touched) == ["MatMul_t"]
    x = X
    for _ in range(2):
        codes, scale = symmetric(weight, 0)
        x_codes, x_scale = asymmetric(x)
        x = (x_codes @ codes.astype(np.float64) * x_scale * scale).astype(np.float32)
    step = np.abs(x).max() * 2 / 255 * np.abs(weight).sum(0).max()  # one code may flip after the first round's rounding
    np.testing.assert_allclose(outputs(model, x=X)[0], x, rtol=0, atol=step)


# --- what is declined, and why ---

MORE = "Gemm: it computes more than x W + b (transA, alpha or beta)"
GEMM = "g (float[40,40] x) => (float[40,24] y) {{ y = Gemm<{}>(x, w, c) }}"
DECLINED = {
    "computed weight": (
        "g (float[N,40] x, float s) => (float[N,24] y) { m = Mul(w, s)  y = MatMul(x, m) }",
        {"w": W},
        "MatMul: its weight is computed, not stored",
    ),
    "both computed": (
        "g (float[N,40] x, float[40,24] v) => (float[N,24] y) { y = MatMul(x, v) }",
        {},
        "MatMul: its weight is computed, not stored",
    ),
    "double": (
        "g (double[N,40] x) => (double[N,24] y) { y = MatMul(x, w) }",
        {"w": W.astype(np.float64)},
        "MatMul: its weight is double, not float32",
    ),
    "float16": (
        "g (float16[N,40] x) => (float16[N,24] y) { y = MatMul(x, w) }",
        {"w": W.astype(np.float16)},
        "MatMul: its weight is float16, not float32",
    ),
    "small": (
        "g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }",
        {"w": noise(4, 4)},
        "MatMul: its weight of 64 bytes is too small to gain",
    ),
    "vector": (
        "g (float[N,400] x) => (float[N] y) { y = MatMul(x, w) }",
        {"w": noise(400)},
        "MatMul: its weight is a vector",
    ),
    "NaN": (
        MATMUL,
        {"w": np.where(W > 2, np.float32("nan"), W)},
        "MatMul: its weight or bias has NaN or infinite values",
    ),
    "infinity": (
        MATMUL,
        {"w": np.where(W > 2, np.float32("-inf"), W)},
        "MatMul: its weight or bias has NaN or infinite values",
    ),
    "constant input": (
        "g (float[N,24] x) => (float[N,24] y) { k = MatMul(v, w)  y = Add(x, k) }",
        {"v": noise(1, 40), "w": W},
        "MatMul: both inputs are constants; run simplify first",
    ),
    "transA": (
        GEMM.format("transA=1"),
        {"w": W, "c": W[0]},
        MORE,
    ),
    "alpha": (
        GEMM.format("alpha=0.5"),
        {"w": W, "c": W[0]},
        MORE,
    ),
    "beta": (
        GEMM.format("beta=0.5"),
        {"w": W, "c": W[0]},
        MORE,
    ),
    "matrix as bias": (GEMM.format("transB=0"), {"w": W, "c": W}, "Gemm: its bias is no vector"),
    "columns": (
        "g (int64[N] i) => (float[50,N] y) { y = Gather<axis=1>(t, i) }",
        {"t": TABLE},
        "Gather: not a table of rows",
    ),
    "flat table": (
        "g (int64[N] i) => (float[N] y) { y = Gather(t, i) }",
        {"t": noise(600)},
        "Gather: not a table of rows",
    ),
}


@pytest.mark.parametrize(("text", "given", "reason"), DECLINED.values(), ids=DECLINED)
def test_what_cannot_be_quantized_is_declined_with_its_reason(text, given, reason):
    source = proto_of(text, **given)
    before = proto(model_of(source)).SerializeToString()
    model, change = quantized(source)
    assert change.touched == {} and [d.reason for d in change.declined] == [reason]
    assert proto(model).SerializeToString() == before


def test_a_lookup_in_a_computed_tensor_is_not_even_declined():
    _, change = quantized(proto_of("g (float[9,9] x, int64[N] i) => (float[N,9] y) { y = Gather(x, i) }"))
    assert change.touched == {} and change.declined == []


def test_patterns_and_operators_choose():
    text = "g (float[N,40] x) => (float[N,40] y) { h = MatMul(x, u)  y = Gemm(h, v) }"
    given = {"u": noise(40, 40), "v": noise(40, 40, seed=1)}
    assert set(quantized(proto_of(text, **given), only=["MatMul_*"])[1].touched) == {"MatMul_h"}
    assert set(quantized(proto_of(text, **given), skip=["Gemm"])[1].touched) == {"MatMul_h"}
    assert set(quantized(proto_of(text, **given), operators=["Gemm"])[1].touched) == {"Gemm_y"}


def test_a_second_run_finds_nothing_left():
    text = "g (int64[N] i) => (float[N,24] y) { h = Gather(t, i)  y = MatMul(h, w) }"
    model, _ = quantized(proto_of(text, t=noise(60, 40), w=W))
    once = proto(model)
    change = quantize_dynamic(model, context())
    assert change.touched == {}
    assert proto(model) == once


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12])
def test_old_models_are_raised(opset):
    source = proto_of(MATMUL, w=W)
    source.opset_import[0].version = opset
    model, change = quantized(source)
    assert model.opset == max(opset, 11) and change.touched
    assert (np.abs(outputs(model, x=X)[0] - X @ W) <= step_bound(X, symmetric(W, 0)[1][0], np.abs(W).sum(0), 40)).all()


# --- numbers at the edge ---


def test_channels_of_zeros_and_outliers():
    weight = W.copy()
    weight[:, 0], weight[:, 1], weight[3, 2], weight[:, 3] = 0, 1e-42, 1e6, 1e-30
    model, _ = quantized(proto_of(MATMUL, w=weight))
    found, expected = outputs(model, x=X)[0], X @ weight
    assert (found[:, :2] == 0).all()
    assert (
        np.abs(found - expected) <= step_bound(X, symmetric(weight, 0)[1][0], np.abs(weight).sum(0), 40) + 1e-38
    ).all()
    plain, _ = quantized(proto_of(MATMUL, w=W))
    np.testing.assert_array_equal(found[:, 4:], outputs(plain, x=X)[0][:, 4:])  # an outlier harms its channel alone


@pytest.mark.parametrize("value", [0.0, 2.5, -1.0])
def test_constant_activations(value):
    model, _ = quantized(proto_of(MATMUL, w=W))
    x = np.full((2, 40), value, np.float32)
    bound = step_bound(x, symmetric(W, 0)[1][0], np.abs(W).sum(0), 40)
    assert (np.abs(outputs(model, x=x)[0] - x @ W) <= bound).all()


def test_each_output_keeps_its_name_where_quantized_values_are_outputs():
    text = "g (float[N,40] x) => (float[N,40] h, float[N,24] y) { h = MatMul(x, v)  y = MatMul(h, w) }"
    model, _ = quantized(proto_of(text, v=noise(40, 40, seed=8), w=W))
    assert [value.name for value in model.graph.outputs] == ["h", "y"]
    h, y = outputs(model, x=X)
    assert h.shape == (3, 40) and y.shape == (3, 24)


def test_a_bias_that_two_convs_share():
    text = "g (float[1,6,5,5] x) => (float[1,8,3,3] y) { a = Conv(x, u, c)  b = Conv(x, v, c)  y = Add(a, b) }"
    u, v, c = noise(8, 6, 3, 3), noise(8, 6, 3, 3, seed=1), noise(8, seed=2)
    model, change = quantized(proto_of(text, u=u, v=v, c=c))
    assert len(change.touched) == 2 and op_types(model)["DynamicQuantizeLinear"] == 1  # one input, quantized once
    x = noise(1, 6, 5, 5)
    scale = max(np.abs(u).max(), np.abs(v).max()) / 127
    sums = (np.abs(u) + np.abs(v)).sum((1, 2, 3)).max()
    (expected,) = outputs(proto_of(text, u=u, v=v, c=c), x=x)
    assert (np.abs(outputs(model, x=x)[0] - expected) <= step_bound(x, scale, sums, 2 * 54)).all()


# --- what onnxruntime runs ---


@pytest.mark.parametrize("per_channel", [False, True])
def test_matmul_runs_in_one_kernel(per_channel):
    model, _ = quantized(proto_of(MATMUL, w=W), per_channel=per_channel)
    assert optimized(model, "ORT_ENABLE_ALL") == {"DynamicQuantizeMatMul": 1}


def test_gemm_and_its_bias_run_in_one_kernel():
    source = proto_of("g (float[N,40] x) => (float[N,24] y) { y = Gemm(x, w, c) }", w=W, c=noise(24))
    assert optimized(quantized(source)[0], "ORT_ENABLE_ALL") == {"DynamicQuantizeMatMul": 1}


def test_layers_of_one_input_share_its_codes():
    text = "g (float[N,40] x) => (float[N,24] y) { a = MatMul(x, u)  b = MatMul(x, v)  y = Add(a, b) }"
    kinds = optimized(quantized(proto_of(text, u=W, v=noise(40, 24, seed=5)))[0], "ORT_ENABLE_ALL")
    assert kinds == {"Add": 1, "DynamicQuantizeLinear": 1, "MatMulIntegerToFloat": 2}
