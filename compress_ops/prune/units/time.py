"""How much must be cut for a share of the measured time to go.

Time does not follow from arithmetic: kernels work in blocks, and small layers wait for memory. So copies of the model
are really cut and timed against the uncut one, side by side. With t(k) the time at setting k of the knob as a share of
the uncut model's, sqrt(t) is about linear in k (cutting both sides of a matrix takes the square of what is left), so
each trial goes to where the line between the nearest two trials meets sqrt(1 - ratio).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...arrays import Array
from ...graph.trial_feeds import feed_for
from ...measure.latency import compare_latency
from ...model import Model
from ...passes import Context
from ...runtime import open_session
from ..channels import cut, find_groups
from .selection import Dial, within_reach

_TRIALS = 7  # after that of the largest cut
_CLOSE = 0.02  # a share this far above the ratio will do: timings are not known better
_SECONDS = 2.0  # for one trial
_FEWEST_PAIRS = 12
_INSIDE = 0.1  # of the interval: how far from its ends a trial stays, lest it creeps
_LARGEST = 0.9999  # all that may go of any group, and still a ratio
_DIGITS = 4  # of the knob: what the resolved recipe says


@dataclass(frozen=True)
class Setting:
    """A setting of the knob, and the share of time that is gone there."""

    knob: float
    gone: float


def setting_for_time(model: Model, ctx: Context, dial: Dial, ratio: float) -> Setting:
    """The setting that takes this share of the time, or little more; the model stays as it is."""
    with model.exported() as path:
        uncut = open_session(path, ctx.providers, threads=ctx.threads)
    feed = feed_for(uncut, ctx)

    def gone(knob: float) -> float:
        with _cut_copy(model, dial.units(dial.counts(knob))).exported() as path:
            sessions = {"uncut": uncut, "cut": open_session(path, ctx.providers, threads=ctx.threads)}
        timed = compare_latency(sessions, feed, seconds=_SECONDS, min_pairs=_FEWEST_PAIRS)
        return 1 - timed.models["cut"].ratio

    return search(gone, dial.counts, ratio, ctx)


def search(gone: Callable[[float], float], counts: Callable[[float], object], ratio: float, ctx: Context) -> Setting:
    """The lowest setting tried at which the share gone reaches the ratio."""
    low, high = Setting(0.0, 0.0), Setting(_LARGEST, gone(_LARGEST))
    within_reach(high.gone, ratio, "time")
    for _ in ctx.progress(range(_TRIALS), "timing cuts"):
        knob = _next(low, high, ratio)
        if high.gone <= ratio + _CLOSE or counts(knob) in (counts(low.knob), counts(high.knob)):
            break
        tried = Setting(knob, gone(knob))
        low, high = (low, tried) if tried.gone >= ratio else (tried, high)
    return high


def _next(low: Setting, high: Setting, ratio: float) -> float:
    left = [math.sqrt(max(1 - gone, 0.0)) for gone in (low.gone, ratio, high.gone)]
    part = (left[0] - left[1]) / (left[0] - left[2]) if left[0] > left[2] else 0.5
    part = min(max(part, _INSIDE), 1 - _INSIDE)
    return round(low.knob + part * (high.knob - low.knob), _DIGITS)


def _cut_copy(model: Model, units: Array) -> Model:
    """A copy without these units; a copy's groups are numbered as the model's are."""
    twin = model.copy()
    cut(find_groups(twin), units)
    twin.drop_unused()
    return twin
