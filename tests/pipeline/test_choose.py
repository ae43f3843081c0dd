"""Choosing an int8 recipe: which candidates are tried, which one wins, and what happens where none is close."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from compress_ops.errors import OnnxpressError
from compress_ops.pipeline import Job, choose, choose_int8, preflight, reason_of, run, run_chosen
from compress_ops.pipeline.choose import Trial
from compress_ops.recipe import load_recipe, parse_recipe
from compress_ops.runtime import open_session

SAMPLES = Path(__file__).parents[2] / "sample_models"
CALIBRATED = f"""version: 1
data: {{calibration: {SAMPLES / "digits-calibration.npz"}}}
measure: {{seconds: 0.05}}
passes: [simplify]
"""
PLAIN = "version: 1\nmeasure: {seconds: 0.05}\npasses: [simplify]\n"


def job_of(recipe: str, out: Path, *, sample: str = "digits-cnn", measure: bool = True) -> Job:
    return Job(parse_recipe(recipe), SAMPLES / f"{sample}.onnx", out, measure=measure)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], tuple[float, float]]], list[str]]:
    """Trials whose cosine and speed-up are told by a function of their name, in place of measured ones."""

    def script(outcome: Callable[[str], tuple[float, float]]) -> list[str]:
        tried: list[str] = []

        def pretend(prepared: object, name: str, passes: list[object]) -> Trial:
            tried.append(name)
            cosine, speedup = outcome(name)
            return Trial(name, passes, [], 1, cosine, speedup)  # type: ignore[arg-type]

        monkeypatch.setattr(choose, "_try", pretend)
        return tried

    return script


def test_the_fastest_close_candidate_wins(scripted: Callable[..., list[str]], tmp_path: Path) -> None:
    speeds = {"static": (0.996, 2.0), "static convolutions, dynamic matrices": (0.9999, 1.5)}
    tried = scripted(lambda name: speeds.get(name, (0.9, 9.0)))
    best, trials = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name == "static"
    assert [trial.name for trial in trials] == tried
    assert len(tried) == 4


def test_of_two_that_are_as_fast_the_closer_wins(scripted: Callable[..., list[str]], tmp_path: Path) -> None:
    scripted(lambda name: (0.9999, 1.98) if name == "static" else (0.996, 2.0))
    best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name == "static"


def test_outliers_are_clipped_before_layers_go_back_to_float(
    scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    tried = scripted(lambda name: (0.996, 2.0) if "percentile 99.99" in name else (0.9, 2.0))
    best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name.endswith("percentile 99.99")
    assert not any("in float" in name for name in tried)


def test_layers_go_back_to_float_where_nothing_else_does(scripted: Callable[..., list[str]], tmp_path: Path) -> None:
    """Right behind what quantizes: what rounds and corrects then sees which layers are left."""
    tried = scripted(lambda name: (0.996 if "layers in float" in name else 0.91 if "refined" in name else 0.9, 1.0))
    best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"), 0.996)
    assert best.name.endswith("refined, layers in float") and tried[-1] == best.name
    names = [step.operation.name for step in best.passes]
    assert names[-3:] == ["keep_float", "learn_rounding", "correct_bias"]
    assert best.passes[-3].options.min_cosine == 0.996  # type: ignore[attr-defined]


def test_the_layers_that_went_back_are_told_and_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate is not as close as is asked for, so that some layers have to go back."""
    monkeypatch.setattr(choose, "_candidates", lambda *_, **__: {"static": [{"quantize_static": {}}]})
    monkeypatch.setattr(choose, "_clip", lambda *_: iter(()))
    monkeypatch.setattr(choose, "_refine", lambda *_: iter(()))
    monkeypatch.setattr(choose, "_FEW", 1)
    monkeypatch.setattr(choose, "_TRIAL_SECONDS", 0.02)
    monkeypatch.setattr(import_module("compress_ops.quantize.keep_float"), "_SECONDS", 0.01)
    out, again = tmp_path / "out.onnx", tmp_path / "again.onnx"
    report = run_chosen(job_of(CALIBRATED, out), least_cosine=0.999995)
    (step,) = [step for step in report.steps if step.name == "keep_float"]
    assert step.options["layers"] == list(step.touched)
    assert all(" in float" in what and " the time [" in what for what in step.touched.values())
    recipe = tmp_path / "report.json"
    recipe.write_text(json.dumps(report.plain(tmp_path)))
    run(Job(load_recipe(recipe), SAMPLES / "digits-cnn.onnx", again, measure=False))
    assert again.read_bytes() == out.read_bytes()


