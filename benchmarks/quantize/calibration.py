"""What static calibration costs: processor time against plain float passes over the same data, and peak memory.

``calibrate`` with all that it opens, runs and counts, over opening and running the float model; in turn, medians.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.data import encoder_feeds, pages, text_lines
from benchmarks.tables import Goal
from compress_ops.data import DataSettings, open_data
from compress_ops.graph.clean.simplify import simplify
from compress_ops.graph.opset import upgrade_opset
from compress_ops.model import Model, load
from compress_ops.passes import Context
from compress_ops.quantize.int8 import static
from compress_ops.quantize.ranges.calibrate import calibrate
from compress_ops.runtime import open_session

from .scores import Feeds
from .tools import recipe, task_of

ROUNDS = 3
LIMITS = {"minmax": 2.0, "percentile": 3.5, "entropy": 3.5, "mse": 3.5}
MEMORY = 1.2
STATIC = "[{upgrade_opset: {to: 17}}, simplify, {quantize_static: {calibrator: %s}}]"


def cases() -> dict[str, tuple[str, Feeds, int]]:
    """A model, data and batch size by name."""
    drawn, lines = pages(6), text_lines(48)[0]
    return {
        "encoder, 8 batches": ("minilm-classic", {k: v[:128] for k, v in encoder_feeds().items()}, 16),
        "recogniser, 8 batches": ("ppocr-rec", {"x": lines}, 6),
        "detector, 1 page": ("ppocr-det", {"x": drawn[:1]}, 1),
        "detector, 6 pages": ("ppocr-det", {"x": drawn}, 1),
    }


def costs(models: Path, folder: Path, homes: Path) -> list[Goal]:
    """Time of each calibrator on each model, and the memory of a whole command with the two extremes of calibrators."""
    goals = []
    for name, (stem, feeds, batch) in cases().items():
        task = task_of(models / f"{stem}.onnx", feeds, batch, folder, homes)
        ratios = _ratios(task.model, task.data, batch)
        goals += [
            Goal(f"{name}: {kind}, CPU time over a float pass", ratio, LIMITS[kind], at_most=True)
            for kind, ratio in ratios.items()
        ]
        for kind in ("minmax", "percentile"):
            memory = recipe(task, f"static {kind}", STATIC % kind).ran.gigabytes
            goals.append(Goal(f"{name}: {kind}, peak memory in GB", memory, MEMORY, at_most=True))
    return goals


def _ratios(path: Path, data: Path, batch: int) -> dict[str, float]:
    model, ports = load(path), open_session(path, optimize=False).inputs
    dataset = open_data(str(data), ports, DataSettings(base=data.parent, batch_size=batch))
    context = Context(np.random.default_rng(0), calibration=dataset)
    upgrade_opset(model, context, to=17)
    simplify(model, context)
    with model.exported() as exported:
        taken = [_round(model, context, exported) for _ in range(ROUNDS + 1)][1:]
    return {kind: statistics.median(seconds[kind] / seconds["float"] for seconds in taken) for kind in LIMITS}


def _round(model: Model, context: Context, exported: Path | bytes) -> dict[str, float]:
    """Processor seconds of one float pass, and of each calibrator on what quantize_static asks ranges for."""
    start = process_time()
    session = open_session(exported)
    for feeds in context.calibration_batches(""):
        session.run(feeds)
    return {"float": process_time() - start, **{kind: _calibrating(model, context, kind) for kind in LIMITS}}


def _calibrating(model: Model, context: Context, kind: str) -> float:
    spent = []

    def timed(*arguments: Any) -> Any:
        start = process_time()
        found = calibrate(*arguments)
        spent.append(process_time() - start)
        return found

    with patch.object(static, "calibrate", timed):
        static.quantize_static(model.copy(), context, calibrator=kind)  # type: ignore[arg-type]
    return sum(spent)
