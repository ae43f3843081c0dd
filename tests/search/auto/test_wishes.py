"""From limits and an aim to one objective, and to numbers."""

from __future__ import annotations

import pytest

from compress_ops.measure.budget import Budget
from compress_ops.search.auto.wishes import Wishes


@pytest.mark.parametrize(
    ("limits", "aim", "objective"),
    [
        ({}, None, "size and time"),
        ({"max_drop": "1%", "min_closeness": 0.9}, None, "size and time"),
        ({"max_size": "25%"}, None, "seconds"),
        ({"min_speedup": 2}, None, "bytes"),
        ({"max_size": "25%", "min_speedup": 2}, None, "loss"),
        ({"max_size": "25%", "min_speedup": 2, "max_drop": "1%"}, None, "loss"),
        ({}, "smallest", "bytes"),
        ({"max_size": "25%"}, "smallest", "bytes"),
        ({"min_speedup": 2}, "fastest", "seconds"),
        ({}, "closest", "loss"),
    ],
)
def test_what_is_brought_down(limits: dict[str, object], aim: str | None, objective: str) -> None:
    wishes = Wishes.of(Budget.model_validate(limits), aim)
    assert wishes.objective == objective
    assert wishes.budget == Budget.model_validate(limits)


def test_limits_of_loss_are_told_apart() -> None:
    wishes = Wishes.of(Budget(max_size="25%", min_speedup=2, max_drop="1%", min_closeness=0.9), None)
    assert wishes.of_loss() == Budget(max_drop="1%", min_closeness=0.9)


@pytest.mark.parametrize(("size", "most"), [("25%", 250), ("12 kB", 12000), (3000, 3000), (None, float("inf"))])
def test_how_large_the_file_may_be(size: str | int | None, most: float) -> None:
    assert Wishes.of(Budget(max_size=size), None).most_bytes(1000) == most


@pytest.mark.parametrize(("speedup", "most"), [(2, 5.0), (0.5, 20.0), (None, float("inf"))])
def test_how_long_an_inference_may_take(speedup: float | None, most: float) -> None:
    assert Wishes.of(Budget(min_speedup=speedup), None).most_seconds(10.0) == most
