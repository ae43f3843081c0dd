"""What a trial gains, speed-up and size as one number: a file half as large is worth 15 % of the time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..report import units
from .trials import Trial

WITHIN_NOISE = 0.98  # a speed-up of that is none
AS_GOOD = 0.98  # of what the best gains: among those the closest wins
_OF_SIZE = 0.2  # the exponent of what a smaller file is worth: halving it counts as 2^0.2 = 1.15 in speed


def gain(trial: Trial) -> float:
    """Speed-up and size as one number, of use beside those of other trials of the model."""
    return speed(trial) * _of_size(trial)


def speed(trial: Trial) -> float:
    """Its speed-up; 1 where it was not to be had."""
    return trial.speedup if trial.speedup is not None else 1.0


def most(trial: Trial) -> float:
    """What it gains at the most, by its interval."""
    return (trial.interval.high if trial.interval is not None else 1.0) * _of_size(trial)


def not_slower(trials: Sequence[Trial]) -> Sequence[Trial]:
    """Those that are no slower than the float model, if any is not."""
    return [trial for trial in trials if speed(trial) >= WITHIN_NOISE] or trials


def cannot_win(trial: Trial, others: Sequence[Trial], least: float) -> bool:
    """Whether one that is close is sure to gain more, or to be no slower than float where this one is."""
    close = not_slower([other for other in others if other.is_close(least)])
    sure = [(other.interval.low if other.interval is not None else 1.0, other) for other in close]
    if trial.interval is not None and trial.interval.high < WITHIN_NOISE and any(low >= 1 for low, _ in sure):
        return True
    return any(most(trial) < AS_GOOD * low * _of_size(other) for low, other in sure)


_MORE = 1.1  # times what the best gains is worth a word
_LEAST_TOLD = 0.9  # closeness of what is told of


def looser(best: Trial, trials: Sequence[Trial], least: float, before: int) -> str:
    """What a looser limit would give: the closest of the trials that miss it and would gain more; empty for none.

    ``before`` are the bytes of the model as it was given.
    """
    missed = [t for t in trials if t.closeness is not None and _LEAST_TOLD <= t.closeness < least]
    better = [trial for trial in missed if gain(trial) >= _MORE * gain(best) and speed(trial) >= WITHIN_NOISE]
    if not better or not best.is_close(least):
        return ""
    other = max(better, key=lambda trial: trial.closeness or 0.0)
    limit = math.floor((other.closeness or 0.0) * 1000) / 1000
    size = units.of_whole(other.bytes, before)
    return f"With --min-cosine {limit}: {other.name}, {speed(other):.2f}x as fast, {size} of the size, by its trial."


def _of_size(trial: Trial) -> float:
    return float(max(trial.bytes, 1) ** -_OF_SIZE)
