"""SparseGPT: weights that stay make up for those that become zero (Frantar & Alistarh 2023, arXiv:2301.00774).

Columns (inputs) are settled one after another, see ``graph/compensation.py``. A weight that stays takes its target t_j,
at no cost; one that goes costs L_jj^2 t_j^2 of squared output error, which is the optimal brain surgeon's
w_j^2 / [H^-1]_jj (Hassibi & Stork 1993) with the columns behind j settled. Of every 128 columns those weights go
that cost least then; of N:M, they are chosen for every M columns. Zeros stay zeros, and count first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...arrays import Array
from ...graph.compensation import WIDTH, Factor, factor_of, settle
from ...graph.edit import attribute
from ...graph.layer_inputs import in_groups, products
from ...model import Model
from ...passes import Change, Context
from .inputs import with_rows
from .layout import Layout, Weight
from .pattern import Pattern

Choice = Callable[[Array], Array]  # of scores [rows, taps, inputs], the booleans of what goes
LARGEST = 8192  # numbers that an output sums over, up to which a Hessian is made: it then takes 0.25 GB
_DAMPING = 0.01  # of the mean of H's diagonal, as in the paper
_ELEMENTS = 2**23  # of a weight worked on at a time


def with_hessians(
    model: Model, ctx: Context, weights: Sequence[Weight], change: Change
) -> Iterator[tuple[Weight, Array]]:
    """Weights with H = X^T X of all that is multiplied with them, in the order (taps, inputs); others are declined."""
    found = [pair for pair in with_rows(model, weights, change) if _is_feasible(*pair, change)]
    for group in in_groups(found, lambda pair: pair[1]):
        sums = products(model, ctx, [one for _, rows in group for one in rows], "prune_weights: Hessians")
        for weight, rows in ctx.progress(group, "prune_weights: compensation"):
            hessian = np.asarray(sum(sums[one.key] for one in rows))
            if np.isfinite(hessian).all() and hessian.any():
                _, taps, inputs = weight.layout.laid_sizes
                order = np.arange(taps * inputs).reshape(inputs, taps).T.reshape(-1)
                yield weight, hessian[np.ix_(order, order)]
            else:
                change.decline(weight.value.name, "its inputs are all zero, or not finite, on the calibration data")


def _is_feasible(weight: Weight, rows: Sequence[Any], change: Change) -> bool:
    reason = ""
    if any(attribute(node, "group", 1) != 1 for node in weight.readers):
        reason = "its channels are in groups, each with a Hessian of its own; score activation serves it"
    elif rows[0].inner > LARGEST:
        reason = f"each output sums over {rows[0].inner} numbers, more than {LARGEST}"
    if reason:
        change.decline(weight.value.name, reason)
    return not reason


def compensated(array: Array, layout: Layout, hessian: Array, pattern: Pattern, choose: Choice) -> Array:
    """The stored weight with zeros where ``choose`` puts them, and the others changed to make up for them."""
    rows, taps, inputs = layout.laid_sizes
    matrix = layout.laid(array).reshape(rows, taps * inputs)
    order = _by_activity(np.diag(hessian), pattern.inputs)
    factor, result = factor_of(hessian, order, _DAMPING), np.empty_like(matrix)
    step = max(_ELEMENTS // matrix.shape[1] // pattern.rows, 1) * pattern.rows
    for start in range(0, rows, step):
        part = slice(start, start + step)
        columns = np.ascontiguousarray(matrix[part].T[order], np.float32)
        result[part, order] = _settled(columns, factor, pattern, choose).T
    return layout.stored(result.reshape(layout.laid_sizes))


def _by_activity(diagonal: Array, together: int) -> Array:
    """Columns in order of H's diagonal, the most active last (it is settled first); neighbours stay together."""
    groups = diagonal.reshape(-1, together)
    ranked = np.argsort(groups.mean(axis=1), kind="stable")
    return (ranked[:, None] * together + np.arange(together)).reshape(-1)


def _settled(columns: Array, factor: Factor, pattern: Pattern, choose: Choice) -> Array:
    """What columns [inner, rows] become."""
    gone = columns == 0

    def begin(part: slice, free: Array) -> None:
        scores = np.where(gone[part], 0, np.abs(free) * factor.diagonal[part, None])
        gone[part] |= choose(scores.T[:, None, :])[:, 0].T

    def settled(j: int, target: Array) -> Array:
        result[j] = np.where(gone[j], 0, target)
        return result[j]

    result = np.empty_like(columns)
    width = max(WIDTH // pattern.inputs, 1) * pattern.inputs
    settle(columns, factor, settled, pattern.inputs if pattern.kept else width, begin, width)
    return result
