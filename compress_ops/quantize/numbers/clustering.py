"""k-means in one dimension, for many rows at a time.

On sorted numbers clusters are intervals; with prefix sums S, the mean of the interval [a, b) is (S_b - S_a) / (b - a).
Rows of very many numbers are first gathered into bins of relative width 2^-11 (a float32 cut to 11 bits of mantissa).
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array

_ROUNDS = 300  # of Lloyd's algorithm; it ends earlier when nothing moves
_BINS = 512  # of the exact start
_CHUNK = 2**21  # numbers sorted at a time; a longer row is binned
_DROPPED = 12  # bits of a float32's mantissa that binning drops


def centroids(rows: Array, clusters: int) -> Array:
    """float64 values [rows, <= clusters], ascending: those of k-means of every row [rows, n].

    A tensor of no more distinct numbers than clusters keeps them. Where at least 1 / clusters of all numbers are zero,
    zero is among the values.
    """
    distinct = _few_distinct(rows, clusters)
    if distinct is not None:
        return np.tile(distinct.astype(np.float64), (len(rows), 1))
    pinned = bool(np.count_nonzero(rows == 0) * clusters >= rows.size)
    if rows.shape[1] > _CHUNK:
        return np.concatenate([_cluster(*_binned(row), _exact(*_binned(row), clusters), pinned) for row in rows])
    spread = _spread(rows)
    start = _exact(*_sorted((rows / spread).reshape(1, -1)), clusters)
    step = max(_CHUNK // rows.shape[1], 1)
    parts = [slice(i, i + step) for i in range(0, len(rows), step)]
    return np.concatenate([_cluster(*_sorted(rows[part]), start * spread[part], pinned) for part in parts])


def assign(rows: Array, values: Array) -> Array:
    """uint8 numbers of the nearest values; ``values`` are ascending in each row."""
    middles = (values[:, 1:].astype(np.float64) + values[:, :-1]) / 2
    if len(rows) == 1:
        return np.searchsorted(middles[0], rows[0]).astype(np.uint8)[None]
    return _bisect(middles, rows).astype(np.uint8)


def _few_distinct(rows: Array, clusters: int) -> Array | None:
    """The distinct numbers, where there are at most ``clusters``; a sample tells most tensors apart at once."""
    if np.unique(rows.reshape(-1)[:: max(rows.size // 4096, 1)]).size > clusters:
        return None
    distinct = np.unique(rows)
    return distinct if distinct.size <= clusters else None


def _spread(rows: Array) -> Array:
    """Root mean square of each row [rows, 1]; 1 for zeros."""
    square = np.einsum("ri,ri->r", rows, rows, dtype=np.float64) / rows.shape[1]
    return np.sqrt(np.where(square > 0, square, 1)).reshape(-1, 1)


def _sorted(rows: Array) -> tuple[Array, Array, Array]:
    """Sorted numbers, and prefix sums of their counts and of themselves, as float64 with a leading zero."""
    ordered = np.sort(rows, axis=1).astype(np.float64)
    counts = np.broadcast_to(np.arange(rows.shape[1] + 1.0), (len(rows), rows.shape[1] + 1))
    return ordered, counts, np.pad(np.cumsum(ordered, axis=1), ((0, 0), (1, 0)))


def _binned(row: Array) -> tuple[Array, Array, Array]:
    """The same for one long row, gathered into bins that cut mantissas to 11 bits."""
    total, count = np.zeros(1 << (32 - _DROPPED)), np.zeros(1 << (32 - _DROPPED))
    for start in range(0, row.size, _CHUNK):
        part = np.ascontiguousarray(row[start : start + _CHUNK], np.float32)
        keys = (part.view(np.uint32) >> _DROPPED).astype(np.intp)
        count += np.bincount(keys, minlength=count.size)
        total += np.bincount(keys, weights=part, minlength=count.size)
    present = np.flatnonzero(count)
    present = present[np.argsort(total[present] / count[present])]
    means = (total[present] / count[present])[None]
    prefix = [np.pad(np.cumsum(a[present]), (1, 0))[None] for a in (count, total)]
    return means, prefix[0], prefix[1]


def _exact(ordered: Array, counts: Array, sums: Array, clusters: int) -> Array:
    """The best values [1, clusters] for one row gathered into bins, by dynamic programming.

    With C(i, j) the squared error of bins i..j as one cluster: D_m(j) = min_i D_{m-1}(i - 1) + C(i, j). Half of the
    bins hold equally many numbers each, half are equally wide, so that neither bulk nor tails are coarse.
    """
    edges = _edges(ordered[0], counts[0])
    count, total = np.diff(counts[0][edges]), np.diff(sums[0][edges])
    cost = _interval_costs(count, total)
    best, choices = cost[0], []
    for _ in range(min(clusters, len(count)) - 1):
        candidates = best[:-1, None] + cost[1:]
        choice = candidates.argmin(axis=0) + 1
        best = np.minimum(np.take_along_axis(candidates, choice[None] - 1, axis=0)[0], best)
        choices.append(choice)
    starts = [len(count)]
    for choice in reversed(choices):
        starts.append(int(choice[starts[-1] - 1]) if starts[-1] > 1 else 0)
    bounds = np.unique([0, *starts])
    means = np.add.reduceat(total, bounds[:-1]) / np.add.reduceat(count, bounds[:-1])
    return np.pad(means, (0, clusters - len(means)), mode="edge")[None]


def _edges(ordered: Array, counts: Array) -> Array:
    """Positions at which bins begin and end; none is empty."""
    wide = np.searchsorted(ordered, np.linspace(ordered[0], ordered[-1], _BINS // 2 + 1)[1:-1])
    full = np.searchsorted(counts, np.linspace(0, counts[-1], _BINS // 2 + 1)[1:-1])
    return np.unique(np.clip([0, *wide, *full, len(ordered)], 0, len(ordered)))


def _interval_costs(count: Array, total: Array) -> Array:
    """C[i, j]: squared error within bins i..j replaced by their mean, beyond that within bins; infinite for j < i."""
    means = total / count
    n, s, q = (np.pad(np.cumsum(a), (1, 0)) for a in (count, total, total * means))
    i, j = np.arange(len(count))[:, None], np.arange(len(count))[None] + 1
    number = np.maximum(n[j] - n[i], 1)
    return np.where(j > i, np.maximum(q[j] - q[i] - (s[j] - s[i]) ** 2 / number, 0), np.inf)


def _cluster(ordered: Array, counts: Array, sums: Array, start: Array, pinned: bool) -> Array:
    """Lloyd's algorithm from ``start`` [rows or 1, clusters]; with ``pinned``, the value nearest to zero is zero."""
    values = _lloyd(ordered, counts, sums, np.broadcast_to(start, (len(ordered), start.shape[1])), None)
    if not pinned:
        return values
    nearest = np.abs(values).argmin(axis=1)[:, None]
    return np.sort(_lloyd(ordered, counts, sums, values, nearest), axis=1)


