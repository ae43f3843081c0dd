"""Padding is found by what the inputs hold, not by their names."""

import numpy as np
import pytest

from compress_ops.data import Batch
from compress_ops.measure.closeness.fidelity import compare_fidelity
from compress_ops.measure.closeness.padding import kept_positions
from compress_ops.runtime import Feeds

IDS = np.array([[5, 6, 7, 0], [8, 9, 0, 0]])
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])


def test_a_mask_is_found_beside_ids_and_segments() -> None:
    kept = kept_positions({"a": IDS, "b": MASK, "c": np.zeros_like(IDS)})
    assert kept is not None
    assert (kept == (MASK == 1)).all()


@pytest.mark.parametrize(
    "feeds",
    [
        {"ids": IDS},
        {"ids": IDS, "mask": np.ones_like(IDS)},
        {"ids": IDS, "segment": np.array([[0, 0, 1, 1], [0, 1, 1, 1]])},
        {"mask": MASK, "image": np.zeros((2, 4), np.float32)},
        {"ids": IDS, "other": np.ones((3, 4), np.int64), "mask": np.array([1, 0])},
    ],
    ids=["no mask", "nothing masked", "segments", "nothing to confirm it", "one axis"],
)
def test_what_is_no_mask(feeds: Feeds) -> None:
    assert kept_positions(feeds) is None


class Fixed:
    """A session that gives one array, whatever it is fed."""

    inputs = outputs = ()

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def taken(self, feeds: Feeds) -> Feeds:
        return feeds

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        return {"hidden": self.array.copy()}


def test_errors_at_padding_do_not_count() -> None:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((2, 4, 8)).astype(np.float32)
    wrong_at_padding = np.where(MASK[..., None] == 1, exact, -exact)
    sessions = {"float": Fixed(exact), "int8": Fixed(wrong_at_padding)}
    batch = Batch({"ids": IDS, "mask": MASK}, None, 2)
    found = compare_fidelity(sessions, [batch])  # type: ignore[arg-type]
    output = found.models["int8"]["hidden"]
    assert output.cosine == pytest.approx(1)
    assert output.top1_agreement == 1
    assert output.max_difference == 0
    assert found.padding == 3
