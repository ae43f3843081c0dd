"""Does the data fit the model? Every check here looks at names, types and shapes only, and yields faults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError, Place, did_you_mean
from ..runtime import Port
from .base import DataSettings
from .headers import Header
from .values import is_supplied

Wanted = tuple[int | str | None, ...]

_NUMBERS = (
    "bool",
    "float16",
    "float32",
    "float64",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


def settings_faults(ports: Sequence[Port], settings: DataSettings) -> Iterator[DataError]:
    """Inputs that NumPy cannot hold, and ``dims``, ``values`` and ``shapes`` that the model has no use for."""
    for port in ports:
        if port.dtype not in (*_NUMBERS, "string"):
            yield DataError(f"input '{port.name}' is of type {port.dtype}, which NumPy arrays cannot hold")
    yield from size_faults(ports, settings.dims, settings.values, settings.shapes)
    if settings.labels in [port.name for port in ports]:
        hint = "store the labels as an array of their own"
        yield DataError(f"labels '{settings.labels}' is also an input of the model", hint=hint)


def size_faults(
    ports: Sequence[Port],
    dims: Mapping[str, int],
    values: Mapping[str, float],
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Iterator[DataError]:
    """Sizes of dimensions, numbers and shapes for inputs that the model does not have, or that do not fit."""
    symbols = [size for port in ports for size in port.shape if isinstance(size, str)]
    yield from _unknown("dimension", dims, symbols)
    yield from _unknown("input", values, [port.name for port in ports])
    for port in ports:
        if port.name in values and not _holds(port.dtype, values[port.name]):
            yield DataError(f"the value {values[port.name]} does not fit input '{port.name}' of type {port.dtype}")
    yield from _unfit_shapes(ports, dims, shapes or {})


def _unfit_shapes(
    ports: Sequence[Port], dims: Mapping[str, int], shapes: Mapping[str, Sequence[int]]
) -> Iterator[DataError]:
    """Shapes of inputs that do not exist, of another rank or fixed size, or that give one name two sizes."""
    yield from _unknown("input", shapes, [port.name for port in ports])
    known = dict(dims)
    for port in ports:
        shape = shapes.get(port.name)
        if shape is None or not port.shape:  # shape () may also mean that the model does not say
            continue
        if not fits(tuple(shape), port.shape):
            message = f"the shape {text(tuple(shape))} does not fit input '{port.name}', which is {text(port.shape)}"
            yield DataError(message)
            continue
        for name, size in zip(port.shape, shape, strict=True):
            if isinstance(name, str) and known.setdefault(name, size) != size:
                yield DataError(f"dimension '{name}' is given two sizes, {known[name]} and {size}")


def name_faults(
    place: Place, found: Iterable[str], ports: Sequence[Port], settings: DataSettings
) -> Iterator[DataError]:
    """Inputs without an array, arrays that are neither input nor labels, labels that are not there."""
    inputs, names = {port.name for port in ports}, set(found)
    spare = sorted(names - inputs - {settings.labels})
    for port in ports:
        if port.name not in names and not is_supplied(port, settings.values):
            message = f"input '{port.name}' ({port.dtype} {text(port.shape)}) is missing"
            yield DataError(message + did_you_mean(port.name, spare), hint=_mend_missing(port, spare), place=place)
    if settings.required_labels not in (None, *names):
        message = f"there is no labels array '{settings.labels}'{did_you_mean(str(settings.labels), spare)}"
        yield DataError(message, hint=_holding(names), place=place)
    for name in spare:
        message = f"array '{name}' is neither an input of the model nor the labels{did_you_mean(name, inputs - names)}"
        yield DataError(message, hint=_mend_spare(name, inputs, settings), place=place)


def type_faults(place: Place, name: str, header: Header, port: Port | None) -> Iterator[DataError]:
    """Objects (which would need pickle), and any type but the port's own: nothing is cast in silence."""
    if header.dtype.hasobject or header.dtype.names:
        hint = "store one array of one type: np.stack(...), or np.asarray(..., dtype=...)"
        yield DataError(f"array '{name}' holds Python objects, which are never unpickled", hint=hint, place=place)
    elif port is not None and not _same_type(header.dtype, port.dtype):
        target = "str" if port.dtype == "string" else f"np.{port.dtype}"
        message = f"array '{name}' is {_type_text(header.dtype)}; the model wants {port.dtype}"
        yield DataError(message, hint=f"convert it: arr.astype({target})", place=place)


def shape_faults(
    place: Place, name: str, shape: tuple[int, ...], wanted: Wanted, hint: str = ""
) -> Iterator[DataError]:
    """A shape of another rank, or with another size where the model fixes one."""
    if not fits(shape, wanted):
        message = f"array '{name}' is {text(shape)}; the model wants {text(wanted)}"
        yield DataError(message, hint=_mend_shape(shape, wanted) or hint, place=place)


