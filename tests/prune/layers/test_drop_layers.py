"""drop_layers: which blocks are found, what is left when they go, and that those go which the outputs miss least."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from compress_ops.data import DataSettings, open_data
from compress_ops.errors import PassError
from compress_ops.graph.clean.simplify import simplify
from compress_ops.model import Model, load
from compress_ops.passes import Change
from compress_ops.prune import drop_layers, refit
from compress_ops.prune.layers.residual import bypass, find_blocks
from compress_ops.runtime import open_session
from tests.helpers import SAMPLES, Given, context, model_of, noise, outputs, reloaded

SINGLE = 1e-6  # a few float32 sums, taken in the same order in both graphs


def blocks(model: Model) -> dict[str, tuple[str, str]]:
    model.infer_shapes()
    return {name: (block.entry, block.exit) for name, block in find_blocks(model)[0].items()}


def reasons(model: Model) -> dict[str, str]:
    model.infer_shapes()
    return find_blocks(model)[1]


def dropped(model: Model, *feeds: dict[str, np.ndarray], **options: object) -> Change:
    model.infer_shapes()
    contract = model.contract()
    with model.keeping_ports():
        change = drop_layers(model, context(calibration=Given(*feeds)), **options)
    model.check()
    assert model.contract() == contract
    return change


PLAIN = """agraph (float[N,8] x) => (float[N,8] y) {
    h = Gemm(x, w0)  a = Gemm(h, w1)  r = Relu(a)  f = Gemm(r, w2)  s = Add(h, f)  g = Gemm(s, w3)  t = Add(g, s)
    y = Gemm(t, w4) }"""
SIX = {f"w{i}": noise(8, 8, seed=i, scale=0.3) for i in range(5)}

NORMALIZED = """agraph (float[N,8] x) => (float[N,8] y) {
    h = LayerNormalization(x, g0, b0)  f = MatMul(h, w1)  s = Add(f, h)  n = LayerNormalization(s, g1, b1)
    k = MatMul(n, w2)  t = Add(k, n)  y = LayerNormalization(t, g2, b2) }"""
WRITTEN_OUT = """agraph (float[N,8] x) => (float[N,8] y) {
    m0 = ReduceMean<axes = [-1]>(x)  d0 = Sub(x, m0)  q0 = Mul(d0, d0)  v0 = ReduceMean<axes = [-1]>(q0)
    e0 = Sqrt(v0)  h = Div(d0, e0)  f = MatMul(h, w1)  s = Add(h, f)  m1 = ReduceMean<axes = [-1]>(s)
    d1 = Sub(s, m1)  q1 = Mul(d1, d1)  v1 = ReduceMean<axes = [-1]>(q1)  e1 = Sqrt(v1)  n = Div(d1, e1)
    y = MatMul(n, w2) }"""
BEFOREHAND = """agraph (float[N,8] x) => (float[N,8] y) {
    h = MatMul(x, w1)  a = LayerNormalization(h, g0, b0)  f = MatMul(a, w2)  s = Add(h, f)
    y = LayerNormalization(s, g1, b1) }"""
RELU = """agraph (float[N,8] x) => (float[N,8] y) {
    h = Relu(x)  f = Gemm(h, w1)  s = Sum(f, h)  y = Relu(s) }"""
FLOATS = {f"g{i}": noise(8, seed=i) + 2 for i in range(3)} | {f"b{i}": noise(8, seed=9 + i) for i in range(3)} | SIX


def given(text: str, **more: np.ndarray) -> Model:
    return model_of(text, **{name: array for name, array in (FLOATS | more).items() if f"{name}" in text})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PLAIN, {"Add_s": ("h", "s"), "Add_t": ("s", "t")}),
        (NORMALIZED, {"Add_s": ("h", "n"), "Add_t": ("n", "y")}),
        (WRITTEN_OUT, {"Add_s": ("h", "n")}),
        (BEFOREHAND, {"Add_s": ("h", "s")}),
        (RELU, {"Sum_s": ("h", "y")}),
    ],
    ids=["plain", "behind", "written out", "before", "relu"],
)
def test_a_block_ends_behind_the_normalization_that_made_its_input_too(text: str, expected: dict) -> None:
    model = given(text)
    names = {node.outputs[0].name: node.name for node in model.nodes()}
    assert blocks(model) == {names[key.split("_")[1]]: ends for key, ends in expected.items()}


@pytest.mark.parametrize(("text", "entry", "exit"), [(PLAIN, "h", "s"), (NORMALIZED, "h", "n"), (BEFOREHAND, "h", "s")])
def test_what_is_left_is_the_graph_with_one_value_for_the_other(text: str, entry: str, exit: str) -> None:
    """The oracle: what stands behind the block, run by itself on the block's input."""
    model, x = given(text), noise(5, 8, seed=40)
    inner = given(text)
    inner.graph.outputs[:] = [value for node in inner.graph for value in node.outputs if value.name == entry]
    behind = given(text)
    last = next(value for node in behind.graph for value in node.outputs if value.name == exit)
    port = ir.Value(name="port", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["N", 8]))
    last.replace_all_uses_with(port)
    behind.graph.inputs[:] = [port]
    behind.drop_unused()
    expected = outputs(behind, port=outputs(inner, x=x)[0])[0]
    bypass(model, entry, exit)
    model.check()
    assert np.allclose(outputs(reloaded(model), x=x)[0], expected, atol=SINGLE)


