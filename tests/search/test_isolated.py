"""A model's first run in a child process: what it answers, and that its crash is a reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from compress_ops.data.base import Dataset
from compress_ops.errors import ModelError
from compress_ops.pipeline import Job
from compress_ops.pipeline.preflight import prepare
from compress_ops.recipe import parse_recipe
from compress_ops.runtime import CPU
from compress_ops.search.candidates import Candidate
from compress_ops.search.isolated import Feeds, Isolated
from compress_ops.search.preparing import steps_of
from compress_ops.search.trials import Trials, trials_of
from tests.helpers import SAMPLES, proto_of

DYING = "import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.{})"
SLEEPING = "import sys, time; sys.stdin.readline(); time.sleep(60)"
MLP = SAMPLES / "digits-mlp.onnx"
RECIPE = f"version: 1\ndata: {{calibration: {SAMPLES / 'digits-calibration.npz'}}}\nmeasure: {{seconds: 0.02}}\n"


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str) -> Path:
        path = tmp_path / "program.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def why(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """``why(isolated, model, image=...)``: what the child says of a model that is fed these arrays."""
    begun: list[Isolated] = []

    def ask(isolated: Isolated, model: Path, **feeds: np.ndarray) -> str:
        begun.append(isolated)
        np.savez(tmp_path / "feeds.npz", *feeds.values())
        return isolated.why_not(model, Feeds(tmp_path / "feeds.npz", [*feeds]), CPU, 1)

    yield ask
    for isolated in begun:
        isolated.close()


IMAGE = np.zeros((2, 1, 8, 8), np.float32)


def test_one_child_serves_many_models(why: Callable[..., str], tmp_path: Path) -> None:
    isolated = Isolated()
    assert why(isolated, MLP, image=IMAGE, label=np.zeros(2)) == ""
    child = isolated.child
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert "Protobuf parsing failed" in why(isolated, tmp_path / "broken.onnx", image=IMAGE)
    assert "onnxruntime refuses it" in why(isolated, MLP, image=np.zeros((2, 3), np.float32))
    assert why(isolated, MLP, image=IMAGE) == "" and isolated.child is child
    isolated.close()
    assert child.poll() is not None


def test_texts_are_fed_too(why: Callable[..., str], tmp_path: Path) -> None:
    onnx.save(proto_of("g (string[n] x) => (string[n] y) { y = Identity(x) }"), tmp_path / "texts.onnx")
    assert why(Isolated(), tmp_path / "texts.onnx", x=np.array(["a", "b"])) == ""


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_is_a_reason_and_the_next_model_gets_a_new_child(
    why: Callable[..., str], program: Callable[..., Path], name: str
) -> None:
    isolated = Isolated(program(DYING.format(name)))
    assert why(isolated, MLP, image=IMAGE) == f"it crashes onnxruntime ({name})"
    assert isolated.child is None
    assert why(Isolated(isolated.program), MLP, image=IMAGE).endswith(f"({name})")


def test_a_child_that_hangs_is_ended(why: Callable[..., str], program: Callable[..., Path]) -> None:
    isolated = Isolated(program(SLEEPING), seconds=0.2)
    assert why(isolated, MLP, image=IMAGE) == "it took more than 0.2 s"
    assert isolated.child is None


def test_a_child_that_cannot_begin_is_a_reason(why: Callable[..., str], program: Callable[..., Path]) -> None:
    assert why(Isolated(program("raise SystemExit(3)")), MLP, image=IMAGE).endswith("(status 3)")


@pytest.fixture
def trials(tmp_path: Path) -> Iterator[Trials]:
    job = Job(parse_recipe(f"{RECIPE}passes: [simplify]\n"), MLP, tmp_path / "out.onnx")
    with trials_of(prepare(job), isolated=True) as workshop:
        yield workshop


WANTED = [Candidate("dynamic", steps_of([{"quantize_dynamic": {}}]))]


def test_a_trial_that_crashes_is_refused(trials: Trials, program: Callable[..., Path]) -> None:
    trials.isolated.program = program(DYING.format("SIGSEGV"))
    assert trials.make(WANTED) == []
    (fault,) = trials.refused
    assert isinstance(fault, ModelError) and "crashes onnxruntime (SIGSEGV)" in fault.message


def test_a_trial_that_runs_is_measured_and_nothing_else_stays(trials: Trials) -> None:
    (trial,) = trials.make(WANTED)
    assert trial.closeness is not None and not trials.refused
    assert os.listdir(trials.folder) == [trial.path.name]


def test_the_first_batch_is_stored(trials: Trials, tmp_path: Path) -> None:
    data: Dataset = trials.prepared.data["calibration"]
    feeds = Feeds.stored(data, tmp_path / "feeds.npz")
    (first,) = data.batches(limit=1)
    with np.load(feeds.path) as stored:
        assert feeds.names == [*first.feeds]
        assert all((stored[f"arr_{i}"] == first.feeds[name]).all() for i, name in enumerate(feeds.names))
