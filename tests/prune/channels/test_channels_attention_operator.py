"""Attention as one operator, with as many heads of keys as of queries, or fewer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.graphs import PROJECTED, each, joined, turned
from tests.prune.channels.channel_case import Case, ints

GROUPED = Case(
    f"""agraph (float[2,5,6] x) => (float[2,5,5] y) {{
        {PROJECTED}  q4 = Reshape(q, split)  {each("kv", "@4 = Reshape(@, few)")}  {turned("0,2,1,3")}
        o = Attention(qt, kt, vt, mask)  {joined()} }}""",
    {"wq": (6, 24), "wk": (6, 12), "wv": (6, 12), "wo": (24, 5), "split": ints(2, 5, 6, 4), "few": ints(2, 5, 3, 4),
     "join": ints(2, 5, 24), "mask": np.triu(np.full((5, 5), -1e4, np.float32), 1)},
    {"x": (2, 5, 6)},
    [("MatMul_q", 4), ("MatMul_v", 4)],
    opset=23,
)  # fmt: skip
HEADS = replace(GROUPED, heads=True, groups=[("MatMul_q", 3)])
LONE = {"wk": (6, 4), "wv": (6, 4), "few": ints(2, 5, 1, 4)}
BIAS = np.random.default_rng(3).standard_normal((1, 6, 5, 5)).astype(np.float32)
CASES = {
    "size of heads": GROUPED,
    "heads that share keys": HEADS,
    "one head of keys": replace(HEADS, weights=HEADS.weights | LONE, groups=[("MatMul_q", 6)]),
    "a bias of each head": replace(HEADS, weights=HEADS.weights | {"mask": BIAS}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_attention_is_followed(case: Case) -> None:
    case.check()


def test_what_it_remembers_keeps_its_channels() -> None:
    text = GROUPED.text.replace("o = Attention", "o, pk, pv = Attention").replace(
        "(float[2,5,5] y)", "(float[2,5,5] y, float[2,3,5,4] pk)"
    )
    grouping = replace(GROUPED, text=text).grouping()
    assert "it keeps keys and values of earlier steps" in grouping.protected["MatMul_k"]
    assert not [group for group in grouping.groups if len(group) > 1]
