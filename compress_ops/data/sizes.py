"""Sizes for the free dimensions of a model's inputs, likeliest first.

The first axis is the batch, unless ``dims`` names it. Height and width of images start at 224 and only end at 1,
because a 1x1 image means nothing; other free dimensions start at 1. One symbolic name has one size everywhere;
all dimensions of a kind are equal first, then each varies by itself. An input whose whole shape is given has no free
dimension, and gives the sizes of the names in it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from itertools import chain, islice, product

from ..runtime import Port
from .base import DataSettings

Sizes = Mapping[Hashable, int]  # by symbolic name, or by (input, axis) where there is none

_TRIES = 100
_LARGEST = 2**26  # elements of one input: 256 MiB of float32


class Kind(Enum):
    """What a free dimension most likely is."""

    SPATIAL = auto()
    CHANNELS = auto()
    OTHER = auto()


def with_shapes(ports: Sequence[Port], shapes: Mapping[str, Sequence[int]]) -> list[Port]:
    """The ports as if the model said the ``shapes`` given for some of them, and the sizes of the names in these."""
    named = named_sizes(ports, shapes)
    return [
        replace(
            port,
            shape=tuple(shapes[port.name])
            if port.name in shapes
            else tuple(named.get(size, size) if isinstance(size, str) else size for size in port.shape),
        )
        for port in ports
    ]


def named_sizes(ports: Sequence[Port], shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Sizes of the symbolic names in the inputs whose whole shapes are given."""
    pairs = ((port.shape, shapes[port.name]) for port in ports if port.name in shapes and port.shape)
    sizes = (pair for shape, given in pairs for pair in zip(shape, given, strict=True))
    return {name: size for name, size in sizes if isinstance(name, str)}


def candidate_sizes(ports: Sequence[Port], settings: DataSettings) -> Iterator[Sizes]:
    """Sizes for every free dimension, at most a hundred times."""
    batch = batch_of(ports, settings)
    known: dict[Hashable, int] = dict.fromkeys(_batch_keys(ports), batch)
    known.update(settings.dims)
    free = {key: _kind(port, axis) for port in ports for axis, key in _free_axes(port) if key not in known}
    all_sizes = ({**known, **guess} for guess in _guesses(free, batch))
    return (sizes for sizes in islice(all_sizes, _TRIES) if _is_sane(ports, sizes))


def batch_of(ports: Sequence[Port], settings: DataSettings) -> int:
    """How many samples a random feed holds: what ``dims`` or the model says, else the batch size asked for."""
    free = _batch_keys(ports)
    named = [settings.dims[key] for key in free if isinstance(key, str) and key in settings.dims]
    fixed = {port.shape[0] for port in ports if port.shape}
    if free:
        return named[0] if named else settings.batch_size
    return next(int(size) for size in fixed if isinstance(size, int)) if len(fixed) == 1 else 1


def shape_of(port: Port, sizes: Sizes) -> tuple[int, ...]:
    """The input's shape with every free dimension filled in."""
    return tuple(size if isinstance(size, int) else sizes[_key(port, axis)] for axis, size in enumerate(port.shape))


def _key(port: Port, axis: int) -> Hashable:
    return port.shape[axis] or (port.name, axis)


def _free_axes(port: Port) -> Iterator[tuple[int, Hashable]]:
    return ((axis, _key(port, axis)) for axis, size in enumerate(port.shape) if not isinstance(size, int))


def _batch_keys(ports: Sequence[Port]) -> list[Hashable]:
    return [key for port in ports for axis, key in _free_axes(port) if axis == 0]


def _kind(port: Port, axis: int) -> Kind:
    if len(port.shape) != 4:
        return Kind.OTHER
    _, first, _, last = port.shape
    if last in (1, 3, 4):  # channels last
        return Kind.SPATIAL
    if axis == 1:
        return Kind.OTHER if isinstance(last, int) else Kind.CHANNELS
    return Kind.SPATIAL if first in (1, 3) or not isinstance(last, int) else Kind.OTHER


def _guesses(free: Mapping[Hashable, Kind], batch: int) -> Iterator[Sizes]:
    tried = {Kind.SPATIAL: (224, 320, 64, 1), Kind.CHANNELS: (3, 1), Kind.OTHER: (1, batch, 64, 224, 320)}
    options = {kind: tuple(dict.fromkeys(sizes)) for kind, sizes in tried.items()}
    kinds = list(dict.fromkeys(free.values()))
    choices = (dict(zip(kinds, sizes, strict=True)) for sizes in product(*(options[kind] for kind in kinds)))
    equal = ({key: choice[kind] for key, kind in free.items()} for choice in choices)
    each = (dict(zip(free, sizes, strict=True)) for sizes in product(*(options[kind] for kind in free.values())))
    return chain(equal, each) if len(free) > len(kinds) else equal


def _is_sane(ports: Sequence[Port], sizes: Sizes) -> bool:
    return all(math.prod(shape_of(port, sizes)) <= _LARGEST for port in ports)
