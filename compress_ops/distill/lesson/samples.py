"""The training set: what the student reads and what it should give, kept on disk, gone through in a shuffled order.

Data of rows (axis 0 of every array counts samples) is shuffled row by row and cut into batches of any size. Feeds that
differ in shape, or that hold something that belongs to a whole feed (a recurrent state), are used one by one as they
are, in a shuffled order. Arrays that are the same in every batch are kept once. What does not fit on the disk is
computed anew each time, as the data has it, and shuffled in a window that goes along.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...arrays import Array
from ...errors import DataError
from ...files.temporary import temporary_folder
from ...runtime import Arrays

_IN_MEMORY = 2**28  # bytes of an array above which it stays on disk; also of a window
_WINDOW = 64  # feeds
_SHARE_OF_DISK = 0.5  # of what is free that may be filled


class Samples(ABC):
    """Units (rows, or whole feeds) that make batches."""

    @abstractmethod
    def __len__(self) -> int:
        """How many units there are."""

    @abstractmethod
    def batches(self, order: Sequence[int] | Array, size: int) -> Iterator[Arrays]:
        """The units of an order, ``size`` rows a batch (whole feeds: one); rows that fill no batch are left out."""

    @abstractmethod
    def count(self, units: int, size: int) -> int:
        """How many batches so many units make."""


@dataclass(frozen=True)
class Rows(Samples):
    """Stacked arrays; ``same`` belong to every batch."""

    arrays: Arrays
    same: Arrays

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def batches(self, order: Sequence[int] | Array, size: int) -> Iterator[Arrays]:
        for start in range(0, len(order) - size + 1, size):
            rows = np.asarray(order[start : start + size])
            yield {**{name: array[rows] for name, array in self.arrays.items()}, **self.same}

    def count(self, units: int, size: int) -> int:
        return units // size


@dataclass(frozen=True)
class Feeds(Samples):
    """Whole feeds, each a batch."""

    feeds: Sequence[Callable[[], Arrays]]

    def __len__(self) -> int:
        return len(self.feeds)

    def batches(self, order: Sequence[int] | Array, size: int) -> Iterator[Arrays]:
        for index in order:
            yield self.feeds[int(index)]()

    def count(self, units: int, size: int) -> int:
        return units


@dataclass(frozen=True)
class Anew(Samples):
    """Nothing is kept: feeds come as the data has them, and a window of them is held back.

    Each that comes takes the place of one in the window, which goes; its number in the order, at random, says which.
    What is left at the end goes in the order.
    """

    compute: Callable[[], Iterable[Arrays]]
    units: int

    def __len__(self) -> int:
        return self.units

    def batches(self, order: Sequence[int] | Array, size: int) -> Iterator[Arrays]:
        places = {int(index): place for place, index in enumerate(order)}
        window: list[tuple[int, Arrays]] = []
        for index, arrays in enumerate(self.compute()):
            if index not in places:
                continue
            if len(window) < self._room(arrays):
                window.append((places[index], arrays))
                continue
            slot = places[index] % len(window)
            yield window[slot][1]
            window[slot] = (places[index], arrays)
        yield from (arrays for _, arrays in sorted(window, key=lambda each: each[0]))

    def count(self, units: int, size: int) -> int:
        return units

    @staticmethod
    def _room(arrays: Arrays) -> int:
        size = sum(array.nbytes for array in arrays.values())
        return max(1, min(_WINDOW, _IN_MEMORY // max(size, 1)))


@dataclass
class _Column:
    """One array's pieces, one behind the other in a file."""

    file: Path
    pieces: list[Array] = field(default_factory=list)  # empty stand-ins: shape and type
    starts: list[int] = field(default_factory=lambda: [0])  # in the file, in bytes
    first: Array | None = None
    same: bool = True

    def add(self, array: Array) -> None:
        array = np.asarray(array, order="C")
        if self.first is None:
            self.first = array
        self.same = self.same and np.array_equal(self.first, array)
        self.pieces.append(np.broadcast_to(np.zeros((), array.dtype), array.shape))
        self.starts.append(self.starts[-1] + array.nbytes)
        with self.file.open("ab") as stream:
            stream.write(array.tobytes())

    def stacks(self, sizes: Sequence[int]) -> bool:
        """Whether axis 0 counts the samples of every piece, and all else is alike."""
        kinds = {(piece.shape[1:], piece.dtype) for piece in self.pieces}
        return len(kinds) == 1 and all(
            piece.ndim and len(piece) == size for piece, size in zip(self.pieces, sizes, strict=True)
        )

    def stacked(self, rows: int) -> Array:
        return self._mapped(0, (rows, *self.pieces[0].shape[1:]))

    def piece(self, index: int) -> Array:
        return self._mapped(self.starts[index], self.pieces[index].shape)

    def _mapped(self, offset: int, shape: tuple[int, ...]) -> Array:
        dtype = self.pieces[0].dtype
        count = int(np.prod(shape))
        if count * dtype.itemsize <= _IN_MEMORY:
            return np.fromfile(self.file, dtype, count, offset=offset).reshape(shape)
        return np.memmap(self.file, dtype, "r", offset, shape)


