"""refit against numpy.linalg.lstsq, against what can be recovered exactly, and on a real model."""

from __future__ import annotations

import tracemalloc
from itertools import product

import numpy as np
import pytest

from compress_ops.data import DataSettings, open_data
from compress_ops.errors import PassError
from compress_ops.graph.clean.simplify import simplify
from compress_ops.model import Model, load
from compress_ops.passes import Change
from compress_ops.prune import prune_channels, prune_heads, prune_weights, refit
from compress_ops.prune.refitting.equations import RIDGES, Equations, best_ridge
from compress_ops.prune.refitting.solvable import find_layers, sweeps
from compress_ops.runtime import open_session
from tests.helpers import SAMPLES, Given, array_of, context, model_of, noise, outputs, put
from tests.prune.channels.channel_case import SEPARATE

TINY = 1e-9  # a ridge too weak to be seen beside rounding
SINGLE = 1e-4  # weights and outputs are stored in single precision; a normal matrix squares its condition


def mended(model: Model, *feeds: dict[str, np.ndarray], **options: object) -> Change:
    change = refit(model, context(calibration=Given(*feeds)), **options)
    model.check()
    return change


LAYERS = {
    "Gemm": ("Gemm(x, w, b)", (5, 4), (7, 5)),
    "Gemm, transB": ("Gemm<transB = 1>(x, w, b)", (4, 5), (7, 5)),
    "MatMul": ("MatMul(x, w)", (5, 4), (3, 7, 5)),
    "MatMul and bias": ("MatMul(x, w) \n y = Add(b, m)", (5, 4), (3, 7, 5)),
    "Conv": ("Conv<pads = [1, 0, 1, 2]>(x, w, b)", (4, 3, 3, 2), (2, 3, 6, 7)),
    "strides, dilations": ("Conv<strides = [2, 1], dilations = [1, 2]>(x, w, b)", (4, 3, 2, 2), (2, 3, 6, 7)),
    "grouped": ('Conv<group = 2, auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w, b)', (4, 2, 3, 3), (2, 4, 7, 6)),
    "depthwise": ('Conv<group = 4, auto_pad = "SAME_LOWER">(x, w, b)', (4, 1, 2, 2), (2, 4, 6, 7)),
    "transposed": ("ConvTranspose(x, w, b)", (3, 4, 3, 2), (2, 3, 4, 5)),
    "transposed, strides": (
        "ConvTranspose<strides = [2, 3], dilations = [1, 2], pads = [1, 0, 2, 1], output_padding = [1, 0]>(x, w, b)",
        (3, 4, 3, 2),
        (2, 3, 4, 5),
    ),
    "transposed, grouped": ("ConvTranspose<group = 2, strides = [2, 2]>(x, w, b)", (4, 3, 2, 2), (2, 4, 4, 5)),
    "transposed, cropped": ("ConvTranspose<pads = [2, 2], strides = [2]>(x, w)", (3, 4, 2), (2, 3, 9)),
    "one dimension": ("Conv<strides = [2]>(x, w)", (4, 3, 3), (2, 3, 12)),
}
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)


def layer(name: str) -> tuple[Model, tuple[int, ...]]:
    operator, sizes, shape = LAYERS[name]
    first = "m" if "Add" in operator else "y"
    inputs, results = (",".join(f"{letter}{axis}" for axis in range(len(shape))) for letter in "DE")
    text = f"agraph (float[{inputs}] x) => (float[{results}] y) {{\n {first} = {operator}\n}}"
    groups = 2 if "group = 2" in operator else 1
    rows_first = "Conv(" in operator or "Conv<" in operator or "transB" in operator
    weights = {"w": noise(*sizes), "b": noise(sizes[0] if rows_first else sizes[1] * groups)}
    return model_of(
        text, **{name: array for name, array in weights.items() if name in operator.split("(", 1)[1]}
    ), shape


@EVERY_LAYER
def test_an_exact_solution_is_found(name: str) -> None:
    """The weights are disturbed; the data, through onnxruntime, tells what they were."""
    model, shape = layer(name)
    right = {found.name: found.const_value.numpy() for found in model.weights()}
    model.keep_reference()
    for place, (which, array) in enumerate(right.items()):
        put(model, which, array + noise(*array.shape, seed=10 + place))
    change = mended(model, *({"x": noise(*shape, seed=s)} for s in range(20, 26)), ridge=TINY)
    assert len(change.touched) == 1 and not change.declined
    for which, array in right.items():
        assert array_of(model, which).shape == array.shape
        assert np.allclose(array_of(model, which), array, atol=SINGLE)


