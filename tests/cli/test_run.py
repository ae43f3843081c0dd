"""onnxpress run: the report in all its forms, flags that win over the recipe, and what a budget does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Call

ENDINGS = ["json", "md", "html"]


def test_run_writes_the_model_and_prints_the_report(call: Call, recipe: Path, model: Path, out: Path) -> None:
    result = call("run", recipe, model, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.startswith("model.onnx -> small.onnx: 37.1 kB -> ")
    assert out.stat().st_size < model.stat().st_size / 3
    titles = ["Steps", "Size", "Latency", "Cost of one inference", "Accuracy", "Drop against original", "Environment"]
    lines = result.stdout.splitlines()
    assert [line for line in lines if line in titles] == titles
    assert "\x1b" not in result.stdout
    assert max(map(len, lines)) <= 120


def test_json_is_one_document_on_success(call: Call, recipe: Path, model: Path, out: Path) -> None:
    document = json.loads(call("run", recipe, model, "-o", out, "--json").stdout)
    assert [step["name"] for step in document["steps"]] == ["simplify", "quantize_dynamic"]
    assert document["bytes_after"] < document["bytes_before"]
    assert document["comparison"]["accuracy"]["metrics"]["top1"]["models"]["original"]["value"] == 1.0


def test_reports_by_ending_and_the_replay_of_one(
    call: Call, recipe: Path, model: Path, out: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    flags = [word for ending in ENDINGS for word in ("--report", folder / f"r.{ending}")]
    assert call("run", recipe, model, "-o", out, *flags).exit_code == 0
    assert (folder / "r.md").read_text().startswith("## model.onnx -> small.onnx\n")
    assert (folder / "r.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in folder.iterdir()) == ["r.html", "r.json", "r.md"]
    again = tmp_path / "again.onnx"
    assert call("run", folder / "r.json", "-o", again).exit_code == 0
    assert again.read_bytes() == out.read_bytes()


def test_what_is_timed_has_the_shape_that_is_given(
    call: Call, recipe: Path, model: Path, out: Path, tmp_path: Path
) -> None:
    recipe.write_text("version: 1\nmeasure: {seconds: 0.05, shapes: {x: [3, 32]}}\npasses: [quantize_dynamic]\n")
    by_recipe = json.loads(call("run", recipe, model, "-o", out, "--json").stdout)
    assert by_recipe["comparison"]["feed"]["shapes"] == {"x": [3, 32]}
    by_flag = call("run", recipe, model, "-o", out, "--force", "--json", "--shape", "x=5,32")
    assert json.loads(by_flag.stdout)["comparison"]["feed"]["shapes"] == {"x": [5, 32]}
    wrong = call("run", recipe, model, "-o", out, "--force", "--shape", "x=5,33")
    assert wrong.exit_code == 2
    assert "--shape: the shape [5, 33] does not fit input 'x', which is [batch, 32]" in wrong.stderr


@pytest.mark.parametrize("report", ["r.txt", "absent/r.md", "."])
def test_a_report_that_cannot_be_written_stops_before_any_work(
    call: Call, recipe: Path, model: Path, out: Path, tmp_path: Path, report: str
) -> None:
    result = call("run", recipe, model, "-o", out, "--report", tmp_path / report)
    assert result.exit_code == 2
    assert "--report" in result.stderr
    assert not out.exists()


def test_github_is_told_of_a_missed_budget_at_its_line(
    call: Call, recipe: Path, model: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe.write_text("version: 1\npasses: [quantize_dynamic]\nbudget:\n  max_size: 1%\n")
    words = ("run", recipe, model, "-o", out, "--no-measure", "--force")
    assert "::error" not in call(*words).stderr
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = call(*words)
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("::error")]
    assert len(lines) == 1
    assert lines[0].startswith(f"::error file={recipe},line=4,col=13::budget missed: max_size: wanted at most 1%25 of")


def test_the_exit_status_is_in_every_document(call: Call, recipe: Path, model: Path, out: Path, tmp_path: Path) -> None:
    words = ("run", recipe, model, "-o", out, "--no-measure", "--force", "--json")
    for limit, status in (("90%", 0), ("1%", 1), ("no size", 2)):
        result = call(*words, "--set", f"budget.max_size={limit}", "--report", tmp_path / f"{status}.json")
        assert json.loads(result.stdout)["exit_status"] == result.exit_code == status
        assert status == 2 or json.loads((tmp_path / f"{status}.json").read_text())["exit_status"] == status
    for others in (("inspect", model), ("passes",), ("passes", "low_rank"), ("bench", model, "--seconds", "0.01")):
        assert json.loads(call(*others, "--json").stdout)["exit_status"] == 0
    plan = call("run", recipe, model, "--dry-run", "--json")
    assert json.loads(plan.stdout)["exit_status"] == 0


def test_a_missed_budget_is_status_1_and_the_output_is_there(call: Call, recipe: Path, model: Path, out: Path) -> None:
    result = call("run", recipe, model, "-o", out, "--set", "budget.max_size=1%", "--allow-unproven")
    assert result.exit_code == 1
    assert out.exists()
    assert "budget missed: max_size: wanted at most 1% of 37.1 kB, measured " in result.stderr
    assert f"{out} was written all the same" in result.stderr
    assert "budget missed: size" in " ".join(result.stdout.split())


def test_a_missed_budget_leaves_json_alone(call: Call, recipe: Path, model: Path, out: Path) -> None:
    result = call("run", recipe, model, "-o", out, "--json", "--set", "budget.max_size=1%")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["verdicts"][0]["verdict"] == "missed"


def test_what_is_not_proven_is_status_1_unless_allowed(call: Call, recipe: Path, model: Path, out: Path) -> None:
    """100 samples cannot prove a drop of at most 0.01 %, whatever the model does."""
    words = ["run", recipe, model, "-o", out, "--force", "--set", "budget.max_drop=0.01%"]
    result = call(*words)
    assert result.exit_code == 1
    assert "budget not proven: max_drop" in result.stderr
    assert "--allow-unproven" in result.stderr
    assert call(*words, "--allow-unproven").exit_code == 0


def test_no_measure(call: Call, recipe: Path, model: Path, out: Path) -> None:
    result = call("run", recipe, model, "-o", out, "--no-measure")
    assert result.exit_code == 0
    assert "Latency, cost, accuracy and fidelity: not measured" in result.stdout
    assert "Median" not in result.stdout


def test_dry_run_writes_nothing(call: Call, recipe: Path, model: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = call("run", recipe, model, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "nothing was written." in result.stdout
    assert "MatMul weights to int8" in result.stdout
    assert sorted(tmp_path.iterdir()) == before


def test_dry_run_as_json(call: Call, recipe: Path, model: Path) -> None:
    plan = json.loads(call("run", recipe, model, "--dry-run", "--json").stdout)["plan"]
    assert set(plan[1]["touched"]) == {"first", "head"}


def test_flags_win_over_the_recipe(call: Call, recipe: Path, model: Path, out: Path) -> None:
    flags = ["--seed", "7", "--threads", "2", "--dim", "batch=3", "--value", "x=1.5", "--provider", "cpu"]
    done = json.loads(call("run", recipe, model, "-o", out, "--json", *flags).stdout)["recipe"]
    assert (done["seed"], done["threads"], done["provider"]) == (7, 2, ["cpu"])
    assert done["measure"]["dims"] == {"batch": 3}
    assert done["measure"]["values"] == {"x": 1.5}


def test_data_of_a_flag_is_found_from_the_working_folder(
    call: Call, recipe: Path, model: Path, data: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    words = ["run", recipe, model, "-o", out, "--data", "../data.npz", "--set", "passes.1=quantize_static", "--json"]
    result = call(*words, "--no-measure")
    assert result.exit_code == 0, result.stderr
    assert "calibration" in json.loads(result.stdout)["hashes"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dim", "batch"], "write name=N"),
        (["--dim", "batch=0"], "write name=N"),
        (["--value", "x=much"], "write name=V"),
        (["--provider", "cudda"], "unknown execution provider 'cudda'; did you mean 'cuda'?"),
        (["--set", "passes.9.x=1"], "the list has entries 0 to 1"),
    ],
)
def test_flags_that_are_wrong(call: Call, recipe: Path, model: Path, out: Path, words: list[str], told: str) -> None:
    result = call("run", recipe, model, "-o", out, *words)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not out.exists()


def test_an_existing_output_needs_force(call: Call, recipe: Path, model: Path, out: Path) -> None:
    out.write_text("old")
    result = call("run", recipe, model, "-o", out)
    assert (result.exit_code, out.read_text()) == (2, "old")
    assert "--force" in result.stderr


def test_a_model_must_be_named(call: Call, recipe: Path, out: Path) -> None:
    assert "give MODEL" in call("run", recipe, "-o", out).stderr


def test_the_recipe_may_name_the_model(call: Call, recipe: Path, model: Path, out: Path) -> None:
    assert call("run", recipe, "-o", out, "--set", "model=model.onnx", "--no-measure").exit_code == 0


def test_quiet_is_the_headline_alone(call: Call, recipe: Path, model: Path, out: Path) -> None:
    result = call("run", recipe, model, "-o", out, "-q", "--no-measure")
    assert result.stdout.startswith("model.onnx -> small.onnx: ")
    assert result.stdout.count("\n") == 1


def test_verbose_names_what_was_touched(call: Call, recipe: Path, model: Path, out: Path) -> None:
    result = call("run", recipe, model, "-o", out, "-v", "--no-measure")
    assert "2 quantize_dynamic  head " in result.stdout


def test_the_step_summary_is_appended_to(
    call: Call, recipe: Path, model: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert call("run", recipe, model, "-o", out, "--json").exit_code == 0
    assert summary.read_text().startswith("before\n## model.onnx -> small.onnx\n")
    assert "| original |" in summary.read_text()