class Store:
    """A temporary folder that samples are written to; gone with the object's ``close``."""

    def __init__(self, limit: int | None = None) -> None:
        self._opened = ExitStack()
        self._folder = self._opened.enter_context(temporary_folder())
        self._limit = limit if limit is not None else int(shutil.disk_usage(self._folder).free * _SHARE_OF_DISK)
        self._columns: dict[str, _Column] = {}
        self._sizes: list[int] = []

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def keep(
        self, batches: Callable[[], Iterable[tuple[Arrays, int]]], samples: int, count: Callable[[], int]
    ) -> Samples:
        """Go through the batches (arrays and how many samples they hold) and keep them, if they fit.

        ``samples`` is how many there are in all; ``count`` tells how many batches, where that must be known.
        """
        units = 0
        for arrays, size in batches():
            if not units and sum(array.nbytes for array in arrays.values()) * samples / max(size, 1) > self._limit:
                return Anew(lambda: (each for each, _ in batches()), count())
            self._add(arrays, size)
            units += 1
        if not units:
            raise DataError("there is no training data")
        return self._samples()

    def _add(self, arrays: Arrays, size: int) -> None:
        for name, array in arrays.items():
            if name not in self._columns:
                self._columns[name] = _Column(self._folder / f"{len(self._columns)}.bin")
            self._columns[name].add(array)
        self._sizes.append(size)

    def _samples(self) -> Samples:
        columns, rows = self._columns, sum(self._sizes)
        stacked = {name: column for name, column in columns.items() if column.stacks(self._sizes)}
        rest = {name: column for name, column in columns.items() if name not in stacked}
        if stacked and all(column.same and column.first is not None for column in rest.values()):
            same = {name: column.first for name, column in rest.items() if column.first is not None}
            return Rows({name: column.stacked(rows) for name, column in stacked.items()}, same)
        return Feeds([self._feed(index) for index in range(len(self._sizes))])

    def _feed(self, index: int) -> Callable[[], Arrays]:
        return lambda: {name: column.piece(index) for name, column in self._columns.items()}


@dataclass(frozen=True)
class Split:
    """Which units are trained on, and which only measure."""

    training: Array
    held_out: Array


def split(samples: Samples, share: float, size: int, rng: np.random.Generator) -> Split:
    """Hold out a share of the units, at least one batch; raises DataError where too few are left to train on."""
    units, batch = len(samples), size if isinstance(samples, Rows) else 1
    held = max(round(units * share), batch)
    if units - held < batch:
        what = "samples" if isinstance(samples, Rows) else "feeds"
        raise DataError(
            f"the training data has {units} {what}: a batch of {batch} to train on and one to measure need {2 * batch}",
            hint="give more training data, or a smaller batch: batch_size under data, or --batch-size",
        )
    order = rng.permutation(units)
    return Split(np.sort(order[held:]), np.sort(order[:held]))
