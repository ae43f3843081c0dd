"""quantize_static: codes and ranges by the plain rule, results near the float model, and integer kernels that run."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.errors import PassError
from compress_ops.graph.layers.reasons import INSIDE
from compress_ops.quantize.int8.static import quantize_static
from tests.helpers import (
    Given,
    Interrupted,
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
from tests.quantize.int8.int8_case import (
    CONV,
    CONV_WEIGHTS,
    IMAGES,
    MATMUL,
    NETWORKS,
    W,
    X,
    largest_pair,
    nearly,
    network,
    quantized,
)

EPS = np.finfo(np.float32).eps


def asymmetric(low, high):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255)
    return scale, np.uint8(np.rint(-low / scale))


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_matmul_is_the_formula(per_channel, portable):
    source = proto_of(MATMUL, w=W)
    model, change = quantized(source, {"x": X}, per_channel=per_channel, portable=portable)
    largest = np.maximum(np.abs(W).max(axis=0), largest_pair(W) if portable else 0)
    w_scale = (largest if per_channel else largest.max(keepdims=True)).reshape(1, -1) / np.float32(127)
    codes = np.rint(W / w_scale)
    x_scale, x_zero = asymmetric(float(X.min()), float(X.max()))
    stored = saved_weights(model)
    np.testing.assert_array_equal(stored["w_int8"], codes)
    np.testing.assert_array_equal(stored["w_int8_scale"], w_scale.reshape(-1) if per_channel else w_scale.reshape(()))
    assert stored["x_scale"] == x_scale and stored["x_zero_point"] == x_zero
    x_codes = np.clip(np.rint(X / x_scale) + x_zero, 0, 255) - x_zero
    expected = (x_codes * x_scale) @ (codes * w_scale).astype(np.float64)
    np.testing.assert_allclose(outputs(model, x=X)[0], expected, rtol=0, atol=64 * EPS * np.abs(expected).max())
    assert list(change.touched) == ["MatMul_y"] and not change.declined


def test_int8_activations_are_symmetric():
    model, _ = quantized(proto_of(MATMUL, w=W), {"x": X}, activation_type="int8")
    stored = saved_weights(model)
    assert stored["x_scale"] == np.float32(np.abs(X).max() / 127)
    assert stored["x_zero_point"] == 0 and stored["x_zero_point"].dtype == np.int8
    nearly(model, proto_of(MATMUL, w=W), 4, x=X)


@pytest.mark.parametrize("per_channel", [False, True])
def test_scales_and_codes_are_those_of_onnxruntimes_quantizer(tmp_path, per_channel):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as theirs

    class Reader(CalibrationDataReader):
        feeds = iter([{"x": IMAGES}])

        def get_next(self):
            return next(self.feeds, None)

    source = proto_of(CONV, **CONV_WEIGHTS)
    onnx.save(source, tmp_path / "m.onnx")
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "quant_format": QuantFormat.QDQ}
    theirs(tmp_path / "m.onnx", tmp_path / "q.onnx", Reader(), per_channel=per_channel, **kinds)
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
    model, _ = quantized(source, {"x": IMAGES}, per_channel=per_channel, portable=False)
    ours = saved_weights(model)
    for mine, other in (("w_int8", "w_quantized"), ("x_zero_point", "x_zero_point"), ("y_zero_point", "y_zero_point")):
        np.testing.assert_array_equal(ours[mine], expected[other].reshape(ours[mine].shape))
    for mine, other in (("w_int8_scale", "w_scale"), ("x_scale", "x_scale"), ("y_scale", "y_scale")):
        np.testing.assert_allclose(ours[mine], expected[other].reshape(ours[mine].shape), rtol=4 * EPS)
    assert (
        np.abs(ours["c_int32"] - expected["c_quantized"].astype(np.int64)).max() <= 1
    )  # scales differ in the last bit


# --- every kind of operator: the result, and the kernel ---


CONVS = {
    "2-D": ("Conv<pads=[1,1,1,1]>", (8, 6, 3, 3), (4, 6, 7, 7)),
    "strides": ("Conv<strides=[2,2]>", (8, 6, 3, 3), (4, 6, 7, 7)),
    "same padding": ('Conv<auto_pad="SAME_UPPER", strides=[2,2]>', (8, 6, 3, 3), (2, 6, 8, 8)),
    "groups": ("Conv<group=2>", (8, 6, 3, 3), (4, 12, 5, 5)),
    "depthwise": ("Conv<group=32, pads=[1,1,1,1]>", (32, 1, 3, 3), (2, 32, 5, 5)),
    "1-D": ("Conv<pads=[1,1]>", (8, 12, 3), (4, 12, 9)),
    "3-D": ("Conv", (8, 4, 2, 3, 2), (2, 4, 4, 5, 4)),
}


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("op", "shape", "x_shape"), CONVS.values(), ids=CONVS)
def test_conv(op, shape, x_shape, bias, per_channel):
    dims, rank = ",".join(map(str, x_shape)), ",".join("?" * len(shape))
    text = f"g (float[{dims}] x) => (float[{rank}] y) {{ y = {op}(x, w{', c' * bias}) }}"
    source = proto_of(text, w=noise(*shape), **({"c": noise(shape[0], seed=3)} if bias else {}))
    x = noise(*x_shape, seed=2) + np.float32(0.3)
    model, change = quantized(source, {"x": x}, per_channel=per_channel)
    assert list(change.touched) == ["Conv_y"]
    nearly(model, source, 5, x=x)
    assert optimized(model) == {"QuantizeLinear": 1, "QLinearConv": 1, "DequantizeLinear": 1}


@pytest.mark.parametrize("bias", [None, (24,), (1,), ()], ids=str)
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("per_channel", [False, True])
def test_gemm(transposed, bias, per_channel):
    c = {} if bias is None else {"c": noise(*bias, seed=6)}
    text = f"g (float[N,40] x) => (float[N,24] y) {{ y = Gemm<transB={transposed}>(x, w{', c' * len(c)}) }}"
    source = proto_of(text, w=W.T.copy() if transposed else W, **c)
    model, change = quantized(source, {"x": X}, per_channel=per_channel)
    assert list(change.touched) == ["Gemm_y"]
    nearly(model, source, 4, x=X)
    kinds = optimized(model)
    assert kinds["QGemm"] == 1 and kinds["DequantizeLinear"] == kinds["Gemm"] == 0


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("rank", [2, 3])
def test_matmul_runs_in_integers(rank, per_channel):
    x = X if rank == 2 else X.reshape(4, 4, 40)
    text = MATMUL if rank == 2 else "g (float[N,4,40] x) => (float[N,4,24] y) { y = MatMul(x, w) }"
    model, _ = quantized(proto_of(text, w=W), {"x": x}, per_channel=per_channel)
    assert optimized(model) == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1}


def test_matmul_with_a_stack_of_matrices():
    text = "g (float[3,5,40] x) => (float[3,5,24] y) { y = MatMul(x, w) }"
    source = proto_of(text, w=noise(3, 40, 24))
    x = noise(3, 5, 40)
    model, change = quantized(source, {"x": x})
    assert change.touched
    nearly(model, source, 4, x=x)


@pytest.mark.parametrize(("source", "kinds"), NETWORKS.values(), ids=NETWORKS)
def test_networks_run_in_integers_from_end_to_end(source, kinds):
    model, change = quantized(source, {"x": IMAGES})
    assert not change.declined
    assert optimized(model) == kinds
    nearly(model, source, 12, x=IMAGES)


OUTPUTS = {
    "conv that is an output and read inside": network(
        "a = Conv(x, u)  r = Neg(a)  y = Conv(a, w)", "float[N,?,?,?] a, float[N,?,?,?] y, float[N,?,?,?] r"
    ),
    "add that is an output": network(
        "a = Conv<pads=[1,1,1,1]>(x, u)  c = Conv<pads=[1,1,1,1]>(a, v)  s = Add(a, c)  y = Conv(s, w)",
        "float[N,?,?,?] s, float[N,?,?,?] y",
    ),
    "relu that is an output": network(
        "a = Conv(x, u)  r = Relu(a)  y = Conv(r, w)", "float[N,?,?,?] r, float[N,?,?,?] y"
    ),
    "conv whose relu and itself are outputs": network(
        "a = Conv(x, u)  r = Relu(a)  y = Conv(r, w)", "float[N,?,?,?] a, float[N,?,?,?] r, float[N,?,?,?] y"
    ),
    "pool that is an output": network(
        "a = Conv(x, u)  m = MaxPool<kernel_shape=[2,2]>(a)  y = Conv(m, w)", "float[N,?,?,?] m, float[N,?,?,?] y"
    ),
    "two outputs of one conv": network(
        "a = Conv(x, u)  p = Neg(a)  q = Abs(a)  y = Identity(a)",
        "float[N,?,?,?] y, float[N,?,?,?] p, float[N,?,?,?] q",
    ),
}


@pytest.mark.parametrize("source", OUTPUTS.values(), ids=OUTPUTS)
def test_quantized_values_that_are_outputs(source):
    model, change = quantized(source, {"x": IMAGES})
    assert change.touched
    assert [o.name for o in model.graph.outputs] == [o.name for o in source.graph.output]
    nearly(model, source, 12, x=IMAGES)


def test_other_readers_of_an_input_keep_the_float_values():
    source = proto_of("g (float[N,40] x) => (float[N,24] y, float[N,40] z) { y = MatMul(x, w)  z = Neg(x) }", w=W)
    model, _ = quantized(source, {"x": X})
    np.testing.assert_array_equal(outputs(model, x=X)[1], -X)


def test_a_weight_of_two_layers_is_stored_once():
    source = proto_of(
        "g (float[N,40] x) => (float[N,40] y) { h = MatMul(x, w)  y = MatMul(h, w) }", w=noise(40, 40, scale=0.2)
    )
    model, change = quantized(source, {"x": X})
    assert len(change.touched) == 2
    assert sum(a.nbytes for a in saved_weights(model).values() if a.dtype == np.int8 and a.size > 40) == 1600
    nearly(model, source, 8, x=X)


def test_a_bias_of_two_convs_has_codes_for_each():
    source = network("a = Conv(x, u, b)  c = Conv(x, q, b)  y = Add(a, c)", q=noise(8, 6, 3, 3, seed=9, scale=5.0))
    model, _ = quantized(source, {"x": IMAGES})
    nearly(model, source, 12, x=IMAGES)


SHARED = {
    "skipped": ("h = MatMul(x, w)  y = MatMul(h, w)", {"skip": ["MatMul_y"]}, "MatMul_y"),
    "embedding": ("h = MatMul(x, w)  e = Gather(w, i)  y = Add(h, e)", {}, "Gather_e"),
}


@pytest.mark.parametrize(("body", "options", "reader"), SHARED.values(), ids=SHARED)
def test_a_weight_that_stays_float_elsewhere_is_not_stored_twice(body, options, reader):
    source = proto_of(f"g (float[N,40] x, int64[1] i) => (float[N,40] y) {{ {body} }}", w=noise(40, 40))
    before = model_of(source).weight_bytes()
    model, change = quantized(source, {"x": X, "i": np.zeros(1, np.int64)}, **options)
    assert model.weight_bytes() <= before
    assert reader in {d.name: d.reason for d in change.declined}["MatMul_h"]


# --- what is declined ---

BRANCH = """g (bool c, float[N,40] x) => (float[N,24] y) {
    y = If (c) <then_branch = t () => (float[N,24] a) { a = MatMul(x, w) },
                else_branch = e () => (float[N,24] b) { m = MatMul(x, w)  b = Neg(m) }> }"""


def test_operators_in_branches_are_declined():
    source = proto_of(BRANCH, w=W)
    _, change = quantized(source, {"x": X, "c": np.array(True)})
    assert {d.name for d in change.declined} == {"MatMul_a", "MatMul_m"}
    assert {d.reason for d in change.declined} == {INSIDE}
    assert not change.touched


def test_a_quantized_value_that_a_branch_reads():
    text = BRANCH.replace("{\n    y = If", "{ h = Conv(z, k)  x = Reshape(h, s)\n    y = If", 1).replace(
        "float[N,40] x)", "float[N,16,10,1] z)"
    )
    source = proto_of(text, w=W, k=noise(16, 16, 8, 1), s=np.array([-1, 48]))
    source.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(noise(48, 24), "w"))
    z = noise(3, 16, 10, 1)
    model, change = quantized(source, {"z": z, "c": np.array(True)})
    assert "Conv_h" in change.touched
    for c in (True, False):
        nearly(model, source, 12, z=z, c=np.array(c))


DECLINED = {
    "NaN weight": (
        MATMUL,
        {"w": np.where(W > 2, np.float32("nan"), W)},
        "MatMul: its weight or bias has NaN or infinite values",
    ),
    "computed": (
        "g (float[N,40] x) => (float[N,24] y) { m = Neg(w)  y = MatMul(x, m) }",
        {"w": W},
        "MatMul: its weight is computed, not stored",
    ),
    "small": (
        "g (float[N,40] x) => (float[N,2] y) { y = MatMul(x, w) }",
        {"w": noise(40, 2)},
        "MatMul: its weight of 320 bytes is too small to gain",
    ),
}


@pytest.mark.parametrize(("text", "given", "reason"), DECLINED.values(), ids=DECLINED)
def test_what_cannot_be_quantized_is_declined_with_its_reason(text, given, reason):
    source = proto_of(text, **given)
    before = proto(model_of(source)).SerializeToString()
    model, change = quantized(source, {"x": X})
    assert change.touched == {} and [d.reason for d in change.declined] == [reason]
    assert proto(model).SerializeToString() == before


def conv_chain_with_bad_input(bad):
    """The first conv sees NaN or infinity; what comes after it is finite again."""
    x = IMAGES.copy()
    x[1, 2, 3, 4] = bad
    body = """a = Conv(x, u)  m = MaxPool<kernel_shape=[2,2]>(a)  i = IsNaN(m)  k = Clip(m, lo, hi)
        c = Where(i, z, k)  y = Conv(c, w)"""
    return network(body, lo=np.float32(-2), hi=np.float32(2), z=np.float32(0)), x


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("calibrator", ["minmax", "percentile"])
def test_layers_whose_activations_are_not_finite_are_declined(bad, calibrator):
    source, x = conv_chain_with_bad_input(bad)
    model, change = quantized(source, {"x": x}, {"x": IMAGES}, calibrator=calibrator)
    assert [d.reason for d in change.declined] == ["Conv: its activations are not finite on the calibration data"]
    assert set(change.touched) == {"Conv_y"}
    nearly(model, source, 8, x=IMAGES)


def test_glue_behind_a_declined_layer_is_left_alone():
    """A pool that inherits the range of a declined conv has none; the conv behind it needs one of its own."""
    x = IMAGES.copy()
    x[0, 0, 0, 0] = -np.inf  # the pool takes the maximum: finite again
    source = network("a = Conv(x, o)  m = MaxPool<kernel_shape=[3,3]>(a)  y = Conv(m, w)", o=np.abs(noise(8, 6, 3, 3)))
    model, change = quantized(source, {"x": x}, {"x": IMAGES})
    assert {d.name for d in change.declined} >= {"Conv_a"}
    assert all(np.isfinite(array).all() for array in saved_weights(model).values() if array.dtype == np.float32)
    nearly(model, source, 8, x=IMAGES)


def test_an_add_that_overflows_between_finite_layers():
    huge = np.float32(3e38)
    source = network(
        "a = Conv(x, u)  c = Conv(x, q)  s = Add(a, c)  t = Add(s, s)  l = Clip(t, lo, hi)  p = Abs(t)  y = Conv(l, w)",
        "float[N,?,?,?] y, float[N,?,?,?] p",
        q=np.full((8, 6, 3, 3), huge / 100, np.float32),
        lo=np.float32(-2),
        hi=np.float32(2),
    )
    x = np.full((1, 6, 7, 7), 1, np.float32)
    model, _ = quantized(source, {"x": x})
    assert all(np.isfinite(array).all() for array in saved_weights(model).values() if array.dtype == np.float32)


# --- numbers at the edge ---


@pytest.mark.parametrize("value", [0.0, 2.5, -1.0])
def test_constant_activations(value):
    source = proto_of(MATMUL, w=W)
    x = np.full((2, 40), value, np.float32)
    model, _ = quantized(source, {"x": x})
    bound = np.abs(value) * (np.abs(W).sum(0) / 255 + 40 * np.abs(W).max(0) / 254) + 64 * EPS
    assert (np.abs(outputs(model, x=x)[0] - x @ W) <= bound).all()


@pytest.mark.parametrize("size", [0.0, 1e-40, 1e-30, 1e-12, 1e-6], ids=str)
@pytest.mark.parametrize("op", ["Conv", "Gemm"])
def test_a_channel_of_tiny_weights_keeps_its_bias(op, size):
    """Batch normalization folded into a dead channel leaves such: the output is the bias, to one activation step.

    The bias has the scale of input times weight; where that is tiny, 32 bits do not reach.
    """
    weight, bias = noise(8, 6, 3, 3), noise(8, seed=5)
    weight[0] *= size / np.abs(weight[0]).max()
    bias[0] = 3.3
    if op == "Conv":
        source, x = network("y = Conv(x, t, b)", t=weight, b=bias), IMAGES
    else:
        text = "g (float[N,54] x) => (float[N,8] y) { y = Gemm<transB=1>(x, t, b) }"
        source, x = proto_of(text, t=weight.reshape(8, 54), b=bias), noise(9, 54)
    model, change = quantized(source, {"x": x})
    assert change.touched
    channel = outputs(model, x=x)[0][:, 0]
    expected = outputs(source, x=x)[0]
    step = (expected.max() - expected.min()) / 255
    np.testing.assert_allclose(channel, 3.3, rtol=0, atol=step)


def test_an_outlier_in_one_channel_harms_that_channel_alone():
    weight = W.copy()
    weight[3, 2] = 1e6
    model, _ = quantized(proto_of(MATMUL, w=weight), {"x": X})
    plain, _ = quantized(proto_of(MATMUL, w=W), {"x": X})
    others = [i for i in range(24) if i != 2]
    np.testing.assert_array_equal(outputs(model, x=X)[0][:, others], outputs(plain, x=X)[0][:, others])


# --- options and data ---


@pytest.mark.parametrize("opset", [7, 9, 11, 12])
def test_old_models_are_raised(opset):
    source = proto_of(CONV, **CONV_WEIGHTS)
    source.opset_import[0].version = opset
    model, change = quantized(source, {"x": IMAGES})
    assert model.opset == 13 and change.touched
    nearly(model, source, 5, x=IMAGES)


@pytest.mark.parametrize("calibrator", ["minmax", "percentile"])
def test_results_do_not_depend_on_the_batch_size(calibrator):
    source = NETWORKS["residual"][0]
    one, _ = quantized(source, {"x": IMAGES}, calibrator=calibrator)
    four, _ = quantized(source, *({"x": IMAGES[i : i + 1]} for i in range(4)), calibrator=calibrator)
    for name, array in saved_weights(one).items():
        np.testing.assert_allclose(
            saved_weights(four)[name], array, rtol=64 * EPS, atol=1 if array.dtype != np.float32 else 0
        )


def test_two_runs_give_the_same_bytes():
    first, second = (quantized(NETWORKS["residual"][0], {"x": IMAGES})[0] for _ in range(2))
    assert proto(first).SerializeToString() == proto(second).SerializeToString()


def test_percentile_narrows_the_range():
    x = X.copy()
    x[0, 0] = 1e4
    wide, narrow = (
        saved_weights(quantized(proto_of(MATMUL, w=W), {"x": x}, calibrator=c, percentile=99.0)[0])["x_scale"]
        for c in ("minmax", "percentile")
    )
    assert wide == np.float32((1e4 - x.min()) / 255)
    inside = np.sort(x, axis=None)[3:-3]  # one half of a percent of 640 numbers
    width = (1e4 - x.min()) / 8191
    assert narrow == pytest.approx(float(inside[-1] - inside[0]) / 255, abs=2 * float(width) / 255)


def test_patterns_choose_core_and_glue():
    source = NETWORKS["residual"][0]
    assert set(quantized(source, {"x": IMAGES}, skip=["Conv_y"])[1].touched) == {"Conv_a", "Conv_c"}
    assert set(quantized(source, {"x": IMAGES}, only=["Conv"])[1].touched) == {"Conv_a", "Conv_c", "Conv_y"}
    assert "Add_s" not in quantized(source, {"x": IMAGES}, skip=["Add"])[1].touched
    assert set(quantized(source, {"x": IMAGES}, operators=["Gemm"])[1].touched) == set()
    for options in ({"skip": ["Conv_y"]}, {"only": ["Conv"]}, {"skip": ["Add"]}):
        nearly(quantized(source, {"x": IMAGES}, **options)[0], source, 12, x=IMAGES)


def test_a_dry_run_looks_at_one_batch_a_pass():
    data = Given({"x": IMAGES}, {"x": IMAGES})
    quantize_static(model_of(NETWORKS["residual"][0]), context(calibration=data, dry_run=True), calibrator="percentile")
    assert data.served == data.passes >= 1


def test_nothing_to_quantize_reads_no_data():
    data = Given({"x": X})
    change = quantize_static(model_of("g (float[N,40] x) => (float[N,40] y) { y = Neg(x) }"), context(calibration=data))
    assert change.touched == {} and data.passes == 0


def test_a_second_run_finds_nothing_left():
    model, _ = quantized(NETWORKS["residual"][0], {"x": IMAGES})
    once = proto(model)
    change = quantize_static(model, context(calibration=Given({"x": IMAGES})))
    assert change.touched == {}
    assert {d.reason for d in change.declined} == {"Conv: its weight is quantized already"}
    assert proto(model) == once


def test_without_data_there_is_a_clear_error():
    with pytest.raises(PassError, match="calibration data is needed"):
        quantize_static(model_of(MATMUL, w=W), context())


def test_a_failure_of_the_data_leaves_the_model_as_it_was():
    model = model_of(MATMUL, w=W)
    before = proto(model)

    with pytest.raises(KeyboardInterrupt):
        quantize_static(model, context(calibration=Interrupted({"x": X})))
    assert proto(model) == before


def test_weights_end_a_quarter_of_their_size():
    model = model_of(NETWORKS["residual"][0])
    before = model.weight_bytes()
    quantize_static(model, context(calibration=Given({"x": IMAGES})))
    channels, tensors = 2 * 8 + 30, 6
    extra = channels * (4 + 1) + tensors * 5  # scales and zero points
    assert model.weight_bytes() <= before / 4 + extra
    assert op_types(model)["DequantizeLinear"] >= 3