def test_weights_alone_become_8_bits_where_all_else_is_slower_than_float(
    scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    scripted(lambda name: (0.99999, 1.2) if name.startswith("8-bit") else (0.999, 0.8))
    best, trials = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name == trials[-1].name == "8-bit weights, float arithmetic"


@pytest.mark.parametrize(
    ("provider", "with_data", "passes"),
    [
        ("cuda", True, ["simplify", "to_float16"]),
        ("tensorrt", True, ["simplify", {"quantize_static": {"activation_type": "int8", "portable": False}}]),
        ("tensorrt", False, ["simplify", "to_float16"]),
        ("openvino", True, ["simplify", "quantize_static"]),
        ("dml", True, ["simplify", "to_float16"]),
        ("coreml", True, ["simplify", "to_float16"]),
        ("qnn", False, ["simplify", "to_float16"]),
    ],
)
def test_other_providers_get_what_they_compute_fast(
    provider: str,
    with_data: bool,
    passes: list[object],
    scripted: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "check_providers", lambda providers: [])
    monkeypatch.setattr(preflight, "open_session", lambda model, *_, **given: open_session(model, **given))
    tried = scripted(lambda name: (0.9999, 1.0))
    recipe = (CALIBRATED if with_data else PLAIN) + f"provider: [{provider}, cpu]\n"
    best, _ = choose_int8(job_of(recipe, tmp_path / "out.onnx"))
    assert [step.written() for step in best.passes] == passes and len(tried) == 1
    assert reason_of(provider, with_data=with_data).startswith(f"{best.name} is chosen for '{provider}': it ") or (
        provider == "dml"
    )


def test_a_provider_that_is_not_known_gets_float16_and_the_cpu_gets_trials() -> None:
    assert reason_of("somenpu", with_data=True).startswith("float16 is chosen for 'somenpu': what it computes in integ")
    assert reason_of("cpu", with_data=True) == ""


def test_where_nothing_is_close_the_closest_is_taken(scripted: Callable[..., list[str]], tmp_path: Path) -> None:
    scripted(lambda name: (0.8 if name.startswith("smooth") else 0.7, 3.0))
    best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name.startswith("smooth")


def test_without_measuring_the_likeliest_is_taken_untried(tmp_path: Path) -> None:
    best, trials = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx", measure=False))
    assert best.name == "static"
    assert len(trials) == 1
    assert best.speedup is None


@pytest.mark.parametrize(("sample", "recipe"), [("digits-cnn", CALIBRATED), ("recommender", PLAIN)])
def test_a_real_choice_is_reported_and_runs(sample: str, recipe: str, tmp_path: Path) -> None:
    report = run_chosen(job_of(recipe, tmp_path / "out.onnx", sample=sample))
    chosen = [trial for trial in report.trials if trial.chosen]
    assert len(chosen) == 1
    assert chosen[0].cosine is not None
    assert chosen[0].cosine > 0.99
    assert report.bytes_after < 0.4 * report.bytes_before
    assert (tmp_path / "out.onnx").exists()


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    import onnx.parser

    text = '<ir_version: 8, opset_import: ["": 17]> g (float[4] x) => (float[4] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "relu.onnx")
    job = dataclasses.replace(job_of(PLAIN, tmp_path / "out.onnx"), model=tmp_path / "relu.onnx")
    with pytest.raises(OnnxpressError, match="no operator of the model has weights"):
        run_chosen(job)
    assert not (tmp_path / "out.onnx").exists()
