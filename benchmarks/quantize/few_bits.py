"""Weights alone in 4 bits, and codebooks: accuracy and size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.data import encoder_feeds
from benchmarks.tables import Goal, put
from compress_ops.runtime import open_session

from .cases import split
from .scores import likeness
from .tools import Made, Task, peer, recipe, task_of

SAMPLES = Path("sample_models")
INT4 = "[simplify, {quantize_weights: {bits: 4, block_size: 32}}]"
WITHOUT_DATA = "[simplify, {quantize_weights: {bits: 4, block_size: 32, method: hqq}}]"


def encoder_int4(models: Path, folder: Path, homes: Path) -> list[Goal]:
    """Blocks of 32, embeddings too, with data and without, beside onnxruntime's rounding to nearest."""
    calibration, test = split(encoder_feeds(), 128)
    goals: list[Goal] = []
    for model in (models / "minilm-classic.onnx", models / "minilm-dynamo.onnx"):
        task = task_of(model, calibration, 16, folder, homes)
        made = [recipe(task, "onnxpress int4, with data", INT4)]
        made += [recipe(task, "onnxpress int4, without", WITHOUT_DATA)]
        made += [peer(task, "onnxruntime int4, blocks of 32", "")]
        score = likeness(open_session(model), test)
        scores = {one.name: score(open_session(one.path)) for one in made if not one.fault}
        put(["tool", "cosine", "top-1 retrieval", "MB"], [_row(one, scores) for one in made], f"{model.stem}, int4")
        goals.append(Goal(f"{model.stem}, {made[0].name}: cosine", scores[made[0].name][0], 0.985))
        goals.append(Goal(f"{model.stem}, {made[0].name}: MB", made[0].megabytes, 15.5, at_most=True))
    return goals


def _row(one: Made, scores: dict[str, tuple[float, float]]) -> list[str]:
    if one.fault:
        return [one.name, f"fails: {one.fault}", "", ""]
    return [one.name, *(f"{value:.4f}" for value in scores[one.name]), f"{one.megabytes:.2f}"]


def samples(folder: Path, homes: Path) -> list[Goal]:
    """The small models that lie in the repository, judged by ``onnxpress compare``."""
    goals = []
    for name in ("digits-cnn", "digits-mlp"):
        small = _sample(name, "digits-calibration", "[simplify, {cluster_weights: {clusters: 16}}]", folder, homes)
        before, after = _metric(SAMPLES / f"{name}.onnx", small.path, "digits-test.npz", "label", "top1")
        share = small.path.stat().st_size / (SAMPLES / f"{name}.onnx").stat().st_size
        goals += [Goal(f"{name}, 16 clusters: points of accuracy lost", 100 * (before - after), 0.5, at_most=True)]
        goals += [Goal(f"{name}, 16 clusters: share of the file", share, 1 / 6, at_most=True)]
    small = _sample("textlm", "textlm-calibration", INT4, folder, homes)
    before, after = _metric(SAMPLES / "textlm.onnx", small.path, "textlm-test.npz", "next", "perplexity")
    return [*goals, Goal("textlm int4: perplexity more, in %", 100 * (after / before - 1), 2.0, at_most=True)]


def _sample(name: str, data: str, passes: str, folder: Path, homes: Path) -> Made:
    task = Task((SAMPLES / f"{name}.onnx").resolve(), (SAMPLES / f"{data}.npz").resolve(), 16, folder, homes)
    made = recipe(task, "small", passes)
    if made.fault:
        raise SystemExit(f"{name}: {made.fault}")
    return made


def _metric(before: Path, after: Path, data: str, labels: str, metric: str) -> tuple[float, float]:
    """A metric of both models, by ``onnxpress compare``."""
    flags = ["--data", str(SAMPLES / data), "--labels", labels, "--metric", metric, "--seconds", "0.1", "--json"]
    command = [str(Path(sys.executable).with_name("onnxpress")), "compare", str(before), str(after), *flags]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found = [model["value"] for model in told["accuracy"]["metrics"][metric]["models"].values()]
    return found[0], found[1]
