"""Intervals against SciPy, worked examples, and how often they cover what is true."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from compress_ops.measure.intervals import (
    Interval,
    finite,
    median_interval,
    paired_share_interval,
    percentile_interval,
    unseen_share,
    wilson_interval,
)
from compress_ops.measure.metrics.bootstrap import RESAMPLES, replicates

DRAWS = 2000
BELOW = 0.95 - 4 * (0.05 * 0.95 / DRAWS) ** 0.5
"""Coverage of an exact 95 % interval falls below this in 3 of 100,000 seeds; approximate ones get 2 points more."""


@pytest.mark.parametrize("count", [6, 7, 30, 31, 500, 5000])
def test_median_interval_takes_the_innermost_order_statistics_that_cover(count: int) -> None:
    interval = median_interval([float(v) for v in range(1, count + 1)])
    rank = int(interval.low)
    assert interval.high == count + 1 - rank
    assert 2 * binom.cdf(rank - 1, count, 0.5) <= 0.05 < 2 * binom.cdf(rank, count, 0.5)


def test_median_of_thirty_uses_the_tenth_and_the_twenty_first() -> None:
    """The classic table value (Conover, table of binomial ranks)."""
    assert median_interval(list(range(30, 0, -1))) == Interval(10, 21)


def test_too_few_values_for_a_median() -> None:
    with pytest.raises(ValueError, match="5 values"):
        median_interval([1.0] * 5)


def test_median_interval_covers_a_skewed_median() -> None:
    samples = np.random.default_rng(1).exponential(size=(DRAWS, 30))
    covered = [median_interval(row.tolist()).contains(np.log(2)) for row in samples]
    assert np.mean(covered) >= BELOW


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (7, 10), (528, 540)])
def test_wilson_is_scipys(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    interval = wilson_interval(hits, count)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_paired_interval_by_hand() -> None:
    """w = 4, b = 1, n = 98: w' = 0.05, b' = 0.02, difference 0.03, variance (0.07 - 0.0009) / 100."""
    interval = paired_share_interval(4, 1, 98)
    assert interval.low == pytest.approx(0.03 - 1.959964 * 0.0691**0.5 / 10, abs=1e-8)
    assert interval.high == pytest.approx(0.03 + 1.959964 * 0.0691**0.5 / 10, abs=1e-8)


def test_paired_interval_covers_the_true_difference() -> None:
    counts = np.random.default_rng(2).multinomial(200, [0.04, 0.01, 0.95], size=DRAWS)
    covered = [paired_share_interval(worse, better, 200).contains(0.03) for worse, better, _ in counts]
    assert np.mean(covered) >= BELOW - 0.02


def test_no_difference_seen_is_no_proof_of_none() -> None:
    interval = paired_share_interval(0, 0, 100)
    assert interval.low == -interval.high
    assert 0.02 < interval.high < 0.04  # the rule of three gives 3 / 100


def test_unseen_share_is_wilsons_upper_end_at_zero() -> None:
    assert unseen_share(540) == pytest.approx(wilson_interval(0, 540).high)


def test_bootstrap_interval_of_a_mean_covers() -> None:
    rng, samples = np.random.default_rng(3), 60
    covered = []
    for seed in range(200):
        values = rng.normal(5, 2, samples)
        spread = replicates({"mean": lambda w, values=values: w @ values / w.sum(axis=1)}, samples, seed)
        covered.append(percentile_interval(spread["mean"]).contains(5))
    assert np.mean(covered) >= 0.95 - 4 * (0.05 * 0.95 / 200) ** 0.5 - 0.02


def test_bootstrap_is_seeded_and_pairs_its_statistics() -> None:
    values = np.arange(20.0)
    statistics = {"x": lambda w: w @ values, "twice": lambda w: w @ (2 * values)}
    one, other = (replicates(statistics, 20, seed=5) for _ in range(2))
    assert len(one["x"]) == RESAMPLES
    assert np.array_equal(one["x"], other["x"])
    assert np.array_equal(one["twice"], 2 * one["x"])
    assert not np.array_equal(one["x"], replicates(statistics, 20, seed=6)["x"])


def test_large_samples_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(50.0)
    whole = replicates({"x": lambda w: w @ values}, 50, seed=0)["x"]
    monkeypatch.setattr("compress_ops.measure.metrics.bootstrap._WEIGHTS_AT_ONCE", 350)
    assert np.array_equal(replicates({"x": lambda w: w @ values}, 50, seed=0)["x"], whole)


def test_undefined_replicates_are_left_out() -> None:
    assert percentile_interval(np.array([np.nan, 1.0, 1.0])) == Interval(1.0, 1.0)
    assert percentile_interval(np.array([np.nan])) is None


def test_inverse_and_finite() -> None:
    assert Interval(0.5, 0.8).inverse() == Interval(1.25, 2.0)
    assert (finite(float("nan")), finite(float("inf")), finite(2.0)) == (None, None, 2.0)
