"""Blocks: each row of a weight is cut into blocks of ``size`` numbers, with a scale and a zero point of their own.

    w ~= s (q - z),   q = clip(round(w / s) + z, 0, 2^bits - 1)
Asymmetric: s = (max(w, 0) - min(w, 0)) / (2^bits - 1), z = round(-min(w, 0) / s). Symmetric: z = 2^(bits-1), and s is
such that the number largest in magnitude gets code 0, s = -w_max / 2^(bits-1); the scale may then be negative. These
are the formulas of onnxruntime's own MatMulNBitsQuantizer. A block of zeros (or of numbers too small for a normal
float32 scale) gets scale 1 and decodes to zeros; an outlier coarsens its own block only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...measure.quality import decibels

_CHUNK = 2**19  # elements worked on at a time: a few temporaries of them stay in the processor's cache


@dataclass(frozen=True)
class BlockFormat:
    """Codes of ``bits`` bits in blocks of ``size``; ``dtype`` is that of the scales."""

    bits: int
    size: int
    symmetric: bool
    dtype: str = "float32"

    @property
    def top(self) -> int:
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        return 1 << (self.bits - 1)

    def blocks_of(self, inner: int) -> int:
        return -(-inner // self.size)

    def blocked(self, weight: Array) -> Array:
        """float32 [rows, blocks, size] of a weight [rows, inner]; the last block is filled up with zeros."""
        rows, inner = weight.shape
        missing = self.blocks_of(inner) * self.size - inner
        padded = np.pad(weight, ((0, 0), (0, missing))) if missing else weight
        return np.ascontiguousarray(padded, np.float32).reshape(rows, -1, self.size)

    def grid(self, blocks: Array, shrink: float = 1.0) -> Grid:
        """Scale and zero point of each block, for a range shrunk by a factor; what lies beyond is clipped."""
        low, high = np.minimum(blocks.min(axis=-1), 0), np.maximum(blocks.max(axis=-1), 0)
        if self.symmetric:
            scale = np.where(high > -low, -high, -low) * np.float32(shrink / self.middle)
            return Grid(self._usable(scale), None)
        scale = self._usable(high * np.float32(shrink / self.top) - low * np.float32(shrink / self.top))
        zero = np.clip(np.rint(-low * np.float32(shrink) / scale), 0, self.top)
        return Grid(scale, zero.astype(np.uint8))

    def codes(self, blocks: Array, grid: Grid) -> Array:
        """uint8 codes [rows, blocks, size]."""
        codes = blocks / grid.scale.astype(np.float32)[..., None]
        np.rint(codes, out=codes)
        codes += self.zero(grid)[..., None]
        return np.clip(codes, 0, self.top, out=codes).astype(np.uint8)

    def values(self, codes: Array, grid: Grid) -> Array:
        """float32 numbers that the codes stand for."""
        return (codes - self.zero(grid)[..., None]) * grid.scale.astype(np.float32)[..., None]

    def zero(self, grid: Grid) -> Array:
        """float32 zero points [rows, blocks]."""
        if grid.zero is None:
            return np.full(grid.scale.shape, self.middle, np.float32)
        return grid.zero.astype(np.float32)

    def _usable(self, scale: Array) -> Array:
        """The scale in its stored dtype; 1 where it is too small to divide by."""
        stored = scale.astype(self.dtype)
        return np.where(np.abs(stored) < np.finfo(self.dtype).tiny, np.array(1, self.dtype), stored)


@dataclass(frozen=True)
class Grid:
    """Scales [rows, blocks] and zero points (uint8, or None where all are in the middle of the codes)."""

    scale: Array
    zero: Array | None

    def where(self, better: Array, other: Grid) -> Grid:
        """This grid where ``better``, else the other."""
        zero = None if self.zero is None or other.zero is None else np.where(better, self.zero, other.zero)
        return Grid(np.where(better, self.scale, other.scale), zero)


@dataclass(frozen=True)
class Blocked:
    """A weight [rows, inner] in blocks; ``codes()`` makes its uint8 codes [rows, blocks * size] when needed."""

    format: BlockFormat
    rows: int
    inner: int
    grid: Grid
    codes: Callable[[], Array]
    method: str

    @property
    def blocks(self) -> int:
        return self.format.blocks_of(self.inner)


def row_chunks(rows: int, inner: int, elements: int = _CHUNK) -> Iterator[slice]:
    """Slices of rows of at most ``elements`` numbers each (one row at least)."""
    step = max(elements // max(inner, 1), 1)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def by_rows(function: Callable[[Array], Grid], weight: Array) -> Grid:
    """A grid made chunk by chunk: rows do not depend on one another.

    Numbers near the end of float32's range overflow in trial grids, which then lose to the others.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        grids = [function(weight[part]) for part in row_chunks(*weight.shape)]
    zeros = [grid.zero for grid in grids if grid.zero is not None]
    return Grid(np.concatenate([grid.scale for grid in grids]), np.concatenate(zeros) if zeros else None)


def rounded_codes(weight: Array, number_format: BlockFormat, grid: Grid) -> Array:
    """uint8 codes [rows, blocks * size] by rounding to the nearest grid point, chunk by chunk."""
    rows, inner = weight.shape
    codes = np.empty((rows, number_format.blocks_of(inner) * number_format.size), np.uint8)
    for part in row_chunks(rows, inner):
        blocks = number_format.blocked(weight[part])
        codes[part] = number_format.codes(blocks, part_of(grid, part)).reshape(len(blocks), -1)
    return codes


def part_of(grid: Grid, part: slice) -> Grid:
    return Grid(grid.scale[part], None if grid.zero is None else grid.zero[part])


def signal_to_noise(weight: Array, blocked: Blocked) -> float:
    """10 log10(|W|^2 / |W - W_q|^2) in dB; infinite for a weight that is kept exactly."""
    codes, form = blocked.codes(), blocked.format
    signal = noise = 0.0
    for part in row_chunks(*weight.shape):
        blocks = form.blocked(weight[part])
        error = blocks - form.values(codes[part].reshape(blocks.shape), part_of(blocked.grid, part))
        signal += float(np.vdot(blocks, blocks))
        noise += float(np.vdot(error, error))
    return decibels(signal, noise)
