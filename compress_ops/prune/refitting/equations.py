"""Ridge regression from sums over rows, so that memory does not depend on how many rows there are.

    W = argmin |X W - Y|^2 + lambda |W - W0|^2      (X has a column of ones where there is a bias)

With A = X^T X and B = X^T Y, W = W0 + D where (A + lambda I) D = B - A W0; Hoerl and Kennard 1970, shrunk towards the
weights that are there and not towards zero. lambda is ``ridge`` times the mean of A's diagonal; the bias is free of it.
The squared error follows from the same sums: |Y|^2 - 2 <W, B> + <W, A W>. So does the error on data held out, from sums
of its own, and with it the ridge that serves unseen data best.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...arrays import Array

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


@dataclass
class Equations:
    """Sums over all rows seen so far, one set a group; ``bias`` puts a column of ones behind x."""

    groups: int
    inner: int
    outputs: int
    bias: bool
    squares: Array = field(init=False)
    products: Array = field(init=False)
    energy: float = 0.0
    totals: Array = field(init=False)
    rows: int = 0

    def __post_init__(self) -> None:
        width = self.inner + self.bias
        self.squares = np.zeros((self.groups, width, width))
        self.products = np.zeros((self.groups, width, self.outputs))
        self.totals = np.zeros((self.groups, self.outputs))

    def add(self, x: Array, y: Array) -> None:
        """Count in rows: x [groups, rows, inner], y [groups, rows, outputs]."""
        if self.bias:
            x = np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=2)
        turned = x.swapaxes(1, 2)
        with np.errstate(invalid="ignore"):  # sums that are not finite are declined later, with a reason
            self.squares += turned @ x
            self.products += turned @ y
            self.energy += float(np.vdot(y, y))
            self.totals += y.sum(axis=1)
        self.rows += x.shape[1]

    def include(self, other: Equations) -> None:
        """Count in all rows of others."""
        self.squares += other.squares
        self.products += other.products
        self.energy += other.energy
        self.totals += other.totals
        self.rows += other.rows

    def error(self, weights: Array) -> float:
        """|X W - Y|^2 over |Y - mean|^2."""
        explained = np.vdot(weights, 2 * self.products - self.squares @ weights)
        spread = self.energy - float(np.square(self.totals).sum()) / max(self.rows, 1)
        return float(max(self.energy - explained, 0.0) / max(spread, 1e-12 * self.energy, 1e-300))

    def solve(self, weights: Array, ridge: float) -> Array:
        """The new weights [groups, inner (+ 1), outputs]; weights that are zero stay zero."""
        penalized = self.squares.copy()
        diagonal = np.arange(self.inner)
        mean = penalized[:, diagonal, diagonal].mean(axis=1, keepdims=True)
        penalized[:, diagonal, diagonal] += ridge * np.maximum(mean, 1e-30)
        wanted = self.products - self.squares @ weights
        free = weights != 0
        if self.bias:
            free[:, -1] = True
        if free.all():
            return weights + np.linalg.solve(penalized, wanted)
        return weights + _solved_within(penalized, wanted, free)


def best_ridge(fitted: Equations, held_out: Equations, weights: Array) -> float | None:
    """The ridge with which what fits some rows has the least error on others; None where the old weights have less."""
    errors = {ridge: held_out.error(fitted.solve(weights, ridge)) for ridge in RIDGES}
    best = min(errors, key=errors.__getitem__)
    return best if errors[best] < held_out.error(weights) else None


def _solved_within(squares: Array, wanted: Array, free: Array) -> Array:
    """D column by column, over its free weights alone; columns with the same ones share a solution."""
    found = np.zeros_like(wanted)
    for group in range(len(squares)):
        patterns, which = np.unique(free[group], axis=1, return_inverse=True)
        for number, pattern in enumerate(patterns.T):
            rows, columns = np.flatnonzero(pattern), np.flatnonzero(which.reshape(-1) == number)
            part = squares[group][np.ix_(rows, rows)]
            found[group][np.ix_(rows, columns)] = np.linalg.solve(part, wanted[group][np.ix_(rows, columns)])
    return found
