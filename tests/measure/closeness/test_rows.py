"""Lists whose lengths differ: what is in common, by hand, and as the closeness of models that keep boxes."""

import numpy as np
import pytest

from compress_ops.data import Batch
from compress_ops.measure.closeness.fidelity import compare_fidelity
from compress_ops.measure.closeness.rows_in_common import in_common, row_axis
from tests.measure.closeness.fidelity_case import session

BOXES = np.array([[0, 0, 10, 10], [50, 50, 80, 90], [20, 20, 40, 40], [5, 60, 30, 100]], np.float32)


@pytest.mark.parametrize(
    ("a", "b", "axis"),
    [((3, 4), (2, 4), 0), ((1, 3, 4), (1, 5, 4), 1), ((3, 4), (2, 5), None), ((3,), (3, 1), None), ((3,), (3,), None)],
)
def test_lists_differ_in_one_axis(a: tuple[int, ...], b: tuple[int, ...], axis: int | None) -> None:
    assert row_axis(np.zeros(a), np.zeros(b)) == axis


def test_what_is_in_common() -> None:
    moved = BOXES[[2, 0, 3]] + 0.5  # columns spread over 50 and more: within 5 %
    assert in_common(BOXES, moved, 0) == pytest.approx(2 * 3 / 7)
    assert in_common(BOXES, BOXES[:2] + 9, 0) == 0
    assert in_common(BOXES.T, BOXES.T[:, :3], 1) == pytest.approx(6 / 7)


def test_a_row_counts_once_and_classes_are_equal_or_not() -> None:
    assert in_common(np.array([1, 1, 1]), np.array([1]), 0) == pytest.approx(2 / 4)
    assert in_common(np.array([3, 1]), np.array([2, 1, 5]), 0) == pytest.approx(2 / 5)


def test_empty_lists_have_all_or_nothing_in_common() -> None:
    assert in_common(BOXES[:0], BOXES, 0) == 0
    assert in_common(BOXES, BOXES[:0], 0) == 0


def test_models_that_keep_other_boxes_are_compared_by_them() -> None:
    """Above a threshold: the candidate, whose scores are lower, keeps 3 of 5 once, and as many the other time."""
    keeping = "g = Greater(s, t) r = Cast<to = 9>(g) y = Compress<axis = 0>(x, r)"
    header, given = "float[n] s, float[n] x", "float[k] y"
    models = {
        name: session(f"t = Constant<value = float {{{least}}}>() {keeping}", header, given)
        for name, least in (("before", 0.1), ("after", 0.35))
    }
    scores = np.array([0.2, 0.3, 0.4, 0.5, 0.6], np.float32)
    feeds = [{"s": s, "x": np.arange(5, dtype=np.float32)} for s in (scores, scores + 1)]
    found = compare_fidelity(models, [Batch(feed, None, 1) for feed in feeds]).models["after"]["y"]
    assert found.closeness is not None
    assert found.closeness.value == pytest.approx(1 - (1 - (2 * 3 / 8 + 1) / 2) / 4)
    assert not found.identical
