"""One number for what a trial of the outer choices came to, to be brought down.

With size s and time t of the model as shares of the original's, and d = 1 - closeness:

    v = o         where every limit holds; o is s, t, d or s + t, as the objective says, at most 10
    v = 10 + e    where what is lost is held, and size or time miss their limit or are not proven
    v = 100 + l   where too much is lost
    v = 1000      where no model can be made

e adds up s / limit - 1 and t / limit - 1, l adds up d / (1 - min_closeness) - 1 and (upper end of the drop) / max_drop
- 1, each as far as it is missed, from 0 to 40. So any model that holds what is lost is better than any that does not,
one that holds all limits is better still, and within each kind there is a slope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...measure.budget import Verdict, parse_drop
from ...measure.metrics.scores import Drop
from .bases import Base
from .rounds import OF_LOSS, Loop, Point
from .wishes import Wishes

IMPOSSIBLE = 1000.0
_LOSSY, _BEYOND, _MOST = 100.0, 10.0, 40.0
_LEAST = 1e-9  # of a limit that is 0


@dataclass(frozen=True)
class Measured:
    """``seconds`` is a share of the original's; ``distance`` is 1 - closeness; ``drop`` is that of the first metric."""

    bytes: int
    original: int
    seconds: float
    distance: float
    drop: Drop | None
    verdicts: Sequence[Verdict]

    @classmethod
    def of(cls, loop: Loop, point: Point) -> Measured:
        """A point of a loop."""
        trial, original = point.trial, loop.predictions.original_size
        return cls(trial.bytes, original, 1 / (trial.speedup or 1.0), loop.distance(point), point.drop, point.verdicts)

    @classmethod
    def of_base(cls, base: Base, wishes: Wishes) -> Measured:
        """A base by itself, of which what is lost is known."""
        closeness = base.closeness[0] or 0.0
        seconds = base.seconds("prepared") / base.seconds("original")
        size, original = base.size("prepared"), base.size("original")
        return cls(size, original, seconds, 1 - closeness, base.drop, base.verdicts(wishes))

    @property
    def size(self) -> float:
        return self.bytes / self.original


def worth(wishes: Wishes, measured: Measured) -> float:
    """v of the docstring above."""
    missed = [verdict.limit for verdict in measured.verdicts if verdict.verdict != "met"]
    beyond = _beyond(wishes, measured)
    if any(limit in OF_LOSS for limit in missed):
        return _LOSSY + sum(beyond[limit] for limit in missed if limit in OF_LOSS)
    if missed:
        return _BEYOND + sum(beyond[limit] for limit in missed)
    costs = {"bytes": measured.size, "seconds": measured.seconds, "loss": measured.distance}
    return min({**costs, "size and time": measured.size + measured.seconds}[wishes.objective], _BEYOND)


def _beyond(wishes: Wishes, measured: Measured) -> Mapping[str, float]:
    """How far each limit is missed, as a share of it."""
    budget = wishes.budget
    return {
        "max_size": _share(measured.bytes, wishes.most_bytes(measured.original)),
        "min_speedup": _share(measured.seconds, wishes.most_seconds(1.0)),
        "min_closeness": _share(measured.distance, 1 - (budget.min_closeness or 0.0)),
        "max_drop": _drop_beyond(budget.max_drop, measured.drop),
    }


def _share(measured: float, limit: float) -> float:
    return min(max(measured / max(limit, _LEAST) - 1, 0.0), _MOST)


def _drop_beyond(limit: str | float | None, drop: Drop | None) -> float:
    if limit is None:
        return 0.0
    most = parse_drop(limit)
    interval = (drop.relative_interval if most.relative else drop.interval) if drop is not None else None
    return _MOST if interval is None else _share(interval.high, most.amount)