def _lloyd(ordered: Array, counts: Array, sums: Array, values: Array, pin: Array | None) -> Array:
    before = None
    for _ in range(_ROUNDS):
        if pin is not None:
            values = values.copy()
            np.put_along_axis(values, pin, 0, axis=1)
        bounds = _bisect(ordered, (values[:, 1:] + values[:, :-1]) / 2)
        if before is not None and np.array_equal(bounds, before):
            break
        before = bounds
        whole = np.pad(bounds, ((0, 0), (1, 1)), constant_values=((0, 0), (0, ordered.shape[1])))
        number = np.diff(np.take_along_axis(counts, whole, axis=1), axis=1)
        total = np.diff(np.take_along_axis(sums, whole, axis=1), axis=1)
        values = np.sort(np.where(number > 0, total / np.maximum(number, 1), values), axis=1)
    return values


def _bisect(ordered: Array, wanted: Array) -> Array:
    """np.searchsorted (left) for every row at once."""
    low = np.zeros(wanted.shape, np.intp)
    high = np.full(wanted.shape, ordered.shape[1], np.intp)
    while (low < high).any():
        middle = (low + high) // 2
        less = np.take_along_axis(ordered, np.minimum(middle, ordered.shape[1] - 1), axis=1) < wanted
        low, high = np.where(less & (low < high), middle + 1, low), np.where(less, high, np.minimum(high, middle))
    return low
