"""Heads that stand in one dimension with a batch of unknown size, and lengths that only a later weight tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.prune.channels import cut, find_groups, prepare
from tests.graphs import PROJECTED, SPLIT, attended, each, joined, turned
from tests.prune.channels.channel_case import PROJECTIONS, TOKENS, Case, ints

KEYS = Case(
    f"""agraph (float[N,5,6] x) => (float[N,5,5] y) {{
        {PROJECTED} {SPLIT} {turned("0,2,1,3")}  shape = Shape<end=2>(kt)
        turned_shape = Concat<axis=0>(shape, turned)  k3 = Reshape(kt, folded)  k3t = Transpose<perm=[0,2,1]>(k3)
        keys = Reshape(k3t, turned_shape)  {attended("keys")} {joined()} }}""",
    {
        **PROJECTIONS,
        "split": ints(-1, 5, 3, 4),
        "folded": ints(-1, 5, 4),
        "turned": ints(4, 5),
        "join": ints(-1, 5, 12),
    },
    TOKENS,
    [("MatMul_q", 4), ("MatMul_v", 4)],
)
BATCH_SECOND = Case(
    f"""agraph (float[S,N,6] x) => (float[S,N,5] y) {{
        s = Shape(x)  length = Slice(s, zero, one)  batch = Slice(s, one, two)  rows = Mul(batch, heads)
        split = Concat<axis=0>(length, rows, size)  join = Concat<axis=0>(length, batch, width)
        {PROJECTED} {each("qkv", "@3 = Reshape(@, split)")} {turned("1,2,0", "1,0,2", 3)}
        {attended()} {joined("1,0,2")} }}""",
    {
        **PROJECTIONS,
        "zero": ints(0),
        "one": ints(1),
        "two": ints(2),
        "heads": ints(3),
        "size": ints(4),
        "width": ints(12),
    },
    {"x": (5, 2, 6)},
    [("MatMul_q", 4), ("MatMul_v", 4)],
)
PACKED_KEYS_AND_VALUES = Case(
    f"""agraph (float[S,N,6] x, float[T,N,6] m) => (float[S,N,5] y) {{
        q = MatMul(x, wq)  kv = MatMul(m, wkv)  kv4 = Reshape(kv, two)  kvt = Transpose<perm=[2,0,1,3]>(kv4)
        k = Gather<axis=0>(kvt, first)  v = Gather<axis=0>(kvt, second)  q4 = Reshape(q, split)
        k4 = Reshape(k, split)  v4 = Reshape(v, split)  qt = Transpose<perm=[1,2,0,3]>(q4)
        kt = Transpose<perm=[1,2,3,0]>(k4)  vt = Transpose<perm=[1,2,0,3]>(v4)  {attended()} {joined("2,0,1,3")} }}""",
    {"wq": (6, 12), "wkv": (6, 24), "wo": (12, 5), "two": ints(0, 0, 2, 12), "split": ints(0, 0, 3, 4),
     "join": ints(0, 0, 12), "first": np.array(0), "second": np.array(1)},
    {"x": (5, 2, 6), "m": (4, 2, 6)},
    [("MatMul_q", 3)],
    heads=True,
)  # fmt: skip
MINUS_ONE = Case(
    """agraph (float[N,6] x, int64[2] sizes) => (float[a,b,5] y) {
        h = MatMul(x, w)  target = Concat<axis=0>(sizes, minus)  r = Reshape(h, target)
        t = Transpose<perm=[2,0,1]>(r)  back = Transpose<perm=[1,2,0]>(t)  y = MatMul(back, v) }""",
    {"w": (6, 12), "v": (12, 5), "minus": ints(-1)},
    {"x": (6, 6), "sizes": ints(2, 3)},
    [("MatMul_h", 12)],
)
CASES = {
    "keys folded with the batch, head size": KEYS,
    "keys folded with the batch, heads": replace(KEYS, groups=[("MatMul_q", 3)], heads=True),
    "batch times heads is computed, head size": BATCH_SECOND,
    "batch times heads is computed, heads": replace(BATCH_SECOND, groups=[("MatMul_q", 3)], heads=True),
    "heads of packed keys and values": PACKED_KEYS_AND_VALUES,
    "a later weight tells the last size": MINUS_ONE,
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_cut_model_computes_what_the_original_computes_with_these_zeroed(case):
    case.check()


def test_a_name_for_the_old_product_is_forgotten():
    model = BATCH_SECOND.model()
    prepare(model)
    grouping = find_groups(model, heads=True)
    for node in model.nodes():
        if node.name in ("Reshape_q3", "Reshape_k3"):
            node.outputs[0].shape = ir.Shape([None, "3*N", 4])
    cut(grouping, grouping.groups[0].units[:1])
    assert not [v.name for n in model.nodes() for v in n.outputs if v.shape is not None and "3*N" in str(v.shape)]


FOLDED = """agraph (float[N,5,6] x) => (float y) {{
    q = MatMul(x, wq)  q4 = Reshape(q, split)  qt = Transpose<perm=[0,2,1,3]>(q4)  q3 = Reshape(qt, folded)  {then}
}}"""


@pytest.mark.parametrize(
    "then",
    [
        "y = Relu(q3)",
        "c = Slice(q3, start, end, axis)\n y = ReduceSum(c)",
        "c = Pad(q3, pads)\n y = ReduceSum(c)",
        "s = Shape(q3)\n f = Cast<to=1>(s)\n y = ReduceSum(f)",
        "t = Transpose<perm=[1,2,0]>(q3)\n r = Reshape(t, odd)\n y = ReduceSum(r)",
    ],
)
def test_folded_heads_stay_where_something_else_happens_to_them(then):
    case = Case(
        FOLDED.format(then=then),
        {
            "wq": (6, 12), "split": ints(-1, 5, 3, 4), "folded": ints(-1, 5, 4), "start": ints(0), "end": ints(2),
            "axis": ints(0), "pads": ints(1, 0, 0, 0, 0, 0), "odd": ints(10, -1),
        },
        TOKENS,
        [],
        heads=True,
    )  # fmt: skip
    assert 3 not in [len(group) for group in case.grouping().groups]
