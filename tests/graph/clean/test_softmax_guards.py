"""Guards of Softmax go where they cannot matter, and stay where a row can be hidden whole."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.graph.clean.simplify import simplify
from tests.helpers import context, model_of, noise, op_types, outputs, proto, proto_of

WHAT = "remove guards of Softmax"
LOWEST, INFINITE = np.array(np.finfo(np.float32).min), np.array(-np.inf, np.float32)
PORTS = "float[2,3,4] q, float[2,4,3] k, bool[2,1,3] seen, int64[2,1,3] m"
GUARD = "p = Softmax<axis=-1>(s)  n = IsNaN(p)  y = Where(n, zero, p)"
CONSTANTS = "<float zero = {0.0}, float one = {1.0}, float two = {2.0}>"
Q, K = noise(2, 3, 4, seed=1), noise(2, 4, 3, seed=2)
SEEN = np.array([[[True, True, False]], [[False, False, False]]])  # the second sample is hidden whole


def source(mask, guard=GUARD, **weights):
    return proto_of(f"g ({PORTS}) => (float[2,3,3] y) {CONSTANTS} {{ a = MatMul(q, k)  {mask}  {guard} }}", **weights)


def feeds(seen=SEEN):
    return {"q": Q, "k": K, "seen": seen, "m": seen.astype(np.int64)}


FINITE = {
    "lowest number (dynamo exporter)": ("w = Where(seen, zero, low)  s = Add(a, w)", LOWEST),
    "times -10000": ("f = Cast<to=1>(m)  d = Sub(one, f)  w = Mul(d, low)  s = Add(w, a)", np.float32(-10000)),
    "filled where hidden": ("h = Not(seen)  s = Where(h, low, a)", LOWEST),
    "bool, times the lowest": ("f = Cast<to=1>(seen)  d = Sub(one, f)  w = Mul(d, low)  s = Add(a, w)", LOWEST),
    "expanded": ("z = Shape(a)  w = Where(seen, zero, low)  e = Expand(w, z)  s = Add(a, e)", LOWEST),
    "scores divided": ("d = Div(a, two)  w = Where(seen, zero, low)  s = Add(d, w)", LOWEST),
    "no mask": ("s = Mul(a, low)", np.float32(0.5)),
}


@pytest.mark.parametrize(("mask", "low"), FINITE.values(), ids=FINITE)
def test_masks_of_finite_numbers_need_no_guard(mask, low):
    graph = source(mask, low=np.array(low))
    model = model_of(graph)
    assert WHAT in simplify(model, context()).touched
    assert not {"IsNaN"} & op_types(model).keys() and op_types(model)["Where"] == op_types(model_of(graph))["Where"] - 1
    onnx.checker.check_model(proto(model), full_check=True)
    np.testing.assert_array_equal(outputs(model, **feeds())[0], outputs(graph, **feeds())[0])


MATTERS = {  # mask, what hides, and what ones in m are
    "-inf where hidden": ("w = Where(seen, zero, low)  s = Add(a, w)", INFINITE, 1),
    "filled with -inf": ("h = Not(seen)  s = Where(h, low, a)", INFINITE, 1),
    "whole numbers times the lowest": ("f = Cast<to=1>(m)  w = Mul(f, low)  s = Add(a, w)", LOWEST, 3),
    "twice the lowest": ("w = Where(seen, zero, low)  b = Add(w, w)  s = Add(a, b)", LOWEST, 1),
    "the logarithm of the mask": ("f = Cast<to=1>(m)  w = Log(f)  s = Add(a, w)", LOWEST, 1),
}


@pytest.mark.parametrize(("mask", "low", "factor"), MATTERS.values(), ids=MATTERS)
def test_rows_that_can_be_hidden_whole_keep_the_guard(mask, low, factor):
    graph = source(mask, low=np.array(low))
    model, given = model_of(graph), feeds()
    given["m"] = (SEEN | (factor > 1)).astype(np.int64) * factor  # a mask may hold any number
    assert WHAT not in simplify(model, context()).touched and op_types(model)["IsNaN"] == 1
    found = outputs(model, **given)[0]
    np.testing.assert_array_equal(found, outputs(graph, **given)[0])
    bare = outputs(source(mask, "y = Softmax<axis=-1>(s)", low=np.array(low)), **given)[0]
    assert np.isnan(bare).any() and not np.isnan(found).any()  # it does matter


STORED = {
    "causal": (np.triu(np.full((3, 3), -np.inf, np.float32), 1), True),
    "one row hidden whole": (np.array([[0, 0, 0], [-np.inf] * 3, [0, 0, 0]], np.float32), False),
    "a column that is broadcast": (np.array([[0], [-np.inf], [0]], np.float32), False),
    "a scalar": (np.array(-np.inf, np.float32), False),
    "NaN": (np.array([[0, np.nan, 0]], np.float32), False),
    "+inf": (np.array([[0, np.inf, 0]], np.float32), False),
    "no room for the scores": (np.array([[-np.inf, LOWEST, LOWEST]], np.float32), True),
}


@pytest.mark.parametrize("axis", [-1, 2])
@pytest.mark.parametrize(("mask", "goes"), STORED.values(), ids=STORED)
def test_stored_masks_need_a_place_open_in_every_row(mask, goes, axis):
    graph = source("s = Add(a, w)", GUARD.replace("axis=-1", f"axis={axis}"), w=mask)
    model = model_of(graph)
    assert (WHAT in simplify(model, context()).touched) == goes
    np.testing.assert_array_equal(outputs(model, **feeds())[0], outputs(graph, **feeds())[0])


def test_rows_are_those_of_the_axis():
    """Open in every row is not open in every column."""
    mask = np.array([[0, -np.inf, 0]] * 3, np.float32)
    for axis, goes in ((-1, True), (-2, False)):
        model = model_of(source("s = Add(a, w)", GUARD.replace("axis=-1", f"axis={axis}"), w=mask))
        assert (WHAT in simplify(model, context()).touched) == goes


def test_before_opset_13_a_row_is_all_from_the_axis_on():
    """A mask is finite or is not; what is open in a row of one axis says nothing."""
    text = (
        "g (float[2,3,4] q, float[2,4,3] k) => (float[2,3,3] y) <float zero = {0.0}> { a = MatMul(q, k) s = Add(a, w)"
    )
    causal = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    for mask, goes in ((causal, False), (np.maximum(causal, -1e4), True)):
        header = '<ir_version: 8, opset_import: ["": 11]> '
        model = model_of(proto_of(f"{header}{text} {GUARD.replace('axis=-1', 'axis=2')} }}", w=mask))
        assert (WHAT in simplify(model, context()).touched) == goes


@pytest.mark.parametrize(
    "guard",
    [
        "p = Softmax(s)  r = Neg(p)  n = IsNaN(r)  y = Where(n, zero, p)",
        "p = Softmax(s)  n = IsNaN(p)  y = Where(n, p, zero)",
        "p = Sqrt(s)  n = IsNaN(p)  y = Where(n, zero, p)",
        "p = Softmax(s)  n = IsNaN(p)  y = Where(n, a, p)",
    ],
)
def test_what_is_no_such_guard_stays(guard):
    model = model_of(source("w = Where(seen, zero, low)  s = Add(a, w)", guard, low=LOWEST))
    assert WHAT not in simplify(model, context()).touched and op_types(model)["IsNaN"] == 1


def test_half_precision_keeps_the_guard_where_scores_reach_below_the_lowest():
    text = "g (float16[1,4] q, float16[4,3] k, bool[1,3] seen) => (float16[1,3] y) { a = MatMul(q, k)"
    body = f"w = Where(seen, zero, low)  s = Add(a, w)  {GUARD} }}"
    hidden = {"q": np.full((1, 4), -10, np.float16), "k": np.ones((4, 3), np.float16), "seen": np.zeros((1, 3), bool)}
    for low, goes in ((-65504, False), (-10000, True)):
        graph = proto_of(f"{text} {body}", zero=np.array(0, np.float16), low=np.array(low, np.float16))
        model = model_of(graph)
        assert (WHAT in simplify(model, context()).touched) == goes
        np.testing.assert_array_equal(outputs(model, **hidden)[0], outputs(graph, **hidden)[0])


def test_a_guard_that_is_an_output_and_one_in_a_branch():
    text = f"""g ({PORTS}, bool c) => (float[2,3,3] y) {CONSTANTS} {{ a = MatMul(q, k)
        w = Where(seen, zero, low)  s = Add(a, w)
        y = If (c) <then_branch = t () => (float[2,3,3] u) {{ {GUARD.replace("y =", "u =")} }},
                    else_branch = e () => (float[2,3,3] v) {{ v = Neg(a) }}> }}"""
    graph = proto_of(text, low=LOWEST)
    model = model_of(graph)
    assert WHAT in simplify(model, context()).touched and not op_types(model)["IsNaN"]
    for c in (True, False):
        given = {**feeds(), "c": np.array(c)}
        np.testing.assert_array_equal(outputs(model, **given)[0], outputs(graph, **given)[0])


def test_scores_that_are_not_finite_come_out_as_nan():
    """What is assumed, and what becomes of it where it does not hold."""
    graph = source("w = Where(seen, zero, low)  s = Add(a, w)", low=LOWEST)
    model, given = model_of(graph), {**feeds(), "q": np.full_like(Q, np.inf)}
    simplify(model, context())
    assert np.isnan(outputs(model, **given)[0]).any() and not np.isnan(outputs(graph, **given)[0]).any()
