"""onnxpress quantize: the recipe that it stands for, and that its result must not be slower."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from compress_ops.measure.comparison import Comparison
from compress_ops.measure.intervals import Interval
from compress_ops.recipe import parse_recipe
from compress_ops.search import trials

from .conftest import Call

pytestmark = pytest.mark.usefixtures("quick_trials")


def test_show_recipe_chooses_without_writing(call: Call, model: Path) -> None:
    result = call("quantize", model, "--show-recipe", "--threads", "2", "--seed", "3")
    shown = yaml.safe_load(result.stdout)
    assert {"version": 1, "threads": 2, "seed": 3}.items() <= shown.items()
    assert _name(shown["passes"][-1]) in ("quantize_dynamic", "quantize_weights")  # by what was faster just now
    parse_recipe(result.stdout)


def test_the_chosen_recipe_gives_the_same_bytes(call: Call, model: Path, data: Path, out: Path) -> None:
    recipe, again = out.parent / "chosen.yaml", out.parent / "again.onnx"
    given = ["--data", data, "--evaluation", data, "--labels", "label"]
    quick = ["--set", "measure.seconds=0.05", "--allow-unproven"]
    result = call("quantize", model, "-o", out, *given, "--recipe-out", recipe, "--json", *quick)
    assert out.exists(), result.stderr
    trials = json.loads(result.stdout)["trials"]
    assert [trial["chosen"] for trial in trials].count(True) == 1
    compared = [trial for trial in trials if trial["closeness"] is not None]  # the others could not win any more
    assert any(trial["chosen"] for trial in compared) and all(trial["closeness"] > 0.9 for trial in compared)
    call("run", recipe, model, "-o", again, "--no-measure")
    assert again.read_bytes() == out.read_bytes()
    assert "allow_unchanged" not in recipe.read_text()


def _name(step: str | dict[str, object]) -> str:
    return step if isinstance(step, str) else next(iter(step))


@pytest.mark.parametrize(
    "given", [[], ["--data", "data.npz", "--evaluation", "data.npz", "--labels", "label"]], ids=["dynamic", "static"]
)
def test_it_quantizes(
    call: Call, model: Path, data: Path, out: Path, given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    result = call("quantize", model, "-o", out, "--no-measure", "--json", *given)
    report = json.loads(result.stdout)
    missed = [verdict["limit"] for verdict in report["verdicts"] if verdict["verdict"] != "met"]
    assert result.exit_code == (1 if missed else 0) and "min_closeness" not in missed, result.stderr
    assert report["bytes_after"] < 0.4 * report["bytes_before"]
    tried = {trial["name"].split()[0] for trial in report["trials"]}
    first, others = ({"static"}, {"smooth,", "dynamic", "8-bit"}) if given else ({"dynamic"}, {"8-bit"})
    assert first <= tried <= first | others  # smoothing and weights alone are tried where they can still win


def test_a_result_that_is_not_fast_enough_is_status_1(call: Call, model: Path, out: Path) -> None:
    flags = ["--set", "measure.seconds=0.05", "--set", "budget.min_speedup=1000"]
    result = call("quantize", model, "-o", out, *flags)
    assert result.exit_code == 1
    assert "budget missed: min_speedup: wanted at least 1000x" in result.stderr
    assert out.exists()


def test_labels_need_data(call: Call, model: Path, out: Path) -> None:
    result = call("quantize", model, "-o", out, "--labels", "label")
    assert result.exit_code == 2
    assert "labels and metrics belong to data" in result.stderr
    assert "--evaluation" in result.stderr


def test_labels_in_the_calibration_data_are_scored_and_that_is_said(
    call: Call, model: Path, data: Path, out: Path
) -> None:
    given = ["--data", data, "--labels", "label", "--metric", "f1", "--set", "measure.seconds=0.05", "--allow-unproven"]
    result = call("quantize", model, "-o", out, *given, "--json")
    report = json.loads(result.stdout)
    assert report["comparison"]["accuracy"]["data"] == str(data)
    assert set(report["comparison"]["accuracy"]["metrics"]) == {"f1"}
    assert "scored on --data, which the model is fitted to; --evaluation DATA is a fairer judge" in result.stderr
    quiet = call("quantize", model, *given, "--show-recipe", "-q")
    assert "fairer" not in quiet.stderr and yaml.safe_load(quiet.stdout)["data"]["evaluation"]["metrics"] == ["f1"]


def test_labels_that_the_data_lacks_are_a_fault_of_its_flag(call: Call, model: Path, data: Path, out: Path) -> None:
    result = call("quantize", model, "-o", out, "--data", data, "--labels", "kind")
    assert result.exit_code == 2
    assert f"--data: {data}: there is no labels array 'kind'" in result.stderr


def test_the_choice_for_a_provider_is_told_with_its_reason(call: Call, model: Path, out: Path) -> None:
    """It is told before the provider is asked for: here there is none such."""
    result = call("quantize", model, "-o", out, "--provider", "cuda")
    assert result.exit_code == 2
    assert "float16 is chosen for 'cuda': it has tensor cores for float16" in result.stderr
    assert "is chosen" not in call("quantize", model, "-o", out, "--provider", "cuda", "--bits", "4").stderr


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--set", "passes.0.simplify.fold_batchnorm=false"], "quantize chooses the passes itself"),
        (["--recipe-out", "nowhere/recipe.yaml"], "the folder nowhere does not exist"),
        (["--min-cosine", "1.5"], "--min-cosine"),
    ],
    ids=["set", "recipe out", "cosine"],
)
def test_what_cannot_be_asked_of_it(call: Call, model: Path, out: Path, flags: list[str], told: str) -> None:
    result = call("quantize", model, "-o", out, *flags)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not out.exists()


def test_dry_run_plans_what_would_be_chosen(call: Call, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are made equal: measured twice, they might choose differently."""
    compare = trials.compare_models

    def as_fast(*given: Any, **more: Any) -> Comparison:
        found = compare(*given, **more)
        latency: Any = found.latency
        if isinstance(latency, str):
            return found
        as_one = {"speedup": 1.0, "speedup_interval": Interval(1.0, 1.0)}
        models = {name: replace(model, **as_one) for name, model in latency.models.items()}
        return replace(found, latency=replace(latency, models=models))

    monkeypatch.setattr(trials, "compare_models", as_fast)
    planned = json.loads(call("quantize", model, "--dry-run", "--json").stdout)["plan"]
    shown = yaml.safe_load(call("quantize", model, "--show-recipe").stdout)["passes"]
    assert [step["name"] for step in planned] == [_name(step) for step in shown]


@pytest.mark.parametrize(
    ("flags", "name"),
    [(["--bits", "8"], "quantize_weights"), (["--float16"], "to_float16"), (["--clusters", "16"], "cluster_weights")],
)
def test_a_way_that_is_told_is_taken_untried(call: Call, model: Path, out: Path, flags: list[str], name: str) -> None:
    recipe = out.parent / "told.yaml"
    result = call("quantize", model, "-o", out, "--no-measure", "--json", "--recipe-out", recipe, *flags)
    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert [step["name"] for step in report["steps"]] == ["simplify", name]
    assert report["trials"] == []
    assert name in recipe.read_text()


def test_two_ways_are_refused(call: Call, model: Path, out: Path) -> None:
    result = call("quantize", model, "-o", out, "--bits", "4", "--float16")
    assert result.exit_code == 2
    assert "are different ways" in result.stderr
