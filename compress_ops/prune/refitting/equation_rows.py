"""The rows of a layer's linear equations: what its weight is multiplied with, and what the product should be.

A MatMul's or Gemm's rows are its input's last axis. A convolution's are patches, one an output position: with kernel
indices k, strides s, dilations d and padding p, patch(j)[k] = x[j s + k d - p]. A transposed one adds W[k] x[i] to
y[i s + k d - p]: the same with stride 1 and the kernel reversed, on x with s - 1 zeros between its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...arrays import Array
from ...graph.edit import attribute
from .solvable import Layer

_NUMBERS = 2**22  # of patches made at a time: 32 MB in double precision


class Misfit(Exception):
    """The original's value has another shape than the layer's; the message says which."""


def pieces(
    layer: Layer, source: Array, target: Array, rng: np.random.Generator, positions: int, kept: Array | None = None
) -> Iterator[tuple[Array, Array]]:
    """(x, y) in pieces of bounded size: [groups, rows, inner] and [groups, rows, outputs of a group].

    At most ``positions`` places of each sample, drawn anew for each batch; nothing of a batch without rows. ``kept`` is
    True where a position of a sequence is no padding: where the rows are such positions, only those count.
    """
    if not source.size:
        return
    laid = _LAID.get(layer.node.op_type, _matrix)(layer, source, target)
    windows, wanted, spatial = laid
    chosen = _places(math.prod(spatial), positions, rng)
    index: tuple[Any, ...] = tuple(_unravelled(chosen, spatial))
    counted = _counted(layer, kept, source)
    samples = max(1, _NUMBERS // max(1, len(chosen) * layer.inner * layer.groups))
    for start in range(0, len(windows), samples):
        part = slice(start, start + samples)
        x, y = (_rows(values[(part, slice(None), *index)], layer.groups) for values in (windows, wanted))
        rows = slice(None) if counted is None else counted[part][:, chosen].reshape(-1)
        yield x[:, rows], y[:, rows]


def _counted(layer: Layer, kept: Array | None, source: Array) -> Array | None:
    """Which places of which samples count, [samples, places]; None where all do."""
    if kept is None or layer.node.op_type in _LAID or source.shape[:-1] not in (kept.shape, (kept.size,)):
        return None
    return kept.reshape(source.shape[0], -1)


def _rows(array: Array, groups: int) -> Array:
    """[samples, channels, places, rest of the kernel] -> [groups, samples * places, channels of a group * rest]."""
    samples, channels, places = array.shape[:3]
    grouped = array.reshape(samples, groups, channels // groups, places, -1).transpose(1, 0, 3, 2, 4)
    return grouped.reshape(groups, samples * places, -1).astype(np.float64)


def _places(count: int, most: int, rng: np.random.Generator) -> Array:
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def _unravelled(places: Array, spatial: Sequence[int]) -> Sequence[Array]:
    return np.unravel_index(places, tuple(spatial))


def _matrix(layer: Layer, source: Array, target: Array) -> tuple[Array, Array, list[int]]:
    """Both with channels as the second axis and one axis of places."""
    if target.shape != (*source.shape[:-1], layer.outputs):
        raise Misfit(f"the original gives {list(target.shape)} for its {list(source.shape)}")
    samples = source.shape[0] if source.ndim > 1 else 1
    views = [array.reshape(samples, -1, array.shape[-1]).swapaxes(1, 2) for array in (source, target)]
    return views[0], views[1], [views[0].shape[2]]


def _convolution(layer: Layer, source: Array, target: Array) -> tuple[Array, Array, list[int]]:
    """Patches as a view [samples, channels, places..., kernel...] of the padded input."""
    strides, dilations, extents = _steps(layer)
    padded = np.pad(source, [(0, 0), (0, 0), *_padding(layer, source.shape[2:], extents, strides)])
    return _patches(layer, padded, target, strides, dilations, extents)


def _transposed(layer: Layer, source: Array, target: Array) -> tuple[Array, Array, list[int]]:
    """Patches of the input with zeros put in: each output is a sum over one of them."""
    strides, dilations, extents = _steps(layer)
    rank = len(strides)
    pads = list(attribute(layer.node, "pads", [0] * 2 * rank))
    more = list(attribute(layer.node, "output_padding", [0] * rank))
    before = [extent - 1 - pad for extent, pad in zip(extents, pads[:rank], strict=True)]
    after = [extent - 1 - pad + extra for extent, pad, extra in zip(extents, pads[rank:], more, strict=True)]
    sizes = [(size - 1) * stride + 1 for size, stride in zip(source.shape[2:], strides, strict=True)]
    spread = np.zeros((*source.shape[:2], *sizes), source.dtype)
    spread[(slice(None), slice(None), *(slice(None, None, stride) for stride in strides))] = source
    added = [(max(low, 0), max(high, 0)) for low, high in zip(before, after, strict=True)]
    inside = [slice(max(-low, 0), high if high < 0 else None) for low, high in zip(before, after, strict=True)]
    padded = np.pad(spread, [(0, 0), (0, 0), *added])[(slice(None), slice(None), *inside)]
    return _patches(layer, padded, target, [1] * rank, dilations, extents)


def _steps(layer: Layer) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations, and how far a kernel reaches."""
    kernel = layer.sizes[2:]
    strides, dilations = (list(attribute(layer.node, name, [1] * len(kernel))) for name in ("strides", "dilations"))
    return strides, dilations, [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]


def _patches(
    layer: Layer, padded: Array, target: Array, strides: list[int], dilations: list[int], extents: list[int]
) -> tuple[Array, Array, list[int]]:
    rank = len(extents)
    windows = np.lib.stride_tricks.sliding_window_view(padded, extents, tuple(range(2, rank + 2)))
    every = tuple(slice(None, None, step) for step in (*strides, *dilations))
    windows = windows[(slice(None), slice(None), *every)]
    fitting = (padded.shape[0], layer.outputs, *windows.shape[2 : rank + 2])
    if target.shape != fitting:
        raise Misfit(f"the original gives {list(target.shape)} where this gives {list(fitting)}")
    return windows, target, list(target.shape[2:])


def _padding(
    layer: Layer, sizes: Sequence[int], extents: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """How much is added before and after each spatial axis."""
    automatic = attribute(layer.node, "auto_pad", "NOTSET")
    if automatic == "NOTSET":
        pads = list(attribute(layer.node, "pads", [0] * 2 * len(sizes)))
        return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
    if automatic == "VALID":
        return [(0, 0)] * len(sizes)
    totals = [
        max((-(-size // stride) - 1) * stride + extent - size, 0)
        for size, extent, stride in zip(sizes, extents, strides, strict=True)
    ]
    less = [total // 2 for total in totals]
    more = [total - half for total, half in zip(totals, less, strict=True)]
    return list(zip(less, more, strict=True) if automatic == "SAME_UPPER" else zip(more, less, strict=True))


_LAID: dict[str, Callable[[Layer, Array, Array], tuple[Array, Array, list[int]]]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
}
