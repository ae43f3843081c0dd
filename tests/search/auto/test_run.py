"""auto from its job to its report, and what ends it before any model is made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from compress_ops.errors import UsageError
from compress_ops.pipeline import Job, run
from compress_ops.recipe import load_recipe, parse_recipe
from compress_ops.search import run_auto
from tests.helpers import SAMPLES, model_of, noise


def job_of(model: Path, data: Path, out: Path, budget: str) -> Job:
    text = f"""
version: 1
data: {{calibration: {data}}}
measure: {{seconds: 0.05}}
passes: auto
auto: {{objective: smallest, trials: 3}}
budget: {{{budget}}}
"""
    return Job(parse_recipe(text), model, out)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_is_found_holds_the_limits_is_explained_and_replays_byte_for_byte(tmp_path: Path) -> None:
    model, out, again = SAMPLES / "digits-mlp.onnx", tmp_path / "out.onnx", tmp_path / "again.onnx"
    data = SAMPLES / "digits-calibration.npz"
    report = run_auto(job_of(model, data, out, "max_size: 30%, min_closeness: 0.98"))
    assert {verdict.limit: verdict.verdict for verdict in report.verdicts} == {
        "max_size": "met",
        "min_closeness": "met",
    }
    found = report.search
    assert found is not None
    assert [point.chosen for point in found.points].count(True) == 1
    assert {layer.kind for layer in found.layers} == {"Gemm"}
    assert all(layer.why for layer in found.layers)
    (tmp_path / "report.json").write_text(json.dumps(report.plain(tmp_path)))
    run(Job(load_recipe(tmp_path / "report.json", ["budget={}"]), model, again, measure=False))
    assert again.read_bytes() == out.read_bytes()


def test_a_size_that_no_form_reaches_ends_it_with_the_layer_in_the_way(tmp_path: Path) -> None:
    """A table alone: there are no channels to cut, either."""
    model, data, out = tmp_path / "m.onnx", tmp_path / "d.npz", tmp_path / "o.onnx"
    model_of("g (int64[n,3] ids) => (float[n,3,32] y) { y = Gather(table, ids) }", table=noise(400, 32)).save(model)
    np.savez(data, ids=np.random.default_rng(0).integers(0, 400, (8, 3)))
    with pytest.raises(UsageError) as caught:
        run_auto(job_of(model, data, out, "max_size: 1%"))
    assert "1% cannot be reached" in caught.value.message
    assert "of which" in caught.value.message
    assert not out.exists()


def test_a_model_without_layers_is_told_so(tmp_path: Path) -> None:
    model, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    model_of("g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }").save(model)
    np.savez(data, x=np.ones((8, 4), np.float32))
    with pytest.raises(UsageError, match="no layer with weights"):
        run_auto(job_of(model, data, tmp_path / "o.onnx", "max_size: 50%"))


def test_outputs_that_are_no_tensors_are_carried(tmp_path: Path) -> None:
    """A map of classes and their probabilities, as exporters of scikit-learn write it."""
    model, data, out = tmp_path / "m.onnx", tmp_path / "d.npz", tmp_path / "o.onnx"
    text = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
    g (float[n,64] x) => (seq(map(int64, float)) z, float[n,32] p) {
      h = MatMul(x, w) p = Softmax(h) z = ai.onnx.ml.ZipMap <classlabels_int64s: ints = [CLASSES]> (p) }"""
    proto = onnx.parser.parse_model(text.replace("CLASSES", ", ".join(map(str, range(32)))))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(noise(64, 32), "w"))
    onnx.save(proto, model)
    np.savez(data, x=noise(16, 64))
    report = run_auto(job_of(model, data, out, "min_closeness: 0.9"))
    assert report.bytes_after < report.bytes_before
    assert len(onnx.load(out).graph.output) == 2


def test_a_model_of_which_nothing_gets_smaller_or_faster_is_not_written(tmp_path: Path) -> None:
    """Of four numbers scales and nodes take more than is saved."""
    model, data, out = tmp_path / "m.onnx", tmp_path / "d.npz", tmp_path / "o.onnx"
    model_of("g (float[n,2] x) => (float[n,2] y) { y = MatMul(x, w) }", w=noise(2, 2)).save(model)
    np.savez(data, x=noise(16, 2))
    with pytest.raises(UsageError):
        run_auto(job_of(model, data, out, "min_closeness: 0.99"))
    assert not out.exists()
