"""The digits over several seeds: how far results spread, and whether the teacher helps at all."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

import numpy as np

from benchmarks.tables import Goal, put
from compress_ops.pipeline import Job, run
from compress_ops.recipe import parse_recipe
from compress_ops.report.report import Report
from compress_ops.runtime import open_session

SAMPLES = Path("sample_models").resolve()
MODEL = SAMPLES / "digits-cnn.onnx"
CUT = "simplify, {prune_channels: {ratio: 0.75, score: activation_weight}}, refit"
DATA = (
    "{calibration: digits-calibration.npz, training: {path: digits-train.npz, labels: label}, "
    "evaluation: {path: digits-test.npz, labels: label, metrics: [top1]}, batch_size: 16}"
)
SEEDS = 5


def seeds(models: Path, folder: Path) -> list[Goal]:
    """Three quarters of the channels cut, refit, and two epochs without labels, from seed to seed."""
    rows, lost, spent = [], [], []
    before = _top1(MODEL)
    for seed in range(SEEDS):
        out = folder / f"{seed}.onnx"
        report = _run(out, f"{CUT}, {{distill: {{epochs: 2}}}}", seed)
        lost.append(100 * (before - _top1(out)))
        spent.append(sum(step.cpu_seconds for step in report.steps))
        rate = report.steps[-1].notes["learning rate"]
        rows.append([str(seed), f"{_top1(out):.2%}", f"{lost[-1]:.2f}", f"{spent[-1]:.1f}", str(rate).split()[0]])
    heads = ["seed", "top-1", "points lost", "CPU s", "learning rate found"]
    spread = [f"mean of {SEEDS}", "", f"{mean(lost):.2f} +- {stdev(lost):.2f}", f"{mean(spent):.1f}", ""]
    put(heads, [*rows, spread], f"digits-cnn ({before:.2%}), 75 % of channels, 2 epochs; +- is the standard deviation")
    return [
        Goal("digits-cnn, 75 %: points lost, mean over seeds", mean(lost), 1, at_most=True),
        Goal("digits-cnn, 75 %: points lost, worst seed", max(lost), 1, at_most=True),
        Goal("digits-cnn, 75 %: CPU seconds, worst seed", max(spent), 5, at_most=True),
    ]


def scratch(models: Path, folder: Path) -> list[Goal]:
    """The same cut model taught for 20 epochs, and trained from fresh weights with labels alone; nothing was asked."""
    step = _run(folder / "taught.onnx", f"{CUT}, {{distill: {{epochs: 20, baseline: scratch}}}}").steps[-1]
    put(["top-1", "teacher"], [[str(step.notes["top1"]), str(step.notes["baseline"])]], "digits-cnn, 75 %: the teacher")
    return []


def _run(out: Path, passes: str, seed: int = 0) -> Report:
    recipe = parse_recipe(f"version: 1\nseed: {seed}\ndata: {DATA}\npasses: [{passes}]\n", folder=SAMPLES)
    return run(Job(recipe, MODEL, out, measure=False))


def _top1(path: Path) -> float:
    test = np.load(SAMPLES / "digits-test.npz")
    scores = next(iter(open_session(path).run({"image": test["image"]}).values()))
    return float((scores.argmax(axis=1) == test["label"]).mean())
