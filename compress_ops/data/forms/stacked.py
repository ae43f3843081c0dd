"""Samples stacked on axis 0: what .npz, .npy and images share, and the .npz form itself."""

from __future__ import annotations

import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from ...arrays import Array
from ...errors import Place
from ...runtime import Port
from ..base import Batch, Dataset, DataSettings, at_most
from ..channel_order import lay_out
from ..headers import Header, digest_of, member_name, npz_headers, read_header, reading
from ..rows import ArrayRows, Rows, SameRows, StreamedRows
from ..values import check_finite, supplied


class Stacked(Dataset):
    """Rows go by in batches; where they come from is up to ``open_rows``."""

    def __init__(
        self, name: str, path: Path, headers: Mapping[str, Header], ports: Sequence[Port], settings: DataSettings
    ) -> None:
        self.name, self.path, self.place = name, path, Place(name)
        self.headers = headers
        self._layout = lay_out(self.place, headers, ports, settings)
        self._inputs = [port.name for port in ports if port.name in headers]
        self._labels = settings.labels if settings.labels in headers else None
        self._supplied = supplied(ports, settings.values, headers)
        self.dropped = self._layout.dropped

    def __len__(self) -> int:
        return self._layout.samples

    @abstractmethod
    def open_rows(self) -> AbstractContextManager[Mapping[str, Rows]]:
        """The rows of every array, from the first one on."""

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        with self.open_rows() as rows:
            for start in islice(range(0, len(self), self._layout.batch), limit):
                yield self._batch(rows, start, min(self._layout.batch, len(self) - start))

    def batch_count(self, limit: int | None = None) -> int:
        return at_most(-(-len(self) // self._layout.batch), limit)

    def digest(self) -> str:
        return digest_of(iter([("", self.path)]))

    def _batch(self, rows: Mapping[str, Rows], start: int, count: int) -> Batch:
        feeds = {name: self._feed(name, rows[name], start, count) for name in self._inputs}
        labels = self._take(self._labels, rows[self._labels], start, count) if self._labels is not None else None
        return Batch({**feeds, **self._supplied}, labels, count)

    def _feed(self, name: str, rows: Rows, start: int, count: int) -> Array:
        taken = self._take(name, rows, start, count)
        return taken.reshape(taken.shape[1:]) if name in self._layout.whole else taken

    def _take(self, name: str, rows: Rows, start: int, count: int) -> Array:
        taken = rows.take(count)
        check_finite(self.place, name, taken, start)
        return taken


class StackedNpz(Stacked):
    """An .npz whose members are read side by side, a batch at a time, compressed or not."""

    @contextmanager
    def open_rows(self) -> Iterator[Mapping[str, Rows]]:
        with ExitStack() as opened:
            with reading(self.place, "the archive"):
                archive = opened.enter_context(zipfile.ZipFile(self.path))
            yield {name: self._rows(archive, name, opened) for name in self.headers}

    def _rows(self, archive: zipfile.ZipFile, name: str, opened: ExitStack) -> Rows:
        from numpy.lib import format as npy

        header, member = self.headers[name], member_name(name)
        with reading(self.place, f"array '{name}'"):
            stream = opened.enter_context(archive.open(member))
            if header.shape and not header.fortran:
                read_header(stream, archive.getinfo(member).file_size)
                return StreamedRows(stream, header, self.place, name)
            array = npy.read_array(stream, allow_pickle=False)
        return ArrayRows(array) if header.shape else SameRows(array)


def open_stacked(source: str, ports: Sequence[Port], settings: DataSettings) -> Dataset:
    path = settings.base / source
    return StackedNpz(source, path, npz_headers(path, Place(source)), ports, settings)
