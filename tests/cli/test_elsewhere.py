"""What people bring from other tools is recognised, and answered."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

from compress_ops.search import choose

from .conftest import Call


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quantize", "m.onnx", "--calibration", "d.npz"], "No such option: --calibration; it is --data here"),
        (["quantize", "m.onnx", "--output", "o.onnx"], "No such option: --output; it is --out here"),
        (["prune", "m.onnx", "--sparsity", "0.5"], "No such option: --sparsity; it is --ratio here"),
        (["quantize", "--model", "m.onnx"], "No such option: --model; it is MODEL, without a flag here"),
        (["bench", "m.onnx", "--fp16"], "No such option: --fp16"),
        (["quantize", "m.onnx", "--bitz", "4"], "(Possible options: --bits"),  # around it Typer 0.26 writes a tuple
        (["quantize", "m.onnx", "d.npz"], "data is given with --data DATA, the file to write with -o FILE"),
        (["passes", "low_rank", "more"], "see: onnxpress passes --help"),
    ],
)
def test_flags_and_words_of_other_tools(call: Call, words: list[str], told: str) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_flag_that_a_command_lacks_is_not_promised(call: Call) -> None:
    assert "--float16" not in call("bench", "m.onnx", "--fp16").stderr


def test_the_long_name_of_a_provider(call: Call, model: Path) -> None:
    result = call("quantize", model, "--provider", "CPUExecutionProvider", "--dry-run", "-q")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""


def test_accuracy_is_top1(call: Call, model: Path, data: Path) -> None:
    words = ["--data", data, "--labels", "label", "--metric", "accuracy", "--seconds", "0.05"]
    result = call("compare", model, model, *words)
    assert result.exit_code == 0, result.stderr
    assert "top1" in result.stdout


@pytest.mark.parametrize("ratio", ["50%", "0.5"])
def test_a_share_in_percent(call: Call, model: Path, ratio: str) -> None:
    assert "ratio: 0.5\n" in call("prune", model, "--ratio", ratio, "--show-recipe").stdout


@pytest.mark.parametrize("ratio", ["half", "%", "5 0%"])
def test_a_share_that_is_none(call: Call, model: Path, ratio: str) -> None:
    result = call("prune", model, "--ratio", ratio, "--show-recipe")
    assert result.exit_code == 2
    assert "write a share such as 0.5, or 50%" in result.stderr


@pytest.mark.parametrize("command", ["compare", "bench"])
def test_models_with_other_inputs(call: Call, model: Path, tmp_path: Path, command: str) -> None:
    other = tmp_path / "other.onnx"
    graph = '<ir_version: 8, opset_import: ["": 17]> g (int64[N] ids) => (int64[N] y) { y = Identity (ids) }'
    onnx.save(onnx.parser.parse_model(graph), other)
    result = call(command, model, other)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{other} takes ids (int64); {model} takes x (float)" in result.stderr


@pytest.mark.parametrize("slash", ["", "/"])
def test_into_a_folder_under_the_name_of_the_model(
    call: Call, recipe: Path, model: Path, tmp_path: Path, slash: str
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    result = call("run", recipe, model, "--no-measure", "-o", f"{folder}{slash}")
    assert result.exit_code == 0, result.stderr
    assert [file.name for file in folder.iterdir()] == ["model.onnx"]


def test_a_folder_is_not_made_and_the_model_not_replaced(call: Call, recipe: Path, model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    absent = call("run", recipe, model, "--no-measure", "-o", f"{tmp_path}/absent/")
    assert absent.exit_code == 2
    assert "the folder" in absent.stderr
    assert not (tmp_path / "absent").exists()
    assert call("run", recipe, model, "--no-measure", "--force", "-o", tmp_path).exit_code == 2
    assert model.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["quantize"], "model-int8.onnx"),
        (["quantize", "--bits", "4"], "model-int4.onnx"),
        (["quantize", "--float16"], "model-float16.onnx"),
        (["prune", "--ratio", "25%"], "model-pruned.onnx"),
    ],
)
def test_without_out_the_result_lies_beside_the_model(
    call: Call, model: Path, words: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast it is: a model of ten microseconds on a busy machine is none to tell that of."""
    monkeypatch.setattr(choose, "WITHIN_NOISE", 0.01)
    result = call(words[0], model, *words[1:], "--no-measure")
    assert result.exit_code == 0, result.stderr
    written = model.with_name(name)
    assert result.stdout.startswith(f"model.onnx -> {name}: ")
    before = written.read_bytes()
    again = call(words[0], model, *words[1:], "--no-measure")
    assert again.exit_code == 2
    assert f"{name} exists already" in again.stderr
    assert written.read_bytes() == before


def test_run_without_out(call: Call, recipe: Path, model: Path) -> None:
    assert call("run", recipe, model, "--no-measure").exit_code == 0
    assert model.with_name("model-small.onnx").exists()
