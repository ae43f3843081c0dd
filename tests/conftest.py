"""Jobs on small graphs, with passes that misbehave on demand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from compress_ops.catalogue import PASSES
from compress_ops.passes import Pass
from compress_ops.pipeline import Job
from compress_ops.recipe import LoadedRecipe
from compress_ops.recipe.check import check_document
from compress_ops.recipe.text import read_document
from compress_ops.search import trials
from tests.helpers import SAMPLES

LINEAR = """<ir_version: 8, opset_import: ["": 17]>
g (float[n,64] x) => (float[n,32] y) { [product] h = MatMul(x, w) [rectified] y = Relu(h) }"""


@pytest.fixture
def samples() -> Path:
    return SAMPLES


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """y = relu(x w), with 8 KiB of weights, in a folder of its own."""
    model = onnx.parser.parse_model(LINEAR)
    weight = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    (tmp_path / "in").mkdir()
    onnx.save(model, tmp_path / "in" / "linear.onnx")
    return tmp_path / "in" / "linear.onnx"


@pytest.fixture
def job(tmp_path: Path, linear: Path) -> Callable[..., Job]:
    """Make a Job from the text of a recipe (version and short times are added); ``passes`` may be named in it."""

    def make(text: str, *passes: Pass, model: Path = linear, **options: Any) -> Job:
        document = read_document(f"version: 1\n{text}\n", "r.yaml")
        document.data.setdefault("measure", {}).setdefault("seconds", 0.02)
        recipe = check_document(document, {**PASSES, **{p.name: p for p in passes}})
        loaded = LoadedRecipe(recipe, options.pop("folder", SAMPLES), options.pop("expected", {}), document)
        return Job(loaded, model, options.pop("out", tmp_path / "out.onnx"), **{"measure": False, **options})

    return make


@pytest.fixture
def listing(tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """Every file below the test's folder, hidden ones too, with its content."""
    return lambda: {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.fixture
def quick_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates are timed for a moment only: which one is faster is not what is asked."""
    compare = trials.compare_models

    def quick(*given: Any, settings: Any, **more: Any) -> Any:
        return compare(*given, settings=settings.but(seconds=0.02), **more)

    monkeypatch.setattr(trials, "compare_models", quick)
