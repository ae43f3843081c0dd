"""Which part of a histogram the codes shall cover: all rules that clip outliers, and what clipping and rounding cost.

With step D and codes from a to b, a number x inside is off by D^2 / 12 on average in the square (below D / 2 by x^2, as
zero has a code), and outside by its distance to the bound: the signal-to-noise ratio is sum x^2 / sum (x - x_q)^2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...measure.quality import decibels
from ..numbers.formats import Asymmetric, levels_of
from .histogram import Histogram

_FINE = 8  # bins in a step of the codes from which on rounding is counted bin by bin
_SHARES = 96  # candidates for each bound, down to a thousandth of the extreme
_MAGNITUDES = 2048  # bins of |x|, as TensorRT has
_LEVELS = 128  # codes on one side, as TensorRT has
_STRIDE = 16  # bins between two thresholds that are tried


@dataclass(frozen=True)
class Clipping:
    """Settings of the rules: the share that ``percentile`` keeps, in percent, and the codes that ``mse`` rounds to."""

    percentile: float = 99.99
    kind: str = "uint8"
    symmetric: bool = False


Bounds = tuple[float, float]
Rule = Callable[[Histogram, Clipping], Bounds]


def percentile(histogram: Histogram, settings: Clipping) -> Bounds:
    """The bins between two tails, each of (100 - percentile) / 2 % of the counts; exact to one bin."""
    cumulative = np.cumsum(histogram.counts) / histogram.counts.sum()
    tail = (100 - settings.percentile) / 200
    low = int(np.searchsorted(cumulative, tail, side="right"))
    high = min(int(np.searchsorted(cumulative, 1 - tail, side="left")), histogram.counts.size - 1)
    return (low - histogram.zero) * histogram.width, (high - histogram.zero) * histogram.width


def entropy(histogram: Histogram, settings: Clipping) -> Bounds:
    """The threshold T of |x| whose 128 levels tell least apart from the clipped distribution, by KL divergence.

    Migacz, 8-bit inference with TensorRT (GTC 2017): P is the histogram of |x| below T with all that lies above in its
    last bin; Q is the histogram below T averaged over each level, empty bins left out. Tried are T of 128, 144 ... 2048
    bins of 2048. The first bin takes the count of the second, as zeros have a code of their own.
    """
    magnitudes, top = _magnitudes(histogram)
    tried = np.arange(_LEVELS, _MAGNITUDES + 1, _STRIDE)
    threshold = float(tried[np.argmin(_divergences(magnitudes, tried))]) / _MAGNITUDES * top
    return -threshold, threshold


def _magnitudes(histogram: Histogram) -> tuple[Array, float]:
    """Counts of |x| in equal bins up to the largest; bins are cut in proportion where the two grids do not meet."""
    ends = (np.arange(histogram.counts.size + 1) - histogram.zero - 0.5) * histogram.width
    below = np.concatenate([[0.0], np.cumsum(histogram.counts)])
    top = max(-ends[0], ends[-1])
    edges = np.linspace(0, top, _MAGNITUDES + 1)
    magnitudes = np.diff(np.interp(edges, ends, below) - np.interp(-edges, ends, below))
    magnitudes[0] = magnitudes[1]
    return magnitudes, float(top)


def _divergences(magnitudes: Array, tried: Array) -> Array:
    """KL(P || Q) of the first ``tried`` magnitudes against their 128 levels, for each number that is tried.

    Within a level Q is flat, so that sums up to each bin (of counts, of occupied bins, of count x log count) suffice.
    """
    sums = [
        np.concatenate([[0.0], np.cumsum(terms)]) for terms in (magnitudes, magnitudes > 0, _log_weighted(magnitudes))
    ]
    edges = np.arange(_LEVELS + 1) * tried[:, None] // _LEVELS
    totals, occupied, _ = (np.diff(below[edges]) for below in sums)
    inside, last = sums[0][tried], magnitudes[tried - 1]
    beyond = sums[0][-1] - inside
    seen = totals.copy()  # what P has in each level, but for what Q lacks
    seen[:, -1] += np.where(last > 0, beyond, 0.0)
    lost = np.where(last > 0, 0.0, beyond)  # mass where Q has none: not a distribution that stands for P
    entropy = sums[2][tried] - _log_weighted(last) + _log_weighted(np.where(last > 0, last + beyond, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = np.where(totals > 0, np.log(totals / occupied), 0.0)
        all_in = inside + beyond
        found = (entropy - (seen * flat).sum(axis=1)) / all_in + (seen.sum(axis=1) / all_in) * np.log(inside / all_in)
    return np.where(inside > 0, found + lost / all_in * 1e3, np.inf)


def _log_weighted(counts: Array) -> Array:
    """c log c, 0 where c is."""
    weighted: Array = counts * np.log(np.where(counts > 0, counts, 1.0))
    return weighted


def mse(histogram: Histogram, settings: Clipping) -> Bounds:
    """The bounds with the least expected squared error of clipping and rounding together.

    Tried are 96 shares of either extreme, from all of it to a thousandth, each with each (both the same where codes
    are symmetric).
    """
    moments = _Moments.of(histogram)
    shares = np.geomspace(1, 1e-3, _SHARES)
    low, high = moments.centres[0], moments.centres[-1]
    if settings.symmetric:
        highs = max(-low, high) * shares
        lows = -highs
    else:
        lows, highs = (grid.reshape(-1) for grid in np.meshgrid(_shares(low, shares), _shares(high, shares)))
    steps = (highs - lows) / levels_of(settings.kind, settings.symmetric)
    errors = np.where(steps > 0, moments.error(lows, highs, np.maximum(steps, 1e-300)), np.inf)
    best = int(np.argmin(errors))
    return float(lows[best]), float(highs[best])


def _shares(extreme: float, shares: Array) -> Array:
    return extreme * shares if extreme else shares[:1] * 0


@dataclass(frozen=True)
class _Moments:
    """Sums of 1, x and x^2 over all counts below each centre, to have any interval's with two look-ups."""

    centres: Array
    sums: Array

    @classmethod
    def of(cls, histogram: Histogram) -> _Moments:
        occupied = np.flatnonzero(histogram.counts)
        low, high = min(int(occupied[0]), histogram.zero), max(int(occupied[-1]), histogram.zero)
        centres, counts = histogram.centres[low : high + 1], histogram.counts[low : high + 1]
        terms = np.stack([counts, counts * centres, counts * np.square(centres)])
        return cls(centres, np.concatenate([np.zeros((3, 1)), np.cumsum(terms, axis=1)], axis=1))

    def below(self, bounds: Array) -> Array:
        return self.sums[:, np.searchsorted(self.centres, bounds)]

    def error(self, lows: Array, highs: Array, steps: Array) -> Array:
        """Expected sum of squared errors for each interval."""
        under, over = self.below(lows), self.sums[:, -1:] - self.below(highs)
        core_low, core_high = self.below(np.maximum(-steps / 2, lows)), self.below(np.minimum(steps / 2, highs))
        core, total = core_high - core_low, self.sums[:, -1:]
        rounded = total[0] - under[0] - over[0] - core[0]
        clipped = sum(
            part[0] * bound**2 - 2 * part[1] * bound + part[2] for part, bound in ((under, lows), (over, highs))
        )
        error: Array = np.maximum(rounded, 0) * steps**2 / 12 + core[2] + np.maximum(clipped, 0)
        return error


RULES: dict[str, Rule] = {"percentile": percentile, "entropy": entropy, "mse": mse}


def quality(histogram: Histogram, form: Asymmetric) -> tuple[float, float]:
    """Signal-to-noise ratio in dB, and share of clipped numbers, of what the histogram counted, in the form's codes."""
    scale, (low, high) = float(form.scale), form.interval
    centres, counts = histogram.centres, histogram.counts
    clipped = counts[(centres < low - scale / 2) | (centres > high + scale / 2)].sum() / counts.sum()
    if scale >= _FINE * histogram.width:
        noise = counts @ np.square(centres - np.clip(np.rint(centres / scale) * scale, low, high))
    else:
        noise = _Moments.of(histogram).error(*(np.array([number]) for number in (low, high, scale)))[0]
    return decibels(float(counts @ np.square(centres)), float(noise)), float(clipped)
