"""Bounds hold for what onnxruntime computes, at the corners and between; what may not be finite has none."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.graph.bounds import Interval, Intervals
from tests.helpers import model_of, outputs, proto_of

LOWEST = float(np.finfo(np.float32).min)
CONSTANTS = "<float[1] two = {2.0}, float[1] one = {1.0}, float[1] neg = {-3.0}, float[2] pair = {-1.0, 4.0}>"


def bounds(body, ports="bool[2] b, int64[2] i, uint8[2] u, float[2,2] x", out="float[?] y", **weights):
    model = model_of(proto_of(f"g ({ports}) => ({out}) {CONSTANTS} {{ {body} }}", **weights))
    model.infer_shapes()
    return Intervals().of(model.graph.outputs[0])


KNOWN = {
    "y = Identity(pair)": (-1, 4),
    "y = Cast<to=1>(b)": (0, 1),
    "y = Cast<to=1>(u)": (0, 255),
    "f = Cast<to=1>(b)  y = Sub(one, f)": (0, 1),
    "f = Cast<to=1>(b)  y = Add(pair, f)": (-1, 5),
    "f = Cast<to=1>(u)  y = Mul(f, neg)": (-765, 0),
    "f = Cast<to=1>(b)  n = Neg(f)  y = Mul(n, neg)": (0, 3),
    "y = Where(b, two, pair)": (-1, 4),
    "y = Div(pair, neg)": (-4 / 3, 1 / 3),
    "s = Shape(x)  y = Expand(two, s)": (2, 2),
    "y = Concat<axis=0>(pair, neg)": (-3, 4),
    "y = Gather(pair, i)": (-1, 4),
}


@pytest.mark.parametrize(("body", "expected"), KNOWN.items(), ids=KNOWN)
def test_bounds_are_reached_and_hold(body, expected):
    expected = tuple(float(np.float32(bound)) for bound in expected)
    assert bounds(body) == Interval(*expected)
    rng, text = (
        np.random.default_rng(0),
        f"g (bool[2] b, int64[2] i, uint8[2] u, float[2,2] x) => (float[?] y) {CONSTANTS}",
    )
    source, seen = proto_of(f"{text} {{ {body} }}"), []
    for codes in ([0, 255], [255, 0], *rng.integers(0, 256, (8, 2))):
        b, u = rng.random(2) < 0.5, np.array(codes, np.uint8)
        for flags in (b, ~b, [True, True], [False, False]):
            feeds = {"b": np.array(flags), "i": np.array([0, 1]), "u": u, "x": np.zeros((2, 2), np.float32)}
            seen.append(outputs(source, **feeds)[0])
    assert (min(map(np.min, seen)), max(map(np.max, seen))) == expected


@pytest.mark.parametrize(
    "body",
    [
        "y = ReduceMax<keepdims=0, axes=[0]>(x)",
        "f = Cast<to=1>(i)  y = Mul(f, low)",
        "y = Add(low, low)",
        "y = Identity(inf)",
        "y = Where(b, inf, two)",
        "y = Sqrt(two)",
        "f = Cast<to=1>(b)  y = Div(one, f)",
        "f = Cast<to=1>(b)  n = Sub(f, one)  y = Div(pair, n)",
    ],
)
def test_what_may_leave_the_type_or_is_not_known_has_none(body):
    weights = {"low": np.array([LOWEST], np.float32), "inf": np.array([-np.inf, 1], np.float32)}
    assert bounds(body, **weights) is None


def test_products_are_assumed_to_leave_room_under_the_lowest_number():
    assert bounds("m = MatMul(x, x)  y = Add(m, low)", out="float[2,2] y", low=np.array([LOWEST], np.float32))
    ports = {"ports": "float16[2,2] x", "out": "float16[2,2] y"}
    for lowest, known in ((-65504, False), (-10000, True)):
        found = bounds("m = MatMul(x, x)  y = Add(m, low)", low=np.array([lowest], np.float16), **ports)
        assert (found is not None) == known


def test_rounded_to_the_type_of_the_value():
    assert bounds("f = Cast<to=10>(big)  y = Cast<to=1>(f)", big=np.array([70000.0], np.float32)) is None
    assert bounds("f = Cast<to=10>(odd)  y = Cast<to=1>(f)", odd=np.array([2049.0], np.float32)) == Interval(2048, 2048)


def test_a_long_chain_is_looked_through_in_time_that_does_not_double_with_each_node():
    nodes = "".join(f" a{i + 1} = Add(a{i}, a{i})" for i in range(40))
    assert bounds(f"a0 = Identity(one) {nodes} y = Neg(a40)") == Interval(-(2.0**40), -(2.0**40))
