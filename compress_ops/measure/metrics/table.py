"""How good a model's answers are: a table of metrics, each a small record per sample and a score of many records.

``record(output, labels)`` gives an array [n, m]: what must be known of each sample, small, so that batches stream.
``score(records, weights)`` gives the metric for each row of weights [r, n], where a weight says how often a sample
counts: all ones is the metric itself, rows of multinomial counts are bootstrap samples. Most scores are a ratio of
sums, S(w) = sum_i w_i a_i / sum_i w_i c_i.

The output is the model's first output. A metric is added as one entry of ``_ENTRIES``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from ...arrays import Array
from ...errors import UsageError, did_you_mean
from . import classification, ranking, regression

Record = Callable[["Array", "Array"], "Array"]
Score = Callable[["Array", "Array"], "Array"]


@dataclass(frozen=True)
class Metric:
    """A metric by name. ``better`` is its good direction; those that are better higher lie between 0 and 1.

    ``share``: a sample's record is (hit, 1) with a hit of 0 or 1, so that the metric is a share of the samples.
    ``guessable``: who guesses one of k classes has 1 / k.
    """

    name: str
    better: Literal["higher", "lower"]
    record: Record
    score: Score
    share: bool = False
    guessable: bool = False

    def drop(self, reference: Any, value: Any) -> Any:
        """How much worse ``value`` is than ``reference``; negative where it is better."""
        return reference - value if self.better == "higher" else value - reference


def ratio_of_sums(records: Array, weights: Array) -> Array:
    """sum w a / sum w c, of records (a, c)."""
    sums = weights @ records
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[:, 0] / sums[:, 1])


def exp_of_ratio(records: Array, weights: Array) -> Array:
    """exp(sum w a / sum w c): perplexity of negative log likelihoods a over c tokens."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(ratio_of_sums(records, weights)))


_ENTRIES = (
    Metric("top1", "higher", partial(classification.hits, k=1), ratio_of_sums, share=True, guessable=True),
    Metric("top5", "higher", partial(classification.hits, k=5), ratio_of_sums, share=True),
    Metric("f1", "higher", classification.answers, classification.macro_f1),
    Metric("precision", "higher", classification.answers, classification.macro_precision),
    Metric("recall", "higher", classification.answers, classification.macro_recall),
    Metric("auc", "higher", classification.class_scores, classification.area_under_curve),
    Metric("mse", "lower", regression.squared_errors, ratio_of_sums),
    Metric("mae", "lower", regression.absolute_errors, ratio_of_sums),
    Metric("perplexity", "lower", regression.token_losses, exp_of_ratio),
)
METRICS = {metric.name: metric for metric in _ENTRIES}

_AT_K: dict[str, Callable[[str, int], Metric]] = {
    "hit_rate": lambda name, k: Metric(name, "higher", partial(ranking.hit, k=k), ratio_of_sums, share=True),
    "ndcg": lambda name, k: Metric(name, "higher", partial(ranking.discounted_gain, k=k), ratio_of_sums),
}
_ALSO = {
    **dict.fromkeys(("accuracy", "acc", "top-1", "top1_accuracy"), "top1"),
    **dict.fromkeys(("top-5", "top5_accuracy"), "top5"),
    **dict.fromkeys(("f1_score", "macro_f1", "f1-score"), "f1"),
    **dict.fromkeys(("roc_auc", "auroc"), "auc"),
    **dict.fromkeys(("mean_squared_error", "l2"), "mse"),
    **dict.fromkeys(("mean_absolute_error", "l1"), "mae"),
    "ppl": "perplexity",
}
"""What other tools call them."""
METRIC_NAMES = (*METRICS, *(f"{family}@k" for family in _AT_K))


def parse_metric(name: str) -> Metric:
    """The metric of that name, or of one that it has elsewhere; ``hit_rate@k`` and ``ndcg@k`` take any k from 1."""
    name = _ALSO.get(name.lower(), name)
    if name in METRICS:
        return METRICS[name]
    family = re.fullmatch(r"(\w+)@([1-9]\d*)", name)
    if family and family[1] in _AT_K:
        return _AT_K[family[1]](name, int(family[2]))
    close = did_you_mean(name, (*METRICS, *(f"{family}@10" for family in _AT_K)))
    raise UsageError(f"unknown metric '{name}'{close}", hint=f"metrics are: {', '.join(METRIC_NAMES)}")
