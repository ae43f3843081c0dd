"""A search that has been done: loops with points, made up, without any model behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress_ops.measure.budget import Budget, judge
from compress_ops.measure.intervals import Interval
from compress_ops.measure.metrics.scores import Drop
from compress_ops.search.auto.predicted import Predictions
from compress_ops.search.auto.rounds import Loop, Point
from compress_ops.search.auto.wishes import Wishes
from compress_ops.search.costs.apart import Layer
from compress_ops.search.costs.cost_table import Costs
from compress_ops.search.trials import Trial

ORIGINAL = 10_000
COSTS = Costs(
    layers=[Layer((name,), "MatMul", 1) for name in ("table", "body", "head")],
    forms=["float", "int8 static", "codebook of 16"],
    bytes=np.array([[4000, 4000, 1000], [4000, 1200, 600], [100, 160, 100]]),
    shared=np.array([[0, 0, 200], [0, 0, 200], [0, 0, 0]]),
    seconds=np.array([[1.0, 1.0, 1.0], [5.0, 2.0, 5.0], [1.0, 0.5, 1.0]]),
    edges=np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.5, 0.0]]),
    loss=np.array([[0.0, np.inf, 0.03], [0.0, 0.01, 0.02], [0.0, 0.01, np.inf]]),
    links=np.zeros((3, 3)),
)
"""8100 bytes and 7 seconds in three layers, of a model of 10,000 bytes and 10 seconds."""


def loop_of(budget: Budget, *points: Point, name: str = "", costs: Costs = COSTS, objective: Any = "bytes") -> Loop:
    predictions = Predictions(costs, ORIGINAL, 10.0, ORIGINAL, 10.0)
    loop = Loop(name, None, Wishes(objective, budget), [], predictions, [], 0.0, 1)  # type: ignore[arg-type]
    loop.points.extend(points)
    return loop


def point_of(
    budget: Budget,
    choice: Sequence[int],
    *,
    size: int,
    closeness: float | None,
    speedup: float | None = None,
    drop: float | None = None,
    name: str = "made",
    expected: dict[str, float] | None = None,
) -> Point:
    """A model of some choice that came out so, judged by the budget; all intervals are of 1 % about what is told."""
    interval = None if speedup is None else Interval(speedup * 0.99, speedup * 1.01)
    trial = Trial(name, [], [], Path(), size, False, closeness, "of y", speedup, interval)
    around = None if drop is None else Interval(drop * 0.99, drop * 1.01)
    lost = None if drop is None else Drop(drop, around, drop, around)
    verdicts = judge(
        budget, original_size=ORIGINAL, size=size, speedup=interval, drop=lost, closeness=(closeness, "of y")
    )
    told = expected or {"bytes": float(size), "loss": 0.01, "seconds": 5.0}
    return Point(np.array(choice), trial, 0.02, told, verdicts, lost)
