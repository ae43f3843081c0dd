"""The recipe that is suggested for a model: short, about this model, and it runs as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compress_ops.pipeline import Job, run
from compress_ops.recipe import parse_recipe
from compress_ops.search import suggestion
from tests.helpers import SAMPLES

from ..helpers import proto_of

RNG = np.random.default_rng(0)


def _weight(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


TINY = {
    "images of any size": (
        "m (float[N,3,H,W] x) => (float[N,8,P,Q] y) { a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) y = Conv(b, v) }",
        {"w": _weight(32, 3, 3, 3), "v": _weight(8, 32, 3, 3)},
    ),
    "a recurrent one": (
        "m (float[T,N,16] x) => (float[T,D,N,32] y) { y, h, c = LSTM<hidden_size=32>(x, w, r) }",
        {"w": _weight(1, 128, 16), "r": _weight(1, 128, 32)},
    ),
    "a model of language": (
        "m (int64[N,S] ids) => (float[N,S,64] y) { a = Gather(table, ids) y = MatMul(a, head) }",
        {"table": _weight(64, 48), "head": _weight(48, 64)},
    ),
    "no weights": ("m (float[N,4] x) => (float[N,4] y) { y = Relu(x) }", {}),
    "weights too small to gain": ("m (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", {"w": _weight(4, 4)}),
    "a number among the inputs": (
        "m (float[N,48] x, int64 rate) => (float[N,64] y) { a = MatMul(x, w) b = Cast<to=1>(rate) y = Mul(a, b) }",
        {"w": _weight(48, 64)},
    ),
}


def _runs(text: str, folder: Path, model: Path) -> None:
    """The recipe does what it says on the model that it names, and keeps its budget."""
    loaded = parse_recipe(text, folder=folder)
    named = folder / str(loaded.recipe.model)
    assert named.resolve() == model.resolve()
    report = run(Job(loaded, named, out=folder / "small.onnx", measure=False))
    assert [verdict.verdict for verdict in report.verdicts] == (["met"] if len(loaded.recipe.passes) > 1 else [])


@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp", "recommender", "textlm"])
def test_of_the_samples(name: str, tmp_path: Path) -> None:
    text = suggestion(SAMPLES / f"{name}.onnx", tmp_path)
    assert len(text.splitlines()) <= 40
    _runs(text, tmp_path, SAMPLES / f"{name}.onnx")
    assert str(parse_recipe(text).recipe.budget.max_size) in ("30%", "35%")


@pytest.mark.parametrize("kind", TINY)
def test_of_small_models(kind: str, tmp_path: Path) -> None:
    graph, weights = TINY[kind]
    onnx.save(proto_of(graph, **weights), tmp_path / "m.onnx")
    text = suggestion(tmp_path / "m.onnx", tmp_path)
    assert len(text.splitlines()) <= 40
    _runs(text, tmp_path, tmp_path / "m.onnx")
    gains = any(array.size > 16 for array in weights.values())
    assert (len(parse_recipe(text).recipe.passes) > 1) == gains


def test_with_its_comments_taken_in_it_runs_on_data(tmp_path: Path) -> None:
    text = suggestion(SAMPLES / "digits-cnn.onnx", tmp_path)
    lines = [line.removeprefix("# ") for line in text.splitlines() if not line.startswith("##")]
    for name, there in {"calibration.npz": "digits-calibration.npz", "test.npz": "digits-test.npz"}.items():
        lines = [line.replace(f" {name}", f" {SAMPLES / there}") for line in lines]
    unasked = ("quantize_dynamic", "quantize_weights", "min_speedup", "min_closeness", "max_drop")
    recipe = parse_recipe("\n".join(line for line in lines if not any(word in line for word in unasked)))
    assert [step.operation.name for step in recipe.recipe.passes] == [
        "simplify",
        "prune_channels",
        "refit",
        "quantize_static",
    ]
    report = run(Job(recipe, SAMPLES / "digits-cnn.onnx", out=tmp_path / "small.onnx", measure=False))
    assert report.bytes_after < 0.25 * report.bytes_before


def test_of_two_ways_the_one_that_shrinks_more_is_taken(tmp_path: Path) -> None:
    """26 % is left of this model by quantize_dynamic, 30 % by quantize_weights."""
    steps = parse_recipe(suggestion(SAMPLES / "digits-mlp.onnx", tmp_path)).recipe.passes
    assert [step.operation.name for step in steps] == ["simplify", "quantize_dynamic"]


def test_it_speaks_of_the_model(tmp_path: Path) -> None:
    graph, weights = TINY["images of any size"]
    onnx.save(proto_of(graph, **weights), tmp_path / "m.onnx")
    text = suggestion(tmp_path / "m.onnx", tmp_path)
    assert "##   x: float32 [N, 3, H, W]" in text
    assert "dims: {H: 224, W: 224}" in text
    assert "of 2 Conv:" in text


def test_weights_of_a_model_of_language_are_stored_in_8_bits_and_computed_with_in_float(tmp_path: Path) -> None:
    graph, weights = TINY["a model of language"]
    onnx.save(proto_of(graph, **weights), tmp_path / "m.onnx")
    text = suggestion(tmp_path / "m.onnx", tmp_path)
    assert "dims: {S: 64}" in text
    assert "metrics: [perplexity]" in text
    assert [step.operation.name for step in parse_recipe(text).recipe.passes][:2] == ["simplify", "quantize_weights"]
