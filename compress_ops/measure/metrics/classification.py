"""Metrics of class scores [n, classes] against class numbers [n].

A hit at k: fewer than k classes stand above the true one; of equal scores the lower class number stands above, as in
argmax. Macro F1, precision and recall are means over the classes that occur among labels or answers; with hits h,
answers a and labels l of a class:  precision h/a, recall h/l, F1 2h/(a+l), and 0 where it is 0/0. AUC is the
probability that a random positive scores above a random negative, ties counted half (Mann & Whitney 1947); with more
than two classes the mean of each class against the rest, on probabilities (Fawcett 2006). An output with NaN is a miss.

Models that answer with class numbers themselves (integers of the labels' shape) work too, except for AUC and top5.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...arrays import Array
from ...errors import DataError
from .fitting_labels import class_labels, is_counted, whole_numbers

_NO_ANSWER = -1


def hits(output: Array, labels: Array, *, k: int) -> Array:
    """Per sample (hits at k, how many labels count): one label, or one per token of a sequence."""
    if k == 1 and _are_answers(output, labels):
        right, counted = output == whole_numbers(labels), is_counted(labels)
    else:
        labels = class_labels(output, labels)
        counted = is_counted(labels)
        right = _classes_above(output, np.where(counted, labels, 0)) < k
    columns = (right & counted, counted)
    return np.stack([column.reshape(len(labels), -1).sum(axis=1) for column in columns], axis=1).astype(np.float64)


def _classes_above(scores: Array, labels: Array) -> Array:
    """How many classes stand above the true one; all of them where a score is NaN."""
    truth = labels[..., None]
    own = np.take_along_axis(scores, truth, axis=-1)
    above = (scores > own) | ((scores == own) & (np.arange(scores.shape[-1]) < truth))
    return np.asarray(np.where(np.isnan(scores).any(axis=-1), scores.shape[-1], above.sum(axis=-1)))


def answers(output: Array, labels: Array) -> Array:
    """Per sample (class answered, true class)."""
    if _are_answers(output, labels) and labels.ndim == 1:
        return np.stack([output.astype(np.int64), whole_numbers(labels)], axis=1)
    if output.ndim != 2:
        raise DataError(f"the output has {output.ndim} axes; scores of shape [n, classes] are needed")
    labels = class_labels(output, labels)
    answered = np.where(np.isnan(output).any(axis=1), _NO_ANSWER, output.argmax(axis=1))
    return np.stack([answered, labels], axis=1)


def _are_answers(output: Array, labels: Array) -> bool:
    return output.dtype.kind in "iu" and output.shape == labels.shape


def macro_f1(records: Array, weights: Array) -> Array:
    return _macro(records, weights, lambda hit, answered, labelled: _ratio(2 * hit, answered + labelled))


def macro_precision(records: Array, weights: Array) -> Array:
    return _macro(records, weights, lambda hit, answered, labelled: _ratio(hit, answered))


def macro_recall(records: Array, weights: Array) -> Array:
    return _macro(records, weights, lambda hit, answered, labelled: _ratio(hit, labelled))


def _macro(records: Array, weights: Array, per_class: Callable[..., Array]) -> Array:
    """The mean over occurring classes of a function of each class's counts, for each row of weights."""
    answered, labelled = (records - _NO_ANSWER).T  # so that "no answer" is class 0, which is then left out
    classes = int(records.max()) - _NO_ANSWER + 1

    def score(row: Array) -> float:
        of = (answered[answered == labelled], answered, labelled)
        given = (row[answered == labelled], row, row)
        hit, said, true = (np.bincount(c, w, classes)[1:] for c, w in zip(of, given, strict=True))
        return float(per_class(hit, said, true)[said + true > 0].mean())

    return np.array([score(row) for row in weights])


def _ratio(part: Array, whole: Array) -> Array:
    return np.asarray(np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0))


def class_scores(output: Array, labels: Array) -> Array:
    """Per sample the true class, then one score (two classes) or one probability per class (more)."""
    single = output.reshape(len(output)) if output.shape == (len(output), 1) else output
    if single.ndim == 1:
        scores = single.astype(np.float64)[:, None]
        labels = class_labels(np.concatenate([-scores, scores], axis=1), labels)
    elif output.ndim == 2:
        labels = class_labels(output, labels)
        wide = output.astype(np.float64)
        scores = wide[:, 1:] - wide[:, :1] if output.shape[1] == 2 else _probabilities(wide)
    else:
        raise DataError(f"the output has {output.ndim} axes; scores of shape [n] or [n, classes] are needed")
    return np.concatenate([labels[:, None], scores], axis=1)


def _probabilities(scores: Array) -> Array:
    """Rows that are no distribution yet (logits) through softmax: one class against the rest needs a common scale."""
    is_distribution = (scores >= 0).all(axis=1) & np.isclose(scores.sum(axis=1), 1, atol=1e-3)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.where(is_distribution[:, None], scores, powers / powers.sum(axis=1, keepdims=True))


def area_under_curve(records: Array, weights: Array) -> Array:
    """The mean AUC over the classes that have both positives and negatives; NaN where none has."""
    labels, scores = records[:, 0], records[:, 1:]
    if np.isnan(scores).any():
        return np.full(len(weights), np.nan)
    classes = [1] if scores.shape[1] == 1 else range(scores.shape[1])
    present = [(column, labels == c) for c, column in zip(classes, scores.T, strict=True) if (labels == c).any()]
    areas = [_area_by_weights(column, positive) for column, positive in present]
    return np.array([_mean_of_known([area(row) for area in areas]) for row in weights])


def _area_by_weights(scores: Array, positive: Array) -> Callable[[Array], float]:
    """P(positive above negative) + P(equal) / 2 as a function of the samples' weights; one sort serves all of them.

    With W the weight of all samples below, plus half of those equal, sum_pos w W also counts positives above
    positives: P^2 / 2, P being the positives' weight.
    """
    order = np.argsort(scores, kind="stable")
    ordered, positives = scores[order], np.flatnonzero(positive)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] > ordered[:-1]]))  # of runs of equal scores
    run = np.searchsorted(ordered[starts], scores[positives])

    def area(row: Array) -> float:
        equal, own = np.add.reduceat(row[order], starts), row[positives]
        total = own.sum()
        pairs = total * (row.sum() - total)
        below = equal.cumsum() - equal / 2
        return float((own @ below[run] - total * total / 2) / pairs) if pairs else math.nan

    return area


def _mean_of_known(areas: list[float]) -> float:
    known = [area for area in areas if not math.isnan(area)]
    return sum(known) / len(known) if known else math.nan
