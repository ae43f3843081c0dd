"""Constants that a graph generates: stored while there is room, else cut by rewriting the shape they are made by."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compress_ops.graph.clean import generated
from compress_ops.graph.clean.generated import Store
from compress_ops.prune.prune_channels import prune_channels
from tests.helpers import context, model_of, noise, outputs
from tests.prune.channels.channel_case import ints

TEXT = """agraph (float[N,6] x) => (float[N,3] y) {
    g = ConstantOfShape<value = float[1] {0.5}>(s)  a = MatMul(x, g)  b = Mul(a, scale)  y = MatMul(b, w) }"""
WEIGHTS = {"s": ints(6, 8), "scale": noise(8), "w": noise(8, 3)}


def test_small_ones_are_stored() -> None:
    model = model_of(TEXT, **WEIGHTS)
    stored = Store(model)(model.graph[0])
    np.testing.assert_array_equal(stored.const_value.numpy(), np.full((6, 8), 0.5, np.float32))


def test_there_is_room_for_so_many(monkeypatch) -> None:
    monkeypatch.setattr(generated, "_TOGETHER", 100)
    model = model_of(TEXT, **WEIGHTS)
    store = Store(model)
    assert [store(model.graph[0]) is not None for _ in range(3)] == [True, True, False]


def test_negative_sizes_are_left_to_the_runtime() -> None:
    model = model_of(TEXT, **WEIGHTS | {"s": ints(6, -8)})
    assert Store(model)(model.graph[0]) is None


def test_large_ones_are_cut_by_their_shape(monkeypatch) -> None:
    monkeypatch.setattr(generated, "_LARGEST", 10)
    model, x = model_of(TEXT, **WEIGHTS), noise(2, 6)
    prune_channels(model, context(), ratio=0.5, round_to=1)
    weights = {value.name: value.const_value for value in model.weights()}
    assert model.graph[0].op_type == "ConstantOfShape"
    assert weights["w"].shape == ir.Shape([4, 3])
    kept = [np.flatnonzero(WEIGHTS["scale"] == number)[0] for number in weights["scale"].numpy()]
    expected = (x @ np.full((6, 4), 0.5, np.float32) * WEIGHTS["scale"][kept]) @ WEIGHTS["w"][kept]
    np.testing.assert_allclose(outputs(model, x=x)[0], expected, rtol=1e-5)
