"""Histograms of activations, counted while the data streams by, in bounded memory.

The session itself turns each tensor into bin numbers (QuantizeLinear to 16 bits over the range of a first pass, zero in
the middle of a bin) and only counts are kept. Of a tensor that has more than some hundred thousand numbers in a batch,
every p-th is counted, p a prime that does not divide its size: no channel, row or column is left out by that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ...arrays import Array
from ...graph.edit import MICROSOFT
from ...graph.tap import constant, tapped
from ...lazy import ir
from ...model import Model
from ...passes import Context

BINS = 8192
COUNTED = 2**18
"""Numbers of one tensor and batch that are counted: the 99.99 % point is then known to some percent of its tail."""
_COUNTED_TOGETHER = 2**25  # numbers of all tensors in one run of the session: 64 MiB of bin numbers


@dataclass(frozen=True)
class Span:
    """What a first pass found out about a tensor: extremes, and elements of the largest batch."""

    low: float
    high: float
    size: int

    @property
    def can_be_counted(self) -> bool:
        """Whether float32 can tell the bins apart."""
        limits = np.finfo(np.float32)
        wide = max(self.high, 0.0) - min(self.low, 0.0)
        return self.high > self.low and float(limits.tiny) * BINS <= wide <= float(limits.max)


@dataclass(frozen=True)
class Histogram:
    """``counts[k]`` numbers lay within half a ``width`` of (k - ``zero``) ``width``."""

    counts: Array
    width: float
    zero: int

    @property
    def centres(self) -> Array:
        return (np.arange(self.counts.size) - self.zero) * self.width


def histograms(
    model: Model, ctx: Context, values: Sequence[ir.Value], spans: Mapping[str, Span]
) -> dict[str, Histogram]:
    """The histogram of each value over the range from its extremes to zero, by name; one pass over the data."""
    found = {value.name or "": _empty(spans[value.name or ""]) for value in values}
    if not found:
        return {}
    most = max(min(COUNTED, _COUNTED_TOGETHER // len(values)), BINS)
    numbers = cache(lambda number: constant(np.array([number], np.int64)))  # made once: onnx-ir takes its time
    sizes = [spans[value.name or ""].size for value in values]
    taps = [
        _bin_numbers(value, histogram, size, most, numbers)
        for value, histogram, size in zip(values, found.values(), sizes, strict=True)
    ]
    with tapped(model, ctx, taps) as session:
        for feeds in ctx.calibration_batches("calibrate: histograms"):
            for histogram, codes in zip(found.values(), session.run(feeds).values(), strict=True):
                counts = np.bincount(codes, minlength=BINS + 1)
                histogram.counts[:] += counts[: BINS + 1]
    return {name: replace(histogram, counts=histogram.counts[:BINS]) for name, histogram in found.items()}


def _empty(span: Span) -> Histogram:
    """One bin more than BINS, as both ends may round up; it stays empty but for that."""
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    width = float(np.float32((high - low) / (BINS - 2)))
    return Histogram(np.zeros(BINS + 1, np.int64), width, int(np.rint(-low / width)))


def _bin_numbers(
    value: ir.Value, histogram: Histogram, size: int, most: int, numbers: Callable[[int], ir.Value]
) -> ir.Node:
    """round(x / width) + zero of the counted numbers, flat."""
    some = ir.node("Reshape", [value, numbers(-1)])
    if size > most:
        limits = (0, np.iinfo(np.int64).max, 0, _stride(size, most))  # start, end, axis, step
        some = ir.node("Slice", [some.outputs[0], *map(numbers, limits)])
    width, zero = constant(np.float32(histogram.width)), constant(np.uint16(histogram.zero))
    return ir.node("QuantizeLinear", [some.outputs[0], width, zero], domain=MICROSOFT)


def _stride(size: int, most: int) -> int:
    """The smallest prime p that leaves at most ``most`` of ``size`` numbers and does not divide ``size``."""
    p = max(2, -(-size // most))
    while size % p == 0 or any(p % i == 0 for i in range(2, math.isqrt(p) + 1)):
        p += 1
    return p
