"""simplify: the same function from fewer nodes, names of ports kept, and a second run finds nothing left."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.catalogue import PASSES
from compress_ops.graph.clean.simplify import simplify
from compress_ops.model import load
from tests.graphs import branches
from tests.helpers import SAMPLES, context, model_of, noise, op_types, outputs, proto, proto_of

EPS = np.finfo(np.float32).eps


def simplified(source, /, **options):
    model = model_of(source)
    before = model.contract()
    simplify(model, context(), **options)
    assert model.contract() == before
    onnx.checker.check_model(proto(model), full_check=True)
    assert_names(model)
    return model


def assert_names(model):
    names = [node.name for node in model.nodes()]
    assert all(names) and len(set(names)) == len(names)


def assert_same(source, model, rounding=0.0, /, **feeds):
    """Outputs agree; ``rounding`` is the number of float roundings, relative to the largest output, that may differ."""
    for expected, found in zip(outputs(source, **feeds), outputs(model, **feeds), strict=True):
        assert expected.dtype == found.dtype and expected.shape == found.shape
        if expected.dtype.kind == "f" and rounding:
            largest = np.abs(expected).max(initial=0)
            np.testing.assert_allclose(found, expected, rtol=0, atol=rounding * EPS * largest)
        else:
            np.testing.assert_array_equal(found, expected)


X = noise(2, 8, seed=1)
C = np.array(True)

# --- graphs that must keep their function exactly, and what is left of them ---

EXACT = {
    "identity into an output": ("g (float[2,8] x) => (float[2,8] y) { a = Neg(x)  y = Identity(a) }", {"Neg": 1}),
    "identity of an input": ("g (float[2,8] x) => (float[2,8] y) { y = Identity(x) }", {"Identity": 1}),
    "identity between two outputs": (
        "g (float[2,8] x) => (float[2,8] y, float[2,8] z) { y = Neg(x)  z = Identity(y) }",
        {"Neg": 1, "Identity": 1},
    ),
    "two identities of one value": (
        "g (float[2,8] x) => (float[2,8] y, float[2,8] z) { a = Neg(x)  y = Identity(a)  z = Identity(a) }",
        {"Neg": 1, "Identity": 1},
    ),
    "chain of identities": (
        "g (float[2,8] x) => (float[2,8] y) { a = Identity(x) b = Identity(a) c = Neg(b) y = Identity(c) }",
        {"Neg": 1},
    ),
    "duplicate nodes": (
        "g (float[2,8] x) => (float[2,8] y) { a = Neg(x)  b = Neg(x)  y = Add(a, b) }",
        {"Neg": 1, "Add": 1},
    ),
    "duplicate outputs": (
        "g (float[2,8] x) => (float[2,8] y, float[2,8] z) { y = Neg(x)  z = Neg(x) }",
        {"Neg": 2},  # an output has one name: nothing to gain
    ),
    "same operator, other attribute": (
        "g (float[2,8] x) => (float[2,8] y) { a = Softmax<axis=0>(x)  b = Softmax<axis=1>(x)  y = Sub(a, b) }",
        {"Softmax": 2, "Sub": 1},
    ),
    "dead nodes": ("g (float[2,8] x) => (float[2,8] y) { d = Abs(x)  e = Exp(d)  y = Neg(x) }", {"Neg": 1}),
    "unused second output": (
        "g (float[2,8] x) => (float[2,3] y) <int64[1] k = {3}> { y, i = TopK(x, k) }",
        {"TopK": 1},
    ),
    "times one": (
        "g (float[2,8] x) => (float[2,8] y) <float one = {1.0}, float zero = {0.0}> {"
        " a = Mul(x, one)  b = Add(zero, a)  c = Sub(b, zero)  d = Div(c, one)  y = Neg(d) }",
        {"Neg": 1},
    ),
    "times one that broadcasts": (
        "g (float[2,8] x) => (float[1,2,8] y) <float[1,1,1] one = {1.0}> { y = Mul(x, one) }",
        {"Mul": 1},
    ),
    "one divided": (
        "g (float[2,8] x) => (float[2,8] y) <float one = {1.0}, float zero = {0.0}> {"
        " a = Div(one, x)  y = Sub(zero, a) }",
        {"Div": 1, "Sub": 1},
    ),
    "constant expression": (
        "g (float[2,8] x) => (float[2,8] y) <float a = {2.0}, float b = {3.0}> {"
        " c = Mul(a, b)  d = Sqrt(c)  y = Mul(x, d) }",
        {"Mul": 1},
    ),
    "constant output": (
        "g (float[2,8] x) => (float[2,8] y, float k) <float a = {2.0}, float b = {3.0}> { k = Mul(a, b)  y = Neg(x) }",
        None,
    ),
    "weight that is an output": (
        "g (float[2,8] x) => (float[2,8] y, float[1] k) <float[1] k = {2.0}> { y = Mul(x, k) }",
        {"Mul": 1},
    ),
    "shape arithmetic": (
        "g (float[2,8] x) => (float[16] y) { s = Shape(x)  p = ReduceProd<keepdims=1>(s)  y = Reshape(x, p) }",
        None,
    ),
    "dropout": ("g (float[2,8] x) => (float[2,8] y) { a = Dropout(x)  y = Neg(a) }", None),
    "dropout mask": (
        "g (float[2,8] x) => (float[2,8] y, bool[2,8] m) { a, m = Dropout(x)  y = Neg(a) }",
        None,
    ),
    "slice of everything": (
        "g (float[2,8] x) => (float[2,8] y) <int64[1] s={0}, int64[1] e={9223372036854775807}, int64[1] a={1},"
        " int64[1] t={1}> { b = Slice(x, s, e, a, t)  y = Neg(b) }",
        {"Neg": 1},
    ),
    "slice backwards": (
        "g (float[2,8] x) => (float[2,8] y) <int64[1] s={-1}, int64[1] e={-9223372036854775808}, int64[1] a={1},"
        " int64[1] t={-1}> { y = Slice(x, s, e, a, t) }",
        {"Slice": 1},
    ),
    "cast there and back loses": (
        "g (float[2,8] x) => (float[2,8] y) { a = Cast<to=7>(x)  y = Cast<to=1>(a) }",
        {"Cast": 2},
    ),
    "string constants": (
        'g (float[2,8] x) => (float[2,8] y, string[2] s) { s = Constant <value_strings = ["a", "b"]> ()  y = Neg(x) }',
        None,
    ),
    "if of a constant": (
        """g (float[2,8] x) => (float[2,8] y) <bool c = {1}> {
            z = If (c) <then_branch = t () => (float[2,8] a) { a = Neg(x) },
                        else_branch = e () => (float[2,8] b) { b = Abs(x) }>  y = Exp(z) }""",
        {"Neg": 1, "Exp": 1},
    ),
    "branch that hands on an outer value": (
        """g (bool c, float[2,8] x) => (float[2,8] y) {
            h = Neg(x)
            z = If (c) <then_branch = t () => (float[2,8] a) { a = Identity(h) },
                        else_branch = e () => (float[2,8] b) { b = Abs(h) }>  y = Exp(z) }""",
        {"If": 1, "Identity": 1, "Abs": 1, "Neg": 1, "Exp": 1},
    ),
    "branch with duplicates and dead nodes": (
        """g (bool c, float[2,8] x) => (float[2,8] y) {
            y = If (c) <then_branch = t () => (float[2,8] a) { p = Neg(x)  q = Neg(x)  d = Exp(x)  a = Add(p, q) },
                        else_branch = e () => (float[2,8] b) { k = Identity(x)  b = Abs(k) }> }""",
        {"If": 1, "Neg": 1, "Add": 1, "Abs": 1},
    ),
    "loop": (
        """g (float[2,8] x) => (float[2,8] y) <int64 n = {3}, bool c = {1}> {
            y = Loop (n, c, x) <body = b (int64 i, bool ci, float[2,8] s) => (bool co, float[2,8] t)
                { co = Identity(ci)  k = Constant <value_float = 2.0> ()  l = Sqrt(k)  t = Mul(s, l) }> }""",
        {"Loop": 1, "Identity": 1, "Mul": 1},
    ),
    "scan": (
        """g (float[2,8] x) => (float[8] f, float[2,8] y) <float[8] z = {0,0,0,0,0,0,0,0}> {
            f, y = Scan <num_scan_inputs = 1, body = b (float[8] s, float[8] r) => (float[8] t, float[8] u)
                { v = Add(s, r)  t = Identity(v)  u = Identity(v) }> (z, x) }""",
        None,
    ),
    "nested branches": (
        """g (bool c, float[2,8] x) => (float[2,8] y) {
            y = If (c) <then_branch = t () => (float[2,8] a) {
                    a = If (c) <then_branch = tt () => (float[2,8] aa) { m = Identity(x)  aa = Neg(m) },
                                else_branch = te () => (float[2,8] ab) { ab = Abs(x) }> },
                else_branch = e () => (float[2,8] b) { b = Exp(x) }> }""",
        {"If": 2, "Neg": 1, "Abs": 1, "Exp": 1},
    ),
    "function": (
        """<ir_version: 10, opset_import: ["": 17, "local": 1]>
        g (float[2,8] x) => (float[2,8] y) { a = local.f(x)  b = local.f(a)  y = Identity(b) }
        <domain: "local", opset_import: ["": 17]>
        f (p) => (q) { k = Constant <value_float = 2.0> ()  q = Mul(p, k) }""",
        {"Mul": 2},
    ),
    "optional input left out": (
        "g (float[2,8] x) => (float[2,8] y) <float m = {0.5}> { a = Clip(x, , m)  y = Identity(a) }",
        {"Clip": 1},
    ),
    "sequence": (
        "g (float[2,8] x) => (float[2,8] y) <int64 i = {0}> { s = SequenceConstruct(x, x)  a = SequenceAt(s, i)"
        "  y = Neg(a) }",
        None,
    ),
    "concat of one": ("g (float[2,8] x) => (float[2,8] y) { a = Concat<axis=0>(x)  y = Neg(a) }", None),
    "nothing to do": ("g (float[2,8] x) => (float[2,8] y) { y = Neg(x) }", {"Neg": 1}),
}


def feeds_of(text):
    return {"x": X} | ({"c": C} if "bool c, float" in text else {})


@pytest.mark.parametrize(("text", "left"), EXACT.values(), ids=EXACT)
def test_the_function_and_what_is_left(text, left):
    model = simplified(proto_of(text))
    for c in ([True], [False]) if "bool c, float" in text else ([True],):
        feeds = feeds_of(text) | ({"c": np.array(c[0])} if "bool c, float" in text else {})
        assert_same(proto_of(text), model, 0, **feeds)
    if left is not None:
        assert dict(op_types(model)) == left


@pytest.mark.parametrize("text", [text for text, _ in EXACT.values()], ids=EXACT)
def test_a_second_run_changes_nothing(text):
    model = simplified(proto_of(text))
    once = proto(model)
    assert simplify(model, context()).touched == {}
    assert proto(model) == once


def test_what_was_done_is_told():
    change = simplify(model_of("g (float[2] x) => (float[2] y) { a = Identity(x)  d = Exp(x)  y = Neg(a) }"), context())
    assert any("nodes 3 -> " in what or "nodes 2 -> 1" in what for what in change.touched.values())
    assert simplify(model_of(EXACT["nothing to do"][0]), context()).touched == {}


def test_a_change_that_keeps_the_counts_is_told_too():
    """One node for another: Mul by one becomes nothing, but a constant If branch may bring as many as it takes."""
    text = "g (float[2,8] x) => (float[2,8] y) <float a = {2.0}> { k = Sqrt(a)  y = Mul(x, k) }"
    assert simplify(model_of(text), context()).touched


# --- random numbers ---

RANDOM = {
    "RandomNormal": "RandomNormal<shape=[4,8]>()",
    "RandomUniform": "RandomUniform<shape=[4,8]>()",
    "RandomNormalLike": "RandomNormalLike(x)",
    "RandomUniformLike": "RandomUniformLike(x)",
    "Bernoulli": "Bernoulli(p)",
    "Bernoulli of a constant": "Bernoulli(k)",
    "RandomNormalLike of a constant": "RandomNormalLike(k)",
    "Dropout in training": "Dropout(x, r, t)",
}


@pytest.mark.parametrize("expression", RANDOM.values(), ids=RANDOM)
def test_random_nodes_are_neither_merged_nor_frozen(expression):
    text = f"""g (float[4,8] x) => (float[4,8] y, float[4,8] z) <float r = {{0.5}}, bool t = {{1}}> {{
        p = Sigmoid(x)  y = {expression}  z = {expression} }}"""
    source = proto_of(text, k=np.full((4, 8), 0.5, np.float32))
    model = simplified(source)
    operator = expression.partition("(")[0].partition("<")[0]
    assert op_types(model)[operator] == 2
    y, z = outputs(model, x=np.ones((4, 8), np.float32))
    assert not np.array_equal(y, z)


def test_multinomial_is_not_merged():
    text = """g (float[1,3] x) => (int32[1,64] y, int32[1,64] z) {
        y = Multinomial<sample_size=64>(x)  z = Multinomial<sample_size=64>(x) }"""
    y, z = outputs(simplified(proto_of(text)), x=np.zeros((1, 3), np.float32))
    assert not np.array_equal(y, z)


# --- what must not be folded ---


def test_a_large_constant_is_not_written_out():
    text = """g (float[1024,2560] x) => (float[1024,2560] y) <float one = {1.5}, int64[2] s = {1024, 2560}> {
        k = Expand(one, s)  y = Add(x, k) }"""
    model = simplified(proto_of(text))
    assert model.weight_bytes() < 100
    assert proto(model).ByteSize() < 2000


@pytest.mark.parametrize(
    "expression", ["ConstantOfShape(s)", "Tile(one, s)", "Expand(one, s)", "Pad(one, q)", "OneHot(i, d, v)"]
)
def test_no_expression_grows_the_model(expression):
    text = f"""g (float[300,300] x) => (float[300,300] y) <float[1,1] one = {{1.5}}, int64[2] s = {{300, 300}},
        int64[4] q = {{0, 0, 299, 299}}, int64 d = {{300}}, float[2] v = {{0.0, 1.0}}> {{
        k = {expression}  l = Neg(k)  y = Add(x, l) }}"""
    source = proto_of(text, i=np.arange(300))
    before = model_of(source).weight_bytes()
    model = simplified(source)
    assert model.weight_bytes() <= before
    assert_same(source, model, 0, x=noise(300, 300))


def test_dequantized_weights_stay_quantized():
    text = "g (float[2,64] x) => (float[2,64] y) { d = DequantizeLinear(w, s, z)  y = MatMul(x, d) }"
    codes = np.random.default_rng(0).integers(-127, 128, (64, 64), np.int8)
    source = proto_of(text, w=codes, s=np.array(0.01, np.float32), z=np.array(0, np.int8))
    model = simplified(source)
    assert op_types(model) == {"DequantizeLinear": 1, "MatMul": 1}
    assert model.weight_bytes() == 64 * 64 + 4 + 1


def test_a_large_transposed_weight_is_folded_where_nothing_else_reads_it():
    text = "g (float[2,200] x) => (float[2,100] y) { t = Transpose<perm=[1,0]>(w)  y = MatMul(x, t) }"
    source = proto_of(text, w=noise(100, 200))
    model = simplified(source)
    assert op_types(model) == {"MatMul": 1}
    assert_same(source, model, 100, x=noise(2, 200))  # products summed up, in whatever order


def test_a_large_weight_that_two_read_is_not_doubled():
    text = "g (float[2,200] x) => (float[2,200] y) { t = Transpose<perm=[1,0]>(w)  h = MatMul(x, t)  y = MatMul(h, w) }"
    source = proto_of(text, w=noise(100, 200))
    model = simplified(source)
    assert model.weight_bytes() == 100 * 200 * 4
    assert_same(source, model, 0, x=noise(2, 200))


def test_a_generated_weight_becomes_a_stored_one():
    text = """g (float[2,64] x) => (float[2,32] y) <int64[2] s = {64, 32}> {
        w = ConstantOfShape<value = float[1] {0.5}>(s)  y = MatMul(x, w) }"""
    source = proto_of(text)
    model = simplified(source)
    assert op_types(model) == {"MatMul": 1}
    assert [value.const_value.shape.numpy() for value in model.weights()] == [(64, 32)]
    assert_same(source, model, 0, x=noise(2, 64))


def test_a_generated_weight_that_is_an_output_too_stays_right():
    text = """g (float[2,64] x) => (float[2,32] y, float[64,32] w) <int64[2] s = {64, 32}> {
        w = ConstantOfShape<value = float[1] {0.5}>(s)  y = MatMul(x, w) }"""
    source = proto_of(text)
    assert_same(source, simplified(source), 0, x=noise(2, 64))


# --- duplicate weights ---


def test_equal_weights_are_stored_once_and_unequal_ones_stay():
    text = """g (float[2,16] x) => (float[2,16] y) { a = MatMul(x, u)  b = MatMul(a, v)  c = MatMul(b, w)  d = Sub(t, c)
        e = Mul(d, s)  y = Sub(n, e) }"""
    w = noise(16, 16)
    nearly = w.copy()
    nearly[3, 3] = np.nextafter(nearly[3, 3], np.float32(9))
    zero = np.zeros(1, np.float32)
    source = proto_of(text, u=w, v=w, w=nearly, t=zero, s=-zero, n=zero.reshape(1, 1))
    model = simplified(source)
    assert sum(value.const_value.size for value in model.weights()) == 2 * 256 + 3  # 0, -0 and [[0]] differ
    assert_same(source, model, 0, x=noise(2, 16))


def test_weights_of_different_types_with_the_same_bytes_stay_apart():
    text = "g (float[2] x, int32[2] i) => (float[2] y, int32[2] j) { y = Add(x, f)  j = Add(i, k) }"
    bits = np.array([1, 2], np.int32)
    source = proto_of(text, f=bits.view(np.float32), k=bits)
    model = simplified(source)
    assert_same(source, model, 0, x=np.ones(2, np.float32), i=np.ones(2, np.int32))


def test_equal_string_weights_are_merged_without_a_crash():
    text = 'g (string[2] x) => (bool[2] y, bool[2] z) <string[1] a = {"q"}, string[1] b = {"q"}, string[1] c = {"r"}> {'
    source = proto_of(text + " d = Equal(x, a)  e = Equal(x, b)  y = And(d, e)  z = Equal(x, c) }".replace("17", "19"))
    source.opset_import[0].version = 19
    feeds = {"x": np.array(["q", "r"], object)}
    for expected, found in zip(outputs(source, **feeds), outputs(simplified(source), **feeds), strict=True):
        np.testing.assert_array_equal(expected, found)


# --- BatchNormalization ---

BN = "BatchNormalization<epsilon=0.01>"


def bn_weights(channels, prefix="", seed=5):
    rng = np.random.default_rng(seed)
    names = ("g", "b", "m", "v")
    values = rng.normal(size=(4, channels)).astype(np.float32)
    values[3] = np.abs(values[3]) + 0.1
    return {f"{prefix}{name}": value for name, value in zip(names, values, strict=True)}


LINEAR = {
    "Conv": ("Conv<pads=[1,1,1,1]>", (6, 4, 3, 3), 6, (2, 4, 5, 5)),
    "Conv in groups": ("Conv<group=2>", (6, 2, 3, 3), 6, (2, 4, 5, 5)),
    "Conv depthwise": ("Conv<group=4>", (4, 1, 3, 3), 4, (2, 4, 5, 5)),
    "Conv 1-D": ("Conv", (6, 4, 3), 6, (2, 4, 9)),
    "Conv 3-D": ("Conv", (6, 4, 2, 2, 2), 6, (2, 4, 3, 3, 3)),
    "ConvTranspose": ("ConvTranspose<strides=[2,2]>", (4, 6, 3, 3), 6, (2, 4, 5, 5)),
    "ConvTranspose in groups": ("ConvTranspose<group=2>", (4, 3, 3, 3), 6, (2, 4, 5, 5)),
    "Gemm": ("Gemm", (4, 6), 6, (2, 4)),
    "Gemm transB": ("Gemm<transB=1>", (6, 4), 6, (2, 4)),
    "Gemm transA": ("Gemm<transA=1>", (4, 6), 6, (4, 2)),
    "Gemm alpha beta": ("Gemm<alpha=0.5, beta=2.0>", (4, 6), 6, (2, 4)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [-0.5, -0.01, np.nan])
def test_a_batchnorm_without_a_root_stays_with_its_reason(value):
    """Folded it would make NaN of weights; as it is, the channels that it spoils are its own."""
    weights = {"w": noise(6, 4, 3, 3), **bn_weights(6)}
    weights["v"][2] = value
    model = model_of(
        f"m (float[2,4,5,5] x) => (float[2,6,3,3] y) {{ h = Conv(x, w) y = {BN}(h, g, b, m, v) }}", **weights
    )
    before = outputs(model, x=noise(2, 4, 5, 5))
    change = simplify(model, context())
    assert [(one.name, one.reason.partition(":")[0]) for one in change.declined] == [
        (node.name, "BatchNormalization") for node in model.nodes() if node.op_type == "BatchNormalization"
    ]
    assert op_types(model) == {"Conv": 1, "BatchNormalization": 1}
    np.testing.assert_array_equal(outputs(model, x=noise(2, 4, 5, 5))[0], before[0])
    assert simplify(model, context(), fold_batchnorm=False).declined == []


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("op", "shape", "channels", "x_shape"), LINEAR.values(), ids=LINEAR)
def test_batchnorm_folds_into_the_linear_operator_before_it(op, shape, channels, x_shape, bias):
    text = f"g (float[{','.join(map(str, x_shape))}] x) => (float[?] y) {{ h = {op}(x, w{', c' * bias})"
    text = text.replace("(float[?] y)", "(float y)") + f"  y = {BN}(h, g, b, m, v) }}"
    source = proto_of(text, w=noise(*shape), c=noise(channels, seed=3), **bn_weights(channels))
    source.graph.output[0].type.tensor_type.ClearField("shape")
    x = noise(*x_shape, seed=9)
    model = simplified(source)
    assert op_types(model) == {op.partition("<")[0]: 1}
    terms = int(np.prod(shape)) // channels + 8  # products summed up, and the roundings of the fold
    assert_same(source, model, terms, x=x)


@pytest.mark.parametrize("bias_shape", [(), (1,), (6,), (1, 6), (2, 1), (2, 6)], ids=str)
def test_batchnorm_folds_into_gemm_with_any_bias(bias_shape):
    text = f"g (float[2,4] x) => (float[2,6] y) {{ h = Gemm(x, w, c)  y = {BN}(h, g, b, m, v) }}"
    source = proto_of(text, w=noise(4, 6), c=noise(*bias_shape, seed=3), **bn_weights(6))
    assert_same(source, simplified(source), 16, x=noise(2, 4))


def conv_bn(body, outputs_="float[2,6,3,3] y", **weights):
    text = f"g (float[2,4,5,5] x) => ({outputs_}) {{ {body} }}"
    weights = {"w": noise(6, 4, 3, 3), "c": noise(6, seed=3), **bn_weights(6), **weights}
    return proto_of(text, **{n: a for n, a in weights.items() if f" {n}" in body or f"({n}" in body})


IMAGE = noise(2, 4, 5, 5, seed=9)
KEPT = {
    "conv output is an output, the batchnorm's is not": conv_bn(
        f"h = Conv(x, w, c)  n = {BN}(h, g, b, m, v)  y = Neg(n)", "float[2,6,3,3] y, float[2,6,3,3] h"
    ),
    "conv output read twice": conv_bn(f"h = Conv(x, w, c)  n = {BN}(h, g, b, m, v)  y = Add(n, h)"),
    "conv output is an output": conv_bn(
        f"h = Conv(x, w, c)  y = {BN}(h, g, b, m, v)", "float[2,6,3,3] y, float[2,6,3,3] h"
    ),
    "shared conv weight": conv_bn(f"h = Conv(x, w, c)  n = {BN}(h, g, b, m, v)  k = Conv(x, w)  y = Add(n, k)"),
    "weight is an output": conv_bn(f"h = Conv(x, w, c)  y = {BN}(h, g, b, m, v)", "float[2,6,3,3] y, float[6,4,3,3] w"),
    "training mode": conv_bn(
        "h = Conv(x, w, c)  y, p, q = BatchNormalization<training_mode=1>(h, g, b, m, v)",
        "float[2,6,3,3] y, float[6] p, float[6] q",
    ),
    "training mode, statistics unused": conv_bn(
        "h = Conv(x, w, c)  y, p, q = BatchNormalization<training_mode=1>(h, g, b, m, v)"
    ),
    "computed weight": conv_bn(f"u = Relu(w)  t = Mul(u, s)  h = Conv(x, t, c)  y = {BN}(h, g, b, m, v)"),
}


@pytest.mark.parametrize("source", KEPT.values(), ids=KEPT)
def test_batchnorm_that_cannot_fold_keeps_the_function(source):
    if "s" in {name for node in source.graph.node for name in node.input}:
        source.graph.input.append(onnx.helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [1]))
    feeds = {"x": IMAGE} | ({"s": np.full(1, 0.5, np.float32)} if len(source.graph.input) > 1 else {})
    model = simplified(source)
    assert op_types(model)["BatchNormalization"] == 1
    assert_same(source, model, 2 * (36 + 8), **feeds)


FOLDS = {
    "two convs share a batchnorm's numbers": conv_bn(
        f"h = Conv(x, w, c)  n = {BN}(h, g, b, m, v)  i = Conv(x, u)  o = {BN}(i, g, b, m, v)  y = Add(n, o)",
        u=noise(6, 4, 3, 3, seed=8),
    ),
    "bias is one of the batchnorm's numbers": conv_bn(f"h = Conv(x, w, b)  y = {BN}(h, g, b, m, v)"),
    "another weight is called like the new bias": conv_bn(
        f"h = Conv(x, w)  n = {BN}(h, g, b, m, v)  y = Add(n, w_bias)", w_bias=noise(6, 1, 1, seed=4)
    ),
    "two convs in a row": conv_bn(
        f"h = Conv(x, w, c)  n = {BN}(h, g, b, m, v)  i = Conv(n, u)  y = {BN}(i, g, b, m, v)",
        u=noise(6, 6, 1, 1, seed=8),
    ),
    "two batchnorms in a row": conv_bn(f"h = Conv(x, w, c)  n = {BN}(h, g, b, m, v)  y = {BN}(n, g, b, m, v)"),
}


@pytest.mark.parametrize("source", FOLDS.values(), ids=FOLDS)
def test_batchnorm_in_company_folds_and_keeps_the_function(source):
    model = simplified(source)
    assert op_types(model)["BatchNormalization"] == 0
    assert_same(source, model, 4 * (54 + 8), x=IMAGE)


@pytest.mark.parametrize(
    "other", [f"i = Conv(x, u)  o = {BN}(i, g, b, m, v)", "o = Conv(x, w)"], ids=["another weight", "the same weight"]
)
def test_batchnorm_in_a_branch_keeps_the_function(other):
    text = branches("float[2,4,5,5] x", "float[2,6,3,3]", f"h = Conv(x, w)  a = {BN}(h, g, b, m, v)", other)
    more = {"u": noise(6, 4, 3, 3, seed=4)} if "u)" in other else {}
    source = proto_of(text, w=noise(6, 4, 3, 3), **more, **bn_weights(6))
    model = simplified(source)
    for c in (True, False):
        assert_same(source, model, 44, c=np.array(c), x=IMAGE)


def test_batchnorm_stays_where_it_is_asked_to():
    source = conv_bn(f"h = Conv(x, w, c)  y = {BN}(h, g, b, m, v)")
    assert op_types(simplified(source, fold_batchnorm=False)) == {"Conv": 1, "BatchNormalization": 1}


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 14, 15])
def test_batchnorm_of_every_opset(opset):
    source = conv_bn(f"h = Conv(x, w, c)  y = {BN}(h, g, b, m, v)")
    source.opset_import[0].version = opset
    assert_same(source, simplified(source), 44, x=IMAGE)


def test_a_vanished_channel_stays_finite():
    """gamma and variance of about zero, as trained networks have them."""
    numbers = bn_weights(6)
    numbers["g"][0], numbers["v"][0] = 1e-30, 1e-38
    source = conv_bn(f"h = Conv(x, w, c)  y = {BN}(h, g, b, m, v)", **numbers)
    model = simplified(source)
    assert np.isfinite(outputs(model, x=IMAGE)[0]).all()
    assert_same(source, model, 44, x=IMAGE)


# --- constant scales and shifts ---

CHANNELS = noise(6, seed=21) + np.float32(2)
OPERANDS = {
    "number": np.array(1.5, np.float32),
    "one of each rank": np.full((1, 1, 1, 1), 1.5, np.float32),
    "per channel": CHANNELS.reshape(6, 1, 1),
    "per channel, full rank": CHANNELS.reshape(1, 6, 1, 1),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("op", ["Mul", "Add", "Sub", "Div"])
@pytest.mark.parametrize("operand", OPERANDS.values(), ids=OPERANDS)
def test_constant_scales_and_shifts_fold_into_the_conv(op, operand, first, bias):
    body = f"h = Conv(x, w{', c' * bias})  y = {op}({'k, h' if first else 'h, k'})"
    source = proto_of(
        f"g (float[2,4,5,5] x) => (float[2,6,3,3] y) {{ {body} }}",
        **{"w": noise(6, 4, 3, 3), "k": operand} | ({"c": noise(6, seed=3)} if bias else {}),
    )
    model = simplified(source)
    folds = not first or op in ("Mul", "Add")
    assert (op_types(model)[op] == 0) is folds
    assert_same(source, model, 36 + 8, x=IMAGE)


@pytest.mark.parametrize("shape", [(5,), (3,), (3, 3), (2, 1, 1, 1), (1, 1, 1, 3), (1, 1, 1, 1, 1)], ids=str)
def test_other_constants_stay(shape):
    """None of these is one number per channel: they lie along width, height or batch, or add an axis."""
    x = {5: noise(2, 4, 5, 7)}.get(shape[-1], IMAGE)
    text = f"g (float[{','.join(map(str, x.shape))}] x) => (float y) {{ h = Conv(x, w)  y = Mul(h, k) }}"
    source = proto_of(text, w=noise(6, 4, 3, 3), k=noise(*shape, seed=2))
    source.graph.output[0].type.tensor_type.ClearField("shape")
    model = simplified(source)
    assert op_types(model)["Mul"] == 1
    assert_same(source, model, 0, x=x)


def test_division_by_zero_stays():
    source = conv_bn("h = Conv(x, w, c)  y = Div(h, k)", k=np.zeros(1, np.float32))
    assert op_types(simplified(source)) == {"Conv": 1, "Div": 1}


def test_a_scale_of_a_conv_that_others_read_stays():
    source = conv_bn(
        "h = Conv(x, w, c)  n = Mul(h, k)  y = Neg(n)", "float[2,6,3,3] y, float[2,6,3,3] h", k=CHANNELS[:1]
    )
    model = simplified(source)
    assert op_types(model)["Mul"] == 1
    assert_same(source, model, 0, x=IMAGE)


@pytest.mark.parametrize(("opset", "left"), [(13, 4), (14, 1)])
def test_hardswish_is_fused_where_it_exists(opset, left):
    text = f"""<ir_version: 8, opset_import: ["": {opset}]>
        g (float[2,8] x) => (float[2,8] y) <float three = {{3.0}}, float zero = {{0.0}}, float six = {{6.0}}> {{
            a = Add(x, three)  b = Clip(a, zero, six)  c = Mul(x, b)  y = Div(c, six) }}"""
    source = proto_of(text)
    model = simplified(source)
    assert sum(op_types(model).values()) == left
    assert_same(source, model, 8, x=8 * X)


def test_packed_weights_stay_packed() -> None:
    model = load(SAMPLES / "digits-mlp.onnx")
    PASSES["cluster_weights"](model, context())
    packed = model.stored_bytes()
    simplify(model, context())
    assert model.stored_bytes() <= packed


# --- what only looks like nothing ---


@pytest.mark.parametrize(
    ("operator", "number", "stays"),
    [
        ("Add", 1e-12, True),
        ("Sub", -1e-9, True),
        ("Mul", 1 + 2**-23, True),
        ("Div", 1 - 2**-24, True),
        ("Add", 0, False),
        ("Sub", 0, False),
        ("Mul", 1, False),
        ("Div", 1, False),
    ],
)
def test_only_what_is_0_or_1_to_the_digit_is_removed(operator: str, number: float, stays: bool) -> None:
    text = f"g (float[n,4] x) => (float[n,4] y) {{ s = Relu(x) t = {operator}(s, e) y = Reciprocal(t) }}"
    source = proto_of(text, e=np.array(number, np.float32))
    model = simplified(source)
    assert (operator in op_types(model)) == stays
    assert_same(source, model, 0, x=np.zeros((2, 4), np.float32))


def test_a_function_of_another_operator_set_stays():
    text = """<ir_version: 9, opset_import: ["": 17, "local": 1]>
    g (float[N,4] x) => (float[N,4] y) { h = local.twice(x)  y = Identity(h) }
    <domain: "local", opset_import: ["": 16]> twice (a) => (b) { b = Add(a, a) }"""
    model = model_of(onnx.parser.parse_model(text))
    simplify(model, context())
    assert len(model.ir.functions) == 1
    x = noise(3, 4)
    np.testing.assert_array_equal(outputs(model, x=x)[0], 2 * x)
