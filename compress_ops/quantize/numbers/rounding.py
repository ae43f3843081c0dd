"""Choosing a block's grid from the weight alone: rounding to nearest, and half-quadratic quantization."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import Array
from .blocks import BlockFormat, Grid, by_rows

_STEPS = 9
_ITERATIONS, _NORM, _PULL, _GROWTH = 20, 0.7, 10.0, 1.05  # Badri & Shaji: 20 iterations, p = 0.7, beta = 10


def nearest(weight: Array, form: BlockFormat, clip: bool) -> Grid:
    """Round to nearest. With ``clip``, each block's range is the one of nine that has the least squared error.

    Ranges are shrunk by factors from 1 down to 1 - 1.4 / 2^(bits/2): the fewer the codes, the more clipping pays.
    """
    return by_rows(lambda rows: _nearest(form.blocked(rows), form, clip), weight)


def _nearest(blocks: Array, form: BlockFormat, clip: bool) -> Grid:
    best = form.grid(blocks)
    if not clip:
        return best
    least = _squared_error(blocks, form, best)
    for shrink in np.linspace(1, 1 - 1.4 / 2 ** (form.bits / 2), _STEPS)[1:]:
        grid = form.grid(blocks, float(shrink))
        error = _squared_error(blocks, form, grid)
        best, least = grid.where(error < least, best), np.minimum(error, least)
    return best


def _squared_error(blocks: Array, form: BlockFormat, grid: Grid) -> Array:
    error = blocks - form.values(form.codes(blocks, grid), grid)
    return np.einsum("rbi,rbi->rb", error, error, dtype=np.float64)


def half_quadratic(weight: Array, form: BlockFormat) -> Grid:
    """HQQ (Badri & Shaji 2023, https://mobiusml.github.io/hqq_blog/): min over s, z of |W - s (q - z)|_p^p, p = 0.7.

    Split into two closed forms, applied in turn with a growing pull beta:
        E <- shrink_p(W - s (q - z)) = sign(r) max(|r| - |r|^(p-1) / beta, 0),   r the residual in units of s
        s <- <q - z, W - E> / <q - z, q - z>,   z <- round(mean(q - (W - E) / s))
    The heavy-tailed norm lets outliers be missed rather than dragging the grid. The original solves for a real z only;
    kernels want it whole, so here the scale is solved for as well. The best grid seen is kept.
    """
    return by_rows(lambda rows: _half_quadratic(form.blocked(rows), form), weight)


def _half_quadratic(blocks: Array, form: BlockFormat) -> Grid:
    grid = best = _nearest(blocks, form, clip=True)
    unit = np.abs(grid.scale.astype(np.float32))[..., None]
    least, pull = _norm(blocks, form, grid, unit), _PULL
    for _ in range(_ITERATIONS):
        grid = _improved(blocks, form, grid, unit, pull)
        loss, pull = _norm(blocks, form, grid, unit), pull * _GROWTH
        best, least = grid.where(loss < least, best), np.minimum(loss, least)
    return best


def _norm(blocks: Array, form: BlockFormat, grid: Grid, unit: Array) -> Array:
    residual = np.abs(blocks - form.values(form.codes(blocks, grid), grid)) / unit
    return (residual**_NORM).sum(axis=-1)


def _improved(blocks: Array, form: BlockFormat, grid: Grid, unit: Array, pull: float) -> Grid:
    """One round of the two closed forms."""
    codes = form.codes(blocks, grid)
    steps = codes - form.zero(grid)[..., None]
    target = blocks - unit * _shrunk((blocks - form.values(codes, grid)) / unit, pull)
    scale = _solved_scale(steps, target, grid.scale)
    if form.symmetric:
        return Grid(scale, None)
    zero = np.rint((codes - target / scale.astype(np.float32)[..., None]).mean(axis=-1))
    return Grid(scale, np.clip(zero, 0, form.top).astype(np.uint8))


def _shrunk(residual: Array, pull: float) -> Array:
    size = np.abs(residual)
    return np.sign(residual) * np.maximum(size - np.maximum(size, 1e-8) ** (_NORM - 1) / pull, 0)


def _solved_scale(steps: Array, target: Array, before: Array) -> Array:
    """<steps, target> / <steps, steps>; the scale before where that has no use (no steps, or another sign)."""
    length: Any = np.einsum("rbi,rbi->rb", steps, steps)
    solved = (np.einsum("rbi,rbi->rb", steps, target) / np.maximum(length, 1)).astype(before.dtype)
    usable = (length > 0) & (solved * np.sign(before) >= np.finfo(before.dtype).tiny)
    return np.where(usable, solved, before)
