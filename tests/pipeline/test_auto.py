"""A job of ``passes: auto``: what it lacks is told before any work, and nothing takes it for one without steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from compress_ops.errors import Faults, OnnxpressError, UsageError
from compress_ops.pipeline import Job, plan, run, with_passes
from compress_ops.pipeline.preflight import prepare
from compress_ops.pipeline.scan import scan
from compress_ops.recipe import load_recipe
from tests.helpers import noise, proto_of


@pytest.fixture
def job(tmp_path: Path) -> Callable[[str], Job]:
    """A job on a small model, of ``passes: auto`` and what else is given."""
    onnx.save(proto_of("g (float[N,8] x) => (float[N,4] y) { y = MatMul(x, w) }", w=noise(8, 4)), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=noise(20, 8))

    def made(more: str) -> Job:
        (tmp_path / "r.yaml").write_text(f"version: 1\npasses: auto\n{more}\n")
        return Job(load_recipe(tmp_path / "r.yaml"), tmp_path / "m.onnx", tmp_path / "out.onnx")

    return made


def told(job: Job) -> list[str]:
    with pytest.raises(OnnxpressError) as caught:
        prepare(job)
    faults = caught.value.faults if isinstance(caught.value, Faults) else [caught.value]
    return [str(fault).partition("r.yaml:")[2].partition("\n")[0] for fault in faults]


def test_with_data_it_is_prepared(job: Callable[[str], Job]) -> None:
    assert "calibration" in prepare(job("data: {calibration: data.npz}")).data


@pytest.mark.parametrize(
    ("more", "faults"),
    [
        ("", ["2:9: auto needs calibration data"]),
        (
            "auto: {retrain: true}\ndata: {calibration: data.npz}",
            ["3:17: retrain needs training data"],
        ),
        (
            "budget: {max_drop: 1%}\ndata: {calibration: data.npz}",
            ["3:20: max_drop needs evaluation data and a metric"],
        ),
        (
            "auto: {device: tensorrt}\ndata: {calibration: data.npz}",
            ["3:16: execution provider 'tensorrt' is not in this onnxruntime build"],
        ),
    ],
)
def test_what_it_lacks_is_told_at_its_place(job: Callable[[str], Job], more: str, faults: list[str]) -> None:
    assert told(job(more)) == faults


@pytest.mark.parametrize("action", [run, plan, scan], ids=["run", "plan", "scan"])
def test_what_follows_from_a_list_of_steps_refuses_it(
    job: Callable[[str], Job], action: Callable[[Job], object]
) -> None:
    with pytest.raises(UsageError, match="passes: auto has no steps yet"):
        action(job("data: {calibration: data.npz}"))


def test_with_passes_it_is_a_recipe_like_others(job: Callable[[str], Job]) -> None:
    found = with_passes(job("data: {calibration: data.npz}"), []).recipe
    assert found.auto is None and found.resolved()["passes"] == []
    assert "auto" not in found.resolved()
