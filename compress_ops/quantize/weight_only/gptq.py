"""GPTQ: later weights make up for the rounding errors of earlier ones (Frantar et al. 2022, arXiv:2210.17323).

For inputs X the error of a row of outputs is |X (w - q)|^2 = (w - q)^T H (w - q) with H = X^T X. With the Cholesky
factor H = L L^T that is sum_j (L_jj (w_j - q_j) + sum_{i>j} L_ij (w_i - q_i))^2, and going from the last column to
the first, each q_j is rounded from
    t_j = w_j + sum_{i>j} (L_ij / L_jj) (w_i - q_i),
which makes the j-th term as small as the grid permits. This is Babai's nearest plane algorithm, and the same numbers
as GPTQ's updates with the factor of the inverse (Chen et al. 2025, arXiv:2507.18553), for a third of a Cholesky's price
and without an inverse. Columns are taken in the order of H's diagonal, the most active one first ("act order").
"""

from __future__ import annotations

from .blocks import Array, BlockFormat, Grid, part_of, row_chunks

_WIDTH = 128  # columns between two matrix products that carry the errors on
_ROWS = 2**23  # elements of a weight held as float32 at a time


def compensated_codes(
    weight: Array, hessian: Array, form: BlockFormat, grid: Grid, damping: float, active_first: bool
) -> Array:
    """uint8 codes [rows, blocks * size] of a weight [rows, inner] on a given grid; ``hessian`` is [inner, inner].

    Columns follow one another by nature; everything else is vectorised over rows.
    """
    import numpy as np

    rows, inner = weight.shape
    order = np.argsort(np.diag(hessian), kind="stable") if active_first else np.arange(inner)[::-1]
    factor = _unit_factor(hessian, order, damping)
    codes = np.repeat(form.zero(grid).astype(np.uint8), form.size, axis=1)
    for part in row_chunks(rows, inner, _ROWS):
        codes[part, order] = _nearest_plane(weight[part], factor, order, form, part_of(grid, part))
    return codes


def _unit_factor(hessian: Array, order: Array, damping: float) -> Array:
    """L_ij / L_jj of the damped Hessian in the given order, float32; more damping where it is not yet definite."""
    import numpy as np

    ordered = hessian[np.ix_(order, order)].astype(np.float64)
    mean = float(np.diag(ordered).mean()) or 1.0
    diagonal = np.diag_indices(len(order))
    while True:
        ordered[diagonal] += damping * mean
        try:
            factor = np.linalg.cholesky(ordered)
        except np.linalg.LinAlgError:
            damping *= 10
            continue
        return (factor / factor[diagonal]).astype(np.float32)


def _nearest_plane(weight: Array, factor: Array, order: Array, form: BlockFormat, grid: Grid) -> Array:
    """Codes of the rows, columns in ``order``. Arrays are transposed, so that a column lies in one piece."""
    import numpy as np

    columns = np.ascontiguousarray(weight.T[order], np.float32)
    block = order // form.size
    scale, zero = grid.scale.astype(np.float32).T[block], form.zero(grid).T[block]
    codes, errors = np.empty(columns.shape, np.uint8), np.zeros(columns.shape, np.float32)
    for end in range(len(order), 0, -_WIDTH):
        start = max(end - _WIDTH, 0)
        carried = factor[end:, start:end].T @ errors[end:]
        for j in range(end - 1, start - 1, -1):
            target = columns[j] + carried[j - start] + factor[j + 1 : end, j] @ errors[j + 1 : end]
            code = np.clip(np.rint(target / scale[j]) + zero[j], 0, form.top)
            codes[j], errors[j] = code, columns[j] - (code - zero[j]) * scale[j]
    return codes.T
