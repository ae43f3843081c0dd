"""Ranges of activations from calibration data, in bounded memory and at most two passes.

Every calibrator sees the data batch by batch. Minimum and maximum are reduced inside the onnxruntime session, so
only a few numbers per tensor and batch come out. Rules that clip outliers take a second pass that counts histograms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from ...arrays import Array
from ...errors import PassError
from ...graph.tap import tapped
from ...lazy import ir
from ...model import Model
from ...passes import Context
from .clipping import RULES, Clipping, Rule
from .histogram import Histogram, Span, histograms

MOMENTUM = 0.9
"""What the moving average keeps of its past at each batch: the last ten or so batches decide."""


@dataclass(frozen=True)
class Range:
    """The interval of values that codes shall cover, and what was counted where the calibrator counted."""

    low: float
    high: float
    histogram: Histogram | None = field(default=None, compare=False, repr=False)


Ranges = dict[str, Range]


def minmax(model: Model, ctx: Context, values: Sequence[ir.Value], settings: Clipping) -> Ranges:
    """The smallest and the largest value seen; nothing is clipped, one outlier decides."""
    return {name: Range(span.low, span.high) for name, span in _spans(model, ctx, values).items()}


def moving_average(model: Model, ctx: Context, values: Sequence[ir.Value], settings: Clipping) -> Ranges:
    """An exponential average of the extremes of each batch, low <- 0.9 low + 0.1 min X (Jacob et al. 2018).

    An outlier of one batch counts little; the result depends on the batches and their order.
    """
    average, begun = np.tile([np.inf, -np.inf], (len(values), 1)), np.zeros(len(values), bool)
    for seen in _extremes_of_batches(model, ctx, values):
        full = seen[:, 3] > 0
        average[full & ~begun] = seen[full & ~begun, :2]
        with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is to stay
            average[full & begun] += (1 - MOMENTUM) * (seen[:, :2] - average)[full & begun]
        begun |= full
    return {value.name or "": Range(float(a), float(b)) for value, (a, b) in zip(values, average, strict=True)}


def clipped(model: Model, ctx: Context, values: Sequence[ir.Value], settings: Clipping, rule: Rule) -> Ranges:
    """What a rule makes of the histograms, no wider than what was seen.

    Values that float32 cannot divide into bins keep their extremes.
    """
    spans = _spans(model, ctx, values)
    countable = [value for value in values if spans[value.name or ""].can_be_counted]
    counted = histograms(model, ctx, countable, spans)
    ranges = {name: Range(span.low, span.high) for name, span in spans.items()}
    for name, histogram in counted.items():
        seen = spans[name]
        low, high = (min(max(bound, seen.low), seen.high) for bound in rule(histogram, settings))
        ranges[name] = Range(low, high, histogram)
    return ranges


Calibrator = Callable[[Model, Context, Sequence[Any], Clipping], Ranges]
CalibratorName = Literal["minmax", "moving_average", "percentile", "entropy", "mse"]
CALIBRATORS: dict[str, Calibrator] = {
    "minmax": minmax,
    "moving_average": moving_average,
    **{name: partial(clipped, rule=rule) for name, rule in RULES.items()},
}


def calibrate(
    model: Model,
    ctx: Context,
    values: Sequence[ir.Value],
    calibrator: str,
    percentile: float = 99.99,
    kind: str = "uint8",
    symmetric: bool = False,
) -> Ranges:
    """Ranges of main-graph values by name.

    Values that took NaN or infinity have such a range; values that were empty in all batches have low > high. Callers
    decline both.
    """
    if not values:
        return {}
    return CALIBRATORS[calibrator](model, ctx, values, Clipping(percentile, kind, symmetric))


def _spans(model: Model, ctx: Context, values: Sequence[ir.Value]) -> dict[str, Span]:
    """Extremes over all batches, NaN where there was one."""
    lows, highs, sizes = (np.full(len(values), start) for start in (np.inf, -np.inf, 0.0))
    for seen in _extremes_of_batches(model, ctx, values):
        np.minimum(lows, seen[:, 0], out=lows)  # these keep NaN
        np.maximum(highs, seen[:, 1], out=highs)
        np.maximum(sizes, seen[:, 3], out=sizes)
    found = zip(values, lows, highs, sizes, strict=True)
    return {value.name or "": Span(float(low), float(high), int(size)) for value, low, high, size in found}


def _extremes_of_batches(model: Model, ctx: Context, values: Sequence[ir.Value]) -> Iterator[Array]:
    """For each batch an array [values, 4]: minimum, maximum, a sum of magnitudes, size."""
    batches = 0
    with tapped(model, ctx, [output for value in values for output in _extremes(value)]) as session:
        for feeds in ctx.calibration_batches("calibrate: ranges"):
            seen = np.array(list(session.run(feeds).values()), np.float64).reshape(-1, 4)
            seen[np.isnan(seen[:, 2]), :2] = np.nan
            batches += 1
            yield seen
    if not batches:
        raise PassError("the calibration data has no batches", hint="give at least one sample")


def _extremes(value: ir.Value) -> list[ir.Node]:
    """Minimum and maximum, which onnxruntime computes as if NaN were not there, a sum that shows it, and the size."""
    reductions = [ir.node(reduce, [value], {"keepdims": 0}) for reduce in ("ReduceMin", "ReduceMax", "ReduceL1")]
    return [*reductions, ir.node("Size", [value])]
