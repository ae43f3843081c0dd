"""Even cuts: what a grouped convolution sees must lose as many channels in each of its groups.

Let v_c count, for each group of each grouped operator, the indices there that a class c of labels takes. A class may
be cut by itself if v_c is even: the same number in all groups of an operator, for every operator. Others are joined to
units whose sums are even. Classes of equal counts are of one kind, so a unit is a number of each kind, found greedily:
to a first class those are added that leave the least to fill up. What is left then is shared out in proportion, since
all of an axis is even. All operators are looked at together: behind a shuffle, or where tensors of other widths are
concatenated and added, their groups begin at other channels, and units that suit one operator alone would chain all
channels to one. What no unit takes stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...lazy import ir
from .axes import Unclear
from .trace import Trace

_GROUPS = 2**12  # more than any operator works in
_COUNTS = 2**24  # groups times classes of labels
_KINDS = 256  # of classes that are looked at, the commonest
_TOGETHER = 64  # classes that a unit joins at most


def balance(trace: Trace, axis: Array, groups: int, node: ir.Node) -> None:
    """Every cut is to take the same number of indices from each of ``groups`` equal parts of an axis: see even_out."""
    if not 0 < groups <= _GROUPS or len(axis) % groups:
        raise Unclear(f"it works in {groups} groups")
    trace.balanced.append((node, axis.reshape(groups, -1)))


def even_out(trace: Trace) -> None:
    """Join the labels of all that is to be balanced, once the whole graph is known; protect what no unit takes."""
    if not trace.balanced:
        return
    marks = trace.labels.protection()[0]
    parts = [(node, trace.labels.roots(axis)) for node, axis in trace.balanced]
    names = np.unique(np.concatenate([roots.reshape(-1) for _, roots in parts]))
    names = names[marks[names] == 0]
    if sum(len(roots) for _, roots in parts) * len(names) > _COUNTS:
        for node, roots in parts:
            trace.protect([roots.reshape(-1)], node, f"it works in {len(roots)} groups")
        return
    tables = [(node, _table(roots, names)) for node, roots in parts]
    distinct = list({table.tobytes(): table for _, table in tables}.values())
    if not len(names) or not distinct:
        return
    left = _join(trace, names, _Kinds.of(distinct))
    for node, table in tables:
        uneven = left & (table != table[:1]).any(0)
        trace.protect([names[uneven]], node, "they spread unevenly over its groups")


def _table(roots: Array, names: Array) -> Array:
    """How many indices each class takes in each group: int32 [groups, classes]."""
    counts = np.zeros((len(roots), len(names) + 1), np.int32)
    places = np.searchsorted(names, roots)
    known = (places < len(names)) & (names[np.minimum(places, len(names) - 1)] == roots) if len(names) else places < 0
    np.add.at(counts, (np.arange(len(roots))[:, None], np.where(known, places, len(names))), 1)
    return counts[:, :-1]


@dataclass(frozen=True)
class _Kinds:
    """Classes by what they count: ``counts`` is [groups of all operators, kinds], ``of_class`` each class's kind.

    ``starts`` are the first groups of the operators, and ``groups`` how many each has.
    """

    counts: Array
    of_class: Array
    starts: Array
    groups: Array

    @classmethod
    def of(cls, tables: Sequence[Array]) -> _Kinds:
        counts, of_class = np.unique(np.concatenate(tables), axis=1, return_inverse=True)
        groups = np.array([len(table) for table in tables])
        return cls(counts, of_class.reshape(-1), np.cumsum(groups) - groups, groups)

    def highest(self, totals: Array) -> Array:
        """The fullest group of each operator, of each column of totals."""
        return np.maximum.reduceat(totals, self.starts, axis=0)

    def missing(self, totals: Array) -> Array:
        """How many indices are missing until all groups are as full as the fullest, of each column."""
        return self.groups @ self.highest(totals) - totals.sum(axis=0)

    def is_even(self, taken: Array) -> bool:
        """Whether so many classes of each kind may go together."""
        return not self.missing((self.counts @ taken)[:, None])[0]

    def unit(self, first: int, available: Array) -> Array | None:
        """Which kinds make an even unit together with one of the kind ``first``: a number of each; None if none do."""
        taken, total = np.zeros_like(available), self.counts[:, first].copy()
        taken[first] = 1
        while missing := self.missing(total[:, None])[0]:
            lacking = total < np.repeat(self.highest(total[:, None])[:, 0], self.groups)
            fits = np.flatnonzero((self.counts[lacking] > 0).any(axis=0) & (taken < available))
            if not len(fits) or taken.sum() >= _TOGETHER or missing < 0:
                return None
            best = fits[np.argmin(self.missing(total[:, None] + self.counts[:, fits]))]
            taken[best] += 1
            total += self.counts[:, best]
        return taken

    def rest(self, first: int, available: Array) -> Array:
        """What is left of all kinds that hang together with ``first``, in the smallest whole proportion.

        All indices of an axis are even together, and so is what even units leave.
        """
        touches = np.maximum.reduceat(self.counts, self.starts, axis=0) > 0
        found = np.arange(len(available)) == first
        while not np.array_equal(more := touches[touches[:, found].any(axis=1)].any(axis=0) & (available > 0), found):
            found = more
        return np.where(found, available // np.gcd.reduce(available[found]), 0)


def _join(trace: Trace, names: Array, kinds: _Kinds) -> Array:
    """Join classes to even units; returns which classes, by position, no unit takes."""
    uneven = kinds.missing(kinds.counts) > 0
    left = uneven[kinds.of_class]
    sizes = np.where(uneven, np.bincount(kinds.of_class, minlength=len(uneven)), 0)
    common = np.argsort(-sizes, kind="stable")[:_KINDS]
    available = np.zeros_like(sizes)
    available[common] = sizes[common]
    queues = {int(kind): names[kinds.of_class == kind] for kind in np.flatnonzero(available)}
    for way in (kinds.unit, kinds.rest):
        for first in queues:
            while available[first] and (taken := way(first, available)) is not None and kinds.is_even(taken):
                grid = _next(queues, taken, available)
                others = grid[:, 1:].reshape(-1)
                trace.labels.join(np.repeat(grid[:, 0], grid.shape[1] - 1), others, "its groups stay equal")
                left[np.searchsorted(names, grid.reshape(-1))] = False
                available = available - len(grid) * taken
    return left


def _next(queues: dict[int, Array], taken: Array, available: Array) -> Array:
    """The classes of as many units as there can be: [units, classes of a unit], of each kind in order."""
    parts: list[int] = np.flatnonzero(taken).tolist()
    units, columns = int((available[parts] // taken[parts]).min()), []
    for kind in parts:
        start = len(queues[kind]) - available[kind]
        columns.append(queues[kind][start : start + units * taken[kind]].reshape(units, -1))
    return np.concatenate(columns, axis=1)
