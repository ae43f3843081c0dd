"""The contents of feeds: numbers that the user gives for an input, and the check that floats are finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..arrays import Array
from ..errors import DataError, Place
from ..runtime import Arrays, Port


def check_finite(place: Place, name: str, array: Array, first: int) -> None:
    """Raise at the first NaN or infinity; ``first`` is the number of the sample in row 0."""
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return
    where = tuple(np.argwhere(~np.isfinite(array))[0])
    sample = f" in sample {first + int(where[0])}" if where else ""
    hint = "remove the sample, or mend it (np.nan_to_num); if it is padding, pad with a finite number"
    raise DataError(f"array '{name}' holds {array[where]}{sample}", hint=hint, place=place)


def supplied(ports: Sequence[Port], values: Mapping[str, float], present: Iterable[str]) -> Arrays:
    """Single-number inputs that the data lacks, made from ``values``."""
    names = set(present)
    return {port.name: filled(port, values) for port in ports if port.name not in names and is_supplied(port, values)}


def filled(port: Port, values: Mapping[str, float]) -> Array:
    return np.full([1] * len(port.shape), values[port.name], port.dtype)


def is_supplied(port: Port, values: Mapping[str, float]) -> bool:
    """Whether ``values`` gives this input: it takes a single number, and one is named for it."""
    return port.name in values and all(size == 1 for size in port.shape)
