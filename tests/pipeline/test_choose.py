"""Choosing an int8 recipe: which candidates are tried, which one wins, and what happens where none is close."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from compress_ops.errors import OnnxpressError
from compress_ops.pipeline import Job, choose, choose_int8, run_chosen
from compress_ops.pipeline.choose import Trial
from compress_ops.recipe import parse_recipe

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


def test_layers_go_back_to_float_while_it_helps(
    scripted: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "noisiest", lambda *_: ["/7/Gemm", "/2/Add", "/3/MaxPool"])
    helped = {"1 of": 0.95, "2 of": 0.996}
    tried = scripted(lambda name: (next((c for start, c in helped.items() if start in name), 0.9), 1.0))
    best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name.endswith("2 of its layers in float")
    skips = [getattr(step.options, "skip", []) for step in best.passes]
    assert ["/7/Gemm", "/2/Add"] in skips
    assert sum("in float" in name for name in tried) == 2


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
