"""A race of candidates: each is measured no further than until it is clear that it cannot be chosen.

All are timed for a moment, in one go with the float model. Those that could gain most are compared with it first, on
all of the data; once one is found that is close, those that are sure to gain less are left where they are. Only where
several of the close ones are still within reach are these timed for longer. Nothing is proven here: whatever is chosen
is measured in full at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from .candidates import Candidate
from .gains import cannot_win, most
from .trials import Trial, Trials

_GLANCE_SECONDS = 0.3  # of timing for each candidate at first
_GLANCE_PAIRS = 12


def race(workshop: Trials, wanted: Sequence[Candidate], least: float) -> list[Trial]:
    """The candidates that can be applied, in their order, each measured as far as it took."""
    started = workshop.measured(workshop.applied(wanted), {"latency"}, _GLANCE_SECONDS, _GLANCE_PAIRS)
    found: dict[str, Trial] = {}
    for trial in sorted(started, key=most, reverse=True):
        lost = cannot_win(trial, [*found.values()], least)
        found.update({one.name: one for one in ([trial] if lost else workshop.measured([trial], {"fidelity"}))})
    left = [trial for trial in found.values() if trial.is_close(least)]
    left = [trial for trial in left if not cannot_win(trial, left, least)]
    if len(left) > 1:
        found.update({trial.name: trial for trial in workshop.measured(left, {"latency"})})
    return [found[trial.name] for trial in started if trial.name in found]
