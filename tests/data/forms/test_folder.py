"""A folder of .npz files, one whole feed each."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from compress_ops.data import DataSettings, open_data
from compress_ops.errors import DataError, Faults
from compress_ops.runtime import Port

from .form_case import fault_of

SPEECH = [Port("speech", "float32", (None, "T")), Port("state", "float32", (2, None, 4)), Port("sr", "int64", ())]


def feed(length, **more):
    state = np.zeros((2, 1, 4), np.float32)
    return {"speech": np.full((1, length), length, np.float32), "state": state, "sr": np.array(16000), **more}


def opened(folder, feeds, ports=SPEECH, **settings):
    (folder / "feeds").mkdir(exist_ok=True)
    for number, arrays in enumerate(feeds):
        np.savez(folder / "feeds" / f"{number:03}.npz", **arrays)
    return open_data("feeds", ports, DataSettings(base=folder, **settings))


fault = partial(fault_of, opened)


def test_ragged_feeds_states_and_scalars_come_as_they_are(tmp_path):
    data = opened(tmp_path, [feed(7), feed(3), feed(5)])
    batches = list(data.batches())
    assert [batch.feeds["speech"].shape for batch in batches] == [(1, 7), (1, 3), (1, 5)]
    assert all(batch.feeds["state"].shape == (2, 1, 4) and batch.feeds["sr"].shape == () for batch in batches)
    assert [batch.size for batch in batches] == [1, 1, 1]
    assert (len(data), len(list(data.batches(limit=2)))) == (3, 2)


def test_labels_say_how_many_samples_a_file_holds(tmp_path):
    x = Port("x", "float32", (None, 2))
    feeds = [{"x": np.ones((n, 2), np.float32), "y": np.arange(n)} for n in (3, 1)]
    data = opened(tmp_path, [*feeds, {"x": np.ones((1, 2), np.float32), "y": np.array(9)}], [x], labels="y")
    assert [(batch.size, batch.labels.tolist()) for batch in data.batches()] == [(3, [0, 1, 2]), (1, [0]), (1, [9])]
    assert len(data) == 5


def test_values_supply_what_the_files_lack(tmp_path):
    arrays = feed(4)
    del arrays["sr"]
    assert next(opened(tmp_path, [arrays], values={"sr": 8000}).batches()).feeds["sr"] == 8000


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"speech": np.ones((1, 4), np.float32), "sr": np.array(1)}, ["feeds/001.npz", "'state'", "missing"]),
        (feed(4, other=np.ones(3)), ["feeds/001.npz", "'other'", "neither"]),
        ({**feed(4), "speech": np.ones((1, 4))}, ["'speech' is float64"]),
        ({**feed(4), "state": np.ones((3, 1, 4), np.float32)}, ["'state' is [3, 1, 4]", "[2, ?, 4]"]),
        ({**feed(4), "speech": np.ones((1, 1, 4), np.float32)}, ["'speech' is [1, 1, 4]", "[?, T]"]),
        ({**feed(4), "speech": np.array([[0, np.inf]], np.float32)}, ["001.npz: array 'speech' holds inf in sample 1"]),
        ({**feed(4), "speech": np.array([[None]])}, ["'speech'", "never unpickled"]),
    ],
)
def test_faults_name_their_file(tmp_path, second, words):
    text = fault(tmp_path, [feed(4), second])
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(("labels", "word"), [({}, "no labels array 'y'"), ({"y": np.arange(5)}, "has 5 entries")])
def test_faults_of_labels(tmp_path, labels, word):
    assert word in fault(tmp_path, [feed(4, **labels)], labels="y")


def test_the_same_fault_in_many_files_is_told_once(tmp_path):
    wrong = [feed(4), *[{**feed(4), "sr": np.array(1.5)}] * 30, feed(4, other=np.ones(3))]
    with pytest.raises(Faults) as caught:
        opened(tmp_path, wrong)
    first, second = (str(fault) for fault in caught.value.faults)
    assert first.startswith("feeds/001.npz: array 'sr' is float64; the model wants int64 (and in 29 more files)\n")
    assert second.startswith("feeds/031.npz: array 'other' is neither an input of the model nor the labels\n")


def test_not_every_one_of_many_faults_is_shown(tmp_path):
    wrong = [feed(4, **{f"other{number}": np.ones(3)}) for number in range(30)]
    with pytest.raises(Faults) as caught:
        opened(tmp_path, wrong)
    assert len(caught.value.faults) == 20


def test_a_damaged_file_among_good_ones(tmp_path):
    opened(tmp_path, [feed(4)] * 2)
    (tmp_path / "feeds" / "000.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"not an \.npz file") as caught:
        open_data("feeds", SPEECH, DataSettings(base=tmp_path))
    assert caught.value.place.file.endswith("000.npz")


def test_the_digest_sees_names_and_contents(tmp_path):
    data = opened(tmp_path, [feed(4), feed(5)])
    before = data.digest()
    assert before == data.digest()
    (tmp_path / "feeds" / "001.npz").rename(tmp_path / "feeds" / "002.npz")
    assert open_data("feeds", SPEECH, DataSettings(base=tmp_path)).digest() != before
