"""Weights that no training made: bases and filter banks of a front end, told by what their numbers are.

Of a matrix (axes of size 1 aside), all rows, or all columns, are
    sinusoids  x[t+1] + x[t-1] = c x[t]: the basis of a DFT, a table of positions
    windowed   all but 1e-3 of the energy of each lies in seven neighbouring frequencies: the basis of an STFT
    bands      never negative, rising to one peak and falling, zero elsewhere, the peaks in order: mel filters (an
               identity, whose bands are one number, is none)
and they differ. Training leaves noise in every row: one that does not fit is enough for a weight to be a trained one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Array
from ..lazy import ir

_FEWEST, _SHORTEST = 8, 16  # rows, and numbers of a row, that can tell
_LARGEST = 2**22  # numbers of a front end's matrix
_ROUNDING = 1e-5  # of a row's energy, in float16 too
_LEAKAGE = 1e-3  # of a row's energy
_NEIGHBOURS, _WINDOWED = 7, 64  # frequencies, and numbers of a row from which so many are few
_WIDTH = 2  # numbers of a band on average: an identity is no bank
_MOVES = 1.9  # 2 cos(w) of a sinusoid that turns visibly from one number to the next


def why_fixed(tensor: ir.TensorProtocol | None) -> str:
    """Why a weight is to be left alone: no training made it; empty for all others.

    A few rows are looked at first, which tells trained weights at once. Weights that a pass has computed are trained.
    """
    if tensor is None or isinstance(tensor, ir.LazyTensor) or not tensor.dtype.is_floating_point():
        return ""
    sizes = [int(size) for size in tensor.shape.numpy() if size != 1]
    if len(sizes) != 2 or min(sizes) < _FEWEST or tensor.size > _LARGEST:
        return ""
    matrix = tensor.numpy().reshape(sizes)
    for rows in (matrix, matrix.T):
        for told, fits in _KINDS.items():
            parts = (rows[len(rows) // 2 - _FEWEST // 2 :][:_FEWEST], rows)
            if rows.shape[1] >= _SHORTEST and all(fits(_telling(part), part is rows) for part in parts):
                return f"{told}, which no training made"
    return ""


def _telling(rows: Array) -> Array:
    """As float64, without rows of zeros: a sine of frequency 0, or what rounding leaves of it."""
    rows = rows.astype(np.float64)
    sizes = np.abs(rows).max(axis=1)
    return rows[~(sizes <= 1e-6 * sizes.max())]


def _are_sinusoids(rows: Array, whole: bool) -> bool:
    """Of the whole, some turn visibly, and not all alike."""
    inner, outer = rows[:, 1:-1], rows[:, 2:] + rows[:, :-2]
    energy = np.square(inner).sum(axis=1)
    factor = (inner * outer).sum(axis=1) / np.maximum(energy, 1e-30)
    left = np.square(outer - factor[:, None] * inner).sum(axis=1)
    if not (np.isfinite(left).all() and (left <= _ROUNDING * energy).all()):
        return False
    turning = factor[(energy > 0) & (np.abs(factor) < _MOVES)]
    return not whole or len(np.unique(turning.round(3))) >= max(2, len(rows) // 32)


def _are_windowed(rows: Array, whole: bool) -> bool:
    """Of the whole, a quarter peaks at frequencies of their own: sine and cosine share one."""
    if rows.shape[1] < _WINDOWED or not np.isfinite(rows).all():
        return False
    power = np.square(np.abs(np.fft.rfft(rows)))
    sums = np.cumsum(np.pad(power, [(0, 0), (1, _NEIGHBOURS)]), axis=1)
    near = (sums[:, _NEIGHBOURS:] - sums[:, :-_NEIGHBOURS]).max(axis=1)
    if (near < (1 - _LEAKAGE) * sums[:, -1]).any():
        return False
    return not whole or len(np.unique(power.argmax(axis=1))) >= max(2, len(rows) // 4)


def _are_bands(rows: Array, whole: bool) -> bool:
    """Of the whole, most of the numbers are zeros, and the peaks move."""
    if not len(rows) or not (rows >= 0).all():
        return False
    peaks, steps = rows.argmax(axis=1), np.diff(rows)
    rising = np.arange(steps.shape[1]) < peaks[:, None]
    slack = 1e-6 * rows.max(axis=1, keepdims=True)
    if (np.where(rising, -steps, steps) > slack).any() or (np.diff(peaks) < 0).any():
        return False
    sparse, wide = (rows == 0).mean() > 0.5, np.count_nonzero(rows) >= _WIDTH * len(rows)
    return not whole or bool(sparse and wide and len(np.unique(peaks)) > len(rows) / 2)


_KINDS: dict[str, Callable[[Array, bool], bool]] = {
    "it is a table of sinusoids": _are_sinusoids,
    "it is a basis of windowed sinusoids": _are_windowed,
    "it is a bank of bands": _are_bands,
}
