"""GELU however it is written: onnxruntime fuses what simplify leaves, and the function stays."""

from __future__ import annotations

from math import erf

import numpy as np
import onnx
import pytest

from compress_ops.graph.clean.simplify import simplify
from tests.helpers import context, model_of, noise, op_types, optimized, outputs, proto, proto_of

EPS = np.finfo(np.float32).eps
CONSTANTS = "<float c = {1.4142135}, float r = {0.70710677}, float one = {1.0}, float h = {0.5}>"
SPELLINGS = {
    "half meets the sum (dynamo exporter)": "d = Div(x, c) e = Erf(d) a = Add(e, one) m = Mul(h, a) y = Mul(x, m)",
    "times a reciprocal": "d = Mul(x, r) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, h)",
    "times a reciprocal, half of x first": "d = Mul(r, x) e = Erf(d) a = Add(one, e) m = Mul(x, h) y = Mul(m, a)",
    "times a reciprocal, half meets the sum": "d = Mul(x, r) e = Erf(d) a = Add(e, one) m = Mul(a, h) y = Mul(m, x)",
}
ALREADY = {
    "half last": "d = Div(x, c) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, h)",
    "half of x first": "d = Div(x, c) e = Erf(d) a = Add(e, one) m = Mul(x, h) y = Mul(m, a)",
}
OTHERS = {
    "another divisor": "d = Div(x, h) e = Erf(d) a = Add(e, one) m = Mul(h, a) y = Mul(x, m)",
    "minus": "d = Div(x, c) e = Erf(d) a = Sub(e, one) m = Mul(h, a) y = Mul(x, m)",
    "another summand": "d = Div(x, c) e = Erf(d) a = Add(e, h) m = Mul(h, a) y = Mul(x, m)",
    "another factor": "d = Div(x, c) e = Erf(d) a = Add(e, one) m = Mul(r, a) y = Mul(x, m)",
    "another x": "z = Neg(x) d = Div(x, c) e = Erf(d) a = Add(e, one) m = Mul(h, a) y = Mul(z, m)",
    "the sum squared": "d = Div(x, c) e = Erf(d) a = Add(e, one) m = Mul(a, a) y = Mul(x, m)",
    "no half": "d = Mul(x, r) e = Erf(d) a = Add(e, one) y = Mul(x, a)",
    "divided the wrong way": "d = Div(c, x) e = Erf(d) a = Add(e, one) m = Mul(h, a) y = Mul(x, m)",
}
X = noise(2, 8, seed=3)
WHAT = "spell GELU as runtimes know it"


def source(body, ports="float[2,8] y"):
    return proto_of(f"g (float[2,8] x) => ({ports}) {CONSTANTS} {{ {body} }}")


@pytest.mark.parametrize("body", SPELLINGS.values(), ids=SPELLINGS)
def test_onnxruntime_fuses_what_it_did_not_know(body):
    model = model_of(source(body))
    assert "Gelu" not in optimized(model, "ORT_ENABLE_ALL")
    assert WHAT in simplify(model, context()).touched
    onnx.checker.check_model(proto(model), full_check=True)
    assert optimized(model, "ORT_ENABLE_ALL") == {"Gelu": 1}
    oracle = X * (1 + np.vectorize(erf)(X / np.sqrt(2))) / 2
    np.testing.assert_allclose(outputs(model, x=X)[0], oracle, rtol=0, atol=8 * EPS * np.abs(X).max())


@pytest.mark.parametrize("body", ALREADY.values(), ids=ALREADY)
def test_what_it_knows_stays(body):
    model = model_of(source(body))
    assert WHAT not in simplify(model, context()).touched
    assert optimized(model, "ORT_ENABLE_ALL") == {"Gelu": 1}


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
def test_what_is_no_gelu_stays(body):
    model = model_of(source(body))
    before, kinds = outputs(model, x=X), op_types(model)
    simplify(model, context())
    assert op_types(model) == kinds
    np.testing.assert_array_equal(outputs(model, x=X), before)


def test_values_that_others_read_stay():
    body = "d = Div(x, c) e = Erf(d) a = Add(e, one) m = Mul(h, a) y = Mul(x, m)"
    model = model_of(source(body, "float[2,8] y, float[2,8] m"))
    assert WHAT not in simplify(model, context()).touched


def test_a_constant_that_adds_an_axis_stays():
    body = "d = Div(x, c) e = Erf(d) a = Add(e, one) m = Mul(k, a) y = Mul(x, m)"
    text = f"g (float[2,8] x) => (float[1,2,8] y) {CONSTANTS} {{ {body} }}"
    model = model_of(proto_of(text, k=np.full((1, 1, 1), 0.5, np.float32)))
    assert WHAT not in simplify(model, context()).touched


def test_half_precision_keeps_its_type():
    text = """g (float16[2,8] x) => (float16[2,8] y) {
        d = Div(x, c) e = Erf(d) a = Add(e, one) m = Mul(h, a) y = Mul(x, m) }"""
    numbers = {name: np.array(number, np.float16) for name, number in (("c", 2**0.5), ("one", 1), ("h", 0.5))}
    model = model_of(proto_of(text, **numbers))
    assert WHAT in simplify(model, context()).touched
    onnx.checker.check_model(proto(model), full_check=True)


def test_a_second_run_finds_nothing():
    model = model_of(source(next(iter(SPELLINGS.values()))))
    simplify(model, context())
    assert WHAT not in simplify(model, context()).touched


def test_inside_a_branch():
    body = "d = Div(x, c) e = Erf(d) a = Add(e, one) m = Mul(h, a) t = Mul(x, m)"
    text = f"""g (bool b, float[2,8] x) => (float[2,8] y) {CONSTANTS} {{
        y = If (b) <then_branch = p () => (float[2,8] t) {{ {body} }},
                    else_branch = q () => (float[2,8] u) {{ u = Neg(x) }}> }}"""
    model, truth = model_of(text), np.array(True)
    before = outputs(model, b=truth, x=X)[0]
    assert WHAT in simplify(model, context()).touched
    np.testing.assert_array_equal(outputs(model, b=truth, x=X)[0], before)
