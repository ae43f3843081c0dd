"""Budgets as users write them, and verdicts on both sides of every border."""

from typing import Any

import pytest

from compress_ops.measure.budget import Budget, Limit, format_bytes, judge, needs, parse_drop, parse_size
from compress_ops.measure.intervals import Interval
from compress_ops.measure.metrics.scores import UNDEFINED, Drop


@pytest.mark.parametrize(
    ("text", "amount", "relative"),
    [
        ("30%", 0.3, True),
        (" 12.5 % ", 0.125, True),
        ("12 MB", 12e6, False),
        ("300 kB", 300e3, False),
        ("300kb", 300e3, False),
        ("1.5 GiB", 1.5 * 2**30, False),
        ("2 KiB", 2048, False),
        ("77 B", 77, False),
        (12_000_000, 12e6, False),
        ("12000000", 12e6, False),
    ],
)
def test_sizes(text: Any, amount: float, relative: bool) -> None:
    limit = parse_size(text)
    assert (limit.amount, limit.relative) == (pytest.approx(amount), relative)


@pytest.mark.parametrize(
    "text", ["", "big", "12 TB", "-3 MB", "0", "0 MB", "0%", "1.5", 0.3, 1.5, True, "1e6", "30 %%", 0]
)
def test_no_sizes(text: Any) -> None:
    with pytest.raises(ValueError, match=r"is no size; write a share of the original \(30%\)"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (30, "30 bytes? write 30% or 30 MB"),
        ("30", "30 bytes? write 30% or 30 MB"),
        (500, "500 bytes? write 500 kB or 500 MB"),
        (999, "999 bytes? write 999 kB or 999 MB"),
    ],
)
def test_a_bare_number_that_no_model_fits_is_a_mistake(text: Any, told: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        parse_size(text)
    assert str(raised.value) == told
    assert parse_size(1000).amount == 1000


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("2%", Limit(0.02, True, "2%")),
        ("0%", Limit(0.0, True, "0%")),
        (0.02, Limit(0.02, False, "0.02")),
        ("0.02", Limit(0.02, False, "0.02")),
        ("1e-3", Limit(0.001, False, "1e-3")),
        (0, Limit(0.0, False, "0")),
    ],
)
def test_drops(text: Any, limit: Limit) -> None:
    assert parse_drop(text) == limit


@pytest.mark.parametrize("text", ["", "little", -0.1, "-2%", True, float("nan"), float("inf"), "2 percent"])
def test_no_drops(text: Any) -> None:
    with pytest.raises(ValueError, match="is no drop"):
        parse_drop(text)


@pytest.mark.parametrize("factor", [0, -1, True, float("inf"), float("nan"), "fast"])
def test_no_speedups(factor: Any) -> None:
    with pytest.raises(ValueError, match="min_speedup"):
        Budget(min_speedup=factor)


def test_what_a_budget_needs() -> None:
    assert needs(Budget()) == frozenset()
    assert needs(Budget(max_size="30%", max_drop=0.0)) == {"size", "accuracy"}
    assert needs(Budget(min_speedup=2)) == {"latency"}


def verdict(wish: dict[str, Any], size: int = 50, **measured: Any) -> str:
    (only,) = judge(Budget(**wish), original_size=100, size=size, **measured)
    return only.verdict


@pytest.mark.parametrize(
    ("wanted", "size", "expected"),
    [("30%", 30, "met"), ("30%", 31, "missed"), ("77 B", 77, "met"), ("77 B", 78, "missed"), ("1 kB", 1000, "met")],
)
def test_size(wanted: Any, size: int, expected: str) -> None:
    assert verdict({"max_size": wanted}, size=size) == expected


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(1.5, 1.7), "met"),
        (Interval(1.48, 1.7), "met"),  # 1.5 within 2 %
        (Interval(1.47, 1.7), "not proven"),
        (Interval(1.4, 1.5), "not proven"),
        (Interval(1.3, 1.49), "missed"),
        (None, "not proven"),
    ],
)
def test_speedup(interval: Interval | None, expected: str) -> None:
    assert verdict({"min_speedup": 1.5}, speedup=interval) == expected


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(-0.01, 0.02), "met"),
        (Interval(0.01, 0.021), "not proven"),
        (Interval(0.02, 0.03), "not proven"),
        (Interval(0.021, 0.03), "missed"),
    ],
)
def test_drop(interval: Interval, expected: str) -> None:
    elsewhere = Interval(5.0, 6.0)
    assert verdict({"max_drop": "2%"}, drop=Drop(5.5, elsewhere, 0.015, interval)) == expected
    assert verdict({"max_drop": 0.02}, drop=Drop(0.015, interval, 5.5, elsewhere)) == expected


@pytest.mark.parametrize(
    ("closeness", "expected"), [(0.995, "met"), (0.9949, "missed"), (1.0, "met"), (None, "not proven")]
)
def test_closeness(closeness: float | None, expected: str) -> None:
    assert verdict({"min_closeness": 0.995}, closeness=(closeness, "its labels of output 'y'")) == expected


def test_a_drop_that_is_not_defined_is_not_proven() -> None:
    assert verdict({"max_drop": "2%"}, drop=UNDEFINED) == "not proven"
    assert verdict({"max_drop": "2%"}) == "not proven"


def test_texts() -> None:
    budget = Budget(max_size="30%", min_speedup=1.5, max_drop="2%")
    drop = Drop(0.01, Interval(0.0, 0.02), 0.01, Interval(0.001, 0.0199))
    verdicts = judge(budget, original_size=1_200_000, size=412_000, speedup=Interval(1.61, 1.66), drop=drop)
    assert [(v.wanted, v.measured, v.verdict) for v in verdicts] == [
        ("at most 30% of 1.20 MB", "412 kB (34.3%)", "missed"),
        ("at least 1.5x", "1.61x to 1.66x", "met"),
        ("at most 2%", "0.10% to 1.99%", "met"),
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (12_345, "12.3 kB"), (999_999, "1.00 MB"), (4.56e12, "4560 GB")],
)
def test_bytes_read_well(size: int, text: str) -> None:
    assert format_bytes(size) == text
