"""onnxpress auto: the recipe that its flags stand for, which of them do not go together, and what is limited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from cli.auto import DEVICES
from compress_ops.catalogue import PASSES
from compress_ops.devices import TARGETS
from compress_ops.pipeline import Job, run, with_passes
from compress_ops.pipeline.preflight import prepare
from compress_ops.recipe import Auto, parse_recipe, step_from
from compress_ops.report.report import Report

from .conftest import Call

QUICK = ["--set", "measure.seconds=0.05", "--allow-unproven"]
Asked = list[tuple[Job, bool]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The jobs that a search is asked for, and whether the best is kept; it checks the job, and finds dynamic int8."""
    jobs: Asked = []

    def found(job: Job, *, keep_best: bool = False) -> Report:
        prepare(job)
        jobs.append((job, keep_best))
        return run(with_passes(job, [step_from(PASSES["quantize_dynamic"], {})]))

    monkeypatch.setattr("compress_ops.search.run_auto", found, raising=False)
    return jobs


@pytest.fixture
def given(call: Call, model: Path, data: Path, out: Path) -> Callable[..., Any]:
    """``given("--smallest")`` is onnxpress auto with data and this flag."""
    return lambda *words: call("auto", model, "-o", out, "--data", data, "--labels", "label", *QUICK, *words)


def test_the_recipe_that_it_stands_for(given: Callable[..., Any], asked: Asked, data: Path, out: Path) -> None:
    limits = ["--max-size", "60%", "--min-speedup", "0.001", "--max-drop", "50%", "--min-closeness", "0.5"]
    wants = ["--smallest", "--device", "server-avx512", "--for", "memory", "--trials", "3", "--seed", "4"]
    result = given(*limits, *wants, "--retrain", "--training", data, "--keep-best")
    assert result.exit_code == 0, result.stderr
    ((job, keep_best),) = asked
    recipe = job.recipe
    assert recipe.auto == Auto(objective="smallest", device="server-avx512", purpose="memory", trials=3, retrain=True)
    limited = {"max_size": "60%", "min_speedup": 0.001, "max_drop": "50%", "min_closeness": 0.5}
    assert recipe.budget.model_dump(exclude_none=True) == limited
    assert recipe.data.training is not None and recipe.data.training.path == str(data)
    assert (recipe.seed, recipe.passes, keep_best, job.out, job.resume) == (4, [], True, out, False)
    assert out.exists()


@pytest.mark.parametrize(
    ("flags", "storage", "kept"),
    [(["--storage", "study.db"], "study.db", "study.db"), (["--resume"], None, "{}.search.db"), ([], None, None)],
    ids=["storage", "resume", "neither"],
)
def test_an_interrupted_search_says_how_to_go_on(
    given: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    flags: list[str],
    storage: str | None,
    kept: str | None,
) -> None:
    def interrupted(job: Job, *, keep_best: bool = False) -> Report:
        assert (job.recipe.auto.storage, job.resume) == (storage, flags == ["--resume"])
        raise KeyboardInterrupt

    monkeypatch.setattr("compress_ops.search.run_auto", interrupted)
    result = given(*flags)
    assert result.exit_code == 130 and not out.exists()
    told = f"{(kept or '').format(out)} holds the search as far as it came: the same command with --resume goes on"
    assert (told in result.stderr) is (kept is not None), result.stderr


def test_what_is_lost_is_limited_unasked(
    given: Callable[..., Any], call: Call, model: Path, out: Path, asked: Asked
) -> None:
    given()
    call("auto", model, "-o", out, "--data", "random", "--force", *QUICK)
    budgets = [job.recipe.budget.model_dump(exclude_none=True) for job, _ in asked]
    assert budgets == [{"max_drop": "1%"}, {"min_closeness": 0.99}]


def test_a_limit_that_is_missed_is_status_1(given: Callable[..., Any], asked: Asked, out: Path) -> None:
    result = given("--max-size", "1%")
    assert result.exit_code == 1 and out.exists()
    assert "budget missed: max_size: wanted at most 1% of 37.1 kB" in result.stderr


def test_the_recipe_that_was_found_gives_the_same_bytes(
    given: Callable[..., Any], call: Call, asked: Asked, model: Path, out: Path, tmp_path: Path
) -> None:
    kept, again = tmp_path / "found.yaml", tmp_path / "again.onnx"
    assert given("--recipe-out", kept, "--max-size", "50%").exit_code == 0
    written = yaml.safe_load(kept.read_text())
    assert written["passes"] == ["quantize_dynamic"] and "auto" not in written
    assert written["budget"]["max_size"] == "50%" and written["data"]["calibration"] == "data.npz"
    assert parse_recipe(kept.read_text()).recipe.auto is None
    assert call("run", kept, model, "-o", again, "--allow-unproven").exit_code == 0
    assert again.read_bytes() == out.read_bytes()
    assert len(asked) == 1


