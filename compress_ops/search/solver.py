"""Choose a form for each layer under limits on the whole: a multiple-choice knapsack, by Lagrange multipliers.

With x_i the form of layer i, costs c_i(x_i) of each kind k (loss, bytes, seconds) add up over layers. For weights w_k
the sum over k of w_k c_k is least where each layer takes the form of least weighted cost by itself (Everett 1963,
https://doi.org/10.1287/opre.11.3.399): one argmin for all layers. Such points, for many w, are the lower convex hull of
all there are; between them single layers are exchanged. A point stands on the front if no other is at least as good in
every kind and better in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..arrays import Array

KINDS = ("loss", "bytes", "seconds")
_STEPS = 33  # weights of each kind, evenly in their logarithm
_DECADES = 8
_STARTS = 10  # points that are made better


@dataclass(frozen=True)
class Problem:
    """``costs`` by kind are [layers, forms], infinite where there is no such form; ``fixed`` are the rest's."""

    costs: Mapping[str, Array]
    fixed: Mapping[str, float]

    def totals(self, choices: Array) -> Array:
        """Of choices [points, layers] the cost of each of KINDS, [points, kinds]."""
        return np.stack([self.total(kind, choices) for kind in KINDS], axis=1)

    def total(self, kind: str, choices: Array) -> Array:
        """Of choices [points, layers] the cost of one kind, [points]."""
        return np.asarray(self.costs[kind][np.arange(choices.shape[1]), choices].sum(axis=1) + self.fixed[kind])


def front(problem: Problem) -> Array:
    """Choices that no other found one is better than, [points, layers], by size."""
    found = np.unique(np.concatenate([*_weighted(problem)]), axis=0)
    totals = problem.totals(found)
    kept = found[not_dominated(totals)]
    return kept[np.argsort(problem.totals(kept)[:, KINDS.index("bytes")], kind="stable")]


def _weighted(problem: Problem) -> Iterator[Array]:
    """The best choice for each mix of weights, [weights, layers] at a time."""
    scales = {kind: _spread(problem.costs[kind]) for kind in KINDS}
    loss, size, seconds = (problem.costs[kind] / scales[kind] for kind in KINDS)
    steps = np.concatenate([[0.0], np.logspace(-_DECADES, _DECADES / 2, _STEPS)])
    for weight in steps:
        weighted = loss + weight * size + np.multiply.outer(steps, seconds)
        yield np.argmin(weighted, axis=2)


def _spread(costs: Array) -> float:
    """What the layers can differ in at most, all together."""
    finite = np.where(np.isfinite(costs), costs, np.nan)
    return float((np.nanmax(finite, axis=1) - np.nanmin(finite, axis=1)).sum()) or 1.0


def not_dominated(totals: Array) -> Array:
    """Whether no other point is as good in every kind and better in one, [points] for totals [points, kinds]."""
    no_worse = (totals[:, None] <= totals[None]).all(axis=2)
    better = (totals[:, None] < totals[None]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0))


def best(problem: Problem, choices: Array, limits: Mapping[str, float], objective: str) -> Array | None:
    """Of choices [points, layers] within the limits by kind the one that costs least of a kind, made better; or None.

    In the few that cost least single layers are exchanged as long as that costs less and stays within the limits.
    """
    within = np.all([problem.total(kind, choices) <= limit for kind, limit in limits.items()], axis=0)
    if not within.any():
        return None
    allowed = choices[np.broadcast_to(within, len(choices))]
    least = np.argsort(problem.total(objective, allowed), kind="stable")[:_STARTS]
    made = np.stack([_exchanged(problem, choice, limits, objective) for choice in allowed[least]])
    return np.asarray(made[int(np.argmin(problem.total(objective, made)))])


def _exchanged(problem: Problem, choice: Array, limits: Mapping[str, float], objective: str) -> Array:
    """The choice after the best exchange of one layer's form, again and again until none is left."""
    exists = np.all([np.isfinite(costs) for costs in problem.costs.values()], axis=0)
    while True:
        gained = _moved(problem, choice, objective)
        allowed = exists & (gained < 0)
        for kind, limit in limits.items():
            allowed &= problem.total(kind, choice[None]) + _moved(problem, choice, kind) <= limit
        if not allowed.any():
            return choice
        layer, form = np.unravel_index(int(np.argmin(np.where(allowed, gained, np.inf))), gained.shape)
        choice = choice.copy()
        choice[layer] = form


def _moved(problem: Problem, choice: Array, kind: str) -> Array:
    """By how much the cost of a kind goes up where one layer takes another form, [layers, forms]."""
    costs = problem.costs[kind]
    return np.asarray(costs - costs[np.arange(len(choice)), choice][:, None])
