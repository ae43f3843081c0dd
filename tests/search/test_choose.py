"""Choosing an int8 recipe: which candidates are tried, which one wins, and what happens where none is close."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from compress_ops.errors import OnnxpressError
from compress_ops.measure.intervals import Interval
from compress_ops.pipeline import Job, preflight, run, with_passes
from compress_ops.pipeline.steps import apply_steps
from compress_ops.recipe import load_recipe, parse_recipe
from compress_ops.runtime import open_session
from compress_ops.search import choose, choose_int8, reason_of, run_chosen, trials
from compress_ops.search.candidates import Candidate, candidates, steps_of
from compress_ops.search.trials import Trial, Trials, trials_of
from tests.helpers import SAMPLES

CALIBRATED = f"""version: 1
data: {{calibration: {SAMPLES / "digits-calibration.npz"}}}
measure: {{seconds: 0.05}}
passes: [simplify]
"""
PLAIN = "version: 1\nmeasure: {seconds: 0.05}\npasses: [simplify]\n"


def job_of(recipe: str, out: Path, *, sample: str = "digits-cnn", measure: bool = True) -> Job:
    return Job(parse_recipe(recipe), SAMPLES / f"{sample}.onnx", out, measure=measure)


Outcome = Callable[[str], tuple[float, float]]
STATIC = "static convolutions, dynamic matrices"
WEIGHTS = "8-bit weights, float arithmetic"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Trials whose closeness and speed-up are told by a function of their name, in place of measured ones."""

    def script(outcome: Outcome, sizes: Mapping[str, int] | None = None, *, helps: bool = True) -> list[str]:
        tried: list[str] = []

        def pretend(self: Trials, wanted: Iterable[Candidate], *_: object) -> list[Trial]:
            made = []
            for candidate in wanted:
                tried.append(candidate.name)
                closeness, speedup = outcome(candidate.name)
                size = (sizes or {}).get(candidate.name, 100)
                made.append(
                    Trial(
                        candidate.name, candidate.passes, [], Path(), size, candidate.float_arithmetic, closeness, "",
                        speedup, Interval(speedup, speedup),
                    )
                )  # fmt: skip
            return made

        monkeypatch.setattr(Trials, "make", pretend)
        monkeypatch.setattr(choose, "race", pretend)
        monkeypatch.setattr(Trials, "helps", lambda *_: helps)
        return tried

    return script


def test_the_fastest_close_candidate_wins(scripted: Callable[..., list[str]], tmp_path: Path) -> None:
    speeds = {"static": (0.996, 2.0), STATIC: (0.9999, 1.5)}
    tried = scripted(lambda name: speeds.get(name, (0.999, 0.9)))
    best, trials = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name == "static"
    assert [trial.name for trial in trials] == tried


def test_with_data_the_other_ways_take_part_too(scripted: Callable[..., list[str]], tmp_path: Path) -> None:
    tried = scripted(lambda name: (0.996, 1.0))
    choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert {"static", "dynamic Conv, Gemm", "dynamic Gemm, 8-bit convolutions", WEIGHTS} <= {*tried}


