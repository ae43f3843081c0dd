"""The one number of a trial: the objective where limits hold, and beside it what is worse than what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compress_ops.measure.budget import Budget, judge
from compress_ops.measure.intervals import Interval
from compress_ops.measure.metrics.scores import Drop
from compress_ops.search.auto.wishes import Objective, Wishes
from compress_ops.search.auto.worth import IMPOSSIBLE, Measured, worth

BUDGET = Budget(max_size="50%", min_speedup=2, min_closeness=0.99)


def measured(budget: Budget, *, size: int = 40, speedup: float = 4.0, closeness: float = 0.995) -> Measured:
    """Of an original of 100 bytes, with the verdicts of the budget."""
    interval = Interval(speedup, speedup)
    verdicts = judge(budget, original_size=100, size=size, speedup=interval, closeness=(closeness, ""))
    return Measured(size, 100, 1 / speedup, 1 - closeness, None, verdicts)


@pytest.mark.parametrize(
    ("objective", "value"), [("bytes", 0.4), ("seconds", 0.25), ("loss", 0.005), ("size and time", 0.65)]
)
def test_where_every_limit_holds_it_is_the_objective(objective: Objective, value: float) -> None:
    assert worth(Wishes(objective, BUDGET), measured(BUDGET)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("found", "value"),
    [
        ({"size": 75}, 10 + 0.5),
        ({"speedup": 1.0}, 10 + 1.0),
        ({"size": 75, "speedup": 1.0}, 10 + 1.5),
        ({"closeness": 0.98}, 100 + 1.0),
        ({"closeness": 0.98, "size": 10**9}, 100 + 1.0),
        ({"closeness": -1.0}, 100 + 40),
        ({"size": 10**9, "speedup": 1e-9}, 10 + 80),
    ],
)
def test_how_far_limits_are_missed(found: dict[str, float], value: float) -> None:
    assert worth(Wishes("bytes", BUDGET), measured(BUDGET, **found)) == pytest.approx(value)


def test_bytes_are_no_share() -> None:
    budget = Budget(max_size=2000)
    large = Measured(3000, 10_000, 1.0, 0.0, None, judge(budget, original_size=10_000, size=3000))
    assert worth(Wishes("seconds", budget), large) == pytest.approx(10.5)


def test_a_drop_counts_by_the_end_that_is_worse() -> None:
    budget = Budget(max_drop="1%")
    drop = Drop(0.01, Interval(0.0, 0.02), 0.02, Interval(0.0, 0.03))
    found = Measured(40, 100, 1.0, 0.0, drop, judge(budget, original_size=100, size=40, drop=drop))
    assert worth(Wishes("bytes", budget), found) == pytest.approx(100 + 2.0)
    unknown = judge(budget, original_size=100, size=40)
    assert worth(Wishes("bytes", budget), replace(found, drop=None, verdicts=unknown)) == pytest.approx(140)


def test_what_is_better_has_the_lower_number() -> None:
    wishes = Wishes("bytes", BUDGET)
    by_merit = [
        {"size": 10},
        {"size": 50},
        {"size": 51},
        {"size": 99, "speedup": 0.1},
        {"size": 1, "closeness": 0.9899},
        {"size": 1, "closeness": 0.5},
    ]
    values = [worth(wishes, measured(BUDGET, **found)) for found in by_merit]
    assert values == sorted(values) and values[-1] < IMPOSSIBLE
