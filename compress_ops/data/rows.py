"""Arrays handed out a few rows (along axis 0) at a time, wherever they lie."""

from __future__ import annotations

import math
from typing import IO, Protocol

import numpy as np

from ..arrays import Array
from ..errors import Place
from .headers import Header, reading


class Rows(Protocol):
    """Something that gives its next rows."""

    def take(self, count: int) -> Array: ...


class StreamedRows:
    """Rows read from a stream that stands just behind the header; only those asked for are ever in memory."""

    def __init__(self, stream: IO[bytes], header: Header, place: Place, name: str) -> None:
        self._stream, self._header, self._place, self._name = stream, header, place, name
        self._left = header.shape[0]

    def take(self, count: int) -> Array:
        shape = (count, *self._header.shape[1:])
        wanted = math.prod(shape) * self._header.dtype.itemsize
        self._left -= count
        with reading(self._place, f"array '{self._name}'"):
            data = self._stream.read(wanted)
            if len(data) < wanted:
                raise EOFError("the data ends early")
            if not self._left:
                self._stream.read(1)  # zipfile compares the checksum only when it meets the end
        return np.ndarray(shape, self._header.dtype, buffer=data)


class ArrayRows:
    """Rows of an array that is in memory or mapped into it, copied out in C order."""

    def __init__(self, array: Array) -> None:
        self._array, self._next = array, 0

    def take(self, count: int) -> Array:
        start, self._next = self._next, self._next + count
        return np.array(self._array[start : self._next], order="C")


class SameRows:
    """An array that belongs to every sample: it is handed out whole each time."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def take(self, count: int) -> Array:
        return self._array
