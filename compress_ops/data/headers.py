"""What a stored array is, read from its .npy header: nothing else is loaded and nothing is unpickled."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import DataError, OnnxpressError, Place
from ..files.reading import unreadable

_ENDING = ".npy"


@dataclass(frozen=True)
class Header:
    """Type and shape of an array, and whether it is stored column by column."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool = False

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@contextmanager
def reading(place: Place, what: str) -> Iterator[None]:
    """Turn what goes wrong inside into a DataError. Put nothing but reading inside: it catches everything."""
    try:
        yield
    except OnnxpressError:
        raise
    except Exception as error:  # zipfile, zlib, numpy and Pillow raise a dozen unrelated classes on bad bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{what} cannot be read: {reason}", place=place, hint="the file is damaged or incomplete: make it again"
        ) from error


def read_header(stream: IO[bytes], stored: int) -> Header:
    """The header at the start of a stream of ``stored`` bytes; ValueError where the two contradict each other."""
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    header = Header(dtype, shape, fortran)
    if not dtype.hasobject and (min(shape, default=0) < 0 or stream.tell() + header.nbytes != stored):
        raise ValueError(f"{header.nbytes} bytes of data expected, {stored - stream.tell()} there")
    return header


def npz_headers(path: Path, place: Place) -> dict[str, Header]:
    """The header of each array in an .npz, by name."""
    if why := unreadable(path):
        raise DataError(f"the file {why}", place=place)
    with reading(place, "the file"), path.open("rb") as file:
        is_archive = zipfile.is_zipfile(file)
    if not is_archive:
        raise DataError("not an .npz file, or it is truncated", place=place, hint="write it with np.savez(file, x=arr)")
    headers = {}
    with reading(place, "the archive"), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(_ENDING)
            with reading(place, f"array '{name}'"), archive.open(member) as stream:
                headers[name] = read_header(stream, member.file_size)
    return headers


def npy_header(path: Path, place: Place) -> Header:
    """The header of an .npy file."""
    with reading(place, "the array"), path.open("rb") as stream:
        return read_header(stream, path.stat().st_size)


def member_name(array: str) -> str:
    """How an array is called inside an .npz."""
    return array + _ENDING


def digest_of(files: Iterator[tuple[str, Path]]) -> str:
    """SHA-256 over names and contents; contents alone where the name is empty."""
    total = hashlib.sha256()
    for name, path in files:
        with reading(Place(str(path)), "the file"), path.open("rb") as stream:
            total.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
