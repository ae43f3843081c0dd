"""One .npy file for a model with one input."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.data import DataSettings, open_data
from compress_ops.errors import DataError, Faults
from compress_ops.runtime import Port

X = Port("x", "float32", ("N", 3))
ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)


def opened(folder, array, ports=(X,), **settings):
    np.save(folder / "set.npy", array)
    return open_data("set.npy", ports, DataSettings(batch_size=4, base=folder, **settings))


@pytest.mark.parametrize("array", [ROWS, np.asfortranarray(ROWS)])
def test_rows_come_back_in_order(tmp_path, array):
    batches = list(opened(tmp_path, array).batches())
    assert [batch.size for batch in batches] == [4, 4, 2]
    assert np.array_equal(np.concatenate([batch.feeds["x"] for batch in batches]), ROWS)
    assert all(batch.labels is None and batch.feeds["x"].flags.c_contiguous for batch in batches)


def test_one_more_axis_makes_whole_feeds(tmp_path):
    feeds = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    batches = list(opened(tmp_path, feeds).batches())
    assert [(batch.size, batch.feeds["x"].tolist()) for batch in batches] == [(1, feed.tolist()) for feed in feeds]


def test_other_inputs_may_be_given_as_values(tmp_path):
    data = opened(tmp_path, ROWS, [Port("sr", "int64", ()), X], values={"sr": 8000})
    assert set(next(data.batches()).feeds) == {"x", "sr"}


@pytest.mark.parametrize(
    ("array", "ports", "labels", "word"),
    [
        (ROWS, [X, Port("y", "float32", ("N", 3))], None, "serves one input; the model has 2: x, y"),
        (ROWS, [X], "label", "holds no labels array 'label'"),
        (ROWS.astype(np.float64), [X], None, "is float64"),
        (ROWS[:, :2], [X], None, "[10, 2]"),
        (ROWS[:0], [X], None, "zero samples"),
        (np.array([{}, 1]), [X], None, "never unpickled"),
    ],
)
def test_faults_at_open(tmp_path, array, ports, labels, word):
    with pytest.raises((DataError, Faults)) as caught:
        opened(tmp_path, array, ports, labels=labels)
    assert word in str(caught.value)
    assert "set.npy" in str(caught.value)


@pytest.mark.parametrize("cut", [0, 5, 60, -1])
def test_truncated(tmp_path, cut):
    np.save(tmp_path / "set.npy", ROWS)
    content = (tmp_path / "set.npy").read_bytes()
    (tmp_path / "set.npy").write_bytes(content[:cut])
    with pytest.raises(DataError, match="the array cannot be read"):
        open_data("set.npy", [X], DataSettings(base=tmp_path))


def test_a_file_that_vanishes(tmp_path):
    data = opened(tmp_path, ROWS)
    (tmp_path / "set.npy").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        next(data.batches())


def test_nan_names_its_sample(tmp_path):
    bad = ROWS.copy()
    bad[6, 0] = np.nan
    with pytest.raises(DataError, match="array 'x' holds nan in sample 6"):
        list(opened(tmp_path, bad).batches())
