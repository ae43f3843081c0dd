"""Propose a choice, make the model, measure it, correct what is expected, and propose again.

What limits loss is met or missed by a whole model, and the solver holds the losses that it expects below a level. The
level goes up as long as models meet the limit and down where one misses it, by bisection of its logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from ...arrays import Array
from ...measure.budget import Verdict, judge
from ...measure.comparison import compare_models
from ...measure.metrics.scores import Drop
from ...recipe import Step
from ..candidates import MAY_FAIL, Candidate
from ..costs.forms import Form
from ..precisions import Passes
from ..preparing import steps_of
from ..solver import best, front
from ..trials import Trial, Trials
from .points import steps_for, told
from .predicted import Predictions
from .wishes import Wishes

_ROUNDS = 8
_FIRST_LEVEL = 0.02  # noise over signal: about 0.99 of closeness
_MARGIN = 0.9  # of the distance to a limit of closeness
_FACTOR = 3.0  # by which the level moves while only one side is known
_SETTLED = 1.3  # the ratio of the two sides at which the search ends
_ABOUT = 1.5  # of what layers take by themselves: among integers they may be faster than that
_ASIDE = 1.05  # how far a guess must lie from a level that is known
_BETTER = 0.99  # of the best so far is worth another model
_LOWEST, _HIGHEST = 1e-7, 1.0


@dataclass(frozen=True)
class Point:
    """A choice that was made and measured; ``expected`` by kind before it was made, ``drop`` of the first metric."""

    choice: Array
    trial: Trial
    level: float
    expected: dict[str, float]
    verdicts: list[Verdict]
    drop: Drop | None = None
    refined: bool = False

    @property
    def meets(self) -> bool:
        return all(verdict.verdict == "met" for verdict in self.verdicts)

    def keeps(self, *limits: str) -> bool:
        return all(verdict.verdict == "met" for verdict in self.verdicts if verdict.limit in limits)


_OTHERS = ("max_size", "min_speedup")
_REFINING: Passes = [{"learn_rounding": MAY_FAIL}, {"correct_bias": {**MAY_FAIL, "add_missing": False}}]


def _between(low: float, high: float) -> float:
    """Half way in the logarithm; a good step up or down while only one side is known."""
    if low == 0:
        return high / _FACTOR
    return low * _FACTOR if math.isinf(high) else math.sqrt(low * high)


def _keeps(expected: dict[str, float], limits: dict[str, float]) -> bool:
    return all(expected[kind] <= limit * 1.02 for kind, limit in limits.items())


OF_LOSS = ("max_drop", "min_closeness")


@dataclass
class Loop:
    """The state of a search on one model: what was made, and what is expected of what was not."""

    name: str
    workshop: Trials
    wishes: Wishes
    forms: Sequence[Form]
    predictions: Predictions
    behind: Sequence[Step]
    until: float
    most: int
    points: list[Point] = field(default_factory=list)
    tried: list[Array] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lasted: float = 0.0

    def run(self) -> None:
        """Propose and measure until nothing new comes, or time or trials are spent; then refine what nearly held."""
        for _ in self.workshop.prepared.job.progress(self._rounds(), "searching"):
            pass
        if (near := self._nearly()) is not None and self._has_time():
            self.make(near.choice, near.level, more=steps_of(_REFINING))

    def _rounds(self) -> Iterator[int]:
        level, low, high = self._first_level(), 0.0, math.inf
        for seed in self.seeds():
            self.make(seed, level)
            yield 0
        for number in range(_ROUNDS):
            choice = self.proposal(level)
            if choice is None or not self._has_time():
                break
            if self._is_new(choice):
                self.make(choice, level)
                yield number
            point = self._made(choice)
            low, high = (low, level) if not self._held(choice, point) else (level, high)
            if high / max(low, _LOWEST) < _SETTLED or low >= _HIGHEST:
                break
            level = self._next_level(point, low, high)

    def _has_time(self) -> bool:
        """Whether another model can be made, if it takes as long as the last."""
        return len(self.points) < self.most and perf_counter() + self.lasted < self.until

    def _is_new(self, choice: Array) -> bool:
        """Whether a choice was not tried, and is expected to be better than the best that holds all limits."""
        met = [self.value(point) for point in self.points if point.meets]
        promises = not met or self.predictions.of(choice)[self.wishes.objective] < _BETTER * min(met)
        return promises and not any(np.array_equal(choice, other) for other in self.tried)

    def _made(self, choice: Array) -> Point | None:
        return next((point for point in self.points if np.array_equal(choice, point.choice)), None)

    def _held(self, choice: Array, point: Point | None) -> bool:
        """Whether a choice holds what limits loss; one that was not worth making is taken to, one that failed not."""
        if point is None:
            return not any(np.array_equal(choice, other) for other in self.tried)
        return point.keeps(*OF_LOSS)

    def _nearly(self) -> Point | None:
        """The closest of those in integers that would be the best if only they lost a little less."""
        met = min((self.value(point) for point in self.points if point.meets), default=math.inf)
        better = [point for point in self.points if self.value(point) < _BETTER * met and point.keeps(*_OTHERS)]
        lossy = [point for point in better if not point.keeps(*OF_LOSS) and self._in_integers(point.choice)]
        return min(lossy, key=self.distance, default=None)

    def _in_integers(self, choice: Array) -> bool:
        return bool((self.predictions.costs.edges[np.arange(len(choice)), choice] > 0).any())

    def _next_level(self, point: Point | None, low: float, high: float) -> float:
        """Half way between what held and what did not, or where closeness, if that is the limit, is just enough."""
        wanted, level = self.wishes.budget.min_closeness, _between(low, high)
        if point is not None and wanted is not None and self.wishes.budget.max_drop is None:
            guess = point.level * (1 - wanted) / max(self.distance(point), 1e-9) * _MARGIN
            level = guess if low * _ASIDE < guess < high / _ASIDE else level
        return min(max(level, _LOWEST), _HIGHEST)

    def seeds(self) -> Iterator[Array]:
        """Integers wherever they can be: what a layer takes among them is not what it takes among floats."""
        costs = self.predictions.costs
        for number in range(1, len(costs.forms)):
            can = np.isfinite(costs.loss[:, number])
            alone, before = costs.seconds[can, number].sum(), costs.seconds[can, 0].sum()
            if (costs.edges[can, number] > 0).any() and alone < _ABOUT * before:
                yield np.where(can, number, 0)

    def _first_level(self) -> float:
        closeness = self.wishes.budget.min_closeness
        return _FIRST_LEVEL if closeness is None else max(2 * (1 - closeness) * _MARGIN, _LOWEST)

    def proposal(self, level: float) -> Array | None:
        """The choice that costs least of what is asked for, within the limits; else the one within the others that
        loses least; None where nothing is within these."""
        limits = self._limits()
        found = self._best({**limits, "loss": level}, self.wishes.objective)
        return found if found is not None else self._best(limits, "loss")

    def _best(self, limits: dict[str, float], objective: str) -> Array | None:
        """Of what each anchor proposes the best as all of them tell it."""
        found = [best(problem, front(problem), limits, objective) for problem in self.predictions.problems()]
        expected = [(self.predictions.of(choice), choice) for choice in found if choice is not None]
        within = [(of[objective], i) for i, (of, _) in enumerate(expected) if _keeps(of, limits)]
        return expected[min(within)[1]][1] if within else None

    def _limits(self) -> dict[str, float]:
        """By kind what the wishes allow, with a margin for what is known by prediction."""
        most = {
            "bytes": self.wishes.most_bytes(self.predictions.original_size) * 0.995,
            "seconds": self.wishes.most_seconds(self.predictions.original_seconds) * 0.97,
        }
        return {kind: limit for kind, limit in most.items() if math.isfinite(limit)}

    def make(self, choice: Array, level: float, more: Sequence[Step] = ()) -> Point | None:
        """Make the model of a choice, measure it, and learn from it; None where it cannot be made."""
        started, name = perf_counter(), told(choice, self.predictions.costs.forms) + (", refined" if more else "")
        self.tried.append(choice)
        found = self.workshop.make([Candidate(name, [*self._steps(choice), *more, *self.behind])])
        point = self._point(choice, level, found[0], refined=bool(more)) if found else None
        self.lasted = perf_counter() - started
        if point is None:
            self.failed.append(f"{name}: {self.workshop.refused[-1].message}")
            return None
        self.points.append(point)
        if not more:
            loss = None if point.trial.closeness is None else 2 * self.distance(point)
            self.predictions.learn(choice, loss, None if point.trial.speedup is None else self.seconds(point))
        return point

    def _steps(self, choice: Array) -> list[Step]:
        prepared, costs = self.workshop.prepared, self.predictions.costs
        present = {node.op_type for node in prepared.model.nodes()}
        return [*prepared.job.recipe.passes, *steps_for(choice, costs.layers, self.forms, present)]

    def _point(self, choice: Array, level: float, trial: Trial, *, refined: bool) -> Point:
        drop = self._drop(trial)
        verdicts = judge(
            self.wishes.budget,
            original_size=self.predictions.original_size,
            size=trial.bytes,
            speedup=trial.interval,
            drop=drop,
            closeness=(trial.closeness, trial.why),
        )
        return Point(choice, trial, level, self.predictions.of(choice), verdicts, drop, refined)

    def value(self, point: Point) -> float:
        """What the objective comes to, as measured."""
        size, seconds, of = point.trial.bytes, self.seconds(point), self.predictions
        both = size / of.original_size + seconds / of.original_seconds
        found = {"bytes": float(size), "seconds": seconds, "loss": self.distance(point), "size and time": both}
        return found[self.wishes.objective]

    def gains(self, point: Point) -> bool:
        """Whether a model is smaller than the original, or surely faster."""
        interval = point.trial.interval
        return point.trial.bytes < self.predictions.original_size or (interval is not None and interval.low > 1)

    def nearness(self, point: Point) -> tuple[bool, int, float]:
        """What is better where no model holds every limit: first that loss is held, then how many others, then how."""
        held = sum(verdict.verdict == "met" for verdict in point.verdicts)
        lossless = point.keeps(*OF_LOSS)
        return lossless, held, -self._excess(point) if lossless else -self.distance(point)

    def _excess(self, point: Point) -> float:
        """How far beyond its limits of size and time it is, as a share."""
        size = point.trial.bytes / self.wishes.most_bytes(self.predictions.original_size)
        seconds = self.seconds(point) / self.wishes.most_seconds(self.predictions.original_seconds)
        return max(size, 1.0) + max(seconds, 1.0)

    def seconds(self, point: Point) -> float:
        """What an inference takes, beside what the original took at first."""
        return self.predictions.original_seconds / (point.trial.speedup or 1.0)

    def distance(self, point: Point) -> float:
        """How far the outputs have moved; what cannot be told counts as far."""
        return 1 - (point.trial.closeness if point.trial.closeness is not None else 0.0)

    def _drop(self, trial: Trial) -> Drop | None:
        """Of the first metric, where that is limited."""
        if self.wishes.budget.max_drop is None:
            return None
        prepared = self.workshop.prepared
        recipe, evaluation = prepared.job.recipe, prepared.job.recipe.data.evaluation
        found = compare_models(
            {"original": prepared.job.model, "result": trial.path},
            providers=recipe.provider,
            threads=recipe.threads,
            evaluation=prepared.data.get("evaluation"),
            metrics=evaluation.metrics[:1] if evaluation else [],
            seed=recipe.seed,
            parts={"accuracy"},
            opened={"original": self.workshop.original},
        )
        if isinstance(found.accuracy, str):
            return None
        return next(iter(found.accuracy.metrics.values())).models["result"].drop
