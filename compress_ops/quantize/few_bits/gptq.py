"""GPTQ: later weights make up for the rounding errors of earlier ones (Frantar et al. 2022, arXiv:2210.17323).

Each weight is rounded from the target that the weights rounded before it leave it (``graph/compensation.py``), which is
Babai's nearest plane algorithm. Columns are taken in the order of H's diagonal, the most active one first ("act
order"). A weight of zero stays zero: what pruning took away is not put back.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from ...graph.compensation import Factor, factor_of, settle
from ..numbers.blocks import BlockFormat, Grid, part_of, row_chunks

_ROWS = 2**23  # elements of a weight held as float32 at a time


def compensated_codes(
    weight: Array, hessian: Array, form: BlockFormat, grid: Grid, damping: float, active_first: bool
) -> Array:
    """uint8 codes [rows, blocks * size] of a weight [rows, inner] on a given grid; ``hessian`` is [inner, inner].

    Columns follow one another by nature; everything else is vectorised over rows.
    """
    rows, inner = weight.shape
    order = np.argsort(np.diag(hessian), kind="stable") if active_first else np.arange(inner)[::-1]
    factor = factor_of(hessian, order, damping)
    codes = np.repeat(form.zero(grid).astype(np.uint8), form.size, axis=1)
    for part in row_chunks(rows, inner, _ROWS):
        codes[part, order] = _nearest_plane(weight[part], factor, order, form, part_of(grid, part))
    return codes


def _nearest_plane(weight: Array, factor: Factor, order: Array, form: BlockFormat, grid: Grid) -> Array:
    """Codes of the rows, columns in ``order``. Arrays are transposed, so that a column lies in one piece."""
    columns = np.ascontiguousarray(weight.T[order], np.float32)
    block = order // form.size
    scale, zero = grid.scale.astype(np.float32).T[block], form.zero(grid).T[block]
    codes, pruned = np.empty(columns.shape, np.uint8), columns == 0

    def rounded(j: int, target: Array) -> Array:
        nearest = np.clip(np.rint(target / scale[j]) + zero[j], 0, form.top)
        codes[j] = np.where(pruned[j], zero[j], nearest)
        return (codes[j] - zero[j]) * scale[j]

    settle(columns, factor, rounded)
    return codes.T
