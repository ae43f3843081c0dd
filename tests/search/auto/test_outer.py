"""auto with a storage: trials of the outer choices on a small model, and what a later run makes of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen
from textwrap import dedent
from typing import Any

import pytest

from compress_ops.errors import OnnxpressError, OutputError, UsageError
from compress_ops.pipeline import Job, run, with_passes
from compress_ops.pipeline.preflight import prepare
from compress_ops.recipe import parse_recipe
from compress_ops.report.report import Report
from compress_ops.search import run_auto, told_where
from compress_ops.search.auto.outer import Outer, identity_of, outer_of, steps_of_record
from compress_ops.search.auto.outer_choices import Choices
from compress_ops.search.auto.rounds import Loop
from compress_ops.search.auto.storage import storage_of
from compress_ops.search.auto.wishes import Wishes
from compress_ops.search.costs.forms import FORMS
from tests.helpers import ROOT, SAMPLES

RECIPE = f"""version: 1
data: {{calibration: {SAMPLES / "digits-calibration.npz"}}}
measure: {{seconds: 0.02}}
passes: auto
"""
MakeJob = Callable[..., Job]


@pytest.fixture
def job(tmp_path: Path) -> MakeJob:
    def make(auto: str = "{trials: 1, objective: smallest, storage: study.db}", **options: Any) -> Job:
        loaded = parse_recipe(f"{RECIPE}auto: {auto}\n", folder=tmp_path)
        return Job(loaded, SAMPLES / "digits-mlp.onnx", tmp_path / "out.onnx", force=True, **options)

    return make


@pytest.fixture
def outer(job: MakeJob) -> Outer:
    """Of a job whose study has no trials yet."""
    made = job()
    wishes, prepared = Wishes.of(made.recipe.budget, made.recipe.auto.aim), prepare(made)
    return outer_of(storage_of(made), prepared, wishes, made.recipe.auto, must_be_there=False)


def names(report: Report) -> list[str]:
    return [step.name for step in report.steps]


@pytest.mark.usefixtures("quick")
def test_what_an_earlier_run_found_is_made_again_from_its_passes(job: MakeJob, tmp_path: Path) -> None:
    """The second run has nothing left to try."""
    first = run_auto(job())
    made = (tmp_path / "out.onnx").read_bytes()
    assert [point.chosen for point in first.search.points].count(True) == 1
    second = run_auto(job(resume=True))
    assert (tmp_path / "out.onnx").read_bytes() == made
    assert names(second) == names(first) and second.recipe["passes"] == first.recipe["passes"]
    assert any("another process, or an earlier run, made it" in hint for hint in second.search.hints)
    assert [point.chosen for point in second.search.points] == [True]
    assert {file.name for file in tmp_path.iterdir()} == {"out.onnx", "study.db", "cache"}


@pytest.mark.usefixtures("quick")
def test_ctrl_c_leaves_a_study_to_go_on_with(job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With resume alone it lies beside the output."""
    alone = job("{trials: 1, objective: smallest}", resume=True)
    with monkeypatch.context() as patched:
        patched.setattr(Loop, "run", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_auto(alone)
    assert told_where(alone) == str(tmp_path / "out.onnx.search.db") and not (tmp_path / "out.onnx").exists()
    report = run_auto(alone)
    assert (tmp_path / "out.onnx").exists()
    assert all(point.name.startswith("trial 1, 45% cut: ") for point in report.search.points), "0 was interrupted"


def _interrupted(self: Loop) -> None:
    raise KeyboardInterrupt


def test_values_are_told_and_failures_too(outer: Outer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial of which no model can be made has a value, too: it counts, and is not tried again."""
    outer.auto = outer.auto.model_copy(update={"trials": 4})

    def refuse(*_: object) -> Loop:
        raise OnnxpressError("no such model")

    outer.run(refuse, until=0.0)
    records = outer.study.records()
    assert len(records) == 4 and records[0].value == 1000 and all(record.value >= 10 for record in records)
    assert outer.elsewhere() is None
    assert any("no such model" in note for note in outer.notes())


def test_faults_of_the_storage_are_no_failed_trials(outer: Outer, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object, **__: object) -> None:
        raise OutputError("the server is gone")

    monkeypatch.setattr(type(outer.study), "tell", lost)
    monkeypatch.setattr(Outer, "_tried", lambda *_: (1.0, {}))
    with pytest.raises(OutputError, match="the server is gone"):
        outer.run(None, until=float("inf"))


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"seed": 1}, {"seed"}),
        ({"threads": 2}, {"threads"}),
        ({"budget": {"max_size": "20%"}}, {"budget", "aim"}),
        ({"measure": {"seconds": 0.02, "batch": 4}}, {"how data is read and measured"}),
    ],
)
def test_a_job_is_what_values_follow_from(job: MakeJob, changed: dict[str, Any], names: set[str]) -> None:
    one = prepare(job())
    recipe = one.job.recipe
    other = type(recipe).model_validate({**recipe.model_dump(exclude={"passes", "provider"}), "passes": [], **changed})
    identities = []
    for each in (recipe, other):
        loaded = one.job.loaded
        prepared = type(one)(
            Job(type(loaded)(each), one.job.model, None), one.model, one.data, one.original_bytes, one.hashes
        )
        identities.append(identity_of(prepared, Wishes.of(each.budget, None), recipe.auto))
    first, second = identities
    assert {name for name in first if first[name] != second[name]} == names
    assert all(isinstance(value, str) for value in first.values())


@pytest.mark.usefixtures("quick")
def test_a_study_of_other_limits_is_refused_before_any_work(job: MakeJob, outer: Outer) -> None:
    with pytest.raises(UsageError, match="aim: bytes there, seconds here"):
        run_auto(job("{trials: 1, objective: fastest, storage: study.db}"))


def test_the_storage_is_checked_with_the_outputs(job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"--storage .* is also the result"):
        run_auto(job("{trials: 1, storage: out.onnx}"))
    with pytest.raises(OutputError, match="nowhere does not exist"):
        run_auto(job("{trials: 1, storage: nowhere/study.db}"))
    assert not [*tmp_path.iterdir()]


def test_choices_become_options_of_forms_and_steps(job: MakeJob, outer: Outer) -> None:
    choices = Choices(cut=0.3, calibrator="mse", block_size=128, score="l2", scope="global", epochs=4)
    options = {form.name: choices.form(form).options for form in FORMS}
    assert options["int8 static"] == {"allow_larger": True, "calibrator": "mse"}
    assert options["4-bit weights"]["block_size"] == 128 and "block_size" not in options["codebook of 16"]
    assert [*map(next, map(iter, choices.passes()))] == ["prune_channels", "refit", "distill"]
    assert Choices().passes() == []


def test_passes_of_another_release_are_a_clear_error(outer: Outer) -> None:
    trial = outer.study.ask()
    outer.study.tell(trial, 0.1, {"passes": [{"no_such_pass": {}}], "point": {}})
    with pytest.raises(UsageError, match="trial 0 of the study has a step that is not known here"):
        steps_of_record(outer.elsewhere())


def test_with_passes_of_a_record_the_same_run_is_done(outer: Outer, job: MakeJob, tmp_path: Path) -> None:
    trial = outer.study.ask()
    outer.study.tell(trial, 0.1, {"passes": [{"quantize_dynamic": {}}], "point": {}})
    report = run(with_passes(job(), steps_of_record(outer.elsewhere())))
    assert names(report) == ["quantize_dynamic"] and (tmp_path / "out.onnx").exists()


WORKER = """
    import sys
    from pathlib import Path
    from compress_ops.pipeline import Job
    from compress_ops.recipe import parse_recipe
    from compress_ops.search import run_auto, trials
    from compress_ops.search.auto import bases

    def quick(compare):
        return lambda *given, settings, **more: compare(*given, settings=settings.but(seconds=0.02), **more)

    trials.compare_models, bases.compare_models = quick(trials.compare_models), quick(bases.compare_models)
    text, folder, model, out = sys.argv[1:]
    report = run_auto(Job(parse_recipe(text, folder=Path(folder)), Path(model), Path(out)))
    print(report.search.hints[-1])
"""


def test_two_processes_work_on_one_study(outer: Outer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each makes models, and both write one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = f"{RECIPE}auto: {{trials: 3, objective: smallest, storage: study.db}}\n"
    outs = [tmp_path / name for name in ("first.onnx", "second.onnx")]
    command = [sys.executable, "-c", dedent(WORKER), text, str(tmp_path), str(SAMPLES / "digits-mlp.onnx")]
    workers = [Popen([*command, str(out)], cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) for out in outs]
    told = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    made = [int(re.search(r", (\d+) of them made here", printed)[1]) for printed, _ in told]
    assert sum(made) == len(outer.study.records()) >= 3
    assert outs[0].exists() and outs[1].exists()
