"""form: qoperator gives the numbers of Q/DQ, in operators that read and write codes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.quantize.int8.static import quantize_static
from tests.helpers import Given, context, model_of, noise, op_types, outputs, proto_of
from tests.quantize.int8.int8_case import IMAGES, MATMUL, NETWORKS, W, X, nearly, network, quantized

GEMM = "g (float[N,40] x) => (float[N,24] y) { y = Gemm<transB=1>(x, w, c) }"
BARE = "g (float[N,40] x) => (float[N,24] y) { y = Gemm(x, w) }"
EDGE = {"QuantizeLinear": 1, "DequantizeLinear": 1}

CASES = {
    "MatMul": (proto_of(MATMUL, w=W), X, {"QLinearMatMul": 1, **EDGE}),
    "Gemm": (proto_of(GEMM, w=W.T.copy(), c=noise(24)), X, {"QGemm": 1, **EDGE}),
    "Gemm without bias": (proto_of(BARE, w=W), X, {"QGemm": 1, **EDGE}),
    "conv, relu": (NETWORKS["conv, relu"][0], IMAGES, {"QLinearConv": 2, **EDGE}),
    "conv, clip": (NETWORKS["conv, clip"][0], IMAGES, {"QLinearConv": 2, **EDGE}),
    "residual": (NETWORKS["residual"][0], IMAGES, {"QLinearConv": 3, "QLinearAdd": 1, **EDGE}),
    "gate": (NETWORKS["gate"][0], IMAGES, {"QLinearConv": 3, "QLinearMul": 1, **EDGE}),
    "concat": (NETWORKS["concat"][0], IMAGES, {"QLinearConv": 3, "QLinearConcat": 1, **EDGE}),
    "pools": (NETWORKS["pools"][0], IMAGES, {"QLinearConv": 2, "MaxPool": 1, "Neg": 1, **EDGE}),
    "to the classifier": (
        NETWORKS["to the classifier"][0],
        IMAGES,
        {"QLinearConv": 1, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1, **EDGE},
    ),
    "average pool": (
        network("a = Conv(x, u)  p = AveragePool<kernel_shape=[2,2]>(a)  y = Conv(p, w)"),
        IMAGES,
        {"QLinearConv": 2, "QLinearAveragePool": 1, **EDGE},
    ),
    "transpose": (
        NETWORKS["transpose and reshape"][0],
        IMAGES,
        {"QLinearConv": 1, "Transpose": 1, "QLinearMatMul": 1, **EDGE},
    ),
}


@pytest.mark.parametrize("weight_type", ["int8", "uint8"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("source", "x", "kinds"), CASES.values(), ids=CASES)
def test_codes_all_the_way(source, x, kinds, per_channel, weight_type):
    model, change = quantized(source, {"x": x}, form="qoperator", per_channel=per_channel, weight_type=weight_type)
    assert op_types(model) == kinds and not change.declined
    nearly(model, source, 12, x=x)


@pytest.mark.parametrize("name", ["residual", "concat", "pools"])
def test_numbers_are_those_of_qdq(name):
    """Convolutions add in integers here and in float there: codes may differ by one where they round the other way."""
    source = NETWORKS[name][0]
    (expected,) = outputs(quantized(source, {"x": IMAGES})[0], x=IMAGES)
    (found,) = outputs(quantized(source, {"x": IMAGES}, form="qoperator")[0], x=IMAGES)
    step = (max(expected.max(), 0) - min(expected.min(), 0)) / 255
    assert np.abs(found - expected).max() <= 2.1 * step and (np.abs(found - expected) < 1e-3 * step).mean() > 0.95


@pytest.mark.parametrize("op", ["Sigmoid", "LeakyRelu<alpha=0.1>", "Softmax<axis=1>", "Softmax"])
def test_sensitive_operators_that_are_named(op):
    source, kind = network(f"a = Conv(x, u)  s = {op}(a)  y = Conv(s, w)"), op.partition("<")[0]
    model, _ = quantized(source, {"x": IMAGES}, form="qoperator", only=["*", kind])
    assert op_types(model)[f"QLinear{kind}"] == 1
    nearly(model, source, 12, x=IMAGES)


def test_a_relu_that_the_codes_do_not_cut_stays():
    """Symmetric codes reach below zero."""
    source = NETWORKS["conv, relu"][0]
    model, _ = quantized(source, {"x": IMAGES}, form="qoperator", activation_type="int8")
    assert Counter(op_types(model)) & Counter({"Relu": 1, "Conv": 1, "QLinearConv": 1})
    nearly(model, source, 12, x=IMAGES)


def test_a_value_that_is_an_output_and_read_inside():
    source = network(
        "a = Conv(x, u)  r = Neg(a)  y = Conv(a, w)", "float[N,?,?,?] a, float[N,?,?,?] y, float[N,?,?,?] r"
    )
    model, _ = quantized(source, {"x": IMAGES}, form="qoperator")
    assert op_types(model)["QLinearConv"] == 2
    nearly(model, source, 12, x=IMAGES)


def test_what_is_skipped_stays_float():
    source = NETWORKS["residual"][0]
    model, _ = quantized(source, {"x": IMAGES}, form="qoperator", skip=["Conv_y"])
    assert op_types(model)["Conv"] == 1 and op_types(model)["QLinearConv"] == 2
    nearly(model, source, 12, x=IMAGES)


def test_sixteen_bits_are_refused():
    with pytest.raises(PassError, match="qoperator has no int16"):
        quantize_static(
            model_of(MATMUL, w=W), context(calibration=Given({"x": X})), form="qoperator", activation_type="int16"
        )


BIASES = {
    "fed, Conv": ("float[1,3,8,8] x, float[4] c", "y = Conv(x, w, c)", noise(4, 3, 3, 3)),
    "fed, Gemm": ("float[1,40] x, float[24] c", "y = Gemm(x, w, c)", W),
    "computed and quantized": ("float[1,3,8,8] x, float[4] c", "d = Abs(c) y = Conv(x, w, d)", noise(4, 3, 3, 3)),
}


@pytest.mark.parametrize(("inputs", "body", "weight"), BIASES.values(), ids=BIASES)
def test_a_bias_that_is_not_stored_stays_a_float(inputs, body, weight):
    """The pair around its layer stays: the operators on codes take int32 codes alone."""
    sizes = "1,24" if weight is W else "1,4,6,6"
    source = proto_of(f"g ({inputs}) => (float[{sizes}] y) {{ {body} }}", w=weight)
    x = noise(1, 40) if weight is W else noise(1, 3, 8, 8)
    feeds = {"x": x, "c": noise(24 if weight is W else 4, seed=3)}
    model, _ = quantized(source, feeds, form="qoperator")
    assert not {"QLinearConv", "QGemm"} & set(op_types(model))
    nearly(model, source, 12, **feeds)
