"""The main job on real models: inspect, simplify, quantize_dynamic and compare; smaller, and loaded by onnxruntime.

Models are made by benchmarks/models.py; ONNXPRESS_BENCH_MODELS names their folder (`make test-slow` uses .bench).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("ONNXPRESS_BENCH_MODELS", ".bench"))
MODELS = sorted(FOLDER.glob("*.onnx"))
RECIPE = "version: 1\nmeasure: {seconds: 1}\npasses: [simplify, quantize_dynamic]\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODELS, reason=f"no models in {FOLDER}; make bench-models fetches them"),
]


def onnxpress(*words: object) -> Any:
    """Run a command; its one JSON document."""
    done = subprocess.run(["onnxpress", *map(str, words), "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_the_main_job(model: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "small.onnx"
    recipe.write_text(RECIPE)
    facts = onnxpress("inspect", model)
    assert facts["size"]["counted"] > 500_000
    report = onnxpress("run", recipe, model, "-o", out, "--check-steps")
    assert report["bytes_after"] < 0.75 * report["bytes_before"]
    compared = onnxpress("compare", model, out, "--seconds", "1")
    assert compared["size"][out.name]["counted"] < 0.75 * compared["size"][model.name]["counted"]
