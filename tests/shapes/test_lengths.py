"""Shape inference carries integers only where there are few; sizes that follow from them are still found."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.shapes.lengths import is_short
from tests.helpers import model_of
from tests.prune.channels.channel_case import ints

GRAPH = "agraph (float[6,8] x) => (float[M,K] y) {{ {lines} }}"
SQUARES = "\n".join(["s0 = Mul(k, k)", *(f"s{i + 1} = Mul(s{i}, s{i})" for i in range(5))])
DOUBLES = "\n".join(f"s{i + 1} = Concat<axis=0>(s{i}, s{i})" for i in range(30))


@pytest.mark.parametrize(
    ("lines", "weights", "expected"),
    [
        (
            "s = Shape(x)  n = Gather(s, i)  u = Unsqueeze(n, j)  t = Concat<axis=0>(u, k)  y = Reshape(x, t)",
            {"i": np.array(0), "j": ints(0), "k": ints(2, 4)},
            True,
        ),
        (
            "v = Range(a, b, c)  f = Cast<to=1>(v)  y = Mul(x, f)",
            {"a": np.array(0), "b": np.array(2**24), "c": np.array(1)},
            False,
        ),
        (f"s0 = Shape(x)\n{DOUBLES}\ny = Reshape(x, s30)", {}, False),
        (f"{SQUARES} v = ConstantOfShape(s3)  w = Identity(v)  y = Add(x, w)", {"k": ints(3)}, False),
        ("v = Reshape(e, k)  w = Identity(v)  y = Add(x, w)", {"e": np.zeros((0, 2**40)), "k": ints(-1)}, True),
    ],
    ids=["as exporters write", "range", "doubled", "computed", "nothing"],
)
def test_what_inference_would_write_out_is_foreseen(lines, weights, expected) -> None:
    assert is_short(model_of(GRAPH.format(lines=lines), **weights).nodes()) is expected


def test_a_target_that_is_an_attribute_is_no_input() -> None:
    text = """<ir_version: 4, opset_import: ["" : 10]>
    agraph (float[6,8] x) => (float[8,8] y) { y = Pad<pads=[1,0,1,0]>(x) }"""
    assert is_short(model_of(text).nodes())


def test_sizes_behind_computed_targets_are_found() -> None:
    model = model_of(GRAPH.format(lines="s = Shape(x)  t = Mul(s, f)  y = Expand(x, t)"), f=ints(1, 1))
    model.graph.outputs[0].shape = None
    model.infer_shapes()
    assert model.graph.outputs[0].shape == (6, 8)
