"""Weights in branches and loop bodies, and outer weights that are read there: all passes that need no data see them."""

import numpy as np
import onnx
import pytest

from compress_ops.catalogue import PASSES
from tests.helpers import Given, context, model_of, noise, outputs, proto_of


def branch(name: str, o: str) -> str:
    return f"""{name} = b () => (float[N,32] {o}) {{ {o}_c = Conv<pads=[1,1]>(x, {o}_K) {o}_r = Relu({o}_c)
        {o}_t = Transpose<perm=[2,0,1]>({o}_r) {o}_s, {o}_h = LSTM<hidden_size=32>({o}_t, {o}_W, {o}_R)
        {o}_q = Squeeze({o}_h, first) {o}_m = MatMul({o}_q, D) {o} = MatMul({o}_m, D) }}"""


def by_rate() -> onnx.ModelProto:
    """One network for each sampling rate, and a matrix that both read."""
    text = f"""<ir_version: 8, opset_import: ["": 16]> g (float[N,16,L] x, int64 rate) => (float[N,32] y)
        {{ fast = Equal(rate, k) y = If(fast) <{branch("then_branch", "p")}, {branch("else_branch", "q")}> }}"""
    proto = proto_of(text, k=np.array(16000), first=np.array([0]), D=noise(32, 32, scale=0.3))
    for seed, attribute in enumerate(next(n for n in proto.graph.node if n.op_type == "If").attribute):
        prefix = attribute.g.output[0].name
        for name, shape in (("K", (32, 16, 3)), ("W", (1, 128, 32)), ("R", (1, 128, 32))):
            array = noise(*shape, seed=10 * seed + ord(name), scale=0.2)
            attribute.g.initializer.append(onnx.numpy_helper.from_array(array, f"{prefix}_{name}"))
    return proto


def loop() -> onnx.ModelProto:
    text = """g (float[N,32] x, int64 n) => (float[N,32] y, float[K,N,32] all)
        { y, all = Loop(n, c, x) <body = b (int64 i, bool ci, float[N,32] h) => (bool co, float[N,32] ho, float[N,32] s)
        { co = Identity(ci) a = MatMul(h, W) r = Relu(a) g = Gemm<transB=1>(r, V) ho = Tanh(g) s = Add(ho, h) }> }"""
    return proto_of(text, W=noise(32, 32, scale=0.2), V=noise(32, 32, seed=1, scale=0.2), c=np.array(True))


def scan() -> onnx.ModelProto:
    text = """g (float[T,N,32] x, float[N,32] h0) => (float[N,32] y, float[T,N,32] all)
        { y, all = Scan<num_scan_inputs=1, body = b (float[N,32] h, float[N,32] t) => (float[N,32] ho, float[N,32] s)
        { a = MatMul(h, W) b = MatMul(t, V) g = Add(a, b) ho = Tanh(g) s = Relu(ho) }>(h0, x) }"""
    return proto_of(text, W=noise(32, 32, scale=0.2), V=noise(32, 32, seed=1, scale=0.2))


SOUND = noise(2, 16, 9)
CASES = {
    "if": (by_rate, [{"x": SOUND, "rate": np.array(rate)} for rate in (16000, 8000)]),
    "loop": (loop, [{"x": noise(3, 32), "n": np.array(4)}]),
    "scan": (scan, [{"x": noise(5, 3, 32), "h0": noise(3, 32)}]),
}
LEFT = {  # the largest share of bytes that is left, and the largest relative error
    "simplify": ({}, 1.0, 1e-6),
    "to_float16": ({}, 0.6, 2e-2),
    "quantize_dynamic": ({}, 0.45, 8e-2),
    "quantize_weights": ({"bits": 8}, 0.45, 8e-2),
    "cluster_weights": ({"clusters": 256}, 0.7, 5e-2),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LEFT)
@pytest.mark.parametrize("with_data", [False, True])
def test_weights_inside_are_seen(case, name, with_data):
    make, feeds = CASES[case]
    options, share, error = LEFT[name]
    plain = make()
    model = model_of(plain)
    before = model.stored_bytes()
    data = {"calibration": Given(*feeds)} if with_data else {}
    PASSES[name](model, context(**data), **options)
    model.check()
    assert model.stored_bytes() <= share * before
    for feed in feeds:
        for wanted, got in zip(outputs(plain, **feed), outputs(model, **feed), strict=True):
            assert np.linalg.norm(got - wanted) <= error * np.linalg.norm(wanted)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["quantize_static", "smooth"])
def test_what_data_cannot_reach_is_declined(case, name):
    make, feeds = CASES[case]
    change = PASSES[name](model_of(make()), context(calibration=Given(*feeds)))
    assert not change.touched
    assert any("inside a branch or loop" in declined.reason for declined in change.declined)


def test_a_weight_that_both_branches_read_is_stored_once():
    model = model_of(by_rate())
    PASSES["quantize_dynamic"](model, context())
    assert len([value for value in model.weights() if (value.name or "").startswith("D_int8")]) == 1
