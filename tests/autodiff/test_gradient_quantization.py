"""Straight-through gradients of QuantizeLinear and DequantizeLinear against the learned-step-size formula.

y = s clip(round(x/s) + z) - s z has dx = dy inside the range, else 0, and
ds = dy (round(x/s) - x/s) inside the range, dy (q - z) outside, summed over what shares the scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from compress_ops.autodiff import build_gradients
from compress_ops.model import Model, make_uniform
from compress_ops.runtime import open_session

Array = np.ndarray[Any, Any]
ROUNDING = 64 * float(np.finfo(np.float32).eps)


def reference(x: Array, scale: Array, zero: Array, low: int, high: int, dy: Array) -> tuple[Array, Array]:
    """dx and ds before summation; everything in float64 and of one shape."""
    ratio = x / scale
    inside = (ratio + zero > low) & (ratio + zero < high)
    codes = np.clip(np.rint(ratio) + zero, low, high) - zero
    return dy * inside, dy * np.where(inside, np.rint(ratio) - ratio, codes)


def run(attributes: str, kind: str, x: Array, scale: Array, zero: Array, dy: Array) -> tuple[Array, Array]:
    sizes = str(list(scale.shape)) if scale.shape else ""
    text = f"""<ir_version: 10, opset_import: ["": 21]>
        g (float{list(x.shape)} x, float{sizes} s, {kind}{sizes} z) => (float{list(x.shape)} y) {{
        q = QuantizeLinear{attributes}(x, s, z)
        y = DequantizeLinear{attributes}(q, s, z) }}"""
    model = Model(ir.from_proto(onnx.parser.parse_model(text)))
    make_uniform(model)
    for name, array in {"s": scale.astype(np.float32), "z": zero}.items():
        value = next(value for value in model.graph.inputs if value.name == name)
        value.const_value = ir.tensor(array.tolist(), dtype=value.dtype, name=name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    built = build_gradients(model, of=["y"], parameters=["s"], inputs=["x"])
    session = open_session(ir.to_proto(built.model.ir).SerializeToString())
    found = session.run({"x": x.astype(np.float32), "s": scale.astype(np.float32), built.upstream["y"]: dy})
    return found[built.gradients["x"]], found[built.gradients["s"]]


CASES = {
    "one scale": ("", "int8", (-128, 127), (), lambda v: v),
    "unsigned": ("", "uint8", (0, 255), (), lambda v: v),
    "4 bits": ("", "int4", (-8, 7), (), lambda v: v),
    "a scale a row": ("<axis=0>", "int8", (-128, 127), (4,), lambda v: v[:, None]),
    "a scale a column": ("<axis=1>", "int4", (-8, 7), (6,), lambda v: v),
    "blocks of 3": ("<axis=1,block_size=3>", "int4", (-8, 7), (4, 2), lambda v: np.repeat(v, 3, 1)),
    "blocks of rows": ("<axis=0,block_size=2>", "int8", (-128, 127), (2, 6), lambda v: np.repeat(v, 2, 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_learned_step_size(name: str) -> None:
    attributes, kind, (low, high), shape, spread = CASES[name]
    rng = np.random.default_rng(0)
    zero = np.full(shape, 3 if kind == "uint8" else 1)
    scale = rng.uniform(0.8, 1.2, shape) * 4 / (high - low)  # about a fifth of the numbers below is out of range
    x, dy = rng.uniform(-3, 3, (4, 6)), rng.standard_normal((4, 6)).astype(np.float32)
    scale, x = (np.asarray(array, np.float32).astype(np.float64) for array in (scale, x))
    got_x, got_scale = run(attributes, kind, x, scale, zero, dy)
    full = [np.broadcast_to(spread(array), x.shape) for array in (scale, zero)]
    dx, ds = reference(x, full[0], full[1], low, high, dy)
    assert 0 < (dx == 0).sum() < dx.size
    np.testing.assert_allclose(got_x, dx, atol=ROUNDING)
    expected = np.zeros(shape)
    owner = np.broadcast_to(spread(np.arange(expected.size).reshape(shape)), x.shape)
    np.add.at(expected.reshape(-1), owner.reshape(-1), ds.reshape(-1))
    np.testing.assert_allclose(got_scale, expected, atol=ROUNDING * high)
