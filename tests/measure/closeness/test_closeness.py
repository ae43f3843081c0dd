"""Closeness: each view against its own worked example, and models whose harm one view alone would not see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress_ops.measure.closeness.closeness import Closeness, Gathered

ROUNDING = 1e-12
"""Sums of some hundred float64 numbers of size 1 in another order."""


def closeness(a: Any, b: Any, *, batch: int = 4, kept: Any = None) -> Closeness:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    gathered = Gathered()
    for start in range(0, len(a), batch):
        rows = slice(start, start + batch)
        gathered.add(a[rows], b[rows], len(a[rows]), None if kept is None else kept[rows])
    found = gathered.result()
    assert found is not None
    return found


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_the_views_are_what_their_formulas_say(batch: int) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(1, 1, size=(40, 3, 5))
    b = a + rng.normal(0, 0.1, size=a.shape)
    found = closeness(a, b, batch=batch)
    noise, signal = ((a - b) ** 2).sum(axis=(1, 2)), (a**2).sum(axis=(1, 2))
    likeness = 1 - noise / (2 * signal)
    assert found.mean == pytest.approx(likeness.mean(), rel=ROUNDING)
    assert found.worst == np.sort(likeness)[2]  # 5 % of 40 samples lie below it
    assert found.moving == pytest.approx(1 - noise.sum() / (2 * ((a - a.mean(axis=0)) ** 2).sum()), rel=ROUNDING)
    assert found.kept is None  # three axes of numbers of any size: no answer can be told


def test_of_equally_long_outputs_the_likeness_is_the_cosine() -> None:
    a, b = np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])
    assert closeness(a, b).mean == pytest.approx(24 / 25)
    assert closeness(a, a / 2).mean == 1 - 0.25 / 2  # which the cosine does not see


def test_the_same_is_1_and_nothing_is_closer() -> None:
    a = np.random.default_rng(0).normal(size=(10, 4))
    assert closeness(a, a).value == 1
    assert closeness(np.zeros((10, 4)), np.zeros((10, 4))).value == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_nan_is_as_far_as_can_be(wrong: float) -> None:
    b = np.ones((10, 4))
    b[0, 0] = wrong
    assert closeness(np.ones((10, 4)), b).worst == 0
    assert closeness(b, b).value == 1


def test_a_large_background_does_not_hide_what_moves() -> None:
    """A grid of coordinates that is the same for all samples; what is found on it comes out wrong by half."""
    rng = np.random.default_rng(0)
    grid, moves = np.linspace(0, 10, 100), rng.normal(size=(20, 10, 10))
    grid = grid.reshape(10, 10)
    found = closeness(grid + moves, grid + moves / 2)
    assert found.mean is not None and found.mean > 0.995
    assert found.moving == pytest.approx(1 - 0.25 / 2, abs=0.01)  # 20 samples know the grid to 1 / 20 of the energy
    assert found.reason == "what differs between samples"


def test_of_noise_what_differs_says_nothing() -> None:
    """Made-up samples all look alike to a model: what it gives for them hardly differs."""
    rng = np.random.default_rng(0)
    a = 1 + rng.normal(0, 0.01, (32, 50))
    b = a + rng.normal(0, 0.05, (32, 50))
    views = []
    for alike in (False, True):
        gathered = Gathered(alike=alike)
        gathered.add(a, b, len(a))
        views.append(gathered.result())
    (real, made_up) = views
    assert real is not None and real.moving is not None and real.moving < 0.9
    assert made_up is not None and made_up.moving is None and made_up.mean == real.mean
    single = Gathered(alike=True)
    single.add(a[:, :1], b[:, :1], len(a))
    found = single.result()
    assert found is not None and found.mean is not None and found.mean < 1  # of one number there is nothing else


def test_single_numbers_are_judged_by_what_they_differ_in() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(100, 1, size=(50, 1))
    near, far = closeness(a, a + rng.normal(0, 0.01, a.shape)), closeness(a, np.full_like(a, 100))
    assert near.value == near.mean == pytest.approx(1 - 0.01**2 / 2, abs=1e-4) and near.moving is None
    assert far.value == pytest.approx(0.5, abs=0.02)  # as far as saying the same of all samples


def test_probabilities_that_are_all_alike_are_not_held_to_their_noise() -> None:
    a = np.full((30, 1), 0.999)
    found = closeness(a, a - 0.002 * np.arange(30)[:, None] / 30)
    assert found.value is not None and found.value > 0.999


def test_a_few_lost_samples_count() -> None:
    a = np.random.default_rng(0).normal(size=(100, 30, 2))
    b = a.copy()
    b[:6] = 0
    found = closeness(a, b)
    assert found.worst == 0.5  # nothing at all is 1 - 1/2 away
    assert found.value is not None and found.value <= 0.75


def test_labels_of_distributions_count_without_the_commonest() -> None:
    """A recogniser of text: most positions are blank, and a candidate that finds nothing else is no good."""
    a, b = np.zeros((1, 100, 5)), np.zeros((1, 100, 5))
    a[..., 0] = b[..., 0] = 1
    a[0, :10] = (0.1, 0.9, 0, 0, 0)
    found = closeness(a, b)
    assert found.kept == pytest.approx(1 - 0.8)
    assert found.value == pytest.approx(1 - 0.8 / 4)
    assert found.reason == "its labels, areas or numbers"


def test_a_label_that_was_close_to_another_is_little_lost() -> None:
    found = closeness([[0.51, 0.49], [0.0, 1.0]], [[0.49, 0.51], [0.0, 1.0]])
    assert found.kept == pytest.approx(1 - 0.02 / 2)


def test_scores_of_classes_lose_by_what_the_reference_prefers() -> None:
    """One of two rows takes another class: best 4, average 1, taken 2.5, half of the way from best to average."""
    found = closeness([[4, 2.5, -1.5, -1], [4, 2.5, -1.5, -1]], [[2, 3, -1, -1], [4, 2, -1, -1]])
    assert found.kept == pytest.approx(1 - 0.5 / 2)


def test_areas_that_vanish_count() -> None:
    """A map of text in a picture: small areas, much background."""
    a = np.full((2, 1, 16, 16), 0.01)
    a[:, :, :4, :4] = 0.9
    b = a.copy()
    b[0, :, :4, :4] = 0.4
    found = closeness(a, b)
    assert found.kept == pytest.approx((1 + 1 - 0.5 / 0.9) / 2)


def test_scores_beside_coordinates_count_on_their_own() -> None:
    """Boxes: four coordinates of hundreds, and three scores of which one is high; the candidate finds half of them."""
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.uniform(0, 600, (2, 4, 40)), rng.uniform(0, 0.1, (2, 3, 40))], axis=1)
    a[:, 4, :10] = 0.9
    b = a.copy()
    b[:, 4, :5] = 0.2
    found = closeness(a, b)
    assert found.mean is not None and found.mean > 0.999_999
    assert found.kept == pytest.approx(1 - 5 * 0.7 / (10 * 0.9))


def test_a_slice_of_scores_that_are_high_everywhere_does_not_hide_another() -> None:
    """Of every cell that it would be a letter, and of a few that there is anything: half of those are lost."""
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.uniform(0, 600, (2, 100, 4)), np.full((2, 100, 1), 0.01), np.full((2, 100, 1), 0.9)], 2)
    a[:, :10, 4] = 0.8
    b = a.copy()
    b[:, :5, 4] = 0.1
    in_one = closeness(a, b)
    assert in_one.kept == pytest.approx((1 + 1 - 5 * 0.7 / (10 * 0.8)) / 2)
    gathered = Gathered()
    for sample in range(2):
        gathered.add(a[sample : sample + 1], b[sample : sample + 1], 1)
    by_sample = gathered.result()
    assert by_sample is not None and by_sample.kept == pytest.approx(in_one.kept)


def test_a_slice_that_leaves_0_to_1_later_holds_no_scores() -> None:
    a = np.concatenate([np.full((1, 100, 1), 300.0), np.full((1, 100, 2), 0.9)], 2)
    b = a.copy()
    b[..., 1] = 0.1
    gathered = Gathered()
    gathered.add(a, b, 1)
    a[..., 1] = 2.0
    gathered.add(a, a, 1)
    found = gathered.result()
    assert found is not None and found.kept == 1


def test_padding_is_no_answer() -> None:
    a = np.full((2, 4, 2), 0.5)
    a[:, 0] = (0.9, 0.1)
    b = a.copy()
    b[:, 1:] = (0.1, 0.9)
    kept = np.zeros((2, 4), bool)
    kept[:, 0] = True
    hidden = np.where(kept[..., None], 1, 0)
    assert closeness(a * hidden, b * hidden, kept=kept).kept == 1


def test_samples_of_different_sizes_have_no_mean() -> None:
    gathered = Gathered()
    for size in range(1, 12):
        gathered.add(np.ones((1, size)), np.ones((1, size)) * 0.99, 1)
    found = gathered.result()
    assert found is not None and found.moving is None and found.mean == pytest.approx(1 - 0.01**2 / 2)
