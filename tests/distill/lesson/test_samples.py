"""The training set: kept on disk, shuffled, cut into batches, or computed anew."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from compress_ops.distill.lesson import samples as module
from compress_ops.distill.lesson.samples import Anew, Feeds, Rows, Samples, Store, split
from compress_ops.errors import DataError

Arrays = dict[str, np.ndarray]


def keep(store: Store, batches: Callable[[], Iterator[tuple[Arrays, int]]], samples: int) -> Samples:
    return store.keep(batches, samples, lambda: 3)


def given(*batches: tuple[Arrays, int]) -> Callable[[], Iterator[tuple[Arrays, int]]]:
    return lambda: iter(batches)


def rows(start: int, count: int) -> tuple[Arrays, int]:
    numbers = np.arange(start, start + count)
    return {"x": numbers.astype(np.float32), "y": np.stack([numbers, -numbers], 1)}, count


def test_rows_are_shuffled_and_cut_anew() -> None:
    with Store() as store:
        samples = keep(store, given(rows(0, 4), rows(4, 4), rows(8, 3)), 11)
        assert isinstance(samples, Rows) and len(samples) == 11
        order = np.random.default_rng(0).permutation(11)
        batches = list(samples.batches(order, 5))
        assert len(batches) == samples.count(11, 5) == 2
        assert np.array_equal(np.concatenate([batch["x"] for batch in batches]), order[:10])
        assert all(np.array_equal(batch["y"], np.stack([batch["x"], -batch["x"]], 1)) for batch in batches)


def test_what_every_batch_shares_is_kept_once() -> None:
    shared = np.array([[1.0, 2.0]])
    batches = [({**rows(i, 3)[0], "state": shared}, 3) for i in (0, 3)]
    with Store() as store:
        samples = keep(store, given(*batches), 6)
        assert isinstance(samples, Rows) and list(samples.same) == ["state"]
        (batch,) = samples.batches(range(6), 6)
        assert np.array_equal(batch["state"], shared)


@pytest.mark.parametrize("what", ["ragged", "state"])
def test_whole_feeds_go_by_one_by_one(what: str) -> None:
    """Of different lengths; or with a state that belongs to the feed."""
    if what == "ragged":
        feeds = [{"x": np.full((1, n), n, np.float32), "y": np.array([n])} for n in (3, 1, 2)]
    else:
        feeds = [{"x": np.full((2, 3), n, np.float32), "y": np.full((1, 2, 4), n)} for n in (3, 1, 2)]
    with Store() as store:
        samples = keep(store, given(*((feed, len(feed["x"])) for feed in feeds)), 3)
        assert isinstance(samples, Feeds) and len(samples) == samples.count(3, 7) == 3
        for index, batch in zip((2, 0, 1), samples.batches([2, 0, 1], 7), strict=True):
            assert all(np.array_equal(batch[name], feeds[index][name]) for name in feeds[index])


def test_large_arrays_stay_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IN_MEMORY", 16)
    with Store() as store:
        samples = keep(store, given(rows(0, 8)), 8)
        assert isinstance(samples, Rows) and all(isinstance(array, np.memmap) for array in samples.arrays.values())
        (batch,) = samples.batches(range(8), 8)
        assert np.array_equal(batch["x"], np.arange(8))


def test_what_does_not_fit_is_computed_anew() -> None:
    passes = []

    def batches() -> Iterator[tuple[Arrays, int]]:
        passes.append(1)
        yield from (rows(0, 4), rows(4, 4), rows(8, 4))

    with Store(limit=100) as store:
        samples = keep(store, batches, 12)
        assert isinstance(samples, Anew) and len(samples) == 3
        counted = len(passes)
        assert counted == 1  # one look at the first batch
        assert [batch["x"][0] for batch in samples.batches([2, 0], 4)] == [8, 0]
        assert len(passes) == counted + 1


def streamed(order: np.ndarray, units: int = 40) -> list[int]:
    samples = Anew(lambda: ({"x": np.array([index])} for index in range(units)), units)
    return [int(batch["x"][0]) for batch in samples.batches(order, 1)]


@pytest.mark.parametrize("room", [1, 4, 40])
def test_what_is_computed_anew_is_shuffled_in_a_window(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Each feed once; those of the order, in it where the window holds them all, as they come where it holds one."""
    monkeypatch.setattr(module, "_WINDOW", room)
    order = np.random.default_rng(0).permutation(40)[:30]
    found = streamed(order)
    assert sorted(found) == sorted(order)
    assert found == streamed(order)
    assert (found == sorted(order), found == list(order)) == (room == 1, room == 40)
    came = {index: place for place, index in enumerate(sorted(order))}
    assert all(place > came[index] - room for place, index in enumerate(found))  # none before the window reached it
    if room == 4:
        assert sum(place != came[index] for place, index in enumerate(found)) > 15  # half of them at least


def test_a_window_holds_no_more_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IN_MEMORY", 8)  # one of these feeds
    order = np.random.default_rng(0).permutation(40)
    assert streamed(order) == list(range(40))


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Store() as store:
        keep(store, given(rows(0, 4)), 4)
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def kept(count: int) -> Samples:
    with Store() as store:
        return keep(store, given(rows(0, count)), count)


@pytest.mark.parametrize(("count", "share", "size", "held"), [(100, 0.1, 8, 10), (100, 0.01, 8, 8), (16, 0.1, 8, 8)])
def test_some_are_held_out(count: int, share: float, size: int, held: int) -> None:
    parts = split(kept(count), share, size, np.random.default_rng(0))
    assert len(parts.held_out) == held
    assert sorted([*parts.training, *parts.held_out]) == list(range(count))


def test_fewer_than_two_batches_are_refused() -> None:
    with pytest.raises(DataError, match=r"15 samples: a batch of 8 to train on and one to measure need 16"):
        split(kept(15), 0.1, 8, np.random.default_rng(0))


def test_no_data_is_refused() -> None:
    with Store() as store, pytest.raises(DataError, match="no training data"):
        keep(store, given(), 0)


def test_a_split_repeats() -> None:
    first, second = (split(kept(50), 0.2, 4, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.held_out, second.held_out)
