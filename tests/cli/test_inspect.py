"""onnxpress inspect: what a model is made of, and what could be compressed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .conftest import Call

# MatMul 1x32 by 32x256 and 1x256 by 256x4, two FLOPs per multiply-accumulate
FLOPS = 2 * (32 * 256 + 256 * 4)


def test_inspect_in_words(call: Call, model: Path) -> None:
    result = call("inspect", model)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("model.onnx: 9,216 parameters, 37.1 kB, 18.4 kFLOP per inference, 3 nodes.\n")
    assert "input     x: float [batch, 32]" in result.stdout
    assert "at batch = 1" in result.stdout
    assert re.search(r"\nquantize_dynamic +2 ", result.stdout)
    assert "prune_weights was not tried: give one of ratio and threshold" in result.stdout


def test_inspect_as_json(call: Call, model: Path) -> None:
    found = json.loads(call("inspect", model, "--dim", "batch=10", "--json").stdout)
    assert found["flops"] == 10 * FLOPS
    assert found["operators"] == {"MatMul": 2, "Relu": 1}
    assert "quantize_dynamic" in [tried["name"] for tried in found["prospects"] if isinstance(tried, dict)]


@pytest.mark.parametrize("shape", ["x=10,32", "x=10x32", "x=[10, 32]"])
def test_a_whole_shape(call: Call, model: Path, shape: str) -> None:
    assert json.loads(call("inspect", model, "--shape", shape, "--json").stdout)["flops"] == 10 * FLOPS


@pytest.mark.parametrize("shape", ["x", "x=", "x=1,0", "x=1,a", "=1,2"])
def test_a_shape_that_is_none(call: Call, model: Path, shape: str) -> None:
    result = call("inspect", model, "--shape", shape)
    assert result.exit_code == 2
    assert "write INPUT=N,N,... with whole numbers from 1, such as image=1,3,48,192" in result.stderr


def test_nodes_are_listed_on_demand(call: Call, model: Path) -> None:
    assert "\nfirst  MatMul" in call("inspect", model, "--nodes").stdout
    assert "\nfirst  MatMul" not in call("inspect", model).stdout


def test_a_size_that_no_input_has(call: Call, model: Path) -> None:
    result = call("inspect", model, "--dim", "batsh=2")
    assert result.exit_code == 2
    assert "did you mean 'batch'?" in result.stderr


def test_nothing_is_written(call: Call, model: Path) -> None:
    before = model.read_bytes()
    call("inspect", model)
    assert list(model.parent.iterdir()) == [model]
    assert model.read_bytes() == before


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onnxpress"


def test_a_scan_in_words(call: Call, model: Path, data: Path, cache: Path) -> None:
    result = call("inspect", model, "--sensitivity", "prune", "--ratio", "0.25", "--data", data, "--labels", "label")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("model.onnx: 1 part changed one at a time by prune_channels; ")
    assert re.search(r"\nfirst +64 of 256 channels +2,304 +9\.22 kB +0\.\d{4} +\d+\.\d dB ", result.stdout)
    assert "prune_channels: {ratio: 0.25" in result.stdout
    assert "100 samples" in result.stdout and len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    ("flags", "step"),
    [([], {"quantize_static": {}}), (["--bits", "4"], {"quantize_weights": {"bits": 4}})],
)
def test_a_scan_as_json(
    call: Call, model: Path, data: Path, cache: Path, flags: list[str], step: dict[str, object]
) -> None:
    result = call(
        "inspect",
        model,
        "--sensitivity",
        "quantize",
        "--data",
        data,
        "--labels",
        "label",
        "--json",
        *flags,
        "--no-cache",
    )
    found = json.loads(result.stdout)
    assert [effect["part"]["nodes"] for effect in found["effects"]] in ([["first"], ["head"]], [["head"], ["first"]])
    assert found["step"] == step
    assert not cache.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--sensitivity", "prune"], "a sensitivity scan needs data"),
        (["--sensitivity", "prune", "--data", "D", "--bits", "4"], "--bits does not go with --sensitivity prune"),
        (["--sensitivity", "quantize", "--data", "D", "--ratio", "0.5"], "--ratio does not go with"),
        (["--sensitivity", "prune", "--data", "D", "--ratio", "1.5"], "less than 1"),
        (["--sensitivity", "quantize", "--data", "D", "--bits", "5"], "bits"),
        (["--sensitivity", "prune", "--heads", "--data", "D", "--labels", "label"], "there is no group to cut"),
        (["--ratio", "0.5"], "--ratio belongs to a scan"),
        (["--data", "D"], "--data belongs to a scan"),
        (["--sensitivity", "fast"], "fast"),
    ],
)
def test_flags_that_do_not_go_together(
    call: Call, model: Path, data: Path, cache: Path, words: list[str], told: str
) -> None:
    result = call("inspect", model, *(data if word == "D" else word for word in words))
    assert result.exit_code == 2
    assert told in result.stderr and result.stdout == ""
