"""Least error: which share of each group goes, so that as much is saved as with equal shares and the error is least.

Units go in the order of their scores. Each adds an error, as a share of what the layers that read it give, once these
are solved anew (``added_errors``: one pass over the data for all groups), and saves a share of the parameters and of
the multiply-adds. Where one threshold on error per saving decides for all groups, no other choice of as much saving has
a smaller sum of errors, as far as errors add up and rise. Without ``by`` both savings are to be those of equal shares
at least; with it the one that is named, to the ratio. No group loses more than half of what equal shares leave it,
unless the ratio cannot be reached otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import PassError
from ...model import Model
from ...passes import Context
from ..channels import Grouping
from ..scores.evidence import require_data
from ..scores.output_error import added_errors
from .costs import Cost, multiply_adds, parameters
from .selection import By, Dial, turn, within_reach


@dataclass(frozen=True)
class _Goal:
    """Costs, and the share of each that is to go."""

    costs: Sequence[Cost]
    shares: Sequence[float]

    def reached(self, removed: Sequence[int]) -> float:
        """1 where the last of the costs has come down as far as it is to."""
        parts = zip(self.costs, self.shares, strict=True)
        return min((cost.gone(removed) / share for cost, share in parts if share > 0), default=1.0)


def least_error(model: Model, ctx: Context, grouping: Grouping, dial: Dial, by: By, ratio: float) -> list[int]:
    """How many units each group loses; the order is that of the dial's scores."""
    require_data(ctx, "least_error")
    if by == "latency":
        raise PassError(
            "scope least_error looks at errors, not at time", hint="scope: uniform, or global; or another by"
        )
    equal = replace(dial, scope="uniform").counts(ratio)
    goal = _goal(model, ctx, grouping, dial, by, ratio, equal)
    orders = [np.argsort(score, kind="stable") for score in dial.scores]
    errors = added_errors(model, ctx, grouping, dial.groups, orders)
    prices = [
        None if error is None else np.maximum.accumulate(error) / _saved(goal, dial, equal, number)
        for number, error in enumerate(errors)
    ]
    dial = replace(dial, prices=prices, most=(1 + ratio) / 2)
    if goal.reached(dial.counts(1)) < 1:
        dial = replace(dial, most=1.0)
    what = "multiply-adds" if by == "flops" else by
    within_reach(ratio * min(goal.reached(dial.counts(1)), 1.0), ratio, what)
    return _given_back(dial, goal, turn(dial, goal.reached, 1.0))


def _goal(
    model: Model, ctx: Context, grouping: Grouping, dial: Dial, by: By, ratio: float, equal: Sequence[int]
) -> _Goal:
    costs = [parameters(grouping, dial.groups)] if by != "flops" else []
    costs += [multiply_adds(model, ctx, grouping, dial.groups)] if by != "parameters" else []
    return _Goal(costs, [cost.gone(equal) if by == "channels" else ratio for cost in costs])


def _saved(goal: _Goal, dial: Dial, equal: Sequence[int], group: int) -> float:
    """What a unit of a group saves on average, as a share of all costs, when the others lose equal shares."""
    size = len(dial.groups[group])
    none, all_ = ([*equal[:group], count, *equal[group + 1 :]] for count in (0, size))
    return max(sum(cost.gone(all_) - cost.gone(none) for cost in goal.costs) / size, 1e-12)


def _given_back(dial: Dial, goal: _Goal, removed: list[int]) -> list[int]:
    """Rounded widths take more than was asked: what is not needed for the goal stays, the dearest first."""
    dearest = sorted(range(len(removed)), key=lambda number: _last_price(dial, number, removed[number]), reverse=True)
    for number in dearest:
        for fewer in _fewer(dial, number, removed[number]):
            trial = [*removed[:number], fewer, *removed[number + 1 :]]
            if goal.reached(trial) < 1:
                break
            removed = trial
    return removed


def _last_price(dial: Dial, number: int, count: int) -> float:
    prices = dial.prices[number]
    return float(prices[count - 1]) if prices is not None and count else 0.0


def _fewer(dial: Dial, number: int, count: int) -> Iterator[int]:
    """The smaller numbers of units that a group may lose, the largest first."""
    group = dial.groups[number]
    allowed = {dial.widths.removed(group, wanted) for wanted in range(count)}
    yield from sorted((fewer for fewer in allowed if fewer < count), reverse=True)
