"""The report of a search that was made up: the front, how well it was foretold, and why layers became so."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compress_ops.measure.budget import Budget
from compress_ops.report.choices import SearchReport
from compress_ops.report.report import plain
from compress_ops.search.auto.explained import explained
from compress_ops.search.auto.rounds import Point
from compress_ops.search.costs.cost_table import Costs
from tests.search.auto.loop_case import COSTS, loop_of, point_of

BUDGET = Budget(min_closeness=0.99)
FORM = {"float": 0, "int8 static": 1, "codebook of 16": 2}


def expecting(noise: float, seconds: float) -> dict[str, float]:
    return {"bytes": 3000.0, "loss": noise, "seconds": seconds}


def points() -> list[Point]:
    """In turn: small, fast, in between and no better than the first, close."""
    made = [
        ((2, 2, 0), 2000, 0.95, 1.0, expecting(0.05, 10.0)),
        ((0, 1, 1), 6000, 0.99, 2.5, expecting(0.02, 4.1)),
        ((2, 1, 0), 2500, 0.94, 0.9, expecting(0.04, 8.0)),
        ((0, 2, 0), 6600, 0.999, 1.0, expecting(0.01, 10.0)),
    ]
    return [
        point_of(BUDGET, choice, size=size, closeness=close, speedup=speedup, expected=expected, name=f"p{i}")
        for i, (choice, size, close, speedup, expected) in enumerate(made)
    ]


def report(chosen: int = 1) -> SearchReport:
    made = points()
    return explained([loop_of(BUDGET, *made)], made[chosen], ["a hint"])


def test_points_are_told_as_measured_and_as_expected() -> None:
    found = report().points[1]
    assert (found.name, found.bytes, found.closeness, found.speedup, found.drop) == ("p1", 6000, 0.99, 2.5, None)
    assert (found.expected_bytes, found.expected_noise) == (3000, 0.02)
    assert found.expected_speedup == pytest.approx(10 / 4.1)
    assert [point.meets for point in report().points] == [False, True, False, True]
    assert [point.chosen for point in report().points] == [False, True, False, False]


def test_the_front_is_of_what_was_measured() -> None:
    """p2 is larger, slower and further off than p0."""
    assert [point.on_front for point in report().points] == [True, True, False, True]


def test_the_front_is_one_over_all_loops_which_are_named() -> None:
    better = point_of(BUDGET, (0, 0, 0), size=1000, closeness=0.9999, speedup=3.0, name="best")
    loops = [loop_of(BUDGET, *points()), loop_of(BUDGET, better, name="25% of channels cut")]
    found = explained(loops, better, [])
    assert [point.on_front for point in found.points] == [False] * 4 + [True]
    assert found.points[4].name == "25% of channels cut: best"


def test_how_well_losses_and_times_were_foretold() -> None:
    """Expected 4 2 3 1 by rank, measured 3 2 4 1: Spearman's is 1 - 6 (1 + 1) / (4 * 15); three times of four."""
    assert report().rank_correlation == pytest.approx(0.8)
    assert report().within_tenth == 0.75


def test_of_two_models_nothing_is_said() -> None:
    made = points()[:2]
    found = explained([loop_of(BUDGET, *made)], made[0], [])
    assert (found.rank_correlation, found.within_tenth) == (None, None)


def test_models_without_closeness_or_time_are_told() -> None:
    made = [point_of(BUDGET, (0, 0, 0), size=5000, closeness=None), *points()]
    found = explained([loop_of(BUDGET, *made)], made[0], [])
    assert (found.points[0].closeness, found.points[0].speedup) == (None, None)
    assert found.rank_correlation == pytest.approx(0.8)


def test_layers_are_told_with_what_they_gain_and_lose() -> None:
    table, body, head = report().layers
    assert (table.name, table.form, table.bytes_before, table.bytes_after) == ("table", "float", 4000, 4000)
    assert (body.form, body.bytes_after, body.seconds_before, body.seconds_after) == ("int8 static", 1200, 5.0, 2.0)
    assert body.noise == pytest.approx(0.01)
    assert table.why == "even codebook of 16 would lose 150% of what all lose now"
    assert body.why == "saves 70% for 50% of the loss"
    assert head.why == "takes 60% more, and integers for 50% of the loss"


def test_reasons_where_nothing_is_lost_and_where_nothing_fits() -> None:
    alone = np.array([[0.0, np.inf, np.inf], [0.0, 0.01, np.inf], [0.0, np.inf, 0.01]])
    costs = Costs(COSTS.layers, COSTS.forms, COSTS.bytes, COSTS.shared, COSTS.seconds, COSTS.edges, alone, COSTS.links)
    point = point_of(BUDGET, (0, 0, 0), size=10_000, closeness=1.0)
    table, body, head = explained([loop_of(BUDGET, point, costs=costs)], point, []).layers
    assert table.why == "no form fits it"
    assert body.why == "even int8 static would lose something"
    assert head.why == "no form is smaller"


def test_failures_of_all_loops_and_hints_are_in_it() -> None:
    made = points()
    loops = [loop_of(BUDGET, *made), loop_of(BUDGET, name="cut")]
    loops[0].failed.append("3 codebook of 16: no")
    loops[1].failed.append("1 float: neither")
    found = explained(loops, made[0], ["a hint"])
    assert (found.failed, found.hints) == (["3 codebook of 16: no", "1 float: neither"], ["a hint"])
    assert found.objective == "bytes"


def test_all_of_it_is_plain_json() -> None:
    told = json.loads(json.dumps(plain(report()), allow_nan=False))
    assert [layer["form"] for layer in told["layers"]] == ["float", "int8 static", "int8 static"]
    assert told["points"][1]["bytes"] == 6000
