"""Operators that pick or place by index, that take every n-th, and that move along positions."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.prune.channels import cut, find_groups, prepare
from tests.helpers import model_of, noise
from tests.prune.channels.channel_case import Case, ints

ROWS = {"x": (4, 6)}
GRAPH = {"wm": (8, 8), "w1": (6, 8), "w2": (8, 3)}
CASES = {
    "messages along the edges of a graph": Case(
        """agraph (float[N,6] x, int64[E] to) => (float[N,3] y) {
            h = MatMul(x, w1)  m = MatMul(h, wm)  size = Shape(m)  to2 = Unsqueeze(to, one)
            index = Expand(to2, size)  s = ScatterElements<axis=0, reduction="add">(h, index, m)  r = Relu(s)
            y = MatMul(r, w2) }""",
        {**GRAPH, "one": ints(1)},
        {**ROWS, "to": ints(0, 2, 2, 1)},
        [("MatMul_h", 8)],
    ),
    "each channel from a row of its own choice": Case(
        """agraph (float[N,6] x, int64[E] rows) => (float[E,3] y) {
            h = MatMul(x, w1)  n = Shape(rows)  width = Shape<start=1>(h)  size = Concat<axis=0>(n, width)
            rows2 = Unsqueeze(rows, one)  index = Expand(rows2, size)  g = GatherElements<axis=0>(h, index)
            y = MatMul(g, w2) }""",
        {**GRAPH, "one": ints(1)},
        {**ROWS, "rows": ints(3, 0)},
        [("MatMul_h", 8)],
    ),
    "one row a sample": Case(
        """agraph (float[N,S,6] x, int64[N,2] place) => (float[N,3] y) {
            h = MatMul(x, w1)  g = GatherND(h, place)  y = MatMul(g, w2) }""",
        GRAPH,
        {"x": (2, 4, 6), "place": np.array([[0, 1], [1, 3]])},
        [("MatMul_h", 8)],
    ),
    "one row a sample, by batch": Case(
        """agraph (float[N,S,6] x, int64[N,1] place) => (float[N,3] y) {
            h = MatMul(x, w1)  g = GatherND<batch_dims=1>(h, place)  y = MatMul(g, w2) }""",
        GRAPH,
        {"x": (2, 4, 6), "place": np.array([[1], [3]])},
        [("MatMul_h", 8)],
    ),
    "rows written over": Case(
        """agraph (float[N,6] x, int64[E,1] place) => (float[N,3] y) {
            h = MatMul(x, w1)  u = MatMul(h, wm)  part = Gather<axis=0>(u, first)  s = ScatterND(h, place, part)
            y = MatMul(s, w2) }""",
        {**GRAPH, "first": ints(0, 1)},
        {**ROWS, "place": np.array([[3], [0]])},
        [("MatMul_h", 8)],
    ),
    "regions of interest": Case(
        """agraph (float[1,3,8,8] x, float[R,4] boxes, int64[R] of) => (float[R,4,2,2] y) {
            h = Conv(x, w1)  r = RoiAlign<output_height=2, output_width=2>(h, boxes, of)  y = Conv(r, w2) }""",
        {"w1": (8, 3, 1, 1), "w2": (4, 8, 1, 1)},
        {"x": (1, 3, 8, 8), "boxes": np.array([[0, 0, 4, 4], [2, 2, 6, 7]], np.float32), "of": ints(0, 0)},
        [("Conv_h", 8)],
    ),
    "even and odd channels are turned about one another": Case(
        """agraph (float[N,6] x) => (float[N,3] y) {
            h = MatMul(x, w1)  even = Slice(h, zero, end, axis, two)  odd = Slice(h, one, end, axis, two)
            minus = Neg(odd)  a = Unsqueeze(minus, axis2)  b = Unsqueeze(even, axis2)  pairs = Concat<axis=2>(a, b)
            turned = Reshape(pairs, flat)  s = Add(h, turned)  y = MatMul(s, w2) }""",
        {**GRAPH, "zero": ints(0), "one": ints(1), "two": ints(2), "axis": ints(1), "axis2": ints(2),
         "end": ints(2**63 - 1), "flat": ints(0, 8)},
        ROWS,
        [("MatMul_h", 4)],
    ),
    "a kernel of one position leaves the positions": Case(
        """agraph (float[N,3,6] x) => (float[N,4,5] y) {
            h = MatMul(x, w1)  c = Conv(h, w)  r = Relu(c)  y = MatMul(r, w2) }""",
        {"w1": (6, 8), "w": (4, 3, 1), "w2": (8, 5)},
        {"x": (2, 3, 6)},
        [("MatMul_h", 8)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_cut_model_computes_what_the_original_computes_with_these_zeroed(case):
    case.check()


PROTECTED = {
    "Conv<pads=[1,1]>(h, wide)": "its kernel moves along these",
    "Conv<strides=[2]>(h, narrow)": "its kernel moves along these",
    "ConvTranspose(h, wide)": "its kernel moves along these",
    "GatherElements<axis=2>(h, index)": "it picks these by index",
    "ScatterElements<axis=2>(h, index, h)": "it picks these by index",
    "GatherND(h, triples)": "it picks these by index",
    "Slice(h, zero, three, last, two)": "it takes every n-th of a part of these",
    "Slice(h, minus, start, last, minus)": "it turns them round",
    "Trilu(h)": "what it keeps depends on where these stand",
    "ReverseSequence<time_axis=2, batch_axis=0>(h, lengths)": "it turns these round",
}


@pytest.mark.parametrize(("expression", "reason"), PROTECTED.items())
def test_what_depends_on_where_a_channel_stands_keeps_it(expression, reason):
    case = Case(
        f"""agraph (float[2,3,6] x) => (float y) {{
            h = MatMul(x, w1)
            c = {expression}
            y = ReduceSum(c)
        }}""",
        {"w1": (6, 8), "wide": (3, 3, 3), "narrow": (3, 3, 1), "index": np.zeros((2, 3, 8), np.int64),
         "triples": np.zeros((4, 3), np.int64), "zero": ints(0), "two": ints(2), "three": ints(3), "minus": ints(-1),
         "start": ints(-(2**62)), "last": ints(2), "lengths": ints(3, 8)},
        {"x": (2, 3, 6)},
        [],
    )  # fmt: skip
    grouping = case.grouping()
    assert "MatMul_h" not in [group.name for group in grouping.groups]
    assert reason in grouping.protected["MatMul_h"]


def test_time_steps_of_a_recurrent_layer_stay():
    case = Case(
        """agraph (float[1,2,6] x) => (float y) {
            wide = MatMul(steps, x)  y1, h1 = LSTM<hidden_size=4>(wide, w, r)  y = ReduceSum(h1) }""",
        {"steps": (1, 8, 2), "w": (1, 16, 6), "r": (1, 16, 4)},
        {"x": (1, 2, 6)},
        [],
    )
    assert not [group for group in case.grouping().groups if len(group) == 8]


def test_a_part_of_a_shape_keeps_its_length_on_record():
    model = model_of(
        """<ir_version: 8, opset_import: ["": 17]>
        agraph (float[1,3,H,W] x) => (float[1,2,H,W] y) {
            a = Conv(x, w1)
            s = Shape<start=2>(x)
            target = Concat<axis=0>(front, s)
            up = Resize(a, none, none, target)
            y = Conv(up, w2)
        }""",
        w1=noise(8, 3, 1, 1), w2=noise(2, 8, 1, 1), front=ints(1, 8), none=np.zeros(0, np.float32),
    )  # fmt: skip
    prepare(model)
    grouping = find_groups(model)
    cut(grouping, grouping.groups[0].units[:0])
    found = {v.name: v.shape for n in model.nodes() for v in n.outputs}
    assert list(found["s"]) == [2] and list(found["target"]) == [4]
