"""Attention as exporters write it: the size of heads, and whole heads, are units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.graphs import PROJECTED, SPLIT, attended, each, joined, turned
from tests.prune.channels.channel_case import PROJECTIONS, SEPARATE, TOKENS, Case, ints

COMPUTED = replace(
    SEPARATE,
    text=f"""agraph (float[N,S,6] x) => (float[N,S,5] y) {{
        s = Shape(x)  n = Slice(s, zero, one)  l = Slice(s, one, two)  split = Concat<axis=0>(n, l, heads, size)
        join = Concat<axis=0>(n, l, minus)  {PROJECTED} {SPLIT} {turned()}  qs = Shape(qt)  depth = Gather(qs, last)
        depthf = Cast<to=1>(depth)  root = Sqrt(depthf)  {attended(scale="root")} {joined()} }}""",
    weights={
        **PROJECTIONS, "zero": ints(0), "one": ints(1), "two": ints(2), "heads": ints(3), "size": ints(4),
        "minus": ints(-1), "last": np.array(-1),
    },
)  # fmt: skip
PACKED = Case(
    f"""agraph (float[N,S,6] x) => (float[N,S,5] y) {{
        h = MatMul(x, w)  h5 = Reshape(h, split)  ht = Transpose<perm=[2,0,3,1,4]>(h5)  q = Gather<axis=0>(ht, zero)
        k = Gather<axis=0>(ht, one)  v = Gather<axis=0>(ht, two)  kt = Transpose<perm=[0,1,3,2]>(k)
        {attended("kt", "v", query="q")} {joined()} }}""",
    {"w": (6, 36), "wo": (12, 5), "split": ints(0, 0, 3, 3, 4), "join": ints(0, 0, 12),
     "zero": np.array(0), "one": np.array(1), "two": np.array(2)},
    TOKENS,
    [("MatMul_h", 4)],
)  # fmt: skip
GROUPED = Case(
    f"""agraph (float[2,5,6] x) => (float[2,5,5] y) {{
        {PROJECTED}  q4 = Reshape(q, split)  {each("kv", "@4 = Reshape(@, few)")}  {turned("0,2,1,3")}
        ku = Unsqueeze(kt, axis)  vu = Unsqueeze(vt, axis)  ke = Expand(ku, repeated)  ve = Expand(vu, repeated)
        kr = Reshape(ke, many)  vr = Reshape(ve, many)  kf = Transpose<perm=[0,1,3,2]>(kr)
        {attended("kf", "vr")} {joined()} }}""",
    {"wq": (6, 24), "wk": (6, 12), "wv": (6, 12), "wo": (24, 5), "split": ints(2, 5, 6, 4), "few": ints(2, 5, 3, 4),
     "axis": ints(2), "repeated": ints(2, 3, 2, 5, 4), "many": ints(2, 6, 5, 4), "join": ints(2, 5, 24)},
    TOKENS,
    [("MatMul_q", 4), ("MatMul_v", 4)],
)  # fmt: skip
BATCHED = Case(
    f"""agraph (float[S,N,6] x) => (float[S,N,5] y) {{
        s = Shape(x)  n = Gather(s, one)  l = Gather(s, zero)  heads = Mul(n, three)  nu = Unsqueeze(n, axis)
        lu = Unsqueeze(l, axis)  hu = Unsqueeze(heads, axis)  split = Concat<axis=0>(lu, hu, size)
        join = Concat<axis=0>(lu, nu, width)
        {PROJECTED} {each("qkv", "@3 = Reshape(@, split)")} {turned("1,2,0", "1,0,2", 3)}
        {attended()} {joined("1,0,2")} }}""",
    {**PROJECTIONS, "zero": np.array(0), "one": np.array(1), "three": np.array(3), "axis": ints(0), "size": ints(4),
     "width": ints(12)},
    {"x": (5, 2, 6)},
    [("MatMul_q", 4), ("MatMul_v", 4)],
)  # fmt: skip
EINSUM = Case(
    """agraph (float[N,S,6] x) => (float[N,S,5] y) {
        q = Einsum<equation="nsi,ihd->nshd">(x, wq)
        k = Einsum<equation="nsi,ihd->nshd">(x, wk)
        v = Einsum<equation="nsi,ihd->nshd">(x, wv)
        scores = Einsum<equation="nqhd,nkhd->nhqk">(q, k)
        p = Softmax<axis=-1>(scores)
        o = Einsum<equation="nhqk,nkhd->nqhd">(p, v)
        y = Einsum<equation="nshd,hdo->nso">(o, wo)
    }""",
    {"wq": (6, 3, 4), "wk": (6, 3, 4), "wv": (6, 3, 4), "wo": (3, 4, 5)},
    TOKENS,
    [("Einsum_q", 3), ("Einsum_q", 4), ("Einsum_v", 4)],
)
ROTARY = Case(
    """agraph (float[N,S,6] x) => (float[N,S,S] y) {
        q = MatMul(x, wq)  k = MatMul(x, wk)  q4 = Reshape(q, split)  k4 = Reshape(k, split)
        a = Slice(q4, zero, two, last)  b = Slice(q4, two, end, last)  nb = Neg(b)  turned = Concat<axis=-1>(nb, a)
        qc = Mul(q4, cosine)  qs = Mul(turned, sine)  qr = Add(qc, qs)  qt = Transpose<perm=[0,2,1,3]>(qr)
        kt = Transpose<perm=[0,2,3,1]>(k4)  scores = MatMul(qt, kt)  y = ReduceMean<axes=[1], keepdims=0>(scores) }""",
    {"wq": (6, 12), "wk": (6, 12), "split": ints(0, 0, 3, 4), "zero": ints(0), "two": ints(2), "last": ints(3),
     "end": ints(2**63 - 1), "cosine": (5, 1, 4), "sine": (5, 1, 4)},
    TOKENS,
    [("MatMul_q", 2)],
)  # fmt: skip

CASES = {
    "head size, separate projections": SEPARATE,
    "heads, separate projections": replace(SEPARATE, heads=True, groups=[("MatMul_q", 3)]),
    "head size, computed shapes and scale": COMPUTED,
    "heads, computed shapes and scale": replace(COMPUTED, heads=True, groups=[("MatMul_q", 3)]),
    "head size, packed projection": PACKED,
    "heads, packed projection": replace(PACKED, heads=True, groups=[("MatMul_h", 3)]),
    "head size, grouped queries": GROUPED,
    "heads, grouped queries": replace(GROUPED, heads=True, groups=[("MatMul_q", 3)]),
    "head size, heads folded into the batch": BATCHED,
    "heads and their size, einsum": EINSUM,
    "rotary positions": ROTARY,
}


@pytest.mark.parametrize("name", CASES)
def test_attention(name: str) -> None:
    CASES[name].check()


@pytest.mark.parametrize("case", [SEPARATE, PACKED, GROUPED, EINSUM], ids=["separate", "packed", "grouped", "einsum"])
def test_heads_are_seen_as_such(case: Case) -> None:
    grouping = replace(case, heads=True).grouping()
    assert [len(group) for group in grouping.groups if group.heads] == [3]
