"""How good each model is on labelled data, all models on the same samples, one batch at a time.

Only small records per sample are kept (``metrics.py``); ``scores.py`` makes values, intervals and drops of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...arrays import Array
from ...data import Batch, Dataset
from ...errors import DataError
from ...progress import Progress, silent
from ...runtime import Session
from .bootstrap import replicates
from .scores import MetricScores, bootstrap_scores, is_share, share_scores
from .table import Metric, parse_metric

Records = dict[str, dict[str, Array]]  # by metric, then by model


@dataclass(frozen=True)
class Accuracy:
    """All metrics, by name, on the same ``samples`` samples of the data called ``data``.

    ``classes`` are the names of labels 0, 1, ..., where the data knows them; ``kinds`` is how many different labels
    there are, where a sample has one of a few.
    """

    samples: int
    data: str
    metrics: dict[str, MetricScores]
    classes: Sequence[str] = ()
    kinds: int | None = None

    @property
    def guessable(self) -> MetricScores | None:
        """The scores that show whether a model guesses."""
        return next((scores for name, scores in self.metrics.items() if parse_metric(name).guessable), None)

    @property
    def guesses(self) -> bool:
        """Whether the first model is right about as often as guessing is: above chance by less than a half of it."""
        scores = self.guessable
        if scores is None or self.kinds is None or self.kinds < 2:
            return False
        first, chance = next(iter(scores.models.values())), 1 / self.kinds
        low = first.interval.low if first.interval is not None else first.value
        return first.value is not None and low is not None and low <= chance and first.value < 1.5 * chance


def evaluate(
    sessions: Mapping[str, Session],
    dataset: Dataset,
    metrics: Sequence[str],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Accuracy:
    """Score all models on the whole dataset; drops are against the first."""
    parsed = [parse_metric(name) for name in dict.fromkeys(metrics)]
    if not parsed:
        raise DataError("there is no metric to evaluate", hint="name at least one, such as top1")
    seen: set[int] = set()
    records = _collect(sessions, dataset, parsed, progress, seen)
    samples = len(next(iter(records[parsed[0].name].values())))
    scores = _score_all(parsed, records, samples, seed)
    return Accuracy(samples, dataset.name, scores, list(dataset.classes), len(seen) or None)


def _collect(
    sessions: Mapping[str, Session], dataset: Dataset, metrics: Sequence[Metric], progress: Progress, seen: set[int]
) -> Records:
    parts: dict[str, dict[str, list[Array]]] = {m.name: {model: [] for model in sessions} for m in metrics}
    for batch in dataset.watched(progress, "scoring"):
        if batch.labels is not None and batch.labels.ndim == 1 and batch.labels.dtype.kind in "iu":
            seen.update(np.unique(batch.labels).tolist())
        for model, session in sessions.items():
            output = _first_output(session, batch)
            for metric in metrics:
                parts[metric.name][model].append(_record(metric, output, batch))
    if not parts[metrics[0].name][next(iter(sessions))]:
        raise DataError(f"{dataset.name} has no samples to evaluate")
    return {name: {model: np.concatenate(part) for model, part in of.items()} for name, of in parts.items()}


def _first_output(session: Session, batch: Batch) -> Array:
    name = session.outputs[0].name
    output = session.run(session.taken(batch.feeds), [name])[name]
    if not isinstance(output, np.ndarray) or output.ndim == 0:
        raise DataError(f"output '{name}' of {session.source} is no batch of answers, so it cannot be scored")
    return output


def _record(metric: Metric, output: Array, batch: Batch) -> Array:
    if batch.labels is None:
        raise DataError(
            f"metric '{metric.name}' needs labels",
            hint="name the array that holds them: labels: NAME, or --labels NAME",
        )
    try:
        return metric.record(output, batch.labels)
    except DataError as error:
        raise DataError(f"metric '{metric.name}': {error.message}", hint=error.hint) from error


def _score_all(metrics: Sequence[Metric], records: Records, samples: int, seed: int) -> dict[str, MetricScores]:
    drawn = [metric for metric in metrics if not is_share(metric, records[metric.name])]
    statistics = {
        (metric.name, model): partial(metric.score, of_model)
        for metric in drawn
        for model, of_model in records[metric.name].items()
    }
    spread = replicates(statistics, samples, seed)
    scores = {}
    for metric in metrics:
        of_metric = records[metric.name]
        if metric in drawn:
            of_spread = {model: spread[metric.name, model] for model in of_metric}
            scores[metric.name] = bootstrap_scores(metric, of_metric, of_spread)
        else:
            scores[metric.name] = share_scores(metric, of_metric)
    return scores
