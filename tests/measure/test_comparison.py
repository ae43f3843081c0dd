"""The whole: models on disk, data, and a tree of numbers that is plain JSON."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from compress_ops.data import Dataset, DataSettings, open_data
from compress_ops.errors import OnnxpressError
from compress_ops.measure import Budget, Measure, compare_models, judge_model
from compress_ops.measure import comparison as module
from compress_ops.measure.comparison import NOT_ASKED, PARTS
from compress_ops.measure.feeds import latency_feed
from compress_ops.runtime import Provider, open_session

QUICK = Measure(seconds=0.2)
LINEAR = "g (float[n,4] x) => (float[n,3] y) { y = MatMul(x, w) }"


def _save(path: Path, text: str, **weights: np.ndarray) -> Path:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, path)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    weights = np.random.default_rng(0).normal(size=(4, 3))
    before = _save(tmp_path / "before.onnx", LINEAR, w=weights)
    return {"before": before, "after": _save(tmp_path / "after.onnx", LINEAR, w=np.round(weights, 1))}


@pytest.fixture
def data(tmp_path: Path, paths: dict[str, Path]) -> Dataset:
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(30, 4)).astype("f4"), label=rng.integers(0, 3, 30))
    return open_data(tmp_path / "d.npz", open_session(paths["before"]).inputs, DataSettings(labels="label"))


def test_everything_at_once_is_plain_json(paths: dict[str, Path], data: Dataset) -> None:
    result = compare_models(paths, settings=QUICK, evaluation=data, metrics=["top1", "f1", "auc"])
    tree = json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))
    assert tree["size"]["before"]["file"] == paths["before"].stat().st_size
    assert tree["feed"]["shapes"] == {"x": [1, 4]}
    assert tree["latency"]["models"]["after"]["ratio"] > 0
    assert tree["cost"]["after"]["bytes_moved"] == 4 * (4 + 12 + 3)
    assert tree["accuracy"]["samples"] == tree["fidelity"]["samples"] == 30
    assert list(tree["accuracy"]["metrics"]) == ["top1", "f1", "auc"]
    assert tree["fidelity"]["models"]["after"]["y"]["cosine"] > 0.9
    assert tree["environment"]["threads"] == 1
    assert tree["feed"]["source"] == tree["fidelity_data"] == data.name


def test_without_data_feeds_are_made_up_and_said_to_be(paths: dict[str, Path]) -> None:
    settings = Measure(batch=5, seconds=0.2)
    result = compare_models(paths, settings=settings, metrics=["top1"])
    assert (result.feed.source, result.feed.shapes, result.fidelity_data) == ("synthetic", {"x": (5, 4)}, "synthetic")
    assert result.fidelity.samples >= 30
    assert result.accuracy == "not measured: no evaluation data is given"


def test_fidelity_needs_no_labels(paths: dict[str, Path], data: Dataset) -> None:
    result = compare_models(paths, fidelity_data=data, parts=["fidelity", "accuracy"])
    assert (result.fidelity_data, result.fidelity.samples) == (data.name, 30)
    assert result.accuracy.startswith("not measured: no evaluation data")
    assert compare_models(paths, evaluation=data, parts=["accuracy"]).accuracy == "not measured: no metric is given"


@pytest.mark.parametrize("part", PARTS)
def test_only_what_is_asked_for(paths: dict[str, Path], data: Dataset, part: Any) -> None:
    result = compare_models(paths, settings=QUICK, evaluation=data, metrics=["top1"], parts=[part])
    assert [name for name in PARTS if getattr(result, name) != NOT_ASKED] == [part]


def test_size_alone_opens_no_session(paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_session", None)
    assert compare_models(paths, parts=["size"]).size["after"].weights == 48


def test_a_feed_that_cannot_be_made_up(tmp_path: Path) -> None:
    """Two free axes that must be one apart: no guess finds that."""
    text = "g (float[a,2] p, float[b,2] q) => (float[c,2] y) { r = Concat<axis = 0>(q, one)  y = Add(p, r) }"
    path = _save(tmp_path / "m.onnx", text, one=np.ones((3, 2)))
    result = compare_models({"a": path, "b": path}, settings=Measure(batch=2))
    for part in (result.latency, result.cost, result.fidelity, result.feed):
        assert part.startswith("not measured: ")
        assert "does not run" in part
    assert result.size["a"].file > 0


def test_a_size_for_a_dimension_that_does_not_exist_is_a_fault(paths: dict[str, Path]) -> None:
    with pytest.raises(OnnxpressError, match="no dimension named 'seq'"):
        compare_models(paths, settings=Measure(dims={"seq": 4}))


def test_one_model_has_nothing_to_be_compared_with(paths: dict[str, Path]) -> None:
    result = compare_models({"only": paths["before"]}, settings=QUICK)
    assert result.fidelity == "not measured: there is no other model to compare with"
    assert result.latency.models["only"].verdict == "reference"


def test_the_timed_feed_comes_from_the_data(paths: dict[str, Path], data: Dataset) -> None:
    """Seven of a batch of sixteen; forty go round again."""
    sessions = {"m": open_session(paths["before"])}
    rows = next(data.batches()).feeds["x"]
    assert np.array_equal(latency_feed(sessions, data, Measure(batch=7), 0)["x"], rows[:7])
    assert np.array_equal(latency_feed(sessions, data, Measure(batch=40), 0)["x"][16:32], rows)


def test_a_fixed_batch_stays(tmp_path: Path, data: Dataset) -> None:
    path = _save(tmp_path / "m.onnx", LINEAR.replace("n,4", "16,4").replace("n,3", "16,3"), w=np.ones((4, 3)))
    assert latency_feed({"m": open_session(path)}, data, Measure(batch=1), 0)["x"].shape == (16, 4)


def test_full_precision_where_tf32_would_blur(monkeypatch: pytest.MonkeyPatch, paths: dict[str, Path]) -> None:
    opened = []

    def fake(path: Path, providers: Any, threads: int) -> Any:
        opened.append(providers)
        return open_session(path, threads=threads)

    monkeypatch.setattr(module, "open_session", fake)
    compare_models(paths, providers=[Provider("cuda", {"device_id": 1})], parts=["fidelity"])
    assert opened == [[Provider("cuda", {"device_id": 1, "use_tf32": "0"})]] * 2


def test_a_model_that_the_profiler_cannot_run(paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise module.ModelError("no packed kernel")

    monkeypatch.setattr(module, "profile_run", refuse)
    result = compare_models(paths, settings=QUICK, parts=["cost", "size"])
    assert result.cost == "not measured: no packed kernel"


def test_judging_a_model(paths: dict[str, Path], data: Dataset) -> None:
    budget = Budget(max_size="200%", min_speedup=0.01, max_drop="100%")
    result = compare_models(paths, settings=QUICK, evaluation=data, metrics=["top1"])
    verdicts = judge_model(budget, result, "after", original_size=100, size=150)
    assert [v.verdict for v in verdicts] == ["met", "met", "met"]
    unmeasured = judge_model(budget, None, "after", original_size=100, size=150)
    assert [v.verdict for v in unmeasured] == ["met", "not proven", "not proven"]