def test_where_no_solution_is_exact_it_is_that_of_least_squares() -> None:
    """Of three inputs one is cut: W (2 left) and b are those of lstsq on all rows, of whatever batches."""
    text = "agraph (float[N,3] x) => (float[N,2] y) {\n h = MatMul(x, a)\n r = Relu(h)\n y = Gemm(r, w, b)\n}"
    model = model_of(text, a=noise(3, 4), w=noise(4, 2, seed=1), b=noise(2, seed=2))
    before = model.copy()
    prune_channels(model, context(), ratio=0.25, round_to=1)
    kept = model.kept["h"][1]
    feeds = [{"x": noise(size, 3, seed=size)} for size in (5, 9, 30)]
    mended(model, *feeds, ridge=TINY)
    x = np.concatenate([feed["x"] for feed in feeds])
    hidden = np.maximum(x @ array_of(before, "a"), 0)[:, kept]
    columns = np.concatenate([hidden, np.ones((len(x), 1))], axis=1).astype(np.float64)
    expected = np.linalg.lstsq(columns, outputs(before, x=x)[0])[0]
    assert np.allclose(array_of(model, "w"), expected[:-1], atol=SINGLE)
    assert np.allclose(array_of(model, "b"), expected[-1], atol=SINGLE)


PADDED = """agraph (float[N,T,3] x, int64[N,T] ids, int64[N,T] mask) => (float[N,T,2] y) {
 h = MatMul(x, a)  r = Relu(h)  y = MatMul(r, w) }"""
FLATTENED = """agraph (float[N,T,3] x, int64[N,T] ids, int64[N,T] mask) => (float[M,2] y) {
 rows = Constant<value_ints = [-1, 3]>()  f = Reshape(x, rows)  h = MatMul(f, a)  r = Relu(h)  y = MatMul(r, w) }"""


@pytest.mark.parametrize("text", [PADDED, FLATTENED])
def test_padding_that_an_input_masks_does_not_count(text: str) -> None:
    """The last two of six tokens are padding: the weights are those of the first four alone."""
    tokens = {"x": noise(5, 6, 3), "ids": np.arange(1, 31).reshape(5, 6), "mask": np.ones((5, 6), np.int64)}
    padded = {name: array.copy() for name, array in tokens.items()}
    padded["x"][:, 4:], padded["ids"][:, 4:], padded["mask"][:, 4:] = 100, 0, 0
    solved = []
    for feeds in (padded, {name: array[:, :4] for name, array in tokens.items()}, {**padded, "mask": tokens["mask"]}):
        model = model_of(text, a=noise(3, 4), w=noise(4, 2, seed=1))
        prune_channels(model, context(), ratio=0.5, round_to=1)
        mended(model, feeds)
        solved.append(array_of(model, "w"))
    assert np.allclose(solved[0], solved[1], atol=SINGLE)
    assert not np.allclose(solved[0], solved[2], atol=100 * SINGLE)


def test_a_strong_ridge_leaves_the_weights() -> None:
    rows, targets, present = (noise(1, *shape).astype(float) for shape in ((20, 6), (20, 3), (6, 3)))
    equations = Equations(1, 6, 3, bias=False)
    equations.add(rows, targets)
    assert np.allclose(equations.solve(present, 1e9), present, atol=1e-6)
    ridge = 0.3 * np.mean(np.square(rows[0]).sum(axis=0))
    x = np.concatenate([rows[0], np.sqrt(ridge) * np.eye(6)])
    y = np.concatenate([targets[0], np.sqrt(ridge) * present[0]])
    assert np.allclose(equations.solve(present, 0.3)[0], np.linalg.lstsq(x, y)[0], atol=1e-6)


def test_the_ridge_is_the_one_that_serves_held_out_rows_best() -> None:
    """Few rows and much noise want a strong pull to weights that are nearly right; many clean rows want none."""
    x, right, near = noise(1, 400, 8).astype(float), noise(1, 8, 2, seed=1), noise(1, 8, 2, seed=2, scale=0.5)
    ridges = {}
    for rows, scale in ((16, 2.0), (300, 0.0)):
        fitted, held_out = (Equations(1, 8, 2, bias=False) for _ in range(2))
        fitted.add(x[:, :rows], x[:, :rows] @ right + scale * noise(1, rows, 2, seed=3))
        held_out.add(x[:, 300:], x[:, 300:] @ right)
        ridges[rows] = best_ridge(fitted, held_out, right + near)
        assert best_ridge(fitted, held_out, right) is None
    assert ridges[16] is not None and ridges[16] >= 0.1
    assert ridges[300] == RIDGES[0]


