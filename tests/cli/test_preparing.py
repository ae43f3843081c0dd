"""Every one-liner prepares a model alike: raised to a newer operator set where that can be done, and simplified."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from tests.helpers import noise, proto_of

from .conftest import Call

OLD = """<ir_version: 4, opset_import: ["": 9]> g (float[N,64] x) => (float[N,64] y)
    { p = Mul(v, v) s = ReduceSum<axes=[1]>(p) n = Sqrt(s) q = Div(v, n) w = Mul(q, g) a = Gemm<transB=1>(x, w, b)
      r = Relu(a) y = Gemm<transB=1>(r, V, b) }"""
WRITTEN = (0, 1)  # whether it is also proven to be fast is another question
RAISED = {"upgrade_opset": {"to": 17}}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Opset 9, a weight behind its normalization."""
    weights = {"v": noise(64, 64), "g": noise(64, 1, seed=1), "V": noise(64, 64, seed=2), "b": np.zeros(64, np.float32)}
    onnx.save(proto_of(OLD, **weights), tmp_path / "old.onnx")
    return tmp_path / "old.onnx"


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("quantize", ["--bits", "4"]),
        ("quantize", ["--float16"]),
        ("quantize", ["--clusters", "16"]),
        ("quantize", []),
        ("prune", []),
        ("prune", ["--weights"]),
    ],
)
def test_an_old_model_is_raised_and_simplified_first(call: Call, old: Path, out: Path, command, flags) -> None:
    result = call(command, old, "-o", out, *flags, "--no-measure", "--json")
    assert result.exit_code in WRITTEN, result.stderr
    steps = json.loads(result.stdout)["steps"]
    assert [step["name"] for step in steps[:2]] == ["upgrade_opset", "simplify"]
    assert steps[1]["touched"], "the weight normalization is folded"
    assert onnx.load(out).opset_import[0].version >= 17


@pytest.mark.parametrize(("command", "flags"), [("quantize", ["--bits", "4"]), ("prune", [])])
def test_the_recipe_shown_says_so(call: Call, old: Path, command: str, flags: list[str]) -> None:
    shown = yaml.safe_load(call(command, old, *flags, "--show-recipe").stdout)
    assert shown["passes"][0] in ("upgrade_opset", RAISED)  # 17 is the default
    assert shown["passes"][1] == "simplify"


def test_options_are_set_by_the_places_that_the_help_shows(call: Call, old: Path, out: Path) -> None:
    result = call("prune", old, "-o", out, "--set", "passes.1.prune_channels.ratio=0.25", "--no-measure", "--json")
    assert json.loads(result.stdout)["recipe"]["passes"][2]["prune_channels"]["ratio"] == 0.25


def test_a_model_that_cannot_be_raised_is_taken_as_it_is(call: Call, tmp_path: Path, out: Path) -> None:
    """Hardmax over several axes has no form of opset 13 or newer."""
    text = """<ir_version: 7, opset_import: ["": 12]> g (float[2,4,64] x) => (float[2,4,64] y)
        { h = Hardmax<axis=1>(x) y = MatMul(h, w) }"""
    onnx.save(proto_of(text, w=noise(64, 64)), tmp_path / "hard.onnx")
    result = call("quantize", tmp_path / "hard.onnx", "-o", out, "--clusters", "16", "--no-measure", "--json")
    assert result.exit_code == 0, result.stderr
    assert [step["name"] for step in json.loads(result.stdout)["steps"]] == ["simplify", "cluster_weights"]


def test_a_missing_model_is_told_with_the_other_faults(call: Call, tmp_path: Path, out: Path) -> None:
    result = call("quantize", tmp_path / "none.onnx", "-o", out, "--bits", "4")
    assert result.exit_code == 2
    assert "none.onnx" in result.stderr


@pytest.mark.parametrize(
    "text",
    [
        "W = Cast<to=1>(Wh) y = MatMul(x, W)",
        "f = Cast<to=1>(Wh) W = Transpose<perm=[1,0]>(f) y = MatMul(x, W)",
    ],
)
def test_int8_is_judged_after_simplification(call: Call, tmp_path: Path, out: Path, text: str) -> None:
    half = proto_of(f"g (float[N,64] x) => (float[N,64] y) {{ {text} }}", Wh=noise(64, 64).astype(np.float16))
    onnx.save(half, tmp_path / "half.onnx")
    result = call("quantize", tmp_path / "half.onnx", "-o", out, "--no-measure", "--json")
    assert result.exit_code in WRITTEN, result.stderr
    assert out.stat().st_size < 0.8 * (tmp_path / "half.onnx").stat().st_size
