"""onnxpress recipe: new, check, schema."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Call


def test_the_new_recipe_passes_its_own_check(call: Call, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    assert call("recipe", "new", "-o", path).exit_code == 0
    assert path.read_text() == call("recipe", "new").stdout
    assert call("recipe", "check", path).stdout == "ok: 2 steps\n"
    assert call("recipe", "check", path, model).stdout == "ok: 2 steps\n"
    assert json.loads(call("recipe", "check", path, "--json").stdout) == {
        "ok": True,
        "steps": 2,
        "exit_status": 0,
    }


def test_a_new_recipe_for_a_model_runs_as_it_is(call: Call, model: Path, tmp_path: Path, out: Path) -> None:
    path = tmp_path / "deep" / "new.yaml"
    path.parent.mkdir()
    assert call("recipe", "new", model, "-o", path).exit_code == 0
    assert "model: ../model.onnx" in path.read_text()
    result = call("run", path, "-o", out, "--set", "measure.seconds=0.05")
    assert result.exit_code == 0, result.stderr
    assert "budget met" in result.stdout
    assert len(call("recipe", "new", model).stdout.splitlines()) <= 40


def test_a_new_recipe_does_not_replace_its_model(call: Call, model: Path) -> None:
    before = model.read_bytes()
    assert call("recipe", "new", model, "-o", model, "--force").exit_code == 2
    assert model.read_bytes() == before


def test_new_replaces_nothing_without_force(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text("mine")
    assert call("recipe", "new", "-o", path).exit_code == 2
    assert path.read_text() == "mine"
    assert call("recipe", "new", "-o", path, "--force").exit_code == 0


def test_check_finds_what_does_not_fit_the_model(call: Call, recipe: Path, model: Path) -> None:
    pattern = ["--set", "passes.1.quantize_dynamic.skip=tail*"]
    assert call("recipe", "check", recipe, *pattern).exit_code == 0
    result = call("recipe", "check", recipe, model, *pattern)
    assert result.exit_code == 2
    assert "skip pattern 'tail*' matches no node" in result.stderr


def test_check_of_one_step(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("version: 1\npasses: [simplify]\n")
    assert call("recipe", "check", path).stdout == "ok: 1 step\n"


def test_check_of_steps_that_are_yet_to_be_found(call: Call, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "auto.yaml"
    path.write_text("version: 1\npasses: auto\n")
    assert call("recipe", "check", path).stdout == "ok: auto, steps are found when it is run\n"
    told = json.loads(call("recipe", "check", path, "--json").stdout)
    assert (told["steps"], told["auto"]["minutes"]) == (0, 10)
    without = call("recipe", "check", path, model)
    assert without.exit_code == 2 and "auto needs calibration data" in without.stderr
    assert call("recipe", "check", path, model, "--set", "data.calibration=random").exit_code == 0


def test_schema_is_json(call: Call) -> None:
    assert json.loads(call("recipe", "schema").stdout)["title"] == "onnxpress recipe"
