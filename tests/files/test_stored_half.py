"""Weights in half precision behind a Cast: float32 weights to every pass, and in the file what they were."""

import numpy as np
import onnx
import pytest

from compress_ops.catalogue import PASSES
from compress_ops.files.stored_half import stored_bytes, stored_half
from compress_ops.model import Model
from tests.helpers import Given, context, model_of, noise, outputs, proto, proto_of

TEXT = """g (float[N,64] x) => (float[N,64] y)
    { W = Cast<to=1>(Wh) a = MatMul(x, W) r = Relu(a) V = Cast<to=1>(Vh) y = Gemm<transB=1>(r, V) }"""
HALVES = {name: noise(64, 64, seed=seed, scale=0.2).astype(np.float16) for seed, name in enumerate(("Wh", "Vh"))}
ROUNDING = 2.0**-11  # of float16, relative


def stored_types(model: Model) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in proto(model).graph.initializer}


def test_the_graph_has_float_weights_and_the_file_what_it_had():
    model = model_of(TEXT, **HALVES)
    assert {value.name for value in model.weights()} == {"W", "V"}
    assert all(value.dtype.name == "FLOAT" for value in model.weights())
    assert [node.op_type for node in model.nodes()] == ["MatMul", "Relu", "Gemm"]
    written = proto(model)
    assert sorted(node.op_type for node in written.graph.node) == ["Cast", "Cast", "Gemm", "MatMul", "Relu"]
    for name, array in HALVES.items():
        stored = next(tensor for tensor in written.graph.initializer if tensor.name == name)
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), array)
    assert [node.op_type for node in model.nodes()] == ["MatMul", "Relu", "Gemm"], "writing leaves the graph as it was"


def test_bytes_are_those_of_the_file():
    model = model_of(TEXT, **HALVES)
    assert sum(map(stored_bytes, model.weights())) == model.weight_bytes() == 2 * 64 * 64 * 2


def test_the_same_numbers_come_out():
    x = noise(3, 64)
    plain = proto_of(TEXT, **HALVES)
    np.testing.assert_array_equal(outputs(plain, x=x)[0], outputs(model_of(plain), x=x)[0])


def test_changed_numbers_are_stored_as_the_others_were_unless_they_leave_the_range():
    import onnx_ir as ir

    model = model_of(TEXT, **HALVES)
    for value, factor in zip(list(model.weights()), (2.0, 1e6), strict=True):
        value.const_value = ir.Tensor((value.const_value.numpy() * factor).astype(np.float32), name=value.name)
    assert stored_types(model) == {"Wh": onnx.TensorProto.FLOAT16, "V": onnx.TensorProto.FLOAT}


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,64] x) => (float[N,64] y, float[64,64] V) { V = Cast<to=1>(Vh) y = MatMul(x, V) }",
        "g (float[N,64] x) => (float[N,64] y, float16[64,64] z) { V = Cast<to=1>(Vh) y = MatMul(x, V) z = Neg(Vh) }",
        "g (float[N,64] x) => (double[N,64] y) { V = Cast<to=11>(Vh) d = Cast<to=11>(x) y = MatMul(d, V) }",
    ],
    ids=["an output", "read in half too", "cast to double"],
)
def test_what_else_reads_it_keeps_the_cast(text):
    model = model_of(text, Vh=HALVES["Vh"])
    assert all(stored_half(value) is None for value in model.weights())
    assert any(node.op_type == "Cast" for node in model.nodes())
    x = noise(3, 64)
    for before, after in zip(outputs(proto_of(text, Vh=HALVES["Vh"]), x=x), outputs(model, x=x), strict=True):
        np.testing.assert_array_equal(before, after)


def test_two_casts_of_one_weight_are_one_weight_in_branches_too():
    text = """g (float[N,64] x, bool c) => (float[N,64] y)
        { y = If(c) <then_branch = a () => (float[N,64] o) { f = Cast<to=1>(Vh) o = MatMul(x, f) },
                     else_branch = b () => (float[N,64] p) { h = Cast<to=1>(Vh) p = Gemm<transB=1>(x, h) }> }"""
    model = model_of(text, Vh=HALVES["Vh"])
    assert [value.name for value in model.weights()] == ["f"]
    for chosen in (True, False):
        feeds = {"x": noise(3, 64), "c": np.array(chosen)}
        np.testing.assert_array_equal(outputs(proto_of(text, Vh=HALVES["Vh"]), **feeds)[0], outputs(model, **feeds)[0])


STEPS = {
    "simplify": {},
    "quantize_dynamic": {},
    "quantize_static": {},
    "quantize_weights": {"bits": 4},
    "cluster_weights": {},
    "prune_channels": {"ratio": 0.5},
    "low_rank": {"energy": 0.5},
    "equalize": {},
}


@pytest.mark.parametrize("name", STEPS)
def test_every_pass_sees_the_weights_and_none_makes_the_file_larger(name):
    model = model_of(TEXT, **HALVES)
    before = model.stored_bytes()
    change = PASSES[name](model, context(calibration=Given({"x": noise(16, 64)})), **STEPS[name])
    assert change.touched or name == "simplify"
    assert model.stored_bytes() <= before
    outputs(model, x=noise(3, 64))


def test_batch_normalization_is_not_folded_into_numbers_that_would_be_rounded_again():
    text = """g (float[N,8,6,6] x) => (float[N,16,4,4] y)
        { K = Cast<to=1>(Kh) c = Conv(x, K) y = BatchNormalization(c, s, b, m, v) }"""
    weights = {name: np.abs(noise(16, seed=seed)) for seed, name in enumerate("sbmv")}
    plain = proto_of(text, Kh=noise(16, 8, 3, 3).astype(np.float16), **weights)
    model, x = model_of(plain), noise(2, 8, 6, 6)
    PASSES["simplify"](model, context())
    np.testing.assert_array_equal(outputs(plain, x=x)[0], outputs(model, x=x)[0])
