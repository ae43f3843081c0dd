"""Everything that is measured of two or more models, side by side: the one door for run, compare and bench.

The first model is the reference. A part that could not be measured, or was not asked for, is a text instead of
numbers: ``not measured: <reason>``. ``dataclasses.asdict`` gives plain JSON types, with None for NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar, get_args

from ..data import Dataset
from ..errors import ModelError
from ..progress import Progress, silent
from ..runtime import CPU, Arrays, Provider, Session, open_session
from .budget import Budget, Verdict, judge
from .closeness.fidelity import Fidelity, compare_fidelity
from .cost import Profile, peak_memory, profile_run
from .environment import Environment, describe_environment
from .feeds import MADE_UP, SYNTHETIC, Measure, NoFeed, latency_feed, synthetic_data
from .latency import MIN_PAIRS, LatencyResult, compare_latency
from .metrics.accuracy import Accuracy, evaluate
from .size import Size, measure_size

T = TypeVar("T")

Measured = Literal["size", "latency", "cost", "accuracy", "fidelity"]
PARTS: tuple[Measured, ...] = get_args(Measured)
NOT_ASKED = "not measured: not asked for"


@dataclass(frozen=True)
class Feed:
    """What was timed: ``source`` is the data's name, or ``synthetic``; shapes by input name."""

    source: str
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Comparison:
    """All that was measured; models by name, the first is the reference. ``peak_memory`` is this process's, in bytes.

    ``fidelity_data`` names the data of the fidelity figures, or is ``synthetic``.
    """

    models: dict[str, str]
    environment: Environment
    size: dict[str, Size] | str
    feed: Feed | str
    latency: LatencyResult | str
    cost: dict[str, Profile] | str
    accuracy: Accuracy | str
    fidelity: Fidelity | str
    fidelity_data: str
    peak_memory: int | None


