"""What is fed to the models when they are timed, and when their outputs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field, PositiveInt

from ..data import Batch, Dataset, DataSettings, feed_that_runs, open_data
from ..errors import DataError, ModelError
from ..runtime import Arrays, Feeds, Port, Session
from ..settings import Settings

SYNTHETIC = "synthetic"
MADE_UP = (SYNTHETIC, "random (synthetic)")  # names of data that nobody has seen


class Measure(Settings):
    """The feed for timing, and how long to time."""

    batch: int = Field(1, ge=1, description="Samples per timed run.")
    dims: dict[str, PositiveInt] = Field({}, description="Sizes of dynamic dimensions by symbolic name.")
    shapes: dict[str, list[PositiveInt]] = Field({}, description="Whole shapes of inputs, by name of the input.")
    values: dict[str, float] = Field({}, description="Values of scalar inputs by name.")
    seconds: float = Field(10.0, gt=0, description="Time limit of the latency measurement.")


@dataclass(frozen=True)
class NoFeed:
    """No made-up feed runs, and why."""

    reason: str


def latency_feed(
    sessions: Mapping[str, Session], data: Dataset | None, settings: Measure, seed: int
) -> Arrays | NoFeed:
    """The first samples of the data, ``settings.batch`` of them; made up where there is no data."""
    ports = _ports(sessions, settings)
    if data is not None:
        return _resized(_first_batch(data), ports, settings.batch)
    try:
        return feed_that_runs(ports, _random_settings(settings, seed), lambda feeds: _run_all(sessions, feeds))
    except DataError as error:
        return _reason(error)


def synthetic_data(sessions: Mapping[str, Session], settings: Measure, seed: int) -> Dataset | NoFeed:
    """Made-up samples that all models accept."""
    ports = _ports(sessions, settings)
    wanted = replace(_random_settings(settings, seed), runs=lambda feeds: _run_all(sessions, feeds))
    try:
        return open_data("random", ports, wanted)
    except DataError as error:
        return _reason(error)


def _ports(sessions: Mapping[str, Session], settings: Measure) -> list[Port]:
    """The inputs to feed: of those that have a default the ones that a number is given for."""
    first = next(iter(sessions.values()))
    return [*first.inputs, *(port for port in first.defaults if port.name in settings.values)]


def _reason(error: DataError) -> NoFeed:
    """Models that refuse every feed are no fault of the user's; sizes for dimensions that do not exist are."""
    if not isinstance(error.__cause__, ModelError):
        raise error
    return NoFeed(error.message)


def _run_all(sessions: Mapping[str, Session], feeds: Feeds) -> None:
    for session in sessions.values():
        session.run(feeds)


def _random_settings(settings: Measure, seed: int) -> DataSettings:
    return DataSettings(
        batch_size=settings.batch, seed=seed, dims=settings.dims, shapes=settings.shapes, values=settings.values
    )


def _first_batch(data: Dataset) -> Batch:
    for batch in data.batches(limit=1):
        return batch
    raise DataError(f"{data.name} has no samples")


def _resized(batch: Batch, ports: Sequence[Port], size: int) -> Arrays:
    """As many samples as wanted, the batch's own over and over; inputs of a fixed or other first axis stay."""
    free = {port.name for port in ports if port.shape and not isinstance(port.shape[0], int)}
    rows = np.arange(size) % batch.size
    return {
        name: array[rows] if name in free and array.ndim and len(array) == batch.size else array
        for name, array in batch.feeds.items()
    }
