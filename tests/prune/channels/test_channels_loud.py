"""Sums over channels: those that are zero when their weights are do not change them, others are told as mixing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.prune.channels.channel_case import Case, ints

SUM = """agraph (float[N,6] x) => (float[N,1] y) {{
    h = MatMul(x, w)
    a = {expression}
    y = ReduceSum(a, axes)
}}"""
WEIGHTS = {"w": (6, 8), "own": (8,), "one": np.float32(1), "axes": ints(1)}
ZERO = ["Relu(h)", "Mul(h, h)", "Add(h, own)", "Mul(h, one)", "Div(h, one)", "Tanh(h)"]
OTHER = ["Exp(h)", "Sigmoid(h)", "Add(h, one)", "Max(one, h)", "Softplus(h)"]


def of(expression: str) -> Case:
    return Case(SUM.format(expression=expression), WEIGHTS, {"x": (3, 6)}, [("MatMul_h", 8)])


@pytest.mark.parametrize("expression", ZERO)
def test_a_sum_over_zeros_stays(expression):
    case = of(expression)
    case.check()
    assert not case.grouping().groups[0].mixing


@pytest.mark.parametrize("expression", OTHER)
def test_any_other_sum_is_told(expression):
    assert of(expression).grouping().groups[0].mixing == ["ReduceSum ReduceSum_y: it reduces over these"]


def test_a_gate_makes_it_zero_again():
    text = """agraph (float[N,6] x) => (float[N,1] y) {
        h = MatMul(x, w)  g = Sigmoid(h)  a = Mul(h, g)  y = ReduceSum(a, axes) }"""
    case = Case(text, WEIGHTS, {"x": (3, 6)}, [("MatMul_h", 8)])
    case.check()
    assert not case.grouping().groups[0].mixing


def test_a_product_of_two_sees_them_together():
    text = """agraph (float[N,3,6] x) => (float[N,3,3] y) {
        h = MatMul(x, w)  e = Exp(h)  t = Transpose<perm=[0,2,1]>(e)  y = MatMul(e, t) }"""
    (group,) = Case(text, WEIGHTS, {"x": (2, 3, 6)}, []).grouping().groups
    assert group.mixing == ["MatMul MatMul_y: it sums over these"]


def test_weights_of_an_operator_without_a_rule_are_told():
    text = """agraph (float[N,6] x) => (float[N,3] y) {
        q, scale, zero = DynamicQuantizeLinear(x)  a = MatMulInteger(q, w, zero)  c = Cast<to=1>(a)  y = MatMul(c, v)
    }"""
    weights = {"w": np.arange(48, dtype=np.int8).reshape(6, 8), "v": (8, 3)}
    grouping = Case(text, weights, {"x": (2, 6)}, []).grouping()
    assert not grouping.groups
    assert grouping.protected["MatMulInteger_a"] == "MatMulInteger MatMulInteger_a: there is no rule for this operator"
