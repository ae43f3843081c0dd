"""Codebooks whose values learn.

    w_i = c_{a_i}     so     dL/dc_j = sum over i with a_i = j of dL/dw_i

which is the gradient of Gather (Han et al. 2016, Deep Compression, arXiv:1510.00149, section 3). The codes a stay. What
is trained is v with c = u v, where u is about 1 / _STEP times the distance of neighbouring values, a power of two so
that values come back exactly: as for integers, a value then moves by its distance to the next one in as many steps for
every weight. A value of exactly zero stays zero (u = 0), and so do pruned weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...arrays import Array
from ...graph.codebooks import Codebook
from ...lazy import ir
from ...model import Model
from .learned_steps import multiply

_STEP = 2.0**-3  # of v, from one value to the next


def units_of(values: Array) -> Array:
    """u, float32 [n]: in each codebook of ascending values by their mean distance; 0 where the value is."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values) < 0) + 1])
    sizes = np.diff([*starts, len(values)])
    low, high = (ends.reduceat(values.astype(np.float64), starts) for ends in (np.minimum, np.maximum))
    whole = float(np.ptp(values.astype(np.float64))) / max(len(values) - 1, 1)
    distance = np.where(high > low, (high - low) / np.maximum(sizes - 1, 1), whole)
    powers = 2.0 ** np.rint(np.log2(np.maximum(distance, np.finfo(np.float32).tiny) / _STEP))
    return np.where(values != 0, np.repeat(powers, sizes), 0).astype(np.float32)


def learned_of(values: Array) -> Array:
    """v, float32 [n]."""
    units = units_of(values)
    return np.divide(values, units, out=np.zeros_like(units), where=units != 0)


def with_units(copy: Model, books: Sequence[Codebook]) -> None:
    """Let a copy hold v and compute c = u v."""
    for book in books:
        value = copy.graph.initializers[book.name]
        value.const_value = ir.Tensor(learned_of(book.values), name=book.name)
        multiply(copy, value, copy.add_weight(f"{book.name}/units", ir.Tensor(units_of(book.values))))
