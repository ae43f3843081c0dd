"""What the cases share: a pass's context, sizes, and speed-ups of models in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compress_ops.data import DataSettings, open_data
from compress_ops.measure.latency import compare_latency
from compress_ops.model import Model, load
from compress_ops.passes import Context
from compress_ops.runtime import open_session


def context(model: Path | None = None, data: Path | None = None, **settings: Any) -> Context:
    """What a pass is given: a seeded generator, and calibration data for a model."""
    if model is None or data is None:
        return Context(np.random.default_rng(0))
    ports = open_session(model).inputs
    return Context(np.random.default_rng(0), calibration=open_data(str(data), ports, DataSettings(**settings)))


def loaded_from(models: Path, name: str) -> Model:
    return load(models / f"{name}.onnx")


def stored(model: Model) -> int:
    """Bytes of the file that a model makes."""
    with model.exported() as path:
        return path.stat().st_size


def speed_up(original: Model, small: Model, feeds: Mapping[str, np.ndarray], seconds: float = 10) -> float:
    """How many times faster the small one is: the median ratio of calls in turn."""
    with original.exported() as before, small.exported() as after:
        sessions = {"original": open_session(before), "small": open_session(after)}
        found = compare_latency(sessions, dict(feeds), seconds=seconds).models["small"]
    return 1 / found.ratio
