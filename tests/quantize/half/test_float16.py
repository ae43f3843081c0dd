"""to_float16: what stays float32 and why, what the result computes, and what is refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from compress_ops.errors import PassError
from compress_ops.quantize.half.float16 import rounding_quality, to_float16
from compress_ops.runtime import Provider
from tests.helpers import Given, applied, context, model_of, noise, op_types, outputs, proto, proto_of, sqnr_db

HALF = 2.0**-11  # largest relative rounding error of float16
MLP = "g (float[B, 32] x) => (float[B, 16] y) { h = MatMul(x, v) r = Relu(h) y = MatMul(r, w) }"
MLP_WEIGHTS = {"v": noise(32, 64), "w": noise(64, 16, seed=1)}


def converted(source, /, calibration=None, **options):
    return applied(to_float16, source, context(calibration=calibration), **options)


def half_nodes(model) -> set[str]:
    """Operator types of the nodes that give float16."""
    inferred = onnx.shape_inference.infer_shapes(proto(model))
    kinds = {v.name: v.type.tensor_type.elem_type for v in [*inferred.graph.value_info, *inferred.graph.output]}
    return {node.op_type for node in inferred.graph.node if kinds.get(node.output[0]) == onnx.TensorProto.FLOAT16}


def half(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16).astype(np.float32)


def test_weights_and_activations_are_halved_and_ports_kept():
    model, change = converted(model_of(MLP, **MLP_WEIGHTS))
    assert op_types(model) == {"Cast": 2, "MatMul": 2, "Relu": 1}
    assert {value.name: value.dtype for value in model.weights()} == dict.fromkeys("vw", ir.DataType.FLOAT16)
    assert model.weight_bytes() * 2 == model_of(MLP, **MLP_WEIGHTS).weight_bytes()
    assert set(change.touched) == {"MatMul_h", "Relu_r", "MatMul_y"}


def test_the_numbers_are_those_of_float16():
    model, _ = converted(model_of(MLP, **MLP_WEIGHTS))
    x = noise(8, 32, seed=2)
    hidden = np.maximum(half(half(x) @ half(MLP_WEIGHTS["v"])), 0)
    expected = hidden @ half(MLP_WEIGHTS["w"])
    (found,) = outputs(model, x=x)
    assert np.abs(found - expected).max() <= 3 * HALF * (np.abs(hidden) @ np.abs(MLP_WEIGHTS["w"])).max()


def test_values_are_cast_once_for_all_readers():
    text = """g (float[B, 32] x) => (float[B, 16] y) {
        a = MatMul(x, v) b = MatMul(x, w) s = Softmax(a) t = Exp(a) u = Add(s, t) y = Add(u, b)
    }"""
    model, _ = converted(model_of(text, v=noise(32, 16), w=noise(32, 16)))
    casts = [node.inputs[0].name for node in model.nodes() if node.op_type == "Cast"]
    assert len(casts) == len(set(casts))


# Without data


@pytest.mark.parametrize(
    "node", ["Softmax(h)", "Exp(h)", "Sqrt(h)", "LayerNormalization(h, g)", "ReduceMean<keepdims = 1>(h)"]
)
def test_sensitive_operators_stay_float32_without_data(node):
    text = f"g (float[B, 32] x) => (float[B, 64] y) {{ h = MatMul(x, v) y = {node} }}".replace(
        "[B, 64] y", "[B, 1] y" if "Reduce" in node else "[B, 64] y"
    )
    model, change = converted(model_of(text, v=MLP_WEIGHTS["v"], g=np.ones(64, np.float32)))
    assert half_nodes(model) == {"Cast", "MatMul"}
    assert [declined.reason for declined in change.declined] == [
        f"{node.partition('(')[0].partition('<')[0]}: stays float32 unless data shows that float16 serves"
    ]


@pytest.mark.parametrize("value", [1e5, 1e-9, -3.4e38])
def test_weights_that_float16_cannot_hold_stay_float32(value):
    text = "g (float[B, 32] x) => (float[B, 64] y) { h = MatMul(x, v) s = Add(h, c) y = Relu(s) }"
    model, change = converted(model_of(text, v=MLP_WEIGHTS["v"], c=np.float32([value])))
    assert {value.name: value.dtype for value in model.weights()} == {"v": ir.DataType.FLOAT16, "c": ir.DataType.FLOAT}
    reasons = {declined.name: declined.reason for declined in change.declined}
    assert reasons["Add_s"].startswith("Add: c keeps ")
    assert reasons["Relu_y"] == "Relu: what it reads may lie outside the format; data would tell"
    x = noise(4, 32)
    expected = outputs(proto_of(text, v=half(MLP_WEIGHTS["v"]), c=np.float32([value])), x=half(x))[0]
    assert np.allclose(outputs(model, x=x)[0], expected, rtol=HALF * 2, atol=HALF * 20)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_stay_float32(value):
    model, _ = converted(model_of(MLP, v=MLP_WEIGHTS["v"], w=np.full((64, 16), value, np.float32)))
    assert {weight.name: weight.dtype.name for weight in model.weights()} == {"v": "FLOAT16", "w": "FLOAT"}


def test_a_weight_that_both_read_is_stored_for_both():
    text = "g (float[B, 32] x) => (float[B, 32] y) { h = MatMul(x, w) e = Exp(w) y = MatMul(h, e) }"
    model, _ = converted(model_of(text, w=noise(32, 32, scale=0.1)))
    assert sorted(value.dtype.name for value in model.weights()) == ["FLOAT", "FLOAT16"]


# With data


def test_what_overflows_on_the_data_stays_float32():
    text = "g (float[B, 32] x) => (float[B, 64] y) { h = MatMul(x, v) q = Mul(h, h) y = Sqrt(q) }"
    big, small = Given({"x": noise(16, 32, scale=100)}), Given({"x": noise(16, 32)})
    model, change = converted(model_of(text, v=MLP_WEIGHTS["v"]), big)
    assert half_nodes(model) == set()
    assert "Mul: overflows in float16 on the calibration data" in {declined.reason for declined in change.declined}
    model, change = converted(model_of(text, v=MLP_WEIGHTS["v"]), small)
    assert half_nodes(model) == {"Cast", "MatMul", "Mul", "Sqrt"} - ({"Sqrt"} if change.declined else set())
    assert np.isfinite(outputs(model, x=noise(16, 32))[0]).all()


def test_cancellation_keeps_what_feeds_it_in_float32():
    text = "g (float[B, 32] x) => (float[B, 64] y) { h = MatMul(x, v) s = Add(h, c) d = Sub(s, c) y = Relu(d) }"
    weights = {"v": noise(32, 64, scale=0.01), "c": np.float32([1000])}
    model, change = converted(model_of(text, **weights), Given({"x": noise(16, 32)}))
    assert {"Sub_d"} <= {declined.name for declined in change.declined}
    assert half_nodes(model) <= {"Cast", "MatMul", "Relu"}
    x = noise(16, 32)
    (found,), (plain,) = outputs(model, x=x), outputs(proto_of(text, **weights), x=x)
    assert np.square(found - plain).sum() <= 1e-4 * np.square(plain).sum()


def test_the_outputs_quality_is_told():
    data = Given({"x": noise(16, 32)})
    model, change = converted(model_of(MLP, **MLP_WEIGHTS), data)
    (found,), (plain,) = outputs(model, **data.feeds[0]), outputs(proto_of(MLP, **MLP_WEIGHTS), **data.feeds[0])
    expected = sqnr_db(plain, found)
    assert change.notes["output_sqnr_db"]["y"] == pytest.approx(expected, abs=1)
    expected = rounding_quality(MLP_WEIGHTS["v"], ir.DataType.FLOAT16)
    assert change.notes["sqnr_db"]["v"] == pytest.approx(expected, abs=0.005)  # two digits are told


def spoiling(monkeypatch, bad: set[str], spoil):
    """Let the whole model fail where one of these nodes is lowered; returns how many nodes each trial had."""
    from compress_ops.quantize.half import half_trials

    sizes: list[int] = []

    class Spoiled(half_trials.Lowering):  # type: ignore[name-defined]
        def apply(self):
            sizes.append(len(self.chosen))
            hit = [node for node in self.chosen if node.name in bad]
            super().apply()
            if hit:
                spoil(self.model, hit[0])

    monkeypatch.setattr(half_trials, "Lowering", Spoiled)
    return sizes


def overflow(model, node):
    infinite = model.add_weight("infinite", ir.tensor(np.float16(np.inf).reshape(1)))
    node.replace_input_with(1, infinite)


def break_types(model, node):
    node.replace_input_with(1, model.add_weight("whole", ir.tensor(np.ones((32, 32), np.int8))))


CHAIN = (
    "g (float[B, 32] x) => (float[B, 32] y) { a = Mul(x, s) b = Add(a, s) c = Mul(b, s) d = Add(c, s) y = Mul(d, s) }"
)


@pytest.mark.parametrize(
    ("spoil", "told"), [(overflow, "output y is not finite any more"), (break_types, "onnxruntime refuses")]
)
def test_what_spoils_the_whole_model_is_found_by_halves_and_stays_float32(monkeypatch, spoil, told):
    sizes = spoiling(monkeypatch, {"Add_d"}, spoil)
    data = Given({"x": noise(16, 32)})
    model, change = converted(model_of(CHAIN, s=np.ones(32, np.float32)), data)
    assert set(change.touched) == {"Mul_a", "Add_b", "Mul_c", "Mul_y"}
    assert [(declined.name, told in declined.reason) for declined in change.declined] == [("Add_d", True)]
    assert sizes[0] == 5 and len(sizes) <= 7
    assert np.isfinite(outputs(model, **data.feeds[0])[0]).all()


def test_where_every_node_spoils_the_model_it_stays_as_it_is(monkeypatch):
    spoiling(monkeypatch, {"Mul_a", "Add_b", "Mul_c", "Add_d", "Mul_y"}, overflow)
    model, change = converted(model_of(CHAIN, s=np.ones(32, np.float32)), Given({"x": noise(16, 32)}))
    assert not change.touched and len(change.declined) == 5 and op_types(model)["Cast"] == 0


def test_an_operator_that_cannot_be_tried_does_not_keep_others_from_it(monkeypatch):
    from compress_ops.quantize.half import half_trials

    real = half_trials.tapped

    def tapped(model, ctx, taps):
        """What looks at the error of Mul_c, next to what looks at its output, is no valid operator."""
        for signal, error in zip(taps[::2], taps[1::2], strict=True):
            if signal.inputs[0].name == "c":
                error.attributes["keepdims"] = ir.AttrString("keepdims", "no")
        return real(model, ctx, taps)

    monkeypatch.setattr(half_trials, "tapped", tapped)
    _, change = converted(model_of(CHAIN, s=np.ones(32, np.float32)), Given({"x": noise(16, 32)}))
    assert "Mul: could not be tried in float16 on the calibration data" in {d.reason for d in change.declined}
    assert {"Mul_a", "Mul_y"} <= set(change.touched)


def test_rounding_quality():
    numbers = noise(1000)
    error = numbers - half(numbers)
    expected = 10 * np.log10(np.square(numbers).sum() / np.square(error).sum())
    assert rounding_quality(numbers, ir.DataType.FLOAT16) == pytest.approx(expected, abs=0.01)
    assert rounding_quality(np.zeros(4, np.float32), ir.DataType.FLOAT16) == np.inf
    assert rounding_quality(np.float32([7e4]), ir.DataType.FLOAT16) == -np.inf
    assert rounding_quality(np.float32([7e4]), ir.DataType.BFLOAT16) > 40


# Shapes of models


def test_subgraphs_keep_their_ports():
    text = """g (bool c, float[B, 32] x) => (float[B, 16] y) {
        h = MatMul(x, v)
        y = If(c) <
            then_branch = yes () => (float[B, 16] p) { p = MatMul(h, w) },
            else_branch = no () => (float[B, 16] q) { e = Softmax(h) q = MatMul(e, w) }
        >
    }"""
    model, change = converted(model_of(text, **MLP_WEIGHTS))
    assert {"MatMul_h", "MatMul_p", "MatMul_q"} == set(change.touched)
    x = noise(4, 32)
    for condition in (True, False):
        feeds = {"c": np.array(condition), "x": x}
        (found,), (plain,) = outputs(model, **feeds), outputs(proto_of(text, **MLP_WEIGHTS), **feeds)
        assert np.abs(found - plain).max() < 20 * HALF * np.abs(plain).max()


def test_integers_and_comparisons_are_left_alone():
    text = """g (int64[B, 3] ids) => (float[B, 3, 8] y, bool[B, 3, 8] m, int64[3] s) {
        y = Gather(table, ids) f = Cast<to = 1>(ids) zero = Sub(y, y) m = Greater(y, zero) s = Shape(y)
    }"""
    table = noise(40, 8)
    model, _ = converted(model_of(text, table=table))
    ids = np.array([[1, 2, 39]])
    y, m, s = outputs(model, ids=ids)
    assert np.array_equal(y, half(table)[ids])
    assert np.array_equal(m, half(table)[ids] > 0)
    assert s.tolist() == [1, 3, 8]


def test_a_cast_from_integers_goes_to_float16_at_once():
    text = "g (int64[B, 4] n) => (float[B, 8] y) { f = Cast<to = 1>(n) y = MatMul(f, w) }"
    model, _ = converted(model_of(text, w=noise(4, 8)))
    kinds = [node.attributes["to"].value for node in model.nodes() if node.op_type == "Cast"]
    assert kinds == [ir.DataType.FLOAT16.value, ir.DataType.FLOAT.value]


def test_fused_operators_of_onnxruntime():
    text = """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
    g (float[B, 32] x) => (float[B, 16] y) { h = MatMul(x, v) a = com.microsoft.Gelu(h) y = MatMul(a, w) }"""
    model = model_of(text, **MLP_WEIGHTS)
    change = to_float16(model, context())
    model.check()
    assert {"Gelu_a", "MatMul_y"} <= set(change.touched)
    assert np.isfinite(outputs(model, x=noise(2, 32))[0]).all()


def test_quantized_parts_stay_as_they_are():
    from compress_ops.quantize.int8.dynamic import quantize_dynamic

    model = model_of(MLP, **MLP_WEIGHTS)
    quantize_dynamic(model, context(), only=["MatMul_h"])
    integers = {value.name for value in model.weights() if value.dtype == ir.DataType.INT8}
    converted(model)
    assert integers == {value.name for value in model.weights() if value.dtype == ir.DataType.INT8}
    assert next(value.dtype for value in model.weights() if value.name == "w") == ir.DataType.FLOAT16
    assert np.isfinite(outputs(model, x=noise(2, 32))[0]).all()


def test_patterns_choose():
    model, change = converted(model_of(MLP, **MLP_WEIGHTS), skip=["MatMul_y"])
    assert set(change.touched) == {"MatMul_h", "Relu_r"}
    assert {value.name: value.dtype.name for value in model.weights()} == {"v": "FLOAT16", "w": "FLOAT"}


def test_a_model_in_float16_already_has_nothing_to_change():
    text = "g (float16[B, 32] x) => (float16[B, 16] y) { y = MatMul(x, w) }"
    _, change = converted(model_of(text, w=noise(32, 16).astype(np.float16)))
    assert not change.touched


# bfloat16


def test_bfloat16_is_refused_on_the_cpu():
    with pytest.raises(PassError, match="bfloat16 does not run on 'cpu'") as caught:
        converted(model_of(MLP, **MLP_WEIGHTS), format="bfloat16")
    assert "float16" in caught.value.hint


def test_bfloat16_for_another_provider():
    model = model_of('<ir_version: 8, opset_import: ["": 11]>\n' + MLP, **{**MLP_WEIGHTS, "v": noise(32, 64) * 1e6})
    to_float16(model, context(providers=[Provider("cuda")]), format="bfloat16")
    model.check()
    assert model.opset >= 13
    weights = {value.name: value.const_value for value in model.weights()}
    assert {tensor.dtype for tensor in weights.values()} == {ir.DataType.BFLOAT16}
    assert np.array_equal(weights["w"].numpy(), MLP_WEIGHTS["w"].astype(ml_dtypes.bfloat16))


# Types behind other operators


def test_what_reads_an_operator_of_onnxruntime_is_lowered_as_a_whole():
    """f02: the Add reads what a 4-bit embedding gives; the Gemm of f01 is one with its bias apart."""
    text = """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> g (float[N, 8, 64] x) => (float[N, 8, 64] y) {
        a = com.microsoft.GatherBlockQuantized<bits = 4, block_size = 32>(Q, i, s) h = Add(a, x) y = MatMul(h, W) }"""
    codes = np.random.default_rng(0).integers(0, 255, (50, 32), dtype=np.uint8)
    weights = {"Q": codes, "s": np.full((50, 2), 0.1, np.float32), "i": np.arange(8), "W": noise(64, 64)}
    model = model_of(text, **weights)
    change = to_float16(model, context())
    assert set(change.touched) == {"Add_h", "MatMul_y"}
    x = noise(2, 8, 64)
    (found,), (plain,) = outputs(model, x=x), outputs(proto_of(text, **weights), x=x)
    assert np.abs(found - plain).max() <= 8 * HALF * np.abs(plain).max()


def test_what_reads_an_unknown_type_keeps_float32():
    text = """<ir_version: 8, opset_import: ["": 17, "own": 1]> g (float[N, 8] x) => (float[N, 8] y) {
        a = own.f(x) h = Add(a, x) m = MatMul(x, W) y = Add(h, m) }"""
    model = model_of(text, W=noise(8, 8))
    change = to_float16(model, context())
    assert set(change.touched) == {"MatMul_m"}


@pytest.mark.parametrize("operator", ["SplitToSequence<axis = 1>(a)", "SequenceConstruct(a, a)"])
def test_sequences_keep_the_type_that_they_declare(operator):
    text = f"""g (float[N, 6, 64] x) => (seq(float[N, k, 64]) s, float[N, 6, 64] y) {{
        a = MatMul(x, W) s = {operator} y = MatMul(a, V) }}"""
    weights = {"W": noise(64, 64), "V": noise(64, 64, seed=1)}
    model, change = converted(model_of(text, **weights))
    assert set(change.touched) == {"MatMul_a", "MatMul_y"}
    parts, y = outputs(model, x=noise(2, 6, 64))
    assert {part.dtype for part in parts} == {np.dtype(np.float32)} and y.dtype == np.float32


def test_an_absent_output_is_not_tried():
    text = 'g (float[N, 4, 8] x) => (float[N, 4, 8] y) { y, "" = LayerNormalization(x, g) }'
    model, change = converted(model_of(text, g=np.ones(8, np.float32)), Given({"x": noise(16, 4, 8)}))
    assert set(change.touched) == {"LayerNormalization_y"}
    assert np.isfinite(outputs(model, x=noise(2, 4, 8))[0]).all()