def test_the_block_that_does_least_goes() -> None:
    for weak, strong in (("w3", "t"), ("w2", "s")):
        model = given(PLAIN, **{weak: noise(8, 8, seed=7, scale=1e-4)})
        before, bytes_before = outputs(model, x=noise(5, 8, seed=40))[0], model.weight_bytes()
        for score in ("outputs", "block"):
            trial = model.copy()
            change = dropped(trial, {"x": noise(5, 8, seed=40)}, count=1, score=score)
            assert list(change.touched) == [node.name for node in model.graph if node.outputs[0].name == strong]
            assert np.abs(outputs(trial, x=noise(5, 8, seed=40))[0] - before).max() < 0.01
            assert bytes_before - trial.weight_bytes() == 4 * 64 * (1 if weak == "w3" else 2)


def test_the_error_told_is_that_of_the_outputs() -> None:
    model, feeds = given(PLAIN), [{"x": noise(size, 8, seed=size)} for size in (3, 9)]
    y = np.concatenate([outputs(model, **feed)[0] for feed in feeds]).astype(float)
    change = dropped(model, *feeds, count=1)
    z = np.concatenate([outputs(model, **feed)[0] for feed in feeds])
    error = np.square(z - y).sum() / np.square(y - y.mean()).sum()
    assert next(iter(change.touched.values())).endswith(f"error of the outputs {error:.2%}")


def test_scores_are_taken_anew_after_each_block_that_went() -> None:
    once, again = given(PLAIN), given(PLAIN)
    data = Given({"x": noise(5, 8)})
    for model, rescore in ((once, False), (again, True)):
        data.passes = 0
        model.infer_shapes()
        change = drop_layers(model, context(calibration=data), count=2, rescore=rescore)
        assert len(change.touched) == 2 and data.passes == 2 + rescore  # shapes, scores, and scores
    assert [node.op_type for node in again.graph] == ["Gemm", "Gemm"]


def test_refit_makes_up_for_a_block() -> None:
    """The layer before the lost block sees all that the block saw; the outputs come nearer."""
    text = PLAIN.replace("h = Gemm(x, w0)", "p = Gemm(x, w0) \n h = Relu(p)")
    model, feeds = given(text), [{"x": noise(64, 8, seed=seed)} for seed in range(8)]
    before = outputs(model, **feeds[0])[0]
    dropped(model, *feeds, count=1)
    lost = np.square(outputs(model, **feeds[0])[0] - before).sum()
    refit(model, context(calibration=Given(*feeds)))
    assert np.square(outputs(model, **feeds[0])[0] - before).sum() < 0.5 * lost


