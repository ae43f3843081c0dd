"""How many batches there will be is known before, so that whoever watches sees an end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress_ops.data import Dataset, DataSettings, open_data
from compress_ops.data.halves import Part
from compress_ops.runtime import Port

X = Port("x", "float32", ("N", 2))


def _stacked(folder: Path) -> Dataset:
    np.savez(folder / "set.npz", x=np.ones((10, 2), np.float32))
    return open_data("set.npz", [X], DataSettings(batch_size=4, base=folder))


def _feeds(folder: Path) -> Dataset:
    for number in range(3):
        np.savez(folder / f"{number}.npz", x=np.ones((number + 1, 2), np.float32))
    return open_data(".", [X], DataSettings(base=folder))


def _random(folder: Path) -> Dataset:
    return open_data("random", [X], DataSettings(batch_size=4, samples=10))


@pytest.mark.parametrize("limit", [None, 0, 2, 9])
@pytest.mark.parametrize("kind", [_stacked, _feeds, _random])
def test_the_count_is_that_of_the_batches(kind, limit, tmp_path: Path) -> None:
    for data in (whole := kind(tmp_path), *Part.halves(whole)):
        assert data.batch_count(limit) == len(list(data.batches(limit)))


def test_whoever_watches_is_told(tmp_path: Path) -> None:
    told = []

    def progress(items, label, total=None):
        told.append((label, total))
        return items

    assert len(list(_stacked(tmp_path).watched(progress, "scoring"))) == 3
    assert len(list(_stacked(tmp_path).watched(progress, "one", limit=1))) == 1
    assert told == [("scoring", 3), ("one", 1)]
