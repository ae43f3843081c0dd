"""What must stay stays, and the reason is told."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.model import load
from compress_ops.prune.channels import find_groups, merge_copies, prepare
from tests.helpers import model_of, noise, outputs, proto_of
from tests.prune.channels.channel_case import BRANCHES, DENSE, INNER, LOOP, Case, arrays, ints
from tests.prune.channels.channel_proof import prove

ROWS = {"x": (4, 6)}


def dense(middle: str) -> str:
    return f"agraph (float[N,6] x) => (float[N,3] y) {{\n h = Gemm(x, w1)\n {middle}\n y = Gemm(m, w2)\n}}"


CASES = {
    "softmax over the channels": Case(
        dense("m = Softmax<axis=1>(h)"), DENSE, ROWS, [], protected={"Gemm_h": "depends on all of it"}
    ),
    "an operator without a rule": Case(
        dense("m = Inverse<domain='com.microsoft'>(h)").replace("<domain='com.microsoft'>", "")
        .replace("Inverse", "com.microsoft.Inverse"),
        DENSE, {"x": (8, 6)}, [], protected={"Gemm_h": "there is no rule for this operator"},
    ),
    "channels picked by index": Case(
        dense("m = Gather<axis=1>(h, order)"), {**DENSE, "order": np.arange(8)[::-1].copy()}, ROWS, [],
        protected={"Gemm_h": "it picks these by index"},
    ),
    "every other channel": Case(
        dense("m = Slice(h, zero, end, one, two)"),
        {"w1": (6, 8), "w2": (4, 3), "zero": ints(0), "end": ints(8), "one": ints(1), "two": ints(2)}, ROWS, [],
        protected={"Gemm_h": "every n-th"},
    ),
    "a running sum along the channels": Case(
        dense("m = CumSum(h, axis)"), {**DENSE, "axis": np.array(1)}, ROWS, [], protected={"Gemm_h": "CumSum"}
    ),
    "channels that meet an input": Case(
        """agraph (float[N,6] x, float[N,8] z) => (float[N,3] y) {
            h = Gemm(x, w1)  m = Add(h, z)  y = Gemm(m, w2) }""",
        DENSE, {"x": (4, 6), "z": (4, 8)}, [], protected={"Gemm_h": "no weight's channels"},
    ),
    "a count of channels that is an output": Case(
        """agraph (float[N,6] x) => (float[N,3] y, int64[2] s) {
            h = Gemm(x, w1)  m = Relu(h)  s = Shape(m)  y = Gemm(m, w2) }""",
        DENSE, ROWS, [], protected={"Gemm_h": "they are the output 's'"},
    ),
    "a count of channels that sizes something else": Case(
        """agraph (float[N,6] x, float[M] z) => (float[N,3] y, float[8,K] t) {
            h = Gemm(x, w1)  s = Shape(h)  w = Slice(s, one, two)  a = Concat<axis=0>(w, minus)  t = Reshape(z, a)
            y = Gemm(h, w2) }""",
        {**DENSE, "one": ints(1), "two": ints(2), "minus": ints(-1)}, {"x": (4, 6), "z": (16,)}, [("Gemm_h", 8)],
    ),
    "a count of channels that is computed with": Case(
        dense("s = Size(h)\n f = Cast<to=1>(s)\n m = Mul(h, f)"), DENSE, ROWS, [],
        protected={"Gemm_h": "there is no rule"},
    ),
    "channels that straddle the groups of a convolution": Case(
        """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
            a = Conv(x, w1)  c = Concat<axis=1>(a, x)  g = Conv<group=3>(c, w2)  y = Conv(g, w3) }""",
        {"w1": (3, 3, 1, 1), "w2": (6, 2, 1, 1), "w3": (2, 6, 1, 1)},
        {"x": (2, 3, 4, 4)}, [("Conv_g", 2)], protected={"Conv_a": "they spread unevenly over its groups"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CASES if "without a rule" not in name])
def test_protected(name: str) -> None:
    CASES[name].check()


def test_an_operator_without_a_rule_protects_what_it_reads() -> None:
    case = CASES["an operator without a rule"]
    assert case.protected["Gemm_h"] in case.grouping().protected["Gemm_h"]


@pytest.mark.parametrize("chosen", [True, False])
def test_branches_that_agree_are_cut_together(chosen: bool) -> None:
    error, grouping = prove(model_of(BRANCHES, **arrays(INNER)), {"x": noise(4, 6), "c": np.array(chosen)})
    assert error < 2e-6
    assert {group.name: len(group) for group in grouping.groups} == {"Gemm_h": 8, "Gemm_t": 5}


def test_what_a_loop_carries_stays_and_what_is_inside_goes() -> None:
    weights = {**arrays(INNER), "four": np.array(4), "go": np.array(True)}
    error, grouping = prove(model_of(LOOP, **weights), {"x": noise(4, 6)})
    assert error < 2e-6
    assert {group.name: len(group) for group in grouping.groups} == {"Gemm_a": 5}
    assert "carried around a loop" in grouping.protected["Gemm_h"]


def test_weights_that_are_listed_as_inputs_are_weights(tmp_path) -> None:
    proto = proto_of(dense("m = Relu(h)"), **arrays(DENSE))
    proto.ir_version = 3
    for weight in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(weight.name, 1, weight.dims))
    onnx.save(proto, tmp_path / "old.onnx")
    error, grouping = prove(load(tmp_path / "old.onnx"), {"x": noise(4, 6)})
    assert error < 2e-6
    assert [len(group) for group in grouping.groups] == [8]


def test_generated_weights_are_stored_and_cut() -> None:
    text = dense("s = ConstantOfShape<value=float[1] {0.5}>(eight)\n t = Mul(h, s)\n m = Relu(t)")
    error, grouping = prove(model_of(text, eight=ints(8), **arrays(DENSE)), {"x": noise(4, 6)})
    assert error < 2e-6
    assert [len(group) for group in grouping.groups] == [8]


def test_copies_of_shared_vectors_are_merged_again() -> None:
    text = dense("r = Mul(h, s)\n m = Add(r, s)")
    model = model_of(text, s=noise(8), **arrays(DENSE))
    before = outputs(model, x=noise(4, 6))
    copies = prepare(model)
    assert sum(1 for _ in model.weights()) == 4
    merge_copies(model, copies)
    assert sum(1 for _ in model.weights()) == 3
    assert np.array_equal(outputs(model, x=noise(4, 6)), before)


def test_one_reason_for_each_node() -> None:
    grouping = find_groups(model_of(dense("m = Relu(h)"), **arrays(DENSE)))
    assert grouping.protected == {"Gemm_y": "they are the output 'y'"}
