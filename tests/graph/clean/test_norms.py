"""unfuse_norms: the same numbers, and onnxruntime runs the sum and the normalization as two operators."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.catalogue import PASSES
from compress_ops.graph.clean.norms import unfuse_norms
from compress_ops.passes import Promise
from compress_ops.runtime import Provider
from tests.helpers import context, model_of, noise, op_types, optimized, outputs, proto, proto_of

A, B = noise(1, 4, 8, seed=1), noise(1, 4, 8, seed=2)
LAYER = "g (float[1,4,8] a, float[1,4,8] b) => (float[1,4,8] y) { s = Add(a, b)  y = LayerNormalization(s, w, v) }"
PARTS = """g (float[1,4,8] a, float[1,4,8] b) => (float[1,4,8] y) <float two = {2}, float tiny = {0.00001}> {
    s = Add(a, b)  m = ReduceMean<axes=[-1]>(s)  d = Sub(s, m)  p = Pow(d, two)  q = ReduceMean<axes=[-1]>(p)
    e = Add(q, tiny)  r = Sqrt(e)  n = Div(d, r)  k = Mul(n, w)  y = Add(k, v) }"""


def source(text, dtype=np.float32):
    return proto_of(text, w=noise(8, seed=3).astype(dtype), v=noise(8, seed=4).astype(dtype))


@pytest.mark.parametrize("text", [LAYER, PARTS], ids=["one operator", "its parts"])
def test_the_two_run_apart_and_give_the_same(text):
    model = model_of(source(text))
    if text is PARTS:
        model.infer_shapes()
    before = outputs(model, a=A, b=B)[0]
    assert optimized(model, "ORT_ENABLE_ALL") == {"SkipLayerNormalization": 1}
    assert list(unfuse_norms(model, context()).touched.values()) == ["Sum"]
    onnx.checker.check_model(proto(model), full_check=True)
    assert optimized(model, "ORT_ENABLE_ALL") == {"Sum": 1, "LayerNormalization": 1}
    np.testing.assert_array_equal(outputs(model, a=A, b=B)[0], before)


def test_the_sum_that_is_an_output_too_keeps_its_name():
    model = model_of(source(LAYER.replace("y) {", "y, float[1,4,8] s) {")))
    before = outputs(model, a=A, b=B)
    assert unfuse_norms(model, context()).touched
    for expected, found in zip(before, outputs(model, a=A, b=B), strict=True):
        np.testing.assert_array_equal(found, expected)


STAYS = {
    "a bias": LAYER.replace("Add(a, b)", "Add(a, v)"),
    "another reader": LAYER.replace("LayerNormalization(s, w, v)", "Mul(s, w)"),
    "a sum that scales": LAYER.replace("LayerNormalization(s, w, v)", "LayerNormalization(a, w, s)").replace(
        "float[1,4,8] b", "float[8] b"
    ),
    "less something else than its mean": PARTS.replace("ReduceMean<axes=[-1]>(s)", "ReduceMean<axes=[-1]>(a)"),
}


@pytest.mark.parametrize("text", STAYS.values(), ids=STAYS)
def test_other_sums_stay(text):
    model = model_of(source(text))
    kinds = op_types(model)
    assert not unfuse_norms(model, context()).touched
    assert op_types(model) == kinds


def test_half_precision_has_no_such_kernel():
    model = model_of(source(LAYER.replace("float[", "float16["), np.float16))
    assert not unfuse_norms(model, context()).touched


def test_other_providers_keep_their_fused_kernel():
    model = model_of(source(LAYER))
    change = unfuse_norms(model, context(providers=(Provider("cuda"), Provider("cpu"))))
    assert not change.touched and "provider" in change.declined[0].reason
    assert op_types(model)["Add"] == 1


def test_patterns_hold():
    model = model_of(source(LAYER))
    assert not unfuse_norms(model, context(), skip=["*"]).touched
    assert PASSES["unfuse_norms"].promises is Promise.PREPARES
