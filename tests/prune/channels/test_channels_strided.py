"""Means as PyTorch's newer exporter writes them: a flattened tensor, read again by indices that count through it."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.prune.channels import prepare
from tests.helpers import model_of, noise, op_types, outputs
from tests.prune.channels.channel_case import Case, ints

HEAD = """agraph (float[N,3,5,5] x) => (float[N,4] y) {{
    c = Conv(x, w)  m = ReduceMean<axes=[2,3]>(c)  flat = Reshape(m, all)  {indices}  g = Gather(flat, i)
    r = Reshape(g, rows)  y = MatMul(r, v) }}"""
COUNTED = """
    s = Shape(x)
    n = Gather(s, zero)
    counts = Range(zero, n, one)
    steps = Mul(counts, six)
    column = Unsqueeze(steps, axes)
    i = Add(column, channels)
"""
CHANNELS = np.arange(6).reshape(1, 6, 1, 1)
WEIGHTS = {"w": (6, 3, 3, 3), "v": (6, 4), "all": ints(-1), "rows": ints(-1, 6)}
NUMBERS = {"zero": np.array(0), "one": np.array(1), "six": np.array(6), "axes": ints(1, 2, 3), "channels": CHANNELS}
FREE = Case(HEAD.format(indices=COUNTED), WEIGHTS | NUMBERS, {"x": (2, 3, 5, 5)}, [("Conv_c", 6)])
FIXED = Case(
    HEAD.replace("[N,", "[1,").format(indices="i = Identity(channels)"),
    WEIGHTS | {"channels": CHANNELS},
    {"x": (1, 3, 5, 5)},
    [("Conv_c", 6)],
)


@pytest.mark.parametrize("case", [FREE, FIXED], ids=["free batch", "fixed batch"])
def test_means_read_by_index_are_followed(case: Case) -> None:
    case.check()


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("six", np.array(5)),
        ("one", np.array(2)),
        ("zero", np.array(1)),
        ("channels", CHANNELS[:, ::-1].copy()),
        ("channels", CHANNELS + 1),
        ("channels", CHANNELS * 0),
        ("channels", CHANNELS[:, :3].copy()),
    ],
    ids=["other stride", "other step", "other axis", "backwards", "shifted", "repeated", "a part"],
)
def test_other_indices_stay(name: str, number: np.ndarray) -> None:
    model = model_of(
        FREE.text,
        **{k: noise(*v) if isinstance(v, tuple) else v for k, v in WEIGHTS.items()},
        **NUMBERS | {name: number},
    )
    prepare(model)
    assert op_types(model)["Gather"] >= 1 and any(node.name == "Gather_g" for node in model.graph)


def test_the_function_stays() -> None:
    model, x = FREE.model(), noise(3, 3, 5, 5)
    before = outputs(model, x=x)[0]
    prepare(model)
    assert "Gather" not in {node.op_type for node in model.graph if node.name == "Gather_g"}
    np.testing.assert_array_equal(outputs(model, x=x)[0], before)


def test_a_size_that_nobody_knows_is_recognized() -> None:
    """Windows: how many there are is not known, but they are as many before as behind."""
    Case(
        """agraph (float[N,M,6] x) => (float[N,M,5] y) {
            windows = Reshape(x, window)  q = MatMul(windows, w)  s = Shape(windows)  n = Gather(s, zero)
            t = Concat<axis=0>(n, split)  grid = Reshape(q, t)  moved = Transpose<perm=[0,2,1,3]>(grid)
            r = Relu(moved)  back = Transpose<perm=[0,2,1,3]>(r)  flat = Reshape(back, join)  o = MatMul(flat, v)
            shape = Shape(x)  two = Slice(shape, zero, last)  end = Concat<axis=0>(two, minus)  y = Reshape(o, end)
        }""",
        {"window": ints(-1, 4, 6), "w": (6, 12), "v": (12, 5), "zero": ints(0), "split": ints(4, 3, 4),
         "join": ints(-1, 4, 12), "last": ints(2), "minus": ints(-1)},
        {"x": (2, 8, 6)},
        [("MatMul_q", 4)],
    ).check()  # fmt: skip
