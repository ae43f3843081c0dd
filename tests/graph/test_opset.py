"""upgrade_opset: the same function in a newer operator set, or a clear refusal."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.errors import PassError
from compress_ops.graph.opset import require_opset, upgrade_opset
from tests.helpers import context, model_of, noise, op_types, outputs, proto, proto_of

EPS = np.finfo(np.float32).eps
X = noise(2, 3, 4, 4, seed=1)


def text_of(opset, body, ports="g (float[2,3,4,4] x) => (float[?,?,?,?] y)"):
    return f'<ir_version: {3 if opset < 9 else 7}, opset_import: ["": {opset}]> {ports} {{ {body} }}'


NEURONS = {name: np.abs(noise(3, seed=i)) + np.float32(0.1) for i, name in enumerate("gbmv")}
CASES = {
    "7 Upsample": (7, 'y = Upsample<mode="nearest", scales=[1.0,1.0,2.0,2.0]>(x)', {}),
    "9 Upsample": (9, 'y = Upsample<mode="nearest">(x, s)', {"s": np.array([1, 1, 2, 2], np.float32)}),
    "7 BatchNormalization": (7, "y = BatchNormalization<epsilon=0.01>(x, g, b, m, v)", NEURONS),
    "9 BatchNormalization": (9, "y = BatchNormalization<epsilon=0.01>(x, g, b, m, v)", NEURONS),
    "7 Dropout": (7, "a = Dropout<ratio=0.5>(x)  y = Neg(a)", {}),
    "11 Dropout": (11, "a = Dropout<ratio=0.5>(x)  y = Neg(a)", {}),
    "7 Clip": (7, "y = Clip<min=-0.5, max=0.5>(x)", {}),
    "7 Clip from below": (7, "y = Clip<min=0.0>(x)", {}),
    "11 Clip": (11, "y = Clip(x, l)", {"l": np.array(-0.5, np.float32)}),
    "7 Pad": (7, 'y = Pad<mode="constant", pads=[0,0,1,1,0,0,1,1], value=2.0>(x)', {}),
    "9 Slice": (9, "y = Slice<axes=[2,3], starts=[0,1], ends=[3,4]>(x)", {}),
    "9 TopK": (9, "y, i = TopK<axis=3, k=2>(x)", {}),
    "11 ReduceSum": (11, "y = ReduceSum<axes=[2], keepdims=1>(x)", {}),
    "11 Squeeze": (11, "a = ReduceMean<axes=[2]>(x)  b = Squeeze<axes=[2]>(a)  y = Unsqueeze<axes=[2]>(b)", {}),
    "11 ReduceMean": (11, "y = ReduceMean<axes=[3], keepdims=1>(x)", {}),
    "11 Softmax of the last axis": (11, "y = Softmax<axis=3>(x)", {}),
    "11 Softmax of all from axis 1": (11, "y = Softmax(x)", {}),
    "11 LogSoftmax of all from axis 2": (11, "y = LogSoftmax<axis=2>(x)", {}),
    "11 Split": (11, "p, q = Split<axis=2, split=[1,3]>(x)  y = Concat<axis=2>(q, p)", {}),
    "11 Resize": (
        11,
        'y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(x, r, s)',
        {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "7 broadcast": (7, "y = Add(x, k)", {"k": noise(3, 1, 1)}),
    "7 Conv": (7, "a = Conv<pads=[1,1,1,1]>(x, w)  y = Relu(a)", {"w": noise(3, 3, 3, 3)}),
    "12 einsum": (12, 'y = Einsum<equation="bcij,bcjk->bcik">(x, x)', {}),
    "13 DequantizeLinear": (
        13,
        "q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z)",
        {"s": np.array(0.1, np.float32), "z": np.array(128, np.uint8)},
    ),
    "9 Upsample linear": (9, 'y = Upsample<mode="linear">(x, s)', {"s": np.array([1, 1, 2, 2], np.float32)}),
    "9 Upsample by three": (9, 'y = Upsample<mode="nearest">(x, s)', {"s": np.array([1, 1, 3, 3], np.float32)}),
    "10 Resize linear": (10, 'y = Resize<mode="linear">(x, s)', {"s": np.array([1, 1, 2, 2], np.float32)}),
    "10 Resize down": (10, 'y = Resize<mode="linear">(x, s)', {"s": np.array([1, 1, 0.5, 0.5], np.float32)}),
    "10 Resize nearest": (10, 'y = Resize<mode="nearest">(x, s)', {"s": np.array([1, 1, 1.5, 1.5], np.float32)}),
    "12 Hardmax of the last axis": (12, "y = Hardmax<axis=3>(x)", {}),
    "13 Split in equal parts": (13, "p, q = Split<axis=2>(x)  y = Concat<axis=2>(q, p)", {}),
    "17 Split in equal parts": (17, "p, q = Split<axis=2>(x)  y = Concat<axis=2>(q, p)", {}),
    "15 RoiAlign": (
        15,
        "y = RoiAlign<output_height=2, output_width=2, sampling_ratio=2>(x, r, i)",
        {"r": np.array([[0.3, 0.4, 3.1, 2.9]], np.float32), "i": np.array([1])},
    ),
    "16 GridSample": (16, 'y = GridSample<mode="bilinear">(x, k)', {"k": noise(2, 3, 3, 2, scale=0.4)}),
    "16 GridSample bicubic": (16, 'y = GridSample<mode="bicubic">(x, k)', {"k": noise(2, 3, 3, 2, scale=0.4)}),
    "12 ArgMax": (12, "i = ArgMax<axis=3>(x)  y = Cast<to=1>(i)", {}),
    "8 MaxPool": (8, "y = MaxPool<kernel_shape=[2,2], strides=[1,1]>(x)", {}),
    "8 AveragePool": (7, "y = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1], count_include_pad=1>(x)", {}),
    "11 DepthToSpace": (10, "a = Concat<axis=1>(x, x, x, x)  b = DepthToSpace<blocksize=2>(a)  y = Neg(b)", {}),
    "8 Expand": (8, "y = Expand(x, k)", {"k": np.array([2, 3, 4, 4])}),
    "10 TopK": (10, "y, i = TopK<axis=2>(x, k)", {"k": np.array([2])}),
    "8 Scan-free Cast": (8, "a = Cast<to=6>(x)  y = Cast<to=1>(a)", {}),
    "9 PRelu": (9, "y = PRelu(x, k)", {"k": noise(3, 1, 1)}),
    "9 Where": (9, "c = Cast<to=9>(x)  n = Neg(x)  y = Where(c, x, n)", {}),
    "10 Mod": (10, "y = Mod<fmod=1>(x, k)", {"k": np.array(0.7, np.float32)}),
    "9 OneHot": (
        9,
        "i = ArgMax<axis=1, keepdims=0>(x)  y = OneHot<axis=1>(i, d, v)",
        {"d": np.array([3]), "v": np.array([0, 1], np.float32)},
    ),
    "7 LRN": (7, "y = LRN<size=3>(x)", {}),
    "12 pow": (12, "a = Abs(x)  y = Pow(a, k)", {"k": np.array(1.5, np.float32)}),
    "9 ConstantOfShape": (9, "s = Shape(x)  k = ConstantOfShape(s)  y = Add(x, k)", {}),
    "9 Flatten": (9, "a = Flatten<axis=2>(x)  s = Shape(x)  y = Reshape(a, s)", {}),
    "17 ReduceMax": (17, "y = ReduceMax<axes=[2], keepdims=1>(x)", {}),
    "17 LayerNormalization": (17, "y = LayerNormalization(x, k)", {"k": noise(4)}),
}


@pytest.mark.parametrize("to", [13, 17, 21])
@pytest.mark.parametrize(("opset", "body", "weights"), CASES.values(), ids=CASES)
def test_the_function_is_kept(opset, body, weights, to):
    source = proto_of(text_of(opset, body), **weights)
    model = model_of(source)
    contract, expected = model.contract(), outputs(model_of(source), x=X)
    change = upgrade_opset(model, context(), to=to)
    assert model.opset == max(opset, to)
    assert change.touched == ({"opset": f"{opset} -> {to}"} if to > opset else {})
    assert model.contract() == contract
    onnx.checker.check_model(proto(model), full_check=True)
    terms = 27  # products or addends of the longest sum above
    for before, after in zip(expected, outputs(model, x=X), strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=terms * EPS * np.abs(before).max())


def test_old_gemm_and_its_bias():
    ports = "g (float[2,4] x) => (float[2,3] y)"
    source = proto_of(text_of(7, "y = Gemm<transB=1>(x, w, c)", ports), w=noise(3, 4), c=noise(3))
    model = model_of(source)
    upgrade_opset(model, context(), to=21)
    x = noise(2, 4)
    np.testing.assert_allclose(outputs(model, x=x)[0], outputs(model_of(source), x=x)[0], rtol=0, atol=8 * EPS * 10)


BRANCHES = """g (bool c, float[2,3] x) => (float[2,1] y) {
    y = If (c) <then_branch = t () => (float[2,1] a) { a = ReduceSum<axes=[1]>(x) },
                else_branch = e () => (float[2,1] b) { b = ReduceSum<axes=[1]>(k) }> }"""


@pytest.mark.parametrize("to", [13, 17, 21])
def test_branches_are_raised_too(to):
    source = proto_of('<ir_version: 7, opset_import: ["": 11]> ' + BRANCHES, k=noise(2, 3, seed=2))
    model = model_of(source)
    upgrade_opset(model, context(), to=to)
    assert all("axes" not in node.attributes for node in model.nodes())
    x = noise(2, 3)
    for c in (True, False):
        feeds = {"c": np.array(c), "x": x}
        np.testing.assert_array_equal(outputs(model, **feeds)[0], outputs(source, **feeds)[0])


def test_an_operator_that_the_converter_would_change_is_refused_by_name():
    """Hardmax meant all axes from the given one on until opset 13; onnx's converter does not know."""
    model = model_of(text_of(12, "y = Hardmax(x)"))
    with pytest.raises(PassError, match="opset 12 and cannot be raised to 17: Hardmax_y"):
        upgrade_opset(model, context(), to=17)
    assert model.opset == 12


