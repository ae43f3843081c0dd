"""What a run leaves on disk: the result whole or not at all, weights beside it, and nothing else."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

from compress_ops.errors import OnnxpressError
from compress_ops.measure import comparison
from compress_ops.pipeline import Job, run

MakeJob = Callable[..., Job]
Listing = Callable[[], dict[str, bytes]]


# Weights outside the file


@pytest.fixture
def outside(linear: Path, tmp_path: Path) -> Path:
    """The linear model with its weights in a file beside it."""
    (tmp_path / "outside").mkdir()
    path = tmp_path / "outside" / "model.onnx"
    onnx.save(onnx.load(linear), path, save_as_external_data=True, location="model.weights", size_threshold=0)
    return path


def test_weights_outside_stay_outside_and_are_measured(job: MakeJob, outside: Path, tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    out = tmp_path / "result" / "out.onnx"
    report = run(job("passes: [quantize_dynamic]", model=outside, out=out, measure=True))
    first, second = sorted(out.parent.iterdir())
    assert first == out and second.name.startswith("out.onnx.") and second.suffix == ".data"
    assert report.bytes_before == sum(file.stat().st_size for file in outside.parent.iterdir())
    assert report.bytes_after == sum(file.stat().st_size for file in out.parent.iterdir())
    sizes = report.comparison.size
    assert [sizes["original"].file, sizes["result"].file] == [report.bytes_before, report.bytes_after]
    assert out.stat().st_size < 1500 < second.stat().st_size
    onnxruntime.InferenceSession(out)


def test_a_fault_leaves_no_weights_outside_either(job: MakeJob, outside: Path, listing: Listing) -> None:
    before = listing()
    with pytest.raises(OnnxpressError):
        run(job("passes: [quantize_dynamic, quantize_dynamic]", model=outside))
    assert listing() == before


def test_an_interrupted_measurement_leaves_old_weights_whole(
    job: MakeJob, outside: Path, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(job("passes: [quantize_dynamic]", model=outside))
    before = listing()
    monkeypatch.setattr(comparison, "compare_latency", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(job("passes: [prune_weights: {ratio: 0.5}, quantize_dynamic]", model=outside, force=True, measure=True))
    assert listing() == before


def test_replacing_a_result_takes_its_old_weights_away(job: MakeJob, outside: Path, tmp_path: Path) -> None:
    first = run(job("passes: [quantize_dynamic]", model=outside))
    run(job("passes: [prune_weights: {ratio: 0.5}, quantize_dynamic]", model=outside, force=True))
    assert len(list(tmp_path.glob("out.onnx.*.data"))) == 1
    onnxruntime.InferenceSession(first.out)


# Interruptions


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("part", ["compare_latency", "compare_fidelity", "profile_run", "measure_size"])
def test_an_interruption_while_measuring_leaves_nothing(
    job: MakeJob, listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    (tmp_path / "out.onnx").write_bytes(b"old")
    before = listing()
    monkeypatch.setattr(comparison, part, _interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(job("passes: [quantize_dynamic]", force=True, measure=True))
    assert listing() == before


def test_a_bug_while_measuring_leaves_nothing(job: MakeJob, listing: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listing()
    monkeypatch.setattr(comparison, "compare_latency", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(job("passes: [quantize_dynamic]", measure=True))
    assert listing() == before


# Two runs at once


def _together(*jobs: Job) -> list[object]:
    """What becomes of jobs that put their results in place at the same time: None, or the fault."""
    barrier = threading.Barrier(len(jobs))
    ends: list[object] = [None] * len(jobs)

    def work(number: int, job: Job) -> None:
        try:
            run(replace(job, before_commit=barrier.wait))
        except OnnxpressError as fault:
            ends[number] = fault

    threads = [threading.Thread(target=work, args=each) for each in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


@pytest.mark.parametrize("weights", ["linear", "outside"])
@pytest.mark.parametrize("force", [False, True])
def test_two_runs_to_one_place(
    job: MakeJob, tmp_path: Path, weights: str, force: bool, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(weights)
    recipes = ["passes: [quantize_dynamic]", "passes: [prune_weights: {ratio: 0.5}, quantize_dynamic]"]
    ends = _together(*(job(recipe, model=model, force=force) for recipe in recipes))
    faults = [str(end) for end in ends if end is not None]
    assert ["has appeared meanwhile" in fault for fault in faults] == ([] if force else [True])
    onnxruntime.InferenceSession(tmp_path / "out.onnx")
    assert not list(tmp_path.glob(".onnxpress*"))
    if not force:
        assert len(list(tmp_path.glob("out.onnx*"))) == (2 if weights == "outside" else 1)


def test_what_a_killed_run_left_is_swept_by_the_next(job: MakeJob, outside: Path, tmp_path: Path) -> None:
    """As a child that ends on the spot, in the middle of its commit."""
    child = os.fork()
    if not child:
        run(replace(job("passes: [quantize_dynamic]", model=outside), before_commit=lambda: os._exit(9)))
    os.waitpid(child, 0)
    assert len(list(tmp_path.glob(".onnxpress-*/out.onnx*"))) == 2
    run(job("passes: [quantize_dynamic]", model=outside))
    assert not list(tmp_path.glob(".onnxpress*"))
