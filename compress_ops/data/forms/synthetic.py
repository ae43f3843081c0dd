"""Seeded random feeds: floats standard normal, whole numbers 0 or 1 (valid as indices), uint8 any pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from ...arrays import Array
from ...errors import DataError, ModelError, raise_all
from ...runtime import Arrays, Feeds, Port
from ..base import Batch, Dataset, DataSettings, at_most
from ..fit import settings_faults
from ..sizes import Sizes, batch_of, candidate_sizes, shape_of, with_shapes

_HINT = "give sizes (--dim NAME=N, --shape INPUT=1,3,48,192), numbers (--value NAME=V), or real data (--data PATH)"


class RandomData(Dataset):
    """Made-up samples; batch i is made from the seed and i alone, and every batch is full."""

    name = "random (synthetic)"
    synthetic = True

    def __init__(self, ports: Sequence[Port], settings: DataSettings) -> None:
        self._ports = ports = with_shapes(ports, settings.shapes)
        self._settings = settings
        self._sizes = sizes_that_run(ports, settings, settings.runs or (lambda feed: None))
        self._batch = batch_of(ports, settings)
        if not self._batch:
            raise DataError("the model takes no samples: the first size of its inputs is 0")
        self._count = -(-settings.samples // self._batch)

    def __len__(self) -> int:
        return self._count * self._batch

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        for number in islice(range(self._count), limit):
            yield Batch(random_feed(self._ports, self._sizes, self._settings, number), None, self._batch)

    def batch_count(self, limit: int | None = None) -> int:
        return at_most(self._count, limit)

    def digest(self) -> str:
        ports = [(port.name, port.dtype, shape_of(port, self._sizes)) for port in self._ports]
        settings = (self._settings.seed, sorted(self._settings.values.items()), self._count)
        return hashlib.sha256(repr((ports, settings)).encode()).hexdigest()


def open_random(source: str, ports: Sequence[Port], settings: DataSettings) -> Dataset:
    if settings.required_labels is not None:
        raise DataError("random data has no labels", hint="metrics need real data; fidelity does without labels")
    return RandomData(ports, settings)


def feed_that_runs(ports: Sequence[Port], settings: DataSettings, runs: Callable[[Feeds], object]) -> Arrays:
    """A random feed of ``settings.batch_size`` samples that ``runs`` accepts.

    ``runs`` raises ModelError on what it refuses, as ``Session.run`` does. Raises DataError with the last reason
    when it refuses every size that is tried.
    """
    raise_all(settings_faults(ports, replace(settings, labels=None)))
    ports = with_shapes(ports, settings.shapes)
    return random_feed(ports, sizes_that_run(ports, settings, runs), settings, 0)


def sizes_that_run(ports: Sequence[Port], settings: DataSettings, runs: Callable[[Feeds], object]) -> Sizes:
    """The first sizes of the free dimensions with which a random feed runs."""
    refusal = ModelError("the inputs are too large to be made up")
    for sizes in candidate_sizes(ports, settings):
        try:
            runs(random_feed(ports, sizes, settings, 0))
            return sizes
        except ModelError as error:
            refusal = error
    raise DataError(refusal.message, hint=_HINT) from refusal


def random_feed(ports: Sequence[Port], sizes: Sizes, settings: DataSettings, number: int) -> Arrays:
    """Feed ``number``; inputs named in ``values`` are filled with their number."""
    rng = np.random.default_rng([settings.seed, number])
    return {port.name: _random(port, shape_of(port, sizes), settings.values, rng) for port in ports}


def _random(port: Port, shape: tuple[int, ...], values: Mapping[str, float], rng: np.random.Generator) -> Array:
    dtype = "str" if port.dtype == "string" else port.dtype
    if port.name in values:
        return np.full(shape, values[port.name], dtype)
    if not shape or dtype == "str" or "mask" in port.name.lower():  # a mask of zeros hides all there is: NaN
        return np.ones(shape, dtype)
    if dtype.startswith("float"):
        return rng.standard_normal(shape, np.float32).astype(dtype, copy=False)
    return rng.integers(0, 256 if dtype == "uint8" else 2, shape).astype(dtype)
