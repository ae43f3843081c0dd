"""onnxpress prune: the recipe that it stands for, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.helpers import SAMPLES

from .conftest import Call

CALIBRATION = SAMPLES / "digits-calibration.npz"
REFIT = {"refit": {"allow_unchanged": True}}


def passes(call: Call, model: Path, *given: object) -> list[object]:
    result = call("prune", model, "--show-recipe", *given)
    assert result.exit_code == 0, result.stderr
    return yaml.safe_load(result.stdout)["passes"]


def test_what_it_stands_for(call: Call, model: Path, data: Path) -> None:
    assert passes(call, model) == ["simplify", {"prune_channels": {"ratio": 0.5}}, "unfuse_norms"]
    seen = {"score": "activation_weight", "scope": "least_error"}
    with_data = [{"prune_channels": {"ratio": 0.3, **seen}}, REFIT]
    assert passes(call, model, "--ratio", "0.3", "--data", data)[1:3] == with_data
    heads = {"ratio": 0.5, "score": "activation_weight"}
    assert passes(call, model, "--heads", "--data", data)[1] == {"prune_heads": heads}
    timed = {"ratio": 0.5, "by": "latency", "score": "activation_weight"}
    assert passes(call, model, "--by", "latency", "--data", data)[1] == {"prune_channels": timed}
    own = passes(call, model, "--data", data, "--set", "passes.1.prune_channels.score=l2")[1]["prune_channels"]
    assert own["score"] == "l2"
    assert passes(call, model, "--weights")[1:] == [{"prune_weights": {"ratio": 0.5}}, "pack_sparse"]
    assert passes(call, model, "--heads")[1] == {"prune_heads": {"ratio": 0.5}}
    assert passes(call, model, "--by", "flops")[1] == {"prune_channels": {"ratio": 0.5, "by": "flops"}}
    gradual = {"steps": 3, "passes": [{"prune_channels": {"ratio": 0.5, **seen}}, REFIT]}
    assert passes(call, model, "--steps", "3", "--data", data)[1:2] == [{"gradually": gradual}]


def test_the_recipe_shown_gives_the_same_bytes(call: Call, model: Path, data: Path, out: Path) -> None:
    flags = ["--data", data, "--evaluation", data, "--labels", "label", "--set", "passes.2.refit.ridge=0.1"]
    result = call("prune", model, "-o", out, *flags, "--json", "--no-measure")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [step["name"] for step in report["steps"]] == ["simplify", "prune_channels", "refit", "unfuse_norms"]
    assert report["bytes_after"] < 0.6 * report["bytes_before"]
    recipe, again = out.parent / "shown.yaml", out.parent / "again.onnx"
    recipe.write_text(call("prune", model, "--show-recipe", "--no-measure", *flags).stdout)
    assert call("run", recipe, model, "-o", again, "--no-measure").exit_code == 0
    assert again.read_bytes() == out.read_bytes()


def test_a_cut_that_destroys_the_model_is_status_1_and_tells_what_would_help(call: Call, out: Path) -> None:
    quick = ["--set", "measure.seconds=0.05"]
    result = call("prune", SAMPLES / "digits-cnn.onnx", "-o", out, *quick)
    assert result.exit_code == 1 and out.exists()
    told = " ".join(result.stdout.split())
    assert "budget missed: closeness to the original 0." in told and "output 'logits' where at least 0.9" in told
    for remedy in ("--data FILE lets refit make up", "a lower --ratio cuts less", "onnxpress distill trains"):
        assert f"might help: {remedy}" in result.stderr
        assert f"Might help: {remedy}" in told
    mended = call("prune", SAMPLES / "digits-cnn.onnx", "-o", out, "--force", *quick, "--data", CALIBRATION)
    assert mended.exit_code == 0, mended.stderr


def test_with_a_metric_the_metric_is_what_counts(call: Call, model: Path, data: Path) -> None:
    shown = call("prune", model, "--show-recipe", "--data", data, "--labels", "label").stdout
    assert yaml.safe_load(shown)["budget"] == {"max_drop": "5%"}
    assert yaml.safe_load(call("prune", model, "--show-recipe").stdout)["budget"] == {"min_closeness": 0.9}


def test_a_dry_run_tells_the_plan(call: Call, model: Path, data: Path, out: Path) -> None:
    result = call("prune", model, "--data", data, "--evaluation", data, "--labels", "label", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)["plan"]
    assert [bool(step["touched"]) for step in plan[1:]] == [True, True, False]
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--heads", "--weights"], "--heads and --weights are two ways"),
        (["--heads", "--by", "flops"], "--by is about channels, not --heads"),
        (["--by", "flop"], "by: should be 'channels', 'parameters', 'flops' or 'latency' (found 'flop')"),
        (["--steps", "1"], "steps: should be greater than or equal to 2 (found 1)"),
        (["--labels", "label"], "--evaluation"),
        (["--ratio", "1"], "ratio"),
        (["--ratio", "0"], "ratio"),
        (["--heads"], "changed nothing"),
    ],
)
def test_what_does_not_go(call: Call, model: Path, out: Path, flags: list[str], told: str) -> None:
    result = call("prune", model, "-o", out, *flags)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not out.exists()
