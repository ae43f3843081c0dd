"""Ranges of activations from calibration data, in bounded memory.

Every calibrator sees the data batch by batch. Minimum and maximum are reduced inside the onnxruntime session, so
only two numbers per tensor and batch come out. Histograms take a second pass: the session itself turns each tensor
into bin numbers (QuantizeLinear to 16 bits over the range of the first pass), and only counts are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import PassError
from ..graph.edit import MICROSOFT
from ..graph.tap import constant, tapped
from ..model import Model
from ..passes import Context

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

BINS = 8192
_CHUNK = 2**18  # elements counted at a time: numpy.bincount widens what it counts to 64 bits
_HISTOGRAM_BYTES = 2**25  # tapped tensors of one run; more of them than that are counted in several sessions


@dataclass(frozen=True)
class Range:
    """The interval of values that codes shall cover."""

    low: float
    high: float


Ranges = dict[str, Range]


def minmax(model: Model, ctx: Context, values: Sequence[ir.Value], percentile: float) -> Ranges:
    """The smallest and the largest value seen; nothing is clipped, one outlier decides."""
    import numpy as np

    lows, highs = np.full(len(values), np.inf), np.full(len(values), -np.inf)
    with tapped(model, ctx, [output for value in values for output in _extremes(value)]) as session:
        for feeds in ctx.calibration_batches("calibrate: ranges"):
            seen = np.array(list(session.run(feeds).values()), np.float64).reshape(-1, 3)
            seen[np.isnan(seen[:, 2])] = np.nan
            np.minimum(lows, seen[:, 0], out=lows)  # these two keep NaN
            np.maximum(highs, seen[:, 1], out=highs)
    return {
        value.name or "": Range(float(low), float(high)) for value, low, high in zip(values, lows, highs, strict=True)
    }


def percentile(model: Model, ctx: Context, values: Sequence[ir.Value], percentile: float) -> Ranges:
    """The interval that leaves out (100 - percentile) % of the values, half of that on either side.

    Counted in histograms of 8192 bins over the min-max range, so a bound is exact to one bin.
    """
    ranges = minmax(model, ctx, values, percentile)
    spread = [value for value in values if _has_spread(ranges[value.name or ""])]
    for group in _groups(ctx, model, spread):
        for name, counts in _histograms(model, ctx, group, ranges).items():
            ranges[name] = _central(counts, ranges[name], percentile)
    return ranges


Calibrator = Callable[[Model, Context, Sequence[Any], float], Ranges]
CALIBRATORS: dict[str, Calibrator] = {"minmax": minmax, "percentile": percentile}


def _has_spread(found: Range) -> bool:
    """Whether float32 can tell the bins of the range apart."""
    import numpy as np

    limits = np.finfo(np.float32)
    return float(limits.tiny) * BINS <= found.high - found.low <= float(limits.max)


def _extremes(value: ir.Value) -> list[ir.Node]:
    """Minimum and maximum, which onnxruntime computes as if NaN were not there, and a sum that shows it."""
    import onnx_ir as ir

    return [ir.node(reduce, [value], {"keepdims": 0}) for reduce in ("ReduceMin", "ReduceMax", "ReduceL1")]


def _groups(ctx: Context, model: Model, values: Sequence[ir.Value]) -> Iterator[list[ir.Value]]:
    """Values whose bin numbers, for the first batch, take at most ``_HISTOGRAM_BYTES`` together."""
    import onnx_ir as ir

    sizes: list[int] = []
    if values:
        with tapped(model, ctx, [ir.node("Size", [value]) for value in values]) as session:
            first = next(iter(ctx.calibration_batches("calibrate: sizes")))
            sizes = [2 * int(size) for size in session.run(first).values()]
    group: list[ir.Value] = []
    room = _HISTOGRAM_BYTES
    for value, size in zip(values, sizes, strict=True):
        if group and size > room:
            yield group
            group, room = [], _HISTOGRAM_BYTES
        group.append(value)
        room -= size
    if group:
        yield group


def _histograms(
    model: Model, ctx: Context, values: Sequence[ir.Value], ranges: Ranges
) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    counts = {value.name or "": np.zeros(BINS, np.int64) for value in values}
    with tapped(model, ctx, [_binned(model, value, ranges[value.name or ""]) for value in values]) as session:
        for feeds in ctx.calibration_batches("calibrate: histograms"):
            for total, codes in zip(counts.values(), session.run(feeds).values(), strict=True):
                _count(codes.reshape(-1), total)
    return counts


def _binned(model: Model, value: ir.Value, found: Range) -> ir.Node:
    """Bin numbers 0..BINS-1 of a tensor: round((x - low) / width) as QuantizeLinear computes it."""
    import numpy as np
    import onnx_ir as ir

    width = (found.high - found.low) / (BINS - 1)
    shifted = ir.node("Sub", [value, constant(np.float32(found.low))])
    scale, zero = constant(np.float32(width)), constant(np.uint16(0))
    return ir.node("QuantizeLinear", [shifted.outputs[0], scale, zero], domain=MICROSOFT)


def _count(codes: np.ndarray[Any, Any], total: np.ndarray[Any, Any]) -> None:
    import numpy as np

    for start in range(0, codes.size, _CHUNK):
        total += np.bincount(np.minimum(codes[start : start + _CHUNK], BINS - 1), minlength=BINS)


def _central(counts: np.ndarray[Any, Any], found: Range, percentile: float) -> Range:
    """The bins between the two tails, each of (100 - percentile) / 2 % of the counts."""
    import numpy as np

    cumulative = np.cumsum(counts) / counts.sum()
    tail = (100 - percentile) / 200
    width = (found.high - found.low) / (BINS - 1)
    low = int(np.searchsorted(cumulative, tail, side="right"))
    high = int(np.searchsorted(cumulative, 1 - tail, side="left"))
    return Range(found.low + low * width, found.low + min(high, BINS - 1) * width)


def calibrate(model: Model, ctx: Context, values: Sequence[ir.Value], calibrator: str, percentile: float) -> Ranges:
    """Ranges of main-graph values by name. Values that took NaN or infinity have such a range: callers decline them."""
    if not values:
        return {}
    ranges = CALIBRATORS[calibrator](model, ctx, values, percentile)
    if all(found.low > found.high for found in ranges.values()):
        raise PassError("the calibration data has no batches", hint="give at least one sample")
    return ranges
