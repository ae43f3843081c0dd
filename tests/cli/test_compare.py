"""onnxpress compare and bench: two or more models side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .conftest import Call


@pytest.fixture
def small(call: Call, recipe: Path, model: Path, out: Path) -> Path:
    assert call("run", recipe, model, "-o", out, "--no-measure").exit_code == 0
    return out


def _table(text: str, title: str) -> list[list[str]]:
    """The cells of a printed table, header first."""
    lines = text.partition(f"\n{title}\n")[2].split("\n\n")[0].splitlines()
    return [[cell for cell in line.split("  ") if cell] for line in lines]


def test_compare_scores_every_model_by_the_usual_metrics(call: Call, model: Path, small: Path, data: Path) -> None:
    third = model.with_name("third.onnx")
    shutil.copy(model, third)
    words = ["compare", model, small, third, "--data", data, "--labels", "label", "--seconds", "0.05"]
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    header, original, *others = _table(result.stdout, "Accuracy")[:4]
    assert [cell.strip() for cell in header] == ["Model", "top1", "precision", "recall", "f1"]
    assert original[0] == "model.onnx"
    assert original[1].strip() == "100.0 % [96.3, 100.0]"  # Wilson's interval: 100 / (100 + 1.96^2) = 0.963
    assert [row[0] for row in others] == ["small.onnx", "third.onnx"]
    assert "third.onnx  scores" in result.stdout
    assert "identical" in result.stdout
    assert "100 samples of data.npz" in result.stdout


def test_without_data_the_feed_is_synthetic_and_said_to_be(call: Call, model: Path, small: Path) -> None:
    result = call("compare", model, small, "--seconds", "0.05")
    assert result.exit_code == 0, result.stderr
    assert "One inference: x 1x32 (synthetic data), on cpu with 1 thread." in result.stdout
    assert "not measured: no evaluation data is given" in result.stdout


def test_compare_as_json_and_as_markdown(call: Call, model: Path, small: Path, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "c.md"
    words = ["--data", data, "--labels", "label", "--metric", "f1", "--seconds", "0.05"]
    result = call("compare", model, small, *words, "--json", "--report", report)
    assert list(json.loads(result.stdout)["accuracy"]["metrics"]) == ["f1"]
    assert "| small.onnx |" in report.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--labels", "label"], "give --data DATA"),
        (["--metric", "topp1"], "unknown metric 'topp1'; did you mean 'top1'?"),
    ],
)
def test_what_does_not_go_together(call: Call, model: Path, small: Path, words: list[str], told: str) -> None:
    result = call("compare", model, small, *words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_model_against_itself_shows_the_noise(call: Call, model: Path) -> None:
    result = call("compare", model, model, model, "--seconds", "0.05")
    assert result.exit_code == 0, result.stderr
    assert [row[0] for row in _table(result.stdout, "Size")[1:]] == ["model.onnx", "model.onnx (2)", "model.onnx (3)"]
    assert "model.onnx (3)  scores" in result.stdout
    assert "identical" in result.stdout


def test_files_of_one_name_go_by_their_paths(call: Call, model: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin" / model.name
    twin.parent.mkdir()
    shutil.copy(model, twin)
    document = json.loads(call("bench", model, twin, "--seconds", "0.05", "--json").stdout)
    assert list(document["models"]) == [str(model), str(twin)]


def test_bench_measures_latency_only(call: Call, model: Path, small: Path) -> None:
    result = call("bench", model, small, "--seconds", "0.05", "--batch", "4")
    assert result.exit_code == 0, result.stderr
    assert "One inference: x 4x32 (synthetic data)" in result.stdout
    assert "Speed-up" in result.stdout
    assert "Size" not in result.stdout
    assert "Accuracy" not in result.stdout


def test_bench_of_one_model(call: Call, model: Path) -> None:
    result = call("bench", model, "--seconds", "0.05", "-q")
    assert result.stdout.startswith("model.onnx: ")
    assert result.stdout.endswith(" per inference (median).\n")
