"""From records to scores: a metric's value with its interval, and its paired drop against the first model.

Shares (top1, top5, hit_rate): Wilson's interval, and Bonett & Price's for the drop. Everything else: the bootstrap,
whose resamples score all models alike, so that the drop is paired too. Where no resample moves a metric that lies
between 0 and 1 (all correct; or no sample told two models apart), its interval reaches z^2/(n + z^2) further: so
large a share may have gone unseen in n samples. ``intervals.py`` and ``bootstrap.py`` give the sources.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...arrays import Array
from ..intervals import Interval, finite, paired_share_interval, percentile_interval, unseen_share, wilson_interval
from .table import Metric

Arrays = Mapping[str, Array]  # by model


@dataclass(frozen=True)
class Drop:
    """How much worse than the first model, in the metric's bad direction; relative to the first model's value.

    Negative where it is better. None where it is not defined (an output was NaN; or relative to 0).
    """

    absolute: float | None
    interval: Interval | None
    relative: float | None
    relative_interval: Interval | None


@dataclass(frozen=True)
class Score:
    """A metric's value for one model; None where it is not finite. ``drop`` is None for the first model."""

    value: float | None
    interval: Interval | None
    drop: Drop | None


@dataclass(frozen=True)
class MetricScores:
    """One metric for all models, by name, and how its intervals were made."""

    better: Literal["higher", "lower"]
    method: Literal["wilson", "bootstrap"]
    models: dict[str, Score]


UNDEFINED = Drop(None, None, None, None)


def is_share(metric: Metric, records: Arrays) -> bool:
    """Whether one answer per sample counts: not so for sequences, nor where a sample has nothing relevant."""
    return metric.share and all(bool((of_model[:, 1] == 1).all()) for of_model in records.values())


def share_scores(metric: Metric, records: Arrays) -> MetricScores:
    """Scores of a metric that counts hits."""
    hits = {model: of_model[:, 0] for model, of_model in records.items()}
    reference, *others = hits
    drops = {model: _share_drop(hits[reference], hits[model]) for model in others}
    models = {model: _share_score(of_model, drops.get(model)) for model, of_model in hits.items()}
    return MetricScores(metric.better, "wilson", models)


def _share_score(hits: Array, drop: Drop | None) -> Score:
    return Score(float(hits.mean()), wilson_interval(float(hits.sum()), len(hits)), drop)


def _share_drop(reference: Array, hits: Array) -> Drop:
    worse, better = float((reference > hits).sum()), float((hits > reference).sum())
    absolute, interval = (worse - better) / len(hits), paired_share_interval(worse, better, len(hits))
    base = float(reference.mean())
    return Drop(absolute, interval, *_relative_to(base, absolute, interval))


def bootstrap_scores(metric: Metric, records: Arrays, replicates: Arrays) -> MetricScores:
    """Scores of any metric, from its replicates over resamples that are the same for all models."""
    values = {model: value_of(metric, of_model) for model, of_model in records.items()}
    reference, *others = records
    samples = len(records[reference])
    drops = {
        model: _bootstrap_drop(
            metric, values[reference], values[model], replicates[reference], replicates[model], samples
        )
        for model in others
    }
    models = {
        model: Score(finite(value), _bootstrap_interval(metric, value, replicates[model], samples), drops.get(model))
        for model, value in values.items()
    }
    return MetricScores(metric.better, "bootstrap", models)


def value_of(metric: Metric, records: Array) -> float:
    """The metric itself: every sample counts once."""
    return float(metric.score(records, np.ones((1, len(records))))[0])


def _bootstrap_interval(metric: Metric, value: float, replicates: Array, samples: int) -> Interval | None:
    interval = percentile_interval(replicates) if math.isfinite(value) else None
    if interval is None or metric.better == "lower":
        return interval
    reached = _widened(metric, interval, unseen_share(samples))
    return Interval(max(0.0, reached.low), min(1.0, reached.high))


def _bootstrap_drop(metric: Metric, base: float, value: float, of_base: Array, of_value: Array, samples: int) -> Drop:
    absolute, differences = metric.drop(base, value), metric.drop(of_base, of_value)
    interval = percentile_interval(differences)
    if interval is None or not math.isfinite(absolute):
        return UNDEFINED
    unseen = unseen_share(samples)
    if base == 0:
        return Drop(absolute, _widened(metric, interval, unseen), None, None)
    relative = percentile_interval(differences[of_base != 0] / abs(of_base[of_base != 0]))
    return Drop(
        absolute,
        _widened(metric, interval, unseen),
        absolute / abs(base),
        relative and _widened(metric, relative, unseen / abs(base)),
    )


def _widened(metric: Metric, interval: Interval, reach: float) -> Interval:
    """An interval without width says too much, where a metric's scale (0 to 1) tells how much could be unseen."""
    if metric.better == "lower" or interval.high > interval.low:
        return interval
    return Interval(interval.low - reach, interval.high + reach)


def _relative_to(base: float, absolute: float, interval: Interval) -> tuple[float | None, Interval | None]:
    """A drop and its interval as shares of the first model's value, taken as it is; nothing relative to 0."""
    if base == 0:
        return None, None
    return absolute / base, Interval(interval.low / base, interval.high / base)