def feed_faults(
    place: Place, headers: Mapping[str, Header], ports: Sequence[Port], settings: DataSettings
) -> Iterator[DataError]:
    """All that is wrong with one whole feed: arrays exactly as the model takes them, and perhaps its labels."""
    yield from name_faults(place, headers, ports, settings)
    known = {port.name: port for port in ports}
    for name, header in headers.items():
        yield from type_faults(place, name, header, known.get(name))
    for port in ports:
        if port.name in headers and port.shape:  # shape () may also mean that the model does not say
            yield from shape_faults(place, port.name, headers[port.name].shape, port.shape)
    if settings.labels is not None and settings.labels in headers:
        inputs = {name: header.shape for name, header in headers.items() if name in known}
        yield from _label_faults(place, settings.labels, headers[settings.labels].shape, inputs)


def told_once(faults: Iterable[DataError]) -> Iterator[DataError]:
    """Of faults that differ in their file alone the first, with the number of the other files."""
    alike: dict[tuple[str, str], list[DataError]] = {}
    for fault in faults:
        alike.setdefault((fault.message, fault.hint), []).append(fault)
    for first, *others in alike.values():
        more = f" (and in {len(others)} more {'file' if len(others) == 1 else 'files'})" if others else ""
        yield DataError(first.message + more, hint=first.hint, place=first.place)


def fits(shape: tuple[int, ...], wanted: Wanted) -> bool:
    same_rank = len(shape) == len(wanted)
    return same_rank and all(have == want for have, want in zip(shape, wanted, strict=True) if isinstance(want, int))


def text(shape: Wanted) -> str:
    """``[samples, 3, ?, ?]``"""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _unknown(what: str, given: Iterable[str], known: Sequence[str]) -> Iterator[DataError]:
    for name in given:
        if name not in known:
            hint = f"there are: {', '.join(dict.fromkeys(known)) or 'none'}"
            yield DataError(f"the model has no {what} named '{name}'{did_you_mean(name, known)}", hint=hint)


def _holds(dtype: str, value: float) -> bool:
    """Whether a type can hold the number: floats hold any, integers and booleans only their own."""
    if dtype not in _NUMBERS or dtype.startswith("float"):
        return dtype in _NUMBERS
    bits, sign = (1, 0) if dtype == "bool" else (int(dtype.split("int")[1]), 0 if dtype[0] == "u" else 1)
    span = 2 ** (bits - sign)
    return math.isfinite(value) and value == int(value) and -sign * span <= value < span


def _same_type(dtype: np.dtype[Any], wanted: str) -> bool:
    return dtype.kind == "U" if wanted == "string" else bool(dtype == wanted)


def _type_text(dtype: np.dtype[Any]) -> str:
    return dtype.name if dtype.isnative else f"{dtype.name} in the other byte order"


def _holding(names: set[str]) -> str:
    return f"the file holds: {', '.join(sorted(names)) or 'nothing'}"


def _mend_missing(port: Port, spare: Sequence[str]) -> str:
    if all(size == 1 for size in port.shape):
        return f"add the array, or give the number: --value {port.name}=NUMBER"
    return f"rename one of: {', '.join(spare)}" if spare else "add an array of that name"


def _mend_spare(name: str, inputs: set[str], settings: DataSettings) -> str:
    there = f"inputs are: {', '.join(sorted(inputs))}"
    if settings.labels is not None:
        return f"{there}; labels are: {settings.labels}"
    return f"{there}. If it holds labels, name it: data.evaluation.labels: {name} in a recipe, or --labels {name}"


def _mend_shape(shape: tuple[int, ...], wanted: Wanted) -> str:
    """How to get from a shape to the wanted one, for the two mistakes that are made most."""
    rank = len(shape)
    for axes in ((0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)):
        if rank > 3 and fits(tuple(shape[axis] for axis in axes), wanted):
            return f"move the channels: arr.transpose{axes}"
    inner = [size for size in wanted[1:] if isinstance(size, int)]
    if len(inner) == len(wanted) - 1 > 0 and rank > 0 and math.prod(inner) == math.prod(shape[1:]):
        return f"reshape it: arr.reshape{(-1, *inner)}"
    return ""


def _label_faults(
    place: Place, name: str, shape: tuple[int, ...], inputs: Mapping[str, tuple[int, ...]]
) -> Iterator[DataError]:
    """One label, or as many as some input has rows."""
    rows = {size[0] for size in inputs.values() if size}
    if shape and shape[0] != 1 and shape[0] not in rows:
        message = f"labels '{name}' has {shape[0]} entries; no input has as many rows"
        yield DataError(message, hint="axis 0 of the labels counts the samples of the feed", place=place)
