"""onnxpress quantize: the recipe that it stands for, and that its result must not be slower."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from compress_ops.recipe import parse_recipe

from .conftest import Call


def test_dynamic_without_data(call: Call, model: Path) -> None:
    text = call("quantize", model, "--show-recipe").stdout
    assert yaml.safe_load(text) == {
        "version": 1,
        "passes": ["simplify", "quantize_dynamic"],
        "budget": {"min_speedup": 1},
    }
    parse_recipe(text)


def test_static_with_data_and_every_flag_in_its_place(call: Call, model: Path) -> None:
    flags = ["--data", "c.npz", "--evaluation", "e.npz", "--labels", "y", "--metric", "f1", "--batch-size", "4"]
    more = [
        "--provider",
        "cuda",
        "--provider",
        "cpu",
        "--threads",
        "2",
        "--seed",
        "3",
        "--dim",
        "n=8",
        "--value",
        "s=1",
    ]
    text = call("quantize", model, *flags, *more, "--set", "passes.1.quantize_static.skip=head", "--show-recipe").stdout
    assert yaml.safe_load(text) == {
        "version": 1,
        "provider": ["cuda", "cpu"],
        "threads": 2,
        "seed": 3,
        "data": {
            "batch_size": 4,
            "calibration": "c.npz",
            "evaluation": {"path": "e.npz", "labels": "y", "metrics": ["f1"]},
        },
        "measure": {"dims": {"n": 8}, "values": {"s": 1.0}},
        "passes": ["simplify", {"quantize_static": {"skip": "head"}}],
        "budget": {"min_speedup": 1},
    }
    parse_recipe(text)


@pytest.mark.parametrize(
    "given", [[], ["--data", "data.npz", "--evaluation", "data.npz", "--labels", "label"]], ids=["dynamic", "static"]
)
def test_it_quantizes(
    call: Call, model: Path, data: Path, out: Path, given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    result = call("quantize", model, "-o", out, "--no-measure", "--json", *given)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["steps"][1]["name"] == ("quantize_static" if given else "quantize_dynamic")
    assert report["bytes_after"] < 0.4 * report["bytes_before"]


def test_a_result_that_is_not_fast_enough_is_status_1(call: Call, model: Path, out: Path) -> None:
    flags = ["--set", "measure.seconds=0.05", "--set", "budget.min_speedup=1000"]
    result = call("quantize", model, "-o", out, *flags)
    assert result.exit_code == 1
    assert "budget missed: min_speedup: wanted at least 1000x" in result.stderr
    assert out.exists()


def test_labels_need_evaluation_data(call: Call, model: Path, out: Path) -> None:
    result = call("quantize", model, "-o", out, "--labels", "label")
    assert result.exit_code == 2
    assert "--evaluation" in result.stderr
