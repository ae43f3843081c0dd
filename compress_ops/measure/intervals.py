"""95 % confidence intervals: of a median, of a share, of a paired difference of shares, and from a bootstrap.

Median of n values, no distribution assumed: with B ~ Binomial(n, 1/2), [x_(l), x_(n+1-l)] misses the median with
probability 2 P(B < l); l is the largest that keeps this within 5 % (Conover, Practical Nonparametric Statistics, 3.2).

Share p = hits / n (Wilson 1927):  (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).

Difference of two shares of the same n samples, of which w got worse and b got better (Bonett & Price 2012, adjusted
Wald): with w' = (w+1)/(n+2), b' = (b+1)/(n+2):  w' - b' +- z sqrt((w' + b' - (w' - b')^2) / (n+2)).

Bootstrap: the 2.5 and 97.5 percentiles of the statistic over samples drawn again with replacement (Efron 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..arrays import Array

Z = 1.959963984540054  # 97.5 % of a standard normal distribution lies below
NOISE = 1.02  # ratio of two timings of one thing
FEWEST_FOR_MEDIAN = 6  # of five values even the whole range misses the median in 2 / 2**5 = 6 % of cases


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval, ends included."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high

    def inverse(self) -> Interval:
        """The interval of 1/x, for an interval above 0."""
        return Interval(1 / self.high, 1 / self.low)

    def scaled(self, factor: float) -> Interval:
        """Wider by a factor on both sides, for an interval above 0."""
        return Interval(self.low / factor, self.high * factor)

    def half_width(self) -> float:
        return (self.high - self.low) / 2


def median_interval(values: Sequence[float]) -> Interval:
    """The interval of the median of at least six values."""
    if len(values) < FEWEST_FOR_MEDIAN:
        raise ValueError(f"{len(values)} values cannot give a 95 % interval of a median; {FEWEST_FOR_MEDIAN} can")
    rank = _rank_of_low_end(len(values))
    ordered = sorted(values)
    return Interval(ordered[rank - 1], ordered[-rank])


@cache
def _rank_of_low_end(count: int) -> int:
    """The largest l with P(Binomial(count, 1/2) < l) <= 1/40, in exact integers."""
    rank, ways, below = 0, 1, 1
    while below * 40 <= 2**count:
        ways = ways * (count - rank) // (rank + 1)
        rank, below = rank + 1, below + ways
    return rank


def wilson_interval(hits: float, count: int) -> Interval:
    """The interval of a share of ``count`` samples; of sensible width at 0 and 1 too."""
    share, slack = hits / count, Z * Z / count
    middle = share + slack / 2
    reach = Z * math.sqrt(share * (1 - share) / count + slack / (4 * count))
    low, high = (middle - reach) / (1 + slack), (middle + reach) / (1 + slack)
    return Interval(max(0.0, min(low, share)), min(1.0, max(high, share)))  # at 0 and 1 an end is the share


def paired_share_interval(worse: float, better: float, count: int) -> Interval:
    """The interval of (worse - better) / count where the other samples of ``count`` did not change."""
    down, up = (worse + 1) / (count + 2), (better + 1) / (count + 2)
    reach = Z * math.sqrt((down + up - (down - up) ** 2) / (count + 2))
    return Interval(down - up - reach, down - up + reach)


def unseen_share(count: int) -> float:
    """Upper Wilson bound of the share of something that was not seen once in ``count`` samples."""
    return Z * Z / (count + Z * Z)


def percentile_interval(replicates: Array) -> Interval | None:
    """The interval from bootstrap replicates, those that are not defined left out; None where none is."""
    defined = replicates[np.isfinite(replicates)]
    return Interval(*np.percentile(defined, [2.5, 97.5]).tolist()) if len(defined) else None


def finite(value: float) -> float | None:
    """The number, or None for what JSON cannot hold: NaN and infinities."""
    return value if math.isfinite(value) else None
