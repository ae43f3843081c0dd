"""Models that ask for memory out of nothing are refused when they are read; masks and tables of sane sizes are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compress_ops.errors import ModelError
from tests.helpers import model_of, noise, proto_of

HUGE = 2**29
ASKING = {
    "ConstantOfShape": ("t = ConstantOfShape(n)", {"n": [HUGE]}),
    "of axes": ("t = ConstantOfShape(n)", {"n": [2**14, 2**15]}),
    "Expand": ("t = Expand(one, n)", {"n": [HUGE], "one": [1]}),
    "Tile": ("t = Tile(row, n)", {"n": [2**20], "row": [1] * 2**10}),
    "Range": ("t = Range(zero, n, step)", {"n": HUGE * 3, "zero": 0, "step": 3}),
    "Pad": ("t = Pad(one, n)", {"n": [0, HUGE], "one": [1]}),
    "OneHot": ("t = OneHot(row, n, pair)", {"n": [2**20], "row": [1] * 2**10, "pair": [0, 1]}),
    "computed": ("m = Mul(n, n) t = ConstantOfShape(m)", {"n": [2**15]}),
    "in a branch": (
        "t = If(yes) <then_branch = a () => (float[K] p) { p = ConstantOfShape(n) },"
        " else_branch = b () => (float[K] q) { q = ConstantOfShape(small) }>",
        {"n": [HUGE], "small": [2], "yes": True},
    ),
}


def model_with(lines: str, numbers: dict[str, object]) -> onnx.ModelProto:
    found = proto_of(f"g (float[N] x) => (float[N] y) {{ {lines} s = Shape(t) y = Expand(x, s) }}")
    for name, value in numbers.items():
        kind = np.bool_ if isinstance(value, bool) else np.int64
        found.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, kind), name))
    return found


@pytest.mark.parametrize(("lines", "numbers"), ASKING.values(), ids=ASKING)
def test_what_is_made_out_of_nothing_is_bounded(lines: str, numbers: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"makes [0-9,]+ numbers of written sizes; a model that stores") as raised:
        model_of(model_with(lines, numbers))
    assert "can be an input" in str(raised.value)


def test_a_mask_of_a_few_thousand_positions_is_fine() -> None:
    model_of(model_with("t = ConstantOfShape(n)", {"n": [1, 1, 8192, 8192]}))


def test_a_large_model_may_make_more() -> None:
    source = model_with("t = ConstantOfShape(n)", {"n": [2**28]})
    source.graph.initializer.append(onnx.numpy_helper.from_array(noise(2**22 + 1), "w"))
    model_of(source)


def test_sizes_that_are_computed_in_long_chains_are_followed() -> None:
    """Longer than Python nests calls."""
    lines = " ".join(["s0 = Add(n, zero)", *(f"s{i + 1} = Add(s{i}, zero)" for i in range(1500))])
    with pytest.raises(ModelError, match="numbers of written sizes"):
        model_of(model_with(f"{lines} t = ConstantOfShape(s1500)", {"n": [HUGE], "zero": [0]}))
