"""onnxpress auto: from limits and data to a recipe that holds them, and its proof."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ...devices import TARGETS, Target
from ...errors import UsageError
from ...files.cache import cache_folder
from ...pipeline.job import Job, Prepared, with_passes
from ...pipeline.preflight import prepare
from ...pipeline.steps import context_of
from ...recipe import Auto, Step
from ...report.choices import SearchReport
from ...report.report import Report
from ..candidates import finishing
from ..costs.apart import layers_of
from ..costs.cost_table import measure_costs
from ..costs.forms import Form, forms_for
from ..costs.times import Timetable
from ..preparing import begun
from ..trials import Trial, Trials, finished_trial, trials_of
from .bases import Base, base_of, narrower
from .explained import explained
from .hints import hints, why_it_cannot_be
from .outer import Outer, outer_of, steps_of_record
from .predicted import Predictions
from .rounds import Loop, Point
from .storage import kept_besides, storage_of
from .wishes import Wishes

_COSTS = 0.3  # of the time that is left may be gone when the last form is costed
_SHARE = 0.5  # of the time may be gone when narrower models are begun with


def run_auto(job: Job, *, keep_best: bool = False) -> Report:
    """Find the steps that keep the budget of a recipe of ``passes: auto``, run them, and prove the result.

    With ``keep_best`` an interrupted search ends with the best model that it has made. Raises UsageError where the
    limits cannot be met by anything that can be tried, and where run() does.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    auto = job.recipe.auto or Auto()
    wishes = Wishes.of(job.recipe.budget, auto.aim)
    place, must_be_there = storage_of(job), job.resume and auto.storage is not None
    job = replace(job, resume=False, others=[*job.others, *kept_besides(place)])
    prepared = begun(prepare(replace(job, measure=True)))
    prepared = replace(prepared, job=replace(prepared.job, out=None))
    outer = outer_of(place, prepared, wishes, auto, must_be_there=must_be_there) if place is not None else None
    with trials_of(prepared, isolated=True) as workshop:
        search = Search(workshop, wishes, auto, started, outer)
        try:
            search.run()
        except KeyboardInterrupt:
            if not keep_best or not search.has_found():
                raise
        steps, trial, found = search.result()
        report = finished_trial(_held(with_passes(job, steps), wishes), trial)
    return replace(
        report,
        search=found,
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu_started,
    )


def _held(job: Job, wishes: Wishes) -> Job:
    recipe = job.recipe.model_copy(update={"budget": wishes.budget})
    return replace(job, loaded=replace(job.loaded, recipe=recipe))


