"""What cannot be is said before any model is made, and afterwards what other limits would give."""

from __future__ import annotations

import pytest

from compress_ops.measure.budget import Budget
from compress_ops.recipe import Auto
from compress_ops.search.auto.hints import hints, why_it_cannot_be
from compress_ops.search.auto.rounds import Point
from tests.search.auto.loop_case import loop_of, point_of

TRAINING = "With --retrain --training DATA narrower models are tried, which learn to give what this one gives."


def told(budget: Budget, best: int, *points: Point, retrain: bool = True) -> list[str]:
    loop = loop_of(budget, *points)
    return [*hints([loop], loop, points[best], Auto(retrain=retrain))]


def test_a_size_below_the_smallest_forms_cannot_be() -> None:
    """1900 bytes are no layer's; 1000 and 600 at least of two, 400 of them perhaps for both, and 100 of the third."""
    why = why_it_cannot_be(loop_of(Budget(max_size="30%")))
    assert why is not None
    assert why.message == (
        "30% cannot be reached: the smallest that its layers can be is 32%, of which table alone is 8%; "
        "19% is no layer that can change"
    )
    assert why.hint == "ask for --max-size 32% or more"


@pytest.mark.parametrize("size", ["32%", "3200 B", None])
def test_a_size_that_can_be_is_no_fault(size: str | None) -> None:
    assert why_it_cannot_be(loop_of(Budget(max_size=size))) is None


CLOSE = Budget(min_closeness=0.99)
GOOD = point_of(CLOSE, (0, 2, 0), size=6600, closeness=0.999, speedup=1.0)


def test_where_all_is_met_and_nothing_was_smaller_there_is_nothing_to_say() -> None:
    assert told(CLOSE, 0, GOOD) == []
    assert told(CLOSE, 0, GOOD, retrain=False) == [TRAINING]


def test_the_closest_of_what_lost_too_much_and_is_smaller_is_told_with_the_limit_that_allows_it() -> None:
    far = point_of(CLOSE, (2, 2, 0), size=2000, closeness=0.8, speedup=1.0)
    near = point_of(CLOSE, (2, 1, 0), size=2500, closeness=0.9786, speedup=1.2)
    assert told(CLOSE, 0, GOOD, far, near) == ["With --min-closeness 0.978: 25.0% of the size, 1.20x as fast."]
    assert Budget(min_closeness=0.978).min_closeness is not None


def test_so_is_one_that_is_faster() -> None:
    fast = point_of(CLOSE, (0, 1, 1), size=6900, closeness=0.98, speedup=2.0)
    assert told(CLOSE, 0, GOOD, fast) == ["With --min-closeness 0.98: 69.0% of the size, 2.00x as fast."]


def test_what_is_neither_smaller_nor_faster_is_not_told() -> None:
    worse = point_of(CLOSE, (0, 1, 1), size=6590, closeness=0.98, speedup=1.01)
    assert told(CLOSE, 0, GOOD, worse) == []


def test_where_the_metric_is_limited_the_hint_is_about_the_metric() -> None:
    """A drop of 3 % with an interval up to 3.03 %: 3.1 % would be proven."""
    budget = Budget(max_drop="1%")
    good = point_of(budget, (0, 2, 0), size=6600, closeness=0.999, drop=0.005)
    lossy = point_of(budget, (2, 2, 0), size=2000, closeness=0.8, drop=0.03)
    assert told(budget, 0, good, lossy) == ["With --max-drop 3.1%: 20.0% of the size."]
    allowed = Budget(max_drop="3.1%")
    assert point_of(allowed, (2, 2, 0), size=2000, closeness=0.8, drop=0.03).meets


def test_of_two_limits_those_are_told_that_were_missed() -> None:
    budget = Budget(max_drop="1%", min_closeness=0.99)
    good = point_of(budget, (0, 2, 0), size=6600, closeness=0.999, drop=0.005)
    lossy = point_of(budget, (2, 2, 0), size=2000, closeness=0.85, drop=0.03)
    assert told(budget, 0, good, lossy) == ["With --max-drop 3.1% --min-closeness 0.85: 20.0% of the size."]


def test_a_model_of_other_outputs_altogether_is_no_hint() -> None:
    """No limit on closeness is so low that it could be asked for."""
    lost = point_of(CLOSE, (2, 2, 0), size=2000, closeness=0.0004, speedup=1.0)
    assert told(CLOSE, 0, GOOD, lost) == []


def test_where_limits_are_missed_the_nearest_is_told_first() -> None:
    budget = Budget(max_size="20%", min_closeness=0.99)
    near = point_of(budget, (0, 2, 0), size=6600, closeness=0.999, speedup=1.5)
    assert told(budget, 0, near) == [
        "No model that was made meets every limit; the nearest is 66.0% of the size, 1.50x as fast, closeness 0.9990."
    ]
