"""What a constant expression would make is known before it is made."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.graph.clean.folding import stays_small
from compress_ops.graph.clean.simplify import simplify
from tests.helpers import context, model_of, noise, op_types, outputs
from tests.prune.channels.channel_case import ints

LIMIT = 64


@pytest.mark.parametrize(
    ("expression", "small"),
    [
        ("Neg(a)", True),
        ("Mul(a, a)", True),
        ("Mul(a, column)", False),
        ("Gather(a, many)", False),
        ("Concat<axis=0>(a, a)", True),
        ("Concat<axis=0>(a, a, a, a, a, a, a, a, a)", False),
        ("Expand(a, shape)", False),
    ],
)
@pytest.mark.parametrize("inferred", [True, False])
def test_growth_is_foreseen(expression: str, small: bool, inferred: bool) -> None:
    weights = {"a": noise(8), "column": noise(9, 1), "many": np.zeros((10, 10), np.int64), "shape": ints(9, 8)}
    model = model_of(f"agraph (float[N] x) => (float[M] y) {{ t = {expression}  y = Add(x, t) }}", **weights)
    if inferred:
        model.infer_shapes()
    assert stays_small(model.graph[0], LIMIT) is small


def test_what_is_not_known_is_not_small() -> None:
    model = model_of("agraph (float[N] x) => (float[M] y) { t = Tile(a, n)  y = Add(x, t) }", a=noise(2), n=ints(3))
    assert not stays_small(model.graph[0], LIMIT)
    model.infer_shapes()
    assert stays_small(model.graph[0], LIMIT)


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize(("parts_of", "expected"), [(3, slice(3, 6)), (4, slice(4, 8))], ids=["equal", "with a rest"])
def test_sequences_of_parts_become_splits_of_the_opset(opset: int, parts_of: int, expected: slice) -> None:
    text = f"""<ir_version: 8, opset_import: ["": {opset}]>
    agraph (float[2,9] x) => (float[2,K] y) {{
        s = SplitToSequence<axis=1>(x, size)
        y = SequenceAt(s, second)
    }}"""
    model, x = model_of(text, size=np.array(parts_of), second=np.array(1)), noise(2, 9)
    simplify(model, context())
    model.check()
    np.testing.assert_array_equal(outputs(model, x=x)[0], x[:, expected])


def test_a_sequence_of_very_many_parts_stays_one() -> None:
    """Each part would be an output of a Split."""
    text = """g (float[2,536870912] x) => (float[2,4] y) {
        s = SplitToSequence<axis=1>(x, four)  y = SequenceAt(s, zero) }"""
    model = model_of(text, four=np.array(4), zero=np.array(0))
    simplify(model, context())
    assert op_types(model) == {"SplitToSequence": 1, "SequenceAt": 1}
