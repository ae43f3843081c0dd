"""A folder of .npz files, each one complete feed, used as it is: ragged shapes, states and scalars all serve.

Files go by in the order of their names. A file is one sample, unless its labels (axis 0) hold several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ...errors import DataError, Place, raise_all
from ...runtime import Arrays, Port
from ..base import Batch, Dataset, DataSettings, at_most
from ..fit import feed_faults, told_once
from ..headers import Header, digest_of, npz_headers, reading
from ..values import check_finite, supplied

_FAULTS_SHOWN = 20  # nobody wants ten thousand lines


class FolderOfFeeds(Dataset):
    """Feeds are read one file at a time."""

    def __init__(self, name: str, path: Path, ports: Sequence[Port], settings: DataSettings) -> None:
        self.name, self._path = name, path
        self._ports, self._settings = ports, settings
        self._files = feed_files(path)
        self._samples = 0
        raise_all(islice(told_once(self._faults()), _FAULTS_SHOWN))

    def __len__(self) -> int:
        return self._samples

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        for number, file in enumerate(self._files[:limit]):
            yield whole_batch(self._load(file, number), self._ports, self._settings)

    def batch_count(self, limit: int | None = None) -> int:
        return at_most(len(self._files), limit)

    def digest(self) -> str:
        return digest_of((file.name, file) for file in self._files)

    def _faults(self) -> Iterator[DataError]:
        for file in self._files:
            try:
                headers = npz_headers(file, self._place(file))
            except DataError as error:
                yield error
                continue
            yield from feed_faults(self._place(file), headers, self._ports, self._settings)
            self._samples += samples_in(headers.get(self._settings.labels or ""))

    def _place(self, file: Path) -> Place:
        return Place(str(Path(self.name) / file.name))

    def _load(self, file: Path, number: int) -> Arrays:
        with reading(self._place(file), "the feed"), np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive.items())
        for name, array in arrays.items():
            check_finite(self._place(file), name, array[None], number)
        return arrays


def feed_files(path: Path) -> list[Path]:
    return sorted(file for file in path.glob("*.npz") if file.is_file())


def samples_in(labels: Header | None) -> int:
    """How many samples a whole feed holds: as many as it has labels, else one."""
    return labels.shape[0] if labels is not None and labels.shape else 1


def whole_batch(arrays: Arrays, ports: Sequence[Port], settings: DataSettings) -> Batch:
    """A batch of one whole feed; ``arrays`` holds the inputs and perhaps the labels."""
    labels = np.atleast_1d(arrays[settings.labels]) if settings.labels in arrays else None
    feeds = {port.name: arrays[port.name] for port in ports if port.name in arrays}
    feeds.update(supplied(ports, settings.values, feeds))
    return Batch(feeds, labels, len(labels) if labels is not None else 1)


def open_folder(source: str, ports: Sequence[Port], settings: DataSettings) -> Dataset:
    return FolderOfFeeds(source, settings.base / source, ports, settings)
