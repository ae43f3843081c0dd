"""The scan of a job: what it gives back as a recipe step, what it keeps, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress_ops.errors import OnnxpressError, UsageError
from compress_ops.pipeline import Job
from compress_ops.pipeline import scan as sensitivity
from compress_ops.pipeline.scan import scan

CALIBRATED = "data: {calibration: digits-calibration.npz}\n"


@pytest.fixture
def scanned(job: Callable[..., Job], samples: Path) -> Callable[..., object]:
    """``scanned("prune_channels: {ratio: 0.5}", cache=folder)``, on the digits CNN."""

    def run(step: str, cache: Path | None = None, model: str = "digits-cnn.onnx") -> object:
        asked = job(f"{CALIBRATED}passes: [simplify, {{{step}}}]", model=samples / model, out=None)
        return scan(asked, cache)

    return run


def test_pruning_names_those_that_stand_out_in_the_step(scanned: Callable[..., object]) -> None:
    found = scanned("prune_channels: {ratio: 0.5}")
    noises = [effect.noise for effect in found.effects]
    assert noises == sorted(noises, reverse=True) and len(noises) == 4
    assert found.step == {"prune_channels": {"ratio": 0.5, "skip": found.skipped}}
    assert found.skipped == [found.effects[0].part.name]
    assert found.samples == 128 and "digits-calibration" in found.data


def test_the_step_runs_and_spares_them(
    scanned: Callable[..., object], job: Callable[..., Job], samples: Path, tmp_path: Path
) -> None:
    from compress_ops.pipeline import run

    skip = scanned("prune_channels: {ratio: 0.5}").skipped
    text = f"passes: [simplify, prune_channels: {{ratio: 0.5, skip: {skip}}}]"
    report = run(job(text, model=samples / "digits-cnn.onnx", out=tmp_path / "cut.onnx"))
    assert all(name in {one.name for one in report.steps[1].declined} for name in skip)


def test_a_second_scan_of_the_same_reads_the_cache(
    scanned: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "not" / "there"
    first = scanned("quantize_static: {}", cache)
    (file,) = cache.iterdir()
    monkeypatch.setattr(sensitivity, "_scanned", lambda *_: pytest.fail("scanned again"))
    assert scanned("quantize_static: {}", cache) == first
    assert list(cache.iterdir()) == [file]


def test_other_options_and_other_models_are_scanned_anew(scanned: Callable[..., object], tmp_path: Path) -> None:
    scanned("prune_channels: {ratio: 0.5}", tmp_path)
    scanned("prune_channels: {ratio: 0.25}", tmp_path)
    scanned("prune_channels: {ratio: 0.5}", tmp_path, "digits-mlp.onnx")
    assert len(list(tmp_path.glob("sensitivity-*.json"))) == 3


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\x00"])
def test_a_damaged_cache_is_as_good_as_none(scanned: Callable[..., object], tmp_path: Path, damage: bytes) -> None:
    first = scanned("quantize_static: {}", tmp_path)
    (file,) = tmp_path.glob("sensitivity-*.json")
    file.write_bytes(damage)
    assert scanned("quantize_static: {}", tmp_path) == first
    assert file.read_bytes() != damage


def test_a_cache_that_cannot_be_written_is_no_fault(scanned: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert scanned("quantize_static: {}", tmp_path / "file").effects


def test_without_data(job: Callable[..., Job]) -> None:
    with pytest.raises(UsageError, match="a sensitivity scan needs data"):
        scan(job("passes: [prune_channels: {ratio: 0.5}]", out=None))


def test_a_step_that_has_no_scan(job: Callable[..., Job]) -> None:
    with pytest.raises(UsageError, match="simplify has no sensitivity scan"):
        scan(job(f"{CALIBRATED}passes: [simplify]", out=None))


def test_a_model_without_groups(job: Callable[..., Job], linear: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((4, 64), np.float32))
    asked = job(f"data: {{calibration: {tmp_path / 'x.npz'}}}\npasses: [prune_channels: {{ratio: 0.5}}]", out=None)
    with pytest.raises(OnnxpressError, match="there is no group to cut: product: they are the output 'y'"):
        scan(asked)
