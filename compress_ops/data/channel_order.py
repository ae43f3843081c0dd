"""How samples lie in stacked arrays, and how many go into one batch.

For each array, by its rank against the rank of its input:

- equal: axis 0 counts the samples, and consecutive rows make a batch;
- one more: each row is one whole feed of that input (a recurrent state [2, batch, 64] is stored as
  [samples, 2, 1, 64]), and every batch is exactly one sample;
- a single number (rank 0): it belongs to every sample.

onnxruntime gives an input of unknown rank the shape of a single number, (), so such an input takes any rank; with
rank 1 it is one number a sample. Where the model fixes axis 0 to N, a batch is N samples, and those left over at
the end are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import DataError, Place, raise_all
from ..runtime import Port
from .base import DataSettings
from .fit import Wanted, name_faults, shape_faults, text, type_faults
from .headers import Header


@dataclass(frozen=True)
class Layout:
    """``samples`` that will be fed in batches of ``batch``; ``whole`` names inputs whose rows are whole feeds."""

    samples: int
    batch: int
    whole: frozenset[str]
    dropped: int


def lay_out(place: Place, headers: Mapping[str, Header], ports: Sequence[Port], settings: DataSettings) -> Layout:
    """The layout of arrays that fit the model; all faults at once where they do not."""
    present = [port for port in ports if port.name in headers]
    whole = frozenset(port.name for port in present if _is_whole(headers[port.name], port))
    stacked = [port for port in present if headers[port.name].shape and port.name not in whole]
    fixed = {port.name: size for port in stacked if isinstance(size := (port.shape or (None,))[0], int)}
    raise_all(_faults(place, headers, ports, settings))
    raise_all(_batch_faults(place, fixed, whole))
    samples = next((count for _, count in _counts(headers, (port.name for port in present))), 0)
    batch = next(iter(fixed.values()), 1 if whole else settings.batch_size)
    dropped = samples % batch if fixed else 0
    raise_all(_amount_faults(place, samples, batch) if dropped == samples else [])
    return Layout(samples - dropped, batch, whole, dropped)


def _is_whole(header: Header, port: Port) -> bool:
    return len(header.shape) == len(port.shape) + 1


def _faults(
    place: Place, headers: Mapping[str, Header], ports: Sequence[Port], settings: DataSettings
) -> Iterator[DataError]:
    yield from name_faults(place, headers, ports, settings)
    known = {port.name: port for port in ports}
    for name, header in headers.items():
        yield from type_faults(place, name, header, known.get(name))
        if name in known and known[name].shape:
            yield from _shape_faults(place, header, known[name])
    yield from _count_faults(place, headers, [name for name in headers if name in known], settings.labels)


def _shape_faults(place: Place, header: Header, port: Port) -> Iterator[DataError]:
    rows: Wanted = ("samples", *port.shape[1:])
    feeds: Wanted = ("samples", *port.shape)
    hint = f"or, with one whole feed a sample: {text(feeds)}"
    return shape_faults(place, port.name, header.shape, feeds if _is_whole(header, port) else rows, hint)


def _counts(headers: Mapping[str, Header], names: Iterable[str]) -> list[tuple[str, int]]:
    return [(name, headers[name].shape[0]) for name in names if headers[name].shape]


def _count_faults(
    place: Place, headers: Mapping[str, Header], inputs: Sequence[str], labels: str | None
) -> Iterator[DataError]:
    counts = _counts(headers, inputs)
    if any(count == 0 for _, count in counts):
        yield from _amount_faults(place, 0, 0)
    for name, count in counts[1:]:
        if count != counts[0][1]:
            message = f"array '{name}' has {count} samples, but '{counts[0][0]}' has {counts[0][1]}"
            hint = "axis 0 counts samples; a state that is fed whole needs an axis of samples before its own"
            yield DataError(message, hint=hint, place=place)
    if labels is not None and labels in headers and counts and headers[labels].shape[:1] != (counts[0][1],):
        message = f"labels '{labels}' is {text(headers[labels].shape)}, but there are {counts[0][1]} samples"
        yield DataError(message, hint="axis 0 of the labels counts the samples", place=place)


def _batch_faults(place: Place, fixed: Mapping[str, int], whole: frozenset[str]) -> Iterator[DataError]:
    sizes = {**fixed, **dict.fromkeys(whole, 1)}
    for name in (name for name, size in fixed.items() if size == 0):
        yield DataError(f"input '{name}' takes no samples: its first size is 0 in the model", place=place)
    if len(set(sizes.values())) > 1:
        needs = ", ".join(f"'{name}' {size}" for name, size in sizes.items())
        hint = "store whole feeds for all of them: [samples, *shape], or a folder of .npz with one feed each"
        yield DataError(f"inputs need different numbers of samples at a time: {needs}", hint=hint, place=place)


def _amount_faults(place: Place, samples: int, batch: int) -> Iterator[DataError]:
    message = (
        f"the model takes {batch} samples at a time, but there are {samples}" if samples else "there are zero samples"
    )
    yield DataError(message, hint="axis 0 of the arrays counts the samples", place=place)