def compare_models(
    paths: Mapping[str, Path],
    *,
    providers: Sequence[Provider] = CPU,
    threads: int = 1,
    settings: Measure | None = None,
    evaluation: Dataset | None = None,
    metrics: Sequence[str] = (),
    fidelity_data: Dataset | None = None,
    outputs: Mapping[str, str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
    parts: Collection[Measured] = PARTS,
    opened: Mapping[str, Session] | None = None,
    min_pairs: int = MIN_PAIRS,
    figures: bool = True,
) -> Comparison:
    """Measure all models. Fidelity is on ``fidelity_data``, else on the evaluation data, else on made-up samples.

    ``outputs`` maps the names of the other models' outputs to those of the reference, where these are not the same.
    ``opened`` are sessions, on these providers, of models that many comparisons are made with. Each model is timed in
    ``min_pairs`` pairs at least. Without ``figures`` fidelity is closeness alone.
    """
    data, settings = fidelity_data or evaluation, settings or Measure()
    how = (opened or {}, min_pairs, figures)
    job = _Job(paths, providers, threads, settings, evaluation, metrics, data, outputs, seed, progress, *how)

    def asked(part: Measured, measure: Callable[[], T]) -> T | str:
        return measure() if part in parts else NOT_ASKED

    timed = {"latency", "cost"} & set(parts)
    return Comparison(
        models={name: str(path) for name, path in paths.items()},
        environment=describe_environment(providers[0].name, threads),
        size=asked("size", job.sizes),
        accuracy=asked("accuracy", job.accuracy),
        fidelity=asked("fidelity", job.fidelity),
        fidelity_data=data.name if data is not None else SYNTHETIC,
        feed=job.feed_description() if timed else NOT_ASKED,
        latency=asked("latency", job.latency),
        cost=asked("cost", job.cost),
        peak_memory=peak_memory(),
    )


@dataclass(frozen=True)
class _Job:
    """What the parts share: models are opened once, and the timed feed is found once, when first needed."""

    paths: Mapping[str, Path]
    providers: Sequence[Provider]
    threads: int
    settings: Measure
    evaluation: Dataset | None
    metrics: Sequence[str]
    data: Dataset | None
    outputs: Mapping[str, str] | None
    seed: int
    progress: Progress
    opened: Mapping[str, Session]
    min_pairs: int
    figures: bool

    def sizes(self) -> dict[str, Size]:
        return {name: measure_size(path) for name, path in self.paths.items()}

    def accuracy(self) -> Accuracy | str:
        if self.evaluation is None or not self.metrics:
            return f"not measured: no {'metric' if self.evaluation else 'evaluation data'} is given"
        return evaluate(self.exact, self.evaluation, self.metrics, seed=self.seed, progress=self.progress)

    def fidelity(self) -> Fidelity | str:
        if len(self.paths) < 2:
            return "not measured: there is no other model to compare with"
        data = self.data if self.data is not None else synthetic_data(self.exact, self.settings, self.seed)
        if isinstance(data, NoFeed):
            return f"not measured: {data.reason}"
        return compare_fidelity(
            self.exact,
            data.batches(),
            outputs=self.outputs,
            made_up=data.name in MADE_UP,
            figures=self.figures,
            progress=self.progress,
            total=data.batch_count(),
        )

    def latency(self) -> LatencyResult | str:
        if isinstance(self.feed, NoFeed):
            return f"not measured: {self.feed.reason}"
        return compare_latency(
            self.sessions,
            self.feed,
            seconds=self.settings.seconds,
            min_pairs=self.min_pairs,
            progress=self.progress,
        )

    def cost(self) -> dict[str, Profile] | str:
        if isinstance(self.feed, NoFeed):
            return f"not measured: {self.feed.reason}"
        try:
            given = self.feed
            return {name: profile_run(path, given, self.providers, self.threads) for name, path in self.paths.items()}
        except ModelError as error:  # the models run, but not under the profiler
            return f"not measured: {error.message}"

    def feed_description(self) -> Feed | str:
        if isinstance(self.feed, NoFeed):
            return f"not measured: {self.feed.reason}"
        source = self.data.name if self.data is not None else SYNTHETIC
        return Feed(source, {name: array.shape for name, array in self.feed.items()})

    @cached_property
    def feed(self) -> Arrays | NoFeed:
        return latency_feed(self.sessions, self.data, self.settings, self.seed)

    @cached_property
    def sessions(self) -> dict[str, Session]:
        return self._open(self.providers, self.opened)

    @cached_property
    def exact(self) -> dict[str, Session]:
        """Sessions that compute in full float32: TF32 would be a second rounding beside the one that is judged."""
        precise = [_exact(provider) for provider in self.providers]
        return self.sessions if precise == list(self.providers) else self._open(precise, {})

    def _open(self, providers: Sequence[Provider], opened: Mapping[str, Session]) -> dict[str, Session]:
        return {
            name: opened.get(name) or open_session(path, providers, threads=self.threads)
            for name, path in self.paths.items()
        }


def _exact(provider: Provider) -> Provider:
    return Provider(provider.name, {**provider.options, **provider.facts.exact})


def judge_model(
    budget: Budget, comparison: Comparison | None, model: str, *, original_size: int, size: int
) -> list[Verdict]:
    """Hold one model of a comparison against a budget; sizes are counted bytes, the drop is the first metric's."""
    latency = comparison.latency if comparison else NOT_ASKED
    accuracy = comparison.accuracy if comparison else NOT_ASKED
    speedup = None if isinstance(latency, str) else latency.models[model].speedup_interval
    drop = None if isinstance(accuracy, str) else next(iter(accuracy.metrics.values())).models[model].drop
    fidelity = comparison.fidelity if comparison else NOT_ASKED
    closeness = (None, "") if isinstance(fidelity, str) else fidelity.closeness(model)
    return judge(budget, original_size=original_size, size=size, speedup=speedup, drop=drop, closeness=closeness)
