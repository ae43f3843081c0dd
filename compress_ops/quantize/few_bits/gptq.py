"""GPTQ: later weights make up for the rounding errors of earlier ones (Frantar et al. 2022, arXiv:2210.17323).

Each weight is rounded from the target that the weights rounded before it leave it (``graph/compensation.py``), which is
Babai's nearest plane algorithm. Columns are taken in the order of H's diagonal, the most active one first ("act
order"). A weight of zero stays zero: what pruning took away is not put back. H = X^T X sums over the inputs of all the
layers that read the weight.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from ...graph.compensation import Factor, factor_of, settle
from ...graph.edit import attribute
from ...graph.layer_inputs import Rows
from ...graph.layers.weights import Site
from ...model import Model
from ..numbers.blocks import BlockFormat, Grid, part_of, row_chunks
from .sites import Weight

LARGEST_PATCH = 2048  # numbers in a Conv's patch up to which its Hessian is made
_ROWS = 2**23  # elements of a weight held as float32 at a time


def rows_of(model: Model, weight: Weight) -> list[Rows]:
    """What the Hessian of a weight sums over; nothing where no tap reaches its inputs, or where H is diagonal."""
    found = [_rows(site, weight) for site in weight.sites if site.node.graph is model.graph]
    return [rows for rows in found if rows is not None]


def _rows(site: Site, weight: Weight) -> Rows | None:
    value = site.node.inputs[0]
    if value is None or site.role == "table":
        return None  # a lookup's inputs are one-hot rows: H is diagonal, and GPTQ is rounding to nearest
    if site.role == "gates" and site.index != 1:
        return None  # it multiplies the state, which is no value of the graph
    if site.role in ("matrix", "gates"):
        return Rows(value, weight.inner)
    whole = site.node.op_type == "Conv" and attribute(site.node, "group", 1) == 1
    return Rows(value, weight.inner, site.node) if whole and weight.inner <= LARGEST_PATCH else None


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
