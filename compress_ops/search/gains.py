"""What a trial gains, speed-up and size as one number: a file half as large is worth 15 % of the time."""

from __future__ import annotations

from collections.abc import Sequence

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


def _of_size(trial: Trial) -> float:
    return float(max(trial.bytes, 1) ** -_OF_SIZE)
