"""Numbers as people read them: 1.23 MB, 4.5 ms, 98.3 % [97.1, 99.0]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from ..measure.budget import format_bytes
from ..measure.intervals import Interval

UNKNOWN = "-"


def size(count: float) -> str:
    """``1.23 MB``."""
    return format_bytes(count)


def of_whole(part: float, whole: float) -> str:
    """``26.3 %``, the share that a part is of a whole."""
    return f"{part / whole * 100:.1f} %" if whole else UNKNOWN


def seconds(value: float) -> str:
    """``4.51 ms``: three digits and the unit that suits."""
    if value >= 100:
        return f"{value / 60:.1f} min" if value >= 120 else f"{value:.0f} s"
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1:
            return f"{_three_digits(value * factor)} {unit}"
    return f"{value * 1e9:.0f} ns"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def number(value: float | None) -> str:
    """Four digits, or a dash where there is no value."""
    return UNKNOWN if value is None else f"{value:.4g}"


def _alike(*values: float, digits: int = 4) -> list[str]:
    """Numbers of one kind, with as many decimals as give the largest of them so many digits: 2.998, 2.849, 3.180."""
    largest = max(map(abs, values))
    if not 1e-4 <= largest < 1e6:
        return [number(value) for value in values]
    decimals = max(0, digits - 1 - math.floor(math.log10(largest)))
    return [f"{round(value, decimals) + 0.0:,.{decimals}f}" for value in values]  # + 0.0 makes 0 of -0


def count(value: float) -> str:
    """``101,738``."""
    return f"{value:,.0f}"


def things(value: int, name: str) -> str:
    """``1 step``, ``1,200 steps``."""
    return f"{count(value)} {name}" if value == 1 else f"{count(value)} {name}s"


def large(value: float) -> str:
    """``1.23 G``: three digits and a decimal prefix, for a unit to follow."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{_three_digits(value / factor)} {prefix}"
    return f"{value:.0f} "


def factor(value: float) -> str:
    """``1.42x``."""
    return f"{_three_digits(value)}x"


def factor_with(value: float, interval: Interval) -> str:
    """``1.42x [1.38, 1.46]``."""
    return f"{factor(value)} [{_three_digits(interval.low)}, {_three_digits(interval.high)}]"


def score(value: float | None, better: Literal["higher", "lower"], interval: Interval | None = None) -> str:
    """Metrics that are better higher lie between 0 and 1 and read as percentages; losses stay as they are.

    Percentages have as many digits as the interval of the value, or of what it is compared with, warrants.
    """
    if value is None:
        return "not a number"
    return f"{_percent(value, _decimals(interval))} %" if better == "higher" else _alike(value)[0]


def score_with(value: float | None, interval: Interval | None, better: Literal["higher", "lower"]) -> str:
    """``98.3 % [97.1, 99.0]``."""
    if value is None or interval is None:
        return score(value, better)
    ends = (interval.low, interval.high)
    if better == "lower":
        return _with_interval(_alike(value, *ends))
    decimals = _decimals(interval)
    return _with_interval([score(value, better, interval), *(_percent(end, decimals) for end in ends)])


def drop_with(value: float | None, interval: Interval | None, better: Literal["higher", "lower"]) -> str:
    """``+0.2 [-0.3, 0.8]``: percentage points where the metric reads as a percentage."""
    if value is None:
        return UNKNOWN
    ends = [interval.low, interval.high] if interval is not None else []
    decimals = _decimals(interval)
    shares = [_percent(number, decimals) for number in (value, *ends)]
    texts = shares if better == "higher" else _alike(value, *ends, digits=3)
    return f"{'+' if value > 0 and texts[0].strip('0.') else ''}{_with_interval(texts)}"


def _with_interval(texts: Sequence[str]) -> str:
    """``98.3 [97.1, 99.0]`` of a value and the ends of its interval, where it has one."""
    value, *ends = texts
    return f"{value} [{', '.join(ends)}]" if ends else value


_MOST_DECIMALS = 4


def _decimals(interval: Interval | None) -> int:
    """Of a percentage: one, and more where the interval is so narrow that its ends would look alike."""
    width = 100 * (interval.high - interval.low) if interval is not None else 0.0
    if not 0 < width < 0.5:
        return 1
    return min(_MOST_DECIMALS, 1 + math.ceil(-math.log10(2 * width)))


def _percent(value: float, decimals: int) -> str:
    return f"{round(value * 100, decimals) + 0.0:.{decimals}f}"  # + 0.0 makes 0 of -0