@dataclass
class Search:
    """All that is tried: a loop on the model as it is, and on narrower ones, or on what ``outer`` suggests."""

    workshop: Trials
    wishes: Wishes
    auto: Auto
    started: float
    outer: Outer | None = None
    loops: list[Loop] = field(default_factory=list)

    def run(self) -> None:
        """Search on one model after the other, until all has been tried or the time is up."""
        if self.outer is not None:
            return self.outer.run(self._loop_for, self._until())
        prepared, impossible = self.workshop.prepared, list[UsageError]()
        for base in self._bases(prepared):
            loop = self._loop(base)
            if (why := why_it_cannot_be(loop)) is not None:
                impossible.append(why)
                continue
            self.loops.append(loop)
            loop.run()
            if self._is_over():
                return
        if not self.loops:
            raise impossible[0]

    def _loop_for(self, base: Base, change: Callable[[Form], Form], most: int) -> Loop:
        """A loop on a base of the outer choices."""
        self.loops.append(self._loop(base, change, most))
        return self.loops[-1]

    def has_found(self) -> bool:
        """Whether there is a model to be written, made here or elsewhere."""
        return bool(self.points) or (self.outer is not None and self.outer.elsewhere() is not None)

    def result(self) -> tuple[list[Step], Trial | None, SearchReport]:
        """The steps of the best model, its trial if it was made here, and how it was found."""
        record = self.outer.elsewhere() if self.outer is not None else None
        if self.outer is not None and record is not None:
            return steps_of_record(record), None, self.outer.report(record)
        loop, best = self.chosen()
        notes = self.outer.notes() if self.outer is not None else ()
        told = explained(self.loops, best, [*hints(self.loops, loop, best, self.auto), *notes])
        return best.trial.passes, best.trial, told

    @property
    def points(self) -> list[Point]:
        return [point for loop in self.loops for point in loop.points]

    def chosen(self) -> tuple[Loop, Point]:
        """The best of all that hold every limit; else the nearest, what limits loss first.

        Raises UsageError where no model was made, or none that is smaller or faster than the original.
        """
        made = [(loop, point) for loop in self.loops for point in loop.points]
        if not made:
            reasons = [reason for loop in self.loops for reason in loop.failed] or ["there was no time for one"]
            raise UsageError("no model could be made", hint=f"the last try: {reasons[-1]}; or give more --minutes")
        gaining = [(loop, point) for loop, point in made if loop.gains(point)]
        if not gaining:
            hint = "give more --minutes, or a looser --min-closeness or --max-drop"
            raise UsageError("no model that was made is smaller or faster", hint=hint)
        met = [(loop, point) for loop, point in gaining if point.meets]
        if met:
            return min(met, key=lambda pair: pair[0].value(pair[1]))
        return max(gaining, key=lambda pair: pair[0].nearness(pair[1]))

    def _bases(self, prepared: Prepared) -> Iterator[Base]:
        yield base_of("", prepared, self.wishes)
        if self._may_cut() and not self._is_over(_SHARE):
            yield from narrower(prepared, self.wishes, self.auto)

    def _may_cut(self) -> bool:
        return self.wishes.objective != "loss" or not any(point.meets for point in self.points)

    def _is_over(self, share: float = 1.0) -> bool:
        if self.auto.trials is not None:
            return len(self.points) >= self.auto.trials
        return time.perf_counter() - self.started > share * self.auto.minutes * 60

    def _loop(self, base: Base, change: Callable[[Form], Form] = lambda form: form, most: int | None = None) -> Loop:
        prepared = base.prepared
        model, ctx = prepared.model.copy(), context_of(prepared)
        model.infer_shapes()
        forms = [change(form) for form in self._forms(prepared)]
        layers = layers_of(model)
        if not layers:
            hint = "onnxpress quantize MODEL tries recipes for the whole of it"
            raise UsageError("the main graph has no layer with weights of float32 to choose for", hint=hint)
        table = Timetable.opened(ctx.providers, ctx.threads, cache_folder())
        costs = measure_costs(model, layers, forms, ctx, table, self._until(_COSTS))
        predictions = Predictions(
            costs,
            base.size("prepared"),
            base.seconds("prepared"),
            prepared.original_bytes,
            base.seconds("original"),
            base.loss,
        )
        workshop = self.workshop.going_on(prepared)
        behind = finishing(model, prepared.job.recipe.provider[0].name)
        return Loop(base.name, workshop, self.wishes, forms, predictions, behind, self._until(), most or self._left())

    def _forms(self, prepared: Prepared) -> Sequence[Form]:
        return forms_for(self._target(prepared))

    def _target(self, prepared: Prepared) -> Target | None:
        """The device that was named, or the one that a provider other than the CPU stands for."""
        provider = prepared.job.recipe.provider[0].name
        return TARGETS.get(self.auto.device or "", None if provider == "cpu" else TARGETS.get(provider))

    def _until(self, share: float = 1.0) -> float:
        """When a share of the time that is left now will be gone."""
        if self.auto.trials is not None:
            return math.inf
        now = time.perf_counter()
        return now + share * (self.started + self.auto.minutes * 60 - now)

    def _left(self) -> int:
        return max(self.auto.trials - len(self.points), 1) if self.auto.trials is not None else 10**6
