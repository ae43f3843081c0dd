"""Metrics of scores [n, candidates] against the relevant candidate's number [n], or a 0/1 matrix [n, candidates].

Candidates stand in the order of falling scores; with r_j = 1 where the j-th from 0 is relevant:
    hit_rate@k = share of samples with a relevant candidate among the first k,
    DCG@k = sum_{j<k} r_j / log2(j + 2),  ndcg@k = DCG@k / (DCG@k of the best order)  (Jarvelin & Kekalainen 2002).
Ties are counted pessimistically: of equal scores the relevant ones stand last, so that a model that gives every
candidate the same score gains nothing by it; NaN stands below everything. Samples without a relevant candidate do
not count.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from .fitting_labels import relevance


def hit(output: Array, labels: Array, *, k: int) -> Array:
    """Per sample (1 if a relevant candidate is among the first k, 1 if there is a relevant one)."""
    relevant = relevance(output, labels)
    found = _first(output, relevant, k).any(axis=1)
    return np.stack([found, relevant.any(axis=1)], axis=1).astype(np.float64)


def discounted_gain(output: Array, labels: Array, *, k: int) -> Array:
    """Per sample (ndcg@k, 1 if there is a relevant candidate)."""
    relevant = relevance(output, labels)
    first = _first(output, relevant, k)
    discounts = 1 / np.log2(np.arange(first.shape[1]) + 2)
    best = np.concatenate([[0.0], discounts.cumsum()])[np.minimum(relevant.sum(axis=1), first.shape[1])]
    gains = np.divide(first @ discounts, best, out=np.zeros(len(best)), where=best > 0)
    return np.stack([gains, relevant.any(axis=1).astype(np.float64)], axis=1)


def _first(scores: Array, relevant: Array, k: int) -> Array:
    """Whether the candidates in the first k places are relevant."""
    known = np.where(np.isnan(scores), -np.inf, scores.astype(np.float64))
    order = np.lexsort((relevant, -known), axis=-1)
    return np.take_along_axis(relevant, order[:, :k], axis=-1)
