"""onnxpress inspect: what a model is made of, and what could be compressed."""

from __future__ import annotations

import json
import re
from pathlib import Path

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