def test_the_error_told_is_that_of_the_rows() -> None:
    rows, targets, weights = (array.astype(float) for array in (noise(1, 20, 6), noise(1, 20, 3) + 5, noise(1, 7, 3)))
    equations = Equations(1, 6, 3, bias=True)
    for part in (slice(0, 8), slice(8, 20)):
        equations.add(rows[:, part], targets[:, part])
    left = np.square(np.concatenate([rows[0], np.ones((20, 1))], axis=1) @ weights[0] - targets[0]).sum()
    assert equations.error(weights) == pytest.approx(left / np.square(targets[0] - targets[0].mean(axis=0)).sum())


CHAIN = """agraph (float[N,3,8,8] x) => (float[N,2] y) {
    a = Conv<pads = [1,1,1,1]>(x, w1, b1)  r = Relu(a)  c = Conv(r, w2)  s = Relu(c)  g = GlobalAveragePool(s)
    f = Flatten(g)  y = Gemm(f, w3) }"""


def chain() -> Model:
    """Every channel is there twice: half of them say all."""
    twice = np.repeat(np.arange(8), 2)
    weights = {"w1": noise(8, 3, 3, 3)[twice], "b1": noise(8, seed=1)[twice], "w3": noise(16, 2, seed=3)}
    return model_of(CHAIN, **weights, w2=noise(8, 16, 3, 3, seed=2)[twice])


def test_duplicated_channels_are_no_loss() -> None:
    """What went is a copy of what stays or of nothing: where one of each pair stays the outputs are as before."""
    model, x = chain(), noise(8, 3, 8, 8, seed=5)
    expected = outputs(model, x=x)[0]
    prune_channels(model, context(), ratio=0.5, round_to=1, score="correlation")
    lost = np.abs(outputs(model, x=x)[0] - expected).max()
    mended(model, {"x": x}, {"x": noise(8, 3, 8, 8, seed=6)}, ridge=TINY)
    assert np.abs(outputs(model, x=x)[0] - expected).max() < 1e-3 * lost


def test_layers_are_solved_after_those_that_feed_them() -> None:
    model = chain()
    layers = find_layers(model, ["*"], [], Change())
    parts = [[layer.node.op_type for layer in part] for part in sweeps(model, layers, 2**30)]
    assert parts == [["Conv"], ["Conv"], ["Gemm"]]
    text = "agraph (float[N,4] x) => (float[N,4] y, float[N,4] z) {\n y = MatMul(x, a)\n z = MatMul(x, b)\n}"
    layers = find_layers(wide := model_of(text, a=noise(4, 4), b=noise(4, 4)), ["*"], [], Change())
    assert [len(part) for part in sweeps(wide, layers, 2**30)] == [2]
    assert [len(part) for part in sweeps(wide, layers, 400)] == [1, 1]


def test_a_layer_makes_up_for_what_its_shortcut_lost() -> None:
    """y = x A + x B, and A is disturbed: as both read x, B can mend all of it."""
    text = "agraph (float[N,4] x) => (float[N,4] y) {\n a = MatMul(x, wa)\n b = MatMul(x, wb)\n y = Add(b, a)\n}"
    model, x = model_of(text, wa=noise(4, 4), wb=noise(4, 4, seed=1)), noise(30, 4, seed=2)
    expected = outputs(model, x=x)[0]
    model.keep_reference()
    put(model, "wa", noise(4, 4, seed=3))
    mended(model, {"x": x}, ridge=TINY, skip="MatMul_a")
    assert np.allclose(outputs(model, x=x)[0], expected, atol=SINGLE)


def test_zeros_stay_zero() -> None:
    model, x = chain(), noise(8, 3, 8, 8, seed=5)
    expected = outputs(model, x=x)[0]
    prune_weights(model, context(), ratio=0.5, scope="tensor")
    zeros = array_of(model, "w2") == 0
    lost = np.square(outputs(model, x=x)[0] - expected).sum()
    mended(model, {"x": x})
    assert zeros.mean() == pytest.approx(0.5, abs=0.01)
    assert np.array_equal(array_of(model, "w2") == 0, zeros)
    assert np.square(outputs(model, x=x)[0] - expected).sum() < 0.5 * lost


def test_pruning_twice_still_compares_with_the_first_model() -> None:
    model, x = chain(), noise(8, 3, 8, 8, seed=5)
    first = array_of(model, "w1")
    for _ in range(2):
        prune_channels(model, context(), ratio=0.5, round_to=1)
    assert np.array_equal(first[model.kept["a"][1]], array_of(model, "w1"))
    assert len(model.kept["a"][1]) == 4
    assert len(mended(model, {"x": x}).touched) == 2