def test_a_converter_that_does_nothing_is_an_error(monkeypatch):
    """onnx-ir's converter may leave a model as it was, without a word."""
    from onnxscript import version_converter

    monkeypatch.setattr(version_converter, "convert_version", lambda *_, **__: None)
    model = model_of(text_of(11, "y = Neg(x)"))
    with pytest.raises(PassError, match="has opset 11 and cannot be raised to 17: the converter left it"):
        require_opset(model, 17)


def test_a_converter_that_fails_is_an_error_with_its_reason(monkeypatch):
    from onnxscript import version_converter

    def fail(*_, **__):
        raise RuntimeError("no adapter\n for Odd")

    monkeypatch.setattr(version_converter, "convert_version", fail)
    with pytest.raises(PassError, match="no adapter for Odd") as caught:
        require_opset(model_of(text_of(11, "y = Neg(x)")), 13)
    assert "13" in caught.value.hint


def test_a_newer_model_is_left_alone():
    model = model_of(text_of(21, "y = Neg(x)").replace("ir_version: 7", "ir_version: 10"))
    before = proto(model)
    assert upgrade_opset(model, context(), to=17).touched == {}
    assert proto(model) == before


def test_weights_keep_their_names_and_bytes():
    weight = noise(3, 3, 3, 3)
    model = model_of(text_of(9, "a = Conv<pads=[1,1,1,1]>(x, w)  y = Clip<min=0.0>(a)"), w=weight)
    upgrade_opset(model, context(), to=17)
    found = {value.name: value.const_value for value in model.weights()}
    assert found["w"].numpy().tobytes() == weight.tobytes()