@pytest.mark.parametrize(
    ("static", "size", "chosen"),
    [(1.9, 60, True), (1.8, 45, True), (1.7, 50, False), (1.9, 90, False), (0.9, 1, False), (2.2, 160, False)],
    ids=["as fast", "half the file", "not half of it", "hardly smaller", "slower than float", "fast and large"],
)
def test_a_file_half_as_large_is_worth_15_percent_of_the_time(
    static: float, size: int, chosen: bool, scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    scripted(lambda name: (0.996, static) if name == "static" else (0.9999, 2.0), {"static": size})
    best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert (best.name == "static") is chosen


def test_of_two_that_are_as_fast_and_as_small_the_closer_wins(
    scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    scripted(lambda name: (0.9999, 1.98) if name == "static" else (0.996, 2.0), {"static": 101})
    best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name == "static"


def test_outliers_are_clipped_before_layers_go_back_to_float(
    scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    tried = scripted(lambda name: (0.996, 2.0) if "percentile 99.99" in name else (0.96, 2.0))
    best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name.endswith("percentile 99.99")
    assert not any("in float" in name for name in tried)


def test_what_is_not_close_is_mended_only_if_it_would_be_faster(
    scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Not where something close is as fast; where the far one is faster, it is, unless it is hopelessly far."""
    for far, speed, mended in ((0.96, 1.5, True), (0.96, 1.05, False), (0.9, 1.5, False)):
        tried = scripted(lambda name, far=far, speed=speed: (0.999, 1.0) if name == WEIGHTS else (far, speed))
        best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
        assert best.name == WEIGHTS
        assert any("percentile" in name for name in tried) is mended


def test_a_refinement_that_does_not_help_unseen_samples_is_left_out(
    scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    tried = scripted(lambda name: (0.98, 2.0), helps=False)
    choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert not any("refined" in name for name in tried)


def test_a_refinement_is_judged_on_samples_that_it_did_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two fits sees one half of the batches, and both are compared on the other."""
    fitted, judged = [], []
    compare = trials.compare_models

    def watch(paths: Any, **given: Any) -> Any:
        judged.append([batch.feeds["image"] for batch in given["fidelity_data"].batches()])
        return compare(paths, **given)

    def fit(prepared: Any, **given: Any) -> Any:
        fitted.append([batch.feeds["image"] for batch in prepared.data["calibration"].batches()])
        return apply_steps(prepared, **given)

    monkeypatch.setattr(trials, "compare_models", watch)
    monkeypatch.setattr(trials, "apply_steps", fit)
    prepared = preflight.prepare(job_of(CALIBRATED, tmp_path / "out.onnx"))
    static = Candidate("static", steps_of([{"simplify": {}}, {"quantize_static": {}}]))
    better = Candidate("8 bits", steps_of([{"quantize_weights": {"bits": 8, "storage": "decoded"}}]))
    with trials_of(prepared) as workshop:
        made = workshop.applied([static, better])
        assert workshop.helps(better, static, made[0])
        assert not workshop.helps(static, better, made[1])
    seen, unseen = ({batch.tobytes() for batch in batches} for batches in (fitted[2], judged[0]))
    assert len(fitted) == 2 + 3  # the one that needs no data is not made again
    assert seen and unseen and not seen & unseen


def test_layers_go_back_to_float_where_nothing_else_does(scripted: Callable[..., list[str]], tmp_path: Path) -> None:
    """Right behind what quantizes: what rounds and corrects then sees which layers are left."""
    tried = scripted(lambda name: (0.996 if "layers in float" in name else 0.986 if "refined" in name else 0.985, 1.0))
    best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"), 0.996)
    assert best.name.endswith("refined, layers in float") and tried[-1] == best.name
    names = [step.operation.name for step in best.passes]
    assert names[-3:] == ["keep_float", "learn_rounding", "correct_bias"]
    margin = pytest.approx(1 - 0.7 * 0.004)
    assert best.passes[-3].options.min_cosine == margin  # type: ignore[attr-defined]


@pytest.mark.usefixtures("quick_trials")
def test_the_layers_that_went_back_are_told_and_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate is not as close as is asked for, so that some layers have to go back."""
    static = Candidate("static", steps_of([{"simplify": {}}, {"quantize_static": {}}]))
    monkeypatch.setattr(choose, "candidates", lambda *_, **__: [static])
    monkeypatch.setattr(choose, "_clip", lambda *_: iter(()))
    monkeypatch.setattr(choose, "_refine", lambda *_: iter(()))
    monkeypatch.setattr(choose, "_FEW", 1)
    monkeypatch.setattr(import_module("compress_ops.quantize.mend.keep_float"), "_SECONDS", 0.01)
    out, again = tmp_path / "out.onnx", tmp_path / "again.onnx"
    report = run_chosen(job_of(CALIBRATED, out), least=0.999995)
    (step,) = [step for step in report.steps if step.name == "keep_float"]
    assert step.options["layers"] == list(step.touched)
    assert all(" in float" in what for what in step.touched.values()) and "x [" in step.notes["time"]
    recipe = tmp_path / "report.json"
    recipe.write_text(json.dumps(report.plain(tmp_path)))
    replayed = load_recipe(recipe, ["budget={}"])
    run(Job(replayed, SAMPLES / "digits-cnn.onnx", again, measure=False))
    assert again.read_bytes() == out.read_bytes()


REFINED = [{"smooth": {}}, {"quantize_static": {}}, {"learn_rounding": {}}, {"correct_bias": {"add_missing": False}}]
WAYS = {
    "refined": REFINED,
    "dynamic": [{"quantize_dynamic": {}}],
    "8 bits": [{"quantize_weights": {"bits": 8, "storage": "decoded", "method": "hqq"}}],
}


@pytest.mark.usefixtures("quick_trials")
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "made anew"])
@pytest.mark.parametrize("way", WAYS)
def test_the_trial_s_own_model_is_written_and_its_recipe_gives_the_same_bytes(
    way: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Candidate(way, steps_of([{"simplify": {}}, *WAYS[way]]))
    monkeypatch.setattr(choose, "candidates", lambda *_, **__: [one])
    monkeypatch.setattr(trials, "_MOST_KEPT", 2**30 if kept else 0)
    ran: list[Job] = []
    monkeypatch.setattr(trials, "run", lambda job: (ran.append(job), run(job))[1])
    out, again = tmp_path / "out.onnx", tmp_path / "again.onnx"
    report = run_chosen(job_of(CALIBRATED, out), least=0.5)
    assert len(ran) == (0 if kept else 1)
    assert [verdict.verdict for verdict in report.verdicts if verdict.limit == "min_closeness"] == ["met"]
    recipe = tmp_path / "report.json"
    recipe.write_text(json.dumps(report.plain(tmp_path)))
    run(Job(load_recipe(recipe, ["budget={}"]), SAMPLES / "digits-cnn.onnx", again, measure=False))
    assert again.read_bytes() == out.read_bytes()


def test_what_a_glance_takes_for_as_fast_is_timed_in_full_before_it_is_taken(
    scripted: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smaller one is chosen by a glance that leaves open whether it is slower, and it is."""
    scripted(lambda name: (0.9999, 1.0 if name == WEIGHTS else 0.97), sizes={WEIGHTS: 300})
    fast = Interval(0.96, 1.05)
    glance = choose.race

    def unsure(*given: object) -> list[Trial]:
        return [replace(trial, speedup=1.0, interval=fast) for trial in glance(*given)]

    def in_full(_: Trials, trials: Sequence[Trial], *__: object) -> list[Trial]:
        slow = {trial.name: 1.0 if trial.name == WEIGHTS else 0.9 for trial in trials}
        return [replace(trial, speedup=slow[trial.name], interval=Interval(slow[trial.name], 1.0)) for trial in trials]

    monkeypatch.setattr(choose, "race", unsure)
    monkeypatch.setattr(Trials, "measured", in_full)
    best, trials = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name == WEIGHTS
    assert best in trials


def test_weights_alone_become_8_bits_where_all_else_is_slower_than_float(
    scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    scripted(lambda name: (0.99999, 1.2) if name == WEIGHTS else (0.999, 0.8))
    best, _ = choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert best.name == WEIGHTS


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


@pytest.mark.parametrize(("weights", "chosen"), [(0.97, WEIGHTS), (0.95, "static")])
def test_where_nothing_is_close_what_is_about_as_close_and_not_slower_is_taken(
    weights: float, chosen: str, scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    scripted(lambda name: (weights, 1.0) if name == WEIGHTS else (0.98 if name == "static" else 0.9, 0.3))
    assert choose_int8(job_of(CALIBRATED, tmp_path / "out.onnx"))[0].name == chosen


@pytest.mark.usefixtures("quick_trials")
def test_where_nothing_is_close_the_run_says_so(tmp_path: Path) -> None:
    report = run_chosen(job_of(CALIBRATED, tmp_path / "out.onnx"), least=1.0)
    (verdict,) = [verdict for verdict in report.verdicts if verdict.limit == "min_closeness"]
    assert verdict.verdict == "missed" and "output 'logits'" in verdict.measured


def test_without_measuring_the_choice_is_made_all_the_same(scripted: Callable[..., list[str]], tmp_path: Path) -> None:
    """What is not close, or slower, is told by its trial."""
    scripted(lambda name: (0.9, 3.0) if name == "static" else (0.8, 0.5))
    report = run_chosen(job_of(CALIBRATED, tmp_path / "out.onnx", measure=False))
    assert report.comparison is None and [trial.name for trial in report.trials if trial.chosen] == ["static"]
    assert {verdict.limit: verdict.verdict for verdict in report.verdicts} == {
        "min_closeness": "missed",
        "min_speedup": "met",
    }


def test_tables_in_8_bits_are_looked_up_and_decoded_by_one_kernel(tmp_path: Path) -> None:
    import onnx

    job = job_of(PLAIN, tmp_path / "out.onnx", sample="recommender")
    found = {candidate.name: candidate for candidate in candidates(preflight.prepare(job), "cpu")}
    run(dataclasses.replace(with_passes(job, found[WEIGHTS].passes), measure=False))
    operators = [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node]
    assert operators.count("GatherBlockQuantized") == 4
    assert (tmp_path / "out.onnx").stat().st_size < 0.31 * job.model.stat().st_size


def test_the_result_is_asked_to_be_no_slower_than_noise(scripted: Callable[..., list[str]], tmp_path: Path) -> None:
    scripted(lambda name: (0.999, 2.0))
    report = run_chosen(job_of(CALIBRATED, tmp_path / "out.onnx"))
    assert [v.wanted for v in report.verdicts if v.limit == "min_speedup"] == ["at least 0.98x"]


def test_without_data_the_last_words_are_what_it_would_bring(
    scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    scripted(lambda name: (0.999, 1.0))
    told = [
        run_chosen(job_of(recipe, tmp_path / f"{len(recipe)}.onnx", measure=False)).without_data
        for recipe in (PLAIN, CALIBRATED)
    ]
    assert "With --data DATA" in told[0] and told[1] == ""


@pytest.mark.parametrize(
    ("static", "told"),
    [((0.98765, 2.4), True), ((0.98765, 1.9), False), ((0.89, 2.4), False), ((0.996, 2.4), False)],
    ids=["more for a looser limit", "hardly more", "much too far", "chosen"],
)
def test_what_a_looser_limit_would_give_is_told(
    static: tuple[float, float], told: bool, scripted: Callable[..., list[str]], tmp_path: Path
) -> None:
    scripted(lambda name: static if name.startswith("static") else (0.9999, 2.0))
    report = run_chosen(job_of(CALIBRATED, tmp_path / "out.onnx", measure=False))
    wanted = "With --min-cosine 0.987: static, 2.40x as fast, "
    assert report.without_data.startswith(wanted) is told and bool(report.without_data) is told


def test_what_the_run_took_counts_the_trials(scripted: Callable[..., list[str]], tmp_path: Path) -> None:
    scripted(lambda name: (time.sleep(0.1), (0.999, 1.0))[1])
    report = run_chosen(job_of(PLAIN, tmp_path / "out.onnx", measure=False))
    assert report.seconds > 0.1 * len(report.trials)


@pytest.mark.usefixtures("quick_trials")
def test_limits_of_the_recipe_win(tmp_path: Path) -> None:
    recipe = CALIBRATED + "budget: {min_speedup: 0.01}\n"
    report = run_chosen(job_of(recipe, tmp_path / "out.onnx"))
    assert {verdict.limit: verdict.wanted for verdict in report.verdicts} == {
        "min_speedup": "at least 0.01x",
        "min_closeness": "at least 0.995",
    }


@pytest.mark.usefixtures("quick_trials")
@pytest.mark.parametrize(("sample", "recipe"), [("digits-cnn", CALIBRATED), ("recommender", PLAIN)])
def test_a_real_choice_is_reported_and_runs(sample: str, recipe: str, tmp_path: Path) -> None:
    report = run_chosen(job_of(recipe, tmp_path / "out.onnx", sample=sample))
    chosen = [trial for trial in report.trials if trial.chosen]
    assert len(chosen) == 1
    assert chosen[0].closeness is not None
    assert chosen[0].closeness > 0.99
    assert report.bytes_after < 0.4 * report.bytes_before
    assert (tmp_path / "out.onnx").exists()


def test_a_model_that_is_int8_already_is_told_to_be(tmp_path: Path) -> None:
    recipe = parse_recipe("version: 1\npasses: [quantize_dynamic]\n")
    run(Job(recipe, SAMPLES / "digits-mlp.onnx", tmp_path / "int8.onnx", measure=False))
    job = dataclasses.replace(job_of(PLAIN, tmp_path / "out.onnx"), model=tmp_path / "int8.onnx")
    with pytest.raises(OnnxpressError, match="integers of 8 bits or fewer already"):
        run_chosen(job)


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    import onnx.parser

    text = '<ir_version: 8, opset_import: ["": 17]> g (float[4] x) => (float[4] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "relu.onnx")
    job = dataclasses.replace(job_of(PLAIN, tmp_path / "out.onnx"), model=tmp_path / "relu.onnx")
    with pytest.raises(OnnxpressError, match="no operator of the model has weights"):
        run_chosen(job)
    assert not (tmp_path / "out.onnx").exists()