@pytest.mark.parametrize("operation", [prune_heads, prune_channels], ids=lambda operation: operation.name)
def test_attention_is_brought_nearer(operation: object) -> None:
    model = SEPARATE.model()
    feeds = [{name: noise(*shape, seed=s) for name, shape in SEPARATE.feeds.items()} for s in range(8)]
    expected = [outputs(model, **feed)[0] for feed in feeds]
    operation(model, context(), ratio=0.5)
    lost = sum(np.square(outputs(model, **f)[0] - y).sum() for f, y in zip(feeds, expected, strict=True))
    change = mended(model, *feeds)
    left = sum(np.square(outputs(model, **f)[0] - y).sum() for f, y in zip(feeds, expected, strict=True))
    assert change.touched and left < 0.7 * lost


def test_memory_does_not_grow_with_the_samples() -> None:
    def peak(batches: int) -> int:
        model = chain()
        prune_channels(model, context(), ratio=0.5)
        feed = {"x": noise(16, 3, 8, 8)}
        tracemalloc.start()
        mended(model, *[feed] * batches)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(64) < 1.25 * peak(4)  # 12 MB more are fed


def test_few_positions_are_enough() -> None:
    model = model_of(
        "agraph (float[N,3,8,8] x) => (float[N,4,6,6] y) {\n y = Conv(x, w, b)\n}", w=noise(4, 3, 3, 3), b=noise(4)
    )
    right = array_of(model, "w")
    model.keep_reference()
    put(model, "w", noise(4, 3, 3, 3, seed=1))
    mended(model, {"x": noise(40, 3, 8, 8)}, positions=2, ridge=TINY)
    assert np.allclose(array_of(model, "w"), right, atol=SINGLE)


def test_what_cannot_be_solved_is_declined_with_the_reason() -> None:
    text = """agraph (float[N,4] x) => (float[N,4] y) {
        a = MatMul(x, shared)  b = MatMul(a, shared)  c = Gemm<alpha = 2.0>(b, scaled)  d = MatMul(c, broken)
        n = MatMul(d, new)  y = MatMul(n, x2) }"""
    broken = noise(4, 4)
    broken[0, 0] = np.inf
    model = model_of(text, shared=noise(4, 4), scaled=noise(4, 4), broken=broken, new=noise(4, 4), x2=noise(4, 4))
    model.keep_reference()
    next(node for node in model.nodes() if node.outputs[0].name == "n").outputs[0].name = "renamed"
    change = mended(model, {"x": noise(3, 4)})
    reasons = {declined.name: declined.reason for declined in change.declined}
    assert [reasons[f"{n}"] for n in ("MatMul_a", "MatMul_b", "Gemm_c", "MatMul_d")] == [
        "others read its weight too",
        "others read its weight too",
        "it computes more than x W + b (transA, alpha or beta)",
        "its weight has NaN or infinite values",
    ]
    assert "no value 'renamed'" in reasons["MatMul_n"]
    assert "NaN or infinite" in reasons["MatMul_y"] and not change.touched


def test_a_model_that_lost_nothing_stays_as_it_is() -> None:
    model = chain()
    model.keep_reference()
    change = mended(model, {"x": noise(4, 3, 8, 8)})
    assert not change.touched and len(change.declined) == 3
    assert {declined.reason for declined in change.declined} == {"it gives what the original gives already"}


def test_it_asks_for_pruning_first() -> None:
    with pytest.raises(PassError, match="nothing was pruned"):
        mended(chain(), {"x": noise(4, 3, 8, 8)})


def test_a_dry_run_tells_the_layers() -> None:
    model = chain()
    model.keep_reference()
    change = refit(model, context(calibration=Given({"x": noise(4, 3, 8, 8)}), dry_run=True))
    assert set(change.touched.values()) == {"to be solved on the data"} and len(change.touched) == 3


@pytest.mark.parametrize(("ratio", "folded"), list(product((0.5, 0.75), (True, False))))
def test_the_digits_cnn_recovers(ratio: float, folded: bool) -> None:
    """From guessing (one in ten) to what the issue asks for; BatchNormalization folded before or after the cut."""
    model, test = load(SAMPLES / "digits-cnn.onnx"), np.load(SAMPLES / "digits-test.npz")
    calibration = open_data(
        str(SAMPLES / "digits-calibration.npz"), open_session(SAMPLES / "digits-cnn.onnx").inputs, DataSettings()
    )
    ctx = context(calibration=calibration)

    def accuracy() -> float:
        return float((outputs(model, image=test["image"])[0].argmax(axis=1) == test["label"]).mean())

    before = accuracy()
    steps = [simplify, prune_channels] if folded else [prune_channels, simplify]
    for step in steps:
        step(model, ctx, **({"ratio": ratio, "score": "activation_weight"} if step is prune_channels else {}))
    assert accuracy() < 0.8
    refit(model, ctx)
    assert accuracy() > before - (0.005 if ratio == 0.5 else 0.02)
