"""Codes of a row one after another, each the best while the others stay: coordinate descent on |X (w - s q)|^2.

With e = w - s q and H = X^T X the error is e^T H e, and its derivative by e_j is 2 (H e)_j. The best e_j is
e_j - (H e)_j / H_jj, so the best code is round(q_j + (H e)_j / (s H_jj)). No step makes the error larger. It is what
QuantEase (Behdin et al. 2023, arXiv:2309.01885) does; here it goes on from the codes of GPTQ.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array

_WIDTH = 128  # columns between two matrix products that carry the changes on


def errors(weight: Array, codes: Array, scale: Array, hessian: Array) -> Array:
    """float64 [rows]: e^T H e of each row; weight and codes are [rows, inner], scale [rows, 1]."""
    error = weight - codes * scale
    return np.einsum("ri,ri->r", error @ hessian, error, dtype=np.float64)


def descend(
    weight: Array, codes: Array, bounds: tuple[Array, Array], scale: Array, hessian: Array, sweeps: int
) -> Array:
    """int16 codes [rows, inner] within bounds after so many sweeps over the columns; every H_jj must be positive.

    Arrays are transposed, so that a column lies in one piece.
    """
    columns = np.ascontiguousarray(codes.T, np.float32)
    factor = np.ascontiguousarray(scale.T, np.float32)
    least, most = (np.ascontiguousarray(bound.T, np.float32) for bound in bounds)
    slope = hessian @ (weight.T.astype(np.float32) - columns * factor)
    for _ in range(sweeps):
        before = columns.copy()
        for start in range(0, len(columns), _WIDTH):
            part = slice(start, start + _WIDTH)
            own = least[part], most[part]
            slope -= hessian[:, part] @ _sweep(columns[part], slope[part], own, factor, hessian[part, part])
        if np.array_equal(before, columns):
            break
    return columns.T.astype(np.int16)


def _sweep(columns: Array, slope: Array, bounds: tuple[Array, Array], factor: Array, hessian: Array) -> Array:
    """Change the columns of one part in place; returns by how much their errors e fell, in weights."""
    slope, moved = slope.copy(), np.zeros_like(columns)
    for j, column in enumerate(columns):
        best = np.rint(column + slope[j] / (hessian[j, j] * factor[0]))
        np.clip(best, bounds[0][j], bounds[1][j], out=best)
        moved[j] = (best - column) * factor[0]
        column[:] = best
        slope -= hessian[:, j, None] * moved[j]
    return moved