def test_external_weights_are_not_lost(tmp_path):
    from compress_ops.model import load

    weight = noise(3, 3, 3, 3)
    source = proto_of(text_of(9, "a = Conv<pads=[1,1,1,1]>(x, w)  y = Clip<min=0.0>(a)"), w=weight)
    onnx.save(source, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    model = load(tmp_path / "m.onnx")
    upgrade_opset(model, context(), to=17)
    expected = outputs(onnx.load(tmp_path / "m.onnx"), x=X)
    np.testing.assert_array_equal(outputs(model, x=X), expected)


def test_other_domains_stay():
    text = """<ir_version: 7, opset_import: ["": 11, "com.microsoft": 1]>
        g (float[2,3] x) => (float[2,3] y) { a = com.microsoft.Gelu(x)  b = Clip(a)  y = Neg(b) }"""
    model = model_of(text)
    upgrade_opset(model, context(), to=17)
    assert model.ir.opset_imports == {"": 17, "com.microsoft": 1}
    np.testing.assert_array_equal(outputs(model, x=noise(2, 3)), outputs(model_of(text), x=noise(2, 3)))


def test_functions_survive():
    text = """<ir_version: 8, opset_import: ["": 13, "local": 1]>
        g (float[N] x) => (float[N] y) { y = local.twice(x) }
        <domain: "local", opset_import: ["": 13]>
        twice (a) => (b) { k = Constant <value_float = 2.0> ()  b = Mul(a, k) }"""
    model = model_of(text)
    upgrade_opset(model, context(), to=17)
    assert outputs(model, x=np.ones(3, np.float32))[0].tolist() == [2.0] * 3


def test_every_node_has_a_name_afterwards_and_constants_are_weights():
    model = model_of(text_of(11, "a = Softmax(x)  y = ReduceSum<axes=[2]>(a)"))
    upgrade_opset(model, context(), to=13)
    names = [node.name for node in model.nodes()]
    assert all(names) and len(set(names)) == len(names)
    assert op_types(model)["Constant"] == 0


@pytest.mark.parametrize("target", [15, 17, 21])
def test_operators_that_onnxruntime_keeps_in_the_standard_domain_stay(target):
    """A LayerNormalization before opset 17 is what onnxruntime's optimizer writes; ONNX's converter knows none."""
    text = """<ir_version: 8, opset_import: ["": 14]> g (float[N, 8] x) => (float[N, 8] y) {
        n = LayerNormalization<axis = -1>(x, g, g) s = SimplifiedLayerNormalization<axis = -1>(n, g)
        y = HardSwish(s) }"""
    model, x = model_of(text, g=noise(8)), noise(3, 8)
    (before,) = outputs(model, x=x)
    upgrade_opset(model, context(), to=target)
    model.check()
    assert model.opset == target and set(model.ir.opset_imports) == {""}
    assert np.allclose(outputs(model, x=x)[0], before, rtol=8 * EPS, atol=8 * EPS)
