"""One .npy file: the stacked samples of a model with one input, mapped into memory rather than read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from ...errors import DataError, Place, raise_all
from ...files.reading import unreadable
from ...runtime import Port
from ..base import Dataset, DataSettings
from ..headers import npy_header, reading
from ..rows import ArrayRows, Rows
from ..values import is_supplied
from .stacked import Stacked


class MappedArray(Stacked):
    """Rows of a memory-mapped array."""

    @contextmanager
    def open_rows(self) -> Iterator[Mapping[str, Rows]]:
        with reading(self.place, "the array"):
            array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        yield {self._inputs[0]: ArrayRows(array)}


def open_array(source: str, ports: Sequence[Port], settings: DataSettings) -> Dataset:
    path, place = settings.base / source, Place(source)
    if why := unreadable(path):
        raise DataError(f"the file {why}", place=place)
    port = only_input(place, ports, settings)
    return MappedArray(source, path, {port.name: npy_header(path, place)}, ports, settings)


def only_input(place: Place, ports: Sequence[Port], settings: DataSettings) -> Port:
    """The one input that ``values`` does not supply, for forms of data whose arrays have no names."""
    open_ports = [port for port in ports if not is_supplied(port, settings.values)]
    raise_all(_faults(place, [port.name for port in open_ports], settings.required_labels))
    return open_ports[0]


def _faults(place: Place, inputs: Sequence[str], labels: str | None) -> Iterator[DataError]:
    hint = "store all arrays by name in one .npz: np.savez(file, x=arr, label=labels)"
    if len(inputs) != 1:
        message = f"this form of data serves one input; the model has {len(inputs)}: {', '.join(inputs)}"
        yield DataError(message, hint=hint, place=place)
    if labels is not None:
        yield DataError(f"this form of data holds no labels array '{labels}'", hint=hint, place=place)