def test_a_recipe_of_auto_is_done_by_the_same_search(
    call: Call, asked: Asked, recipe: Path, model: Path, out: Path
) -> None:
    changed = ["--set", "passes=auto", "--set", "auto.minutes=2", "--data", "random"]
    result = call("run", recipe, model, "-o", out, *changed, "--allow-unproven")
    assert result.exit_code == 0, result.stderr
    ((job, keep_best),) = asked
    assert job.recipe.auto == Auto(minutes=2) and not keep_best


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--smallest", "--fastest"], "--smallest and --fastest are different aims"),
        (["--fastest", "--closest"], "--fastest and --closest are different aims"),
        (["--fastest", "--for", "transfer"], "--for: purpose: transfer wants the smallest, and objective is fastest"),
        (["--minutes", "3", "--trials", "2"], "--minutes and --trials both say when to stop"),
        (["--minutes", "0"], "--minutes: minutes: should be greater than 0"),
        (["--trials", "0"], "--trials: trials: should be greater than or equal to 1"),
        (["--for", "fun"], "--for: purpose: should be 'transfer', 'memory', 'latency' or 'energy' (found 'fun')"),
        (["--storage", ""], "--storage: storage: "),
        (["--device", "arm-fone"], "did you mean 'arm-phone'?"),
        (["--max-size", "0%"], "--max-size: max_size: '0%' is no size"),
        (["--max-size", "-5 MB"], "--max-size: max_size: '-5 MB' is no size"),
        (["--max-size", "25"], "25 bytes? write 25% or 25 MB"),
        (["--min-speedup", "-1"], "--min-speedup: min_speedup: should be greater than 0"),
        (["--max-drop", "-1%"], "--max-drop: max_drop: '-1%' is no drop"),
        (["--min-closeness", "1.5"], "--min-closeness: min_closeness: should be less than or equal to 1"),
        (["--retrain"], "--retrain: retrain needs training data"),
        (["--training", "data.npz"], "--training is read by --retrain alone"),
        (["--retrain", "--training", "none.npz"], "--training: none.npz: the data does not exist"),
        (["--set", "passes.0=simplify"], "auto chooses the passes itself"),
        (["--no-measure"], "--no-measure: auto makes models and measures them"),
        (["--dry-run"], "--dry-run: auto makes models and measures them"),
        (["--device", "tensorrt"], "--device: execution provider 'tensorrt' is not in this onnxruntime build"),
        (["--recipe-out", "nowhere/recipe.yaml"], "the folder nowhere does not exist"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_of_it(
    given: Callable[..., Any], asked: Asked, out: Path, flags: list[str], told: str
) -> None:
    result = given(*flags)
    assert result.exit_code == 2
    assert told in result.stderr, result.stderr
    assert not out.exists() and not asked


def test_without_data_it_says_how_to_get_some(call: Call, asked: Asked, model: Path, out: Path) -> None:
    result = call("auto", model, "-o", out)
    assert result.exit_code == 2 and not asked
    assert "auto needs calibration data\n  a few dozen inputs" in result.stderr


def test_a_drop_needs_a_metric(call: Call, asked: Asked, model: Path, out: Path) -> None:
    result = call("auto", model, "-o", out, "--data", "random", "--max-drop", "1%")
    assert result.exit_code == 2 and not asked
    assert "--max-drop: max_drop needs evaluation data and a metric\n  give data.evaluation" in result.stderr


def test_what_is_known_of_a_device_is_said(given: Callable[..., Any], asked: Asked) -> None:
    told = given("--device", "browser-wasm").stderr
    assert f"browser-wasm: {TARGETS['browser-wasm'].why}" in told
    assert "times are those of this machine, which is no browser-wasm" in told
    assert "scored on --data, which the model is fitted to" in told
    assert "browser-wasm" not in given("--device", "browser-wasm", "--force", "-q").stderr


def test_its_help_names_every_device_and_purpose(call: Call) -> None:
    assert ", ".join(TARGETS) == DEVICES
    text = call("auto", "--help").stdout
    purposes = get_args(get_args(Auto.model_fields["purpose"].annotation)[0])
    assert all(word in text for word in (*TARGETS, *purposes))


def test_json_is_one_document(given: Callable[..., Any], asked: Asked) -> None:
    report = json.loads(given("--json").stdout)
    assert [step["name"] for step in report["steps"]] == ["quantize_dynamic"]
    assert "auto" not in report["recipe"]
