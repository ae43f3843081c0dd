"""A command line to call, a small model whose weights are worth quantizing, and data for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner, Result

from cli.main import app

GRAPH = """
<ir_version: 8, opset_import: ["": 17], producer_name: "test">
mlp (float[batch, 32] x) => (float[batch, 4] scores) {
    h = MatMul(x, w1)
    a = Relu(h)
    scores = MatMul(a, w2)
}
"""

Call = Callable[..., Result]


@pytest.fixture
def call() -> Call:
    """``call("run", path, "-o", out)`` in this process; the result has exit_code, stdout and stderr."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(autouse=True)
def _not_on_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


@pytest.fixture(autouse=True)
def _no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of a run does not depend on how busy the machine is."""
    monkeypatch.setattr("cli.progress.SECONDS_BETWEEN_LINES", float("inf"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x[32] -> 256 -> 4, in 37 kB; the labels of ``data`` are its own answers."""
    rng = np.random.default_rng(0)
    parsed = onnx.parser.parse_model(GRAPH)
    for name, shape in {"w1": (32, 256), "w2": (256, 4)}.items():
        weight = rng.standard_normal(shape).astype(np.float32)
        parsed.graph.initializer.append(numpy_helper.from_array(weight, name))
    for node, name in zip(parsed.graph.node, ("first", "relu", "head"), strict=True):
        node.name = name
    path = tmp_path / "model.onnx"
    onnx.save(parsed, path)
    return path


@pytest.fixture
def data(tmp_path: Path, model: Path) -> Path:
    """100 samples ``x`` with labels ``label``."""
    import onnxruntime

    x = np.random.default_rng(1).standard_normal((100, 32)).astype(np.float32)
    scores = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    path = tmp_path / "data.npz"
    np.savez(path, x=x, label=scores.argmax(1))
    return path


@pytest.fixture
def recipe(tmp_path: Path, data: Path) -> Path:
    """simplify and quantize_dynamic, scored by top1; timed for a moment only."""
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "version: 1\n"
        "data:\n"
        "  evaluation: {path: data.npz, labels: label, metrics: [top1]}\n"
        "measure: {seconds: 0.05}\n"
        "passes:\n"
        "  - simplify\n"
        "  - quantize_dynamic\n"
    )
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "small.onnx"
