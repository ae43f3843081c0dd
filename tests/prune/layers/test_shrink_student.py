"""shrink_student: which layers stay, that widths follow, that it learns from where it started, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.model import Model
from compress_ops.passes import Change
from compress_ops.pipeline import Job, run
from compress_ops.prune import drop_layers, shrink_student
from compress_ops.recipe import load_recipe, parse_recipe
from tests.helpers import SAMPLES, Given, array_of, context, model_of, noise, outputs

SINGLE = 1e-6  # a few float32 sums, taken in the same order in both graphs


def tower(layers: int, size: str = "N,8") -> Model:
    """x_(i+1) = x_i + relu(x_i u_i) v_i."""
    lines = [
        f"a{i} = MatMul(x{i}, u{i}) r{i} = Relu(a{i}) f{i} = MatMul(r{i}, v{i}) x{i + 1} = Add(x{i}, f{i})"
        for i in range(layers)
    ]
    text = f"agraph (float[{size}] x) => (float[{size}] y) {{ x0 = MatMul(x, w) {' '.join(lines)} "
    text += f"y = MatMul(x{layers}, z) }}"
    return model_of(text, w=noise(8, 8, seed=90), z=noise(8, 8, seed=91), **matrices(layers))


def matrices(layers: int) -> dict[str, np.ndarray]:
    inner = {f"u{i}": noise(8, 12, seed=2 * i, scale=0.3) for i in range(layers)}
    return inner | {f"v{i}": noise(12, 8, seed=2 * i + 1, scale=0.3) for i in range(layers)}


def of_layers(x: np.ndarray, layers: list[int]) -> np.ndarray:
    """What a tower gives of which only these layers are there."""
    weights = matrices(max(layers) + 1)
    x = x @ noise(8, 8, seed=90)
    for i in layers:
        x = x + np.maximum(x @ weights[f"u{i}"], 0) @ weights[f"v{i}"]
    return x @ noise(8, 8, seed=91)


def shrunk(model: Model, **options: Any) -> Change:
    model.infer_shapes()
    contract = model.contract()
    with model.keeping_ports():
        change = shrink_student(model, context(), **options)
    model.check()
    assert model.contract() == contract
    return change


@pytest.mark.parametrize(
    ("layers", "depth", "stay"),
    [
        (6, 0.5, [0, 3, 5]),
        (12, 0.5, [0, 2, 4, 7, 9, 11]),  # DistilBERT's own choice
        (6, 0.34, [0, 5]),
        (5, 0.6, [0, 2, 4]),
        (4, 0.75, [0, 2, 3]),
        (3, 0.01, [2]),
        (2, 0.9, [0, 1]),
    ],
)
def test_layers_stay_at_even_distances_with_the_last(layers: int, depth: float, stay: list[int]) -> None:
    """Without a width nothing else changes."""
    model, x = tower(layers), noise(5, 8)
    change = shrunk(model, depth=depth)
    assert change.notes["layers"] == f"{layers} -> {len(stay)}"
    error = np.abs(outputs(model, x=x)[0] - of_layers(x, stay)).max()
    assert error < SINGLE * np.abs(of_layers(x, stay)).max() * 10  # NumPy adds in another order


def test_every_width_is_cut_to_its_share() -> None:
    """The stream of 8 channels that all layers add to is one group, the inner 12 of each layer are others.

    Half stays where nothing is said.
    """
    model = tower(2)
    change = shrunk(model)
    shapes = {name: tuple(value.const_value.shape.numpy()) for name, value in model.graph.initializers.items()}
    assert {shapes["u0"], shapes["u1"]} == {(4, 6)} and {shapes["v0"], shapes["v1"]} == {(6, 4)}
    assert (shapes["w"], shapes["z"]) == ((8, 4), (4, 8))
    assert "u0" in change.touched and "parameters" in change.notes


def test_the_channels_of_largest_norm_stay() -> None:
    weights = {"w": noise(8, 6) * np.array([1, 9, 1, 9, 9, 1], np.float32), "z": np.ones((6, 8), np.float32)}
    model = model_of(
        "agraph (float[N,8] x) => (float[N,8] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, z) }", **weights
    )
    shrunk(model, width=0.5)
    left = array_of(model, "w")
    assert np.array_equal(left, weights["w"][:, [1, 3, 4]])


def test_patterns_leave_layers_alone() -> None:
    model = tower(4)
    adds = [node.name for node in model.graph if node.op_type == "Add"]
    change = shrunk(model, width=1.0, depth=0.5, skip=[adds[1]])
    assert change.notes["layers"] == "3 -> 2" and adds[1] not in change.touched


def test_a_shape_that_is_not_known_is_seen_on_data_or_left() -> None:
    model, same = tower(4), tower(4)  # no shape was inferred
    with pytest.raises(PassError, match="no residual layer can be left out"):
        shrink_student(model, context(), width=1.0, depth=0.5)
    change = shrink_student(same, context(calibration=Given({"x": noise(3, 8)})), width=1.0, depth=0.5)
    assert change.notes["layers"] == "4 -> 2"


@pytest.mark.parametrize(
    ("options", "told"),
    [({"width": 1.0}, "the student would be the teacher"), ({"depth": 0.5}, "no residual layer can be left out")],
)
def test_what_cannot_be_done_is_told(options: dict[str, float], told: str) -> None:
    plain = model_of("agraph (float[N,8] x) => (float[N,8] y) { y = MatMul(x, w) }", w=noise(8, 8))
    with pytest.raises(PassError, match=told):
        shrunk(plain, **options)


@pytest.mark.parametrize("options", [{"width": 0.0}, {"depth": 1.5}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        shrink_student.options(**options)


def steps_of(passes: str, model: Path, folder: Path) -> list[Any]:
    recipe = folder / "recipe.yaml"
    told = f"training: {SAMPLES}/digits-train.npz, evaluation: {{path: {SAMPLES}/digits-test.npz, labels: label}}"
    recipe.write_text(f"version: 1\ndata: {{{told}, batch_size: 32}}\npasses: {passes}\n")
    return run(Job(load_recipe(recipe), model, folder / "out.onnx", measure=False)).steps


def test_the_student_is_taught_by_what_it_came_from(tmp_path: Path) -> None:
    passes = "[{shrink_student: {width: 0.5}}, {distill: {epochs: 2, learning_rate: 0.003}}]"
    steps = steps_of(passes, SAMPLES / "digits-mlp.onnx", tmp_path)
    before, after = map(float, steps[1].notes["held-out loss"].split(" -> "))
    assert after < 0.5 * before


@pytest.mark.parametrize("dynamic", ["true", "false"])
def test_distill_recovers_between_the_steps_of_gradually(dynamic: str, tmp_path: Path) -> None:
    inner = "[{prune_channels: {ratio: 0.75}}, {distill: {epochs: 1, learning_rate: 0.003}}]"
    passes = f"[{{gradually: {{steps: 2, dynamic: {dynamic}, passes: {inner}}}}}]"
    steps = steps_of(passes, SAMPLES / "digits-mlp.onnx", tmp_path)
    assert [step.name for step in steps] == ["prune_channels", "distill"] * 2
    for step in steps[1::2]:
        before, after = map(float, step.notes["held-out loss"].split(" -> "))
        assert after < before
    assert (steps[0].bytes_after == steps[0].bytes_before) == (dynamic == "true")
    assert steps[-1].bytes_after < 0.3 * steps[0].bytes_before


def test_gradually_leaves_out_layers() -> None:
    inner = "[{drop_layers: {ratio: 0.5}}]"
    recipe = parse_recipe(f"version: 1\npasses: [{{gradually: {{steps: 2, passes: {inner}}}}}]").recipe
    ratios = [step.options.ratio for step in recipe.passes]
    assert drop_layers.share_of is not None and ratios == pytest.approx([0.25, 1 - 0.5 / 0.75], abs=1e-6)
