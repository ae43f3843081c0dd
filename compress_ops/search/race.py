"""A race of candidates: each is measured no further than until it is clear that it cannot be chosen.

All are timed for a moment, in one go with the float model. Those that could gain most are compared with it first, on
all of the data; once one is found that is close, those that are sure to gain less are left where they are. Only where
several of the close ones are still within reach are these timed for longer. Smoothing is tried behind that, before
what is near enough for it and still in the race. Weights alone are stored in 8 bits behind that, where the float
model itself is not clearly left behind. Nothing is proven here: whatever is chosen is measured in full at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..passes import Promise
from .candidates import Candidate
from .gains import cannot_win, most
from .trials import Trial, Trials

_GLANCE_SECONDS = 0.3  # of timing for each candidate at first
_GLANCE_PAIRS = 12
_FAR = 5  # times the distance that is allowed: from there smoothing does not bring a model
_SMALLEST = 0.22  # of the float model's bytes: what 8-bit weights and their scales take at the least
_REACHED = 0.02  # the distance from which it may always


def race(workshop: Trials, wanted: Sequence[Candidate], least: float) -> list[Trial]:
    """The candidates that can be applied, in their order, each measured as far as it took."""
    found = _heat(workshop, [one for one in wanted if not (one.smooths or one.float_arithmetic)], {}, least)
    smoothed = [one for one in wanted if one.smooths and _is_worth_smoothing(found.get(one.smooths), found, least)]
    found = _heat(workshop, smoothed, found, least)
    stored = [one for one in wanted if one.float_arithmetic]
    if stored and not _cannot_win_in_float(workshop, stored[0], [*found.values()], least):
        found = _heat(workshop, stored, found, least)
    close = [trial for trial in found.values() if trial.is_close(least)]
    left = [trial for trial in close if not cannot_win(trial, close, least)]
    if len(left) > 1:
        found.update({trial.name: trial for trial in workshop.measured(left, {"latency"})})
    return [found[one.name] for one in wanted if one.name in found]


def _heat(workshop: Trials, wanted: Sequence[Candidate], found: Mapping[str, Trial], least: float) -> dict[str, Trial]:
    """What was found before, and the candidates: timed for a moment, and compared where they can still win."""
    found = dict(found)
    timed = workshop.measured(workshop.applied(wanted), {"latency"}, _GLANCE_SECONDS, _GLANCE_PAIRS)
    for trial in sorted(timed, key=most, reverse=True):
        lost = cannot_win(trial, [*found.values()], least)
        found.update({one.name: one for one in ([trial] if lost else workshop.measured([trial], {"fidelity"}))})
    return found


def _cannot_win_in_float(workshop: Trials, stored: Candidate, found: Sequence[Trial], least: float) -> bool:
    """Whether a close one is sure to gain more than float arithmetic can, in how many bits ever weights are stored.

    It takes the time that the model takes without the steps that round weights, which need not be gone for that.
    """
    if not any(trial.is_close(least) for trial in found):
        return False
    steps = [step for step in stored.passes if step.operation.promises is not Promise.SHRINKS]
    begun = workshop.applied([Candidate("float", steps)])
    timed = workshop.measured(begun, {"latency"}, _GLANCE_SECONDS, _GLANCE_PAIRS)
    return bool(timed) and cannot_win(replace(timed[0], bytes=round(_SMALLEST * timed[0].bytes)), found, least)


def _is_worth_smoothing(plain: Trial | None, found: Mapping[str, Trial], least: float) -> bool:
    """Whether a candidate is near enough, or close already and still in the race."""
    if plain is None or plain.closeness is None or cannot_win(plain, [*found.values()], least):
        return False
    return 1 - plain.closeness <= max(_FAR * (1 - least), _REACHED)