def test_a_shape_that_changes_is_declined() -> None:
    text = """agraph (float[N,1,8] x) => (float[N,4,8] y) {
        h = MatMul(x, w1)  e = Expand(h, sizes)  f = MatMul(e, w2)  y = Add(h, f) }"""
    model = given(text, sizes=np.array([1, 4, 1]))
    assert list(reasons(model).values()) == ["its result is [N,4,8] where [N,1,8] goes in"]
    text = text.replace("1,8] x", "M,8] x").replace("4,8] y", "K,8] y")
    model = given(text, sizes=np.array([1, 4, 1]))
    change = dropped(model, {"x": noise(2, 1, 8)}, count=1)
    assert not change.touched
    assert [declined.reason for declined in change.declined] == ["its result is [2, 4, 8] where [2, 1, 8] goes in"]


def test_a_block_that_is_read_from_outside_is_declined() -> None:
    read = PLAIN.replace("y = Gemm(t, w4)", "z = Add(t, a) \n y = Gemm(z, w4)")
    assert next(iter(reasons(given(read)).values())).endswith("gives is read outside of the block too")
    seen = PLAIN.replace("float[N,8] y)", "float[N,8] y, float[N,8] r)")
    assert list(reasons(given(seen)).values()) == ["one of its inner values is an output of the model"]
    first = "agraph (float[N,8] x) => (float[N,8] y) {\n f = MatMul(x, w1)\n y = Add(x, f)\n}"
    assert list(reasons(given(first)).values()) == [
        "without it an output of the model would be an input, or another output"
    ]
    shared = PLAIN.replace("w2", "w4").replace("w1", "w4").replace("w3", "w4")
    assert set(reasons(given(shared)).values()) == {"all of its weights are read elsewhere too"}


def test_sums_that_are_no_blocks() -> None:
    text = """agraph (float[N,8] x) => (float[N,8] y) {
        a = MatMul(x, w1)  b = MatMul(x, w2)  c = Add(a, b)  d = Add(c, b0)  e = Add(d, d)  f = Sigmoid(e)
        y = Add(e, f) }"""
    model = given(text)
    assert blocks(model) == {} and reasons(model) == {}


def test_a_layer_is_attention_with_what_follows() -> None:
    model = load(SAMPLES / "textlm.onnx")
    simplify(model, context())
    found = find_blocks(model)[0]
    assert [block.attention for block in found.values()] == [True, False] * 3
    data = open_data(
        str(SAMPLES / "textlm-calibration.npz"), open_session(SAMPLES / "textlm.onnx").inputs, DataSettings()
    )
    change = dropped(model, next(iter(data.batches())).feeds, count=1, unit="layer", score="block")
    assert len(change.touched) == 1 and change.notes["blocks"] == "1 of 3 left out"
    assert len(find_blocks(model)[0]) == 4


def test_patterns_name_the_sum() -> None:
    model = given(PLAIN)
    name = next(node.name for node in model.graph if node.outputs[0].name == "s")
    assert list(dropped(model.copy(), {"x": noise(5, 8)}, ratio=0.9, only=[name]).touched) == [name]
    assert name not in dropped(model, {"x": noise(5, 8)}, ratio=0.9, skip=[name]).touched


def test_all_blocks_may_go() -> None:
    model = given(NORMALIZED)
    assert len(dropped(model, {"x": noise(5, 8)}, count=9).touched) == 2
    assert [node.op_type for node in model.graph] == ["LayerNormalization"]
    assert model.graph.outputs[0].name == "y"


def test_bad_input() -> None:
    with pytest.raises(PassError, match="count and ratio are both given"):
        dropped(given(PLAIN), {"x": noise(5, 8)}, count=1, ratio=0.5)
    with pytest.raises(PassError, match="no batches"):
        dropped(given(PLAIN), count=1)
    with pytest.raises(PassError, match="NaN or infinite"):
        dropped(given(PLAIN), {"x": np.full((2, 8), np.nan, np.float32)}, count=1)
    assert not dropped(
        model_of("agraph (float[N,8] x) => (float[N,8] y) {\n y = Relu(x)\n}"), {"x": noise(2, 8)}
    ).touched
