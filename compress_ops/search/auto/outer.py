"""The search of the outer choices by a study that others may work on too: each trial is a base, and a loop on it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...catalogue import PASSES
from ...errors import OnnxpressError, UsageError
from ...pipeline.job import Prepared
from ...recipe import Auto, Step, step_from
from ...report.choices import PointReport, SearchReport
from ..costs.forms import Form
from ..solver import not_dominated
from .bases import Base, affordable, base_of, further
from .explained import point_report
from .outer_choices import Choices, first_choices
from .rounds import Loop, Point
from .storage import shown
from .study import Record, Study, study_at
from .wishes import Wishes
from .worth import IMPOSSIBLE, Measured, worth

if TYPE_CHECKING:
    import optuna

_MODELS = 3  # that the loop of a trial makes, at most, beside those that it begins with
_KNOWN = 30  # suggestions in a row that were tried before: there is nothing left
MakeLoop = Callable[[Base, Callable[[Form], Form], int], Loop]


@dataclass
class Outer:
    """``mine`` are the numbers of the trials that were done here; ``epoch`` is what one took, in seconds."""

    study: Study
    prepared: Prepared
    wishes: Wishes
    auto: Auto
    mine: set[int] = field(default_factory=set)
    epoch: float | None = None

    def run(self, loop_of: MakeLoop, until: float) -> None:
        """Try what the study suggests until the time is up, or it has as many trials as were asked for."""
        self.study.begin_with([each.told() for each in first_choices(retrain=self.auto.retrain)])
        while not self._is_over(until) and (asked := self._new()) is not None:
            trial, choices = asked
            try:
                value, kept = self._tried(trial.number, choices, loop_of)
            except BaseException:
                self.study.give_back(trial)
                raise
            self.study.tell(trial, value, kept)
            self.mine.add(trial.number)

    def _is_over(self, until: float) -> bool:
        if self.auto.trials is not None:
            return len(self.study.records()) >= self.auto.trials
        return time.perf_counter() > until

    def _new(self) -> tuple[optuna.Trial, Choices] | None:
        """A trial of what has not been tried before; None where nothing else is suggested any more."""
        for _ in range(_KNOWN):
            trial = self.study.ask()
            choices = self.study.suggested(trial, lambda each: Choices.suggested(each, retrain=self.auto.retrain))
            if not self.study.is_known(trial):
                return trial, choices
            self.study.drop(trial)
        return None

    def _tried(self, number: int, choices: Choices, loop_of: MakeLoop) -> tuple[float, dict[str, Any]]:
        """What the choices came to, and what is kept of it."""
        try:
            base = self._base(f"trial {number}" + (f", {choices.cut:.0%} cut" if choices.cut else ""), choices)
            if not base.may_keep(self.wishes):
                return worth(self.wishes, Measured.of_base(base, self.wishes)), {
                    "failed": "too much is lost by the cut"
                }
            loop = loop_of(base, choices.form, _MODELS)
            loop.run()
            if not loop.points:
                return IMPOSSIBLE, {"failed": (loop.failed or ["nothing could be tried"])[-1]}
        except OnnxpressError as fault:
            return IMPOSSIBLE, {"failed": fault.message}
        value, point = min(((self.worth(loop, point), point) for point in loop.points), key=lambda pair: pair[0])
        return value, _kept(loop, point)

    def worth(self, loop: Loop, point: Point) -> float:
        """The value of a model that was made here."""
        return worth(self.wishes, Measured.of(loop, point))

    def _base(self, name: str, choices: Choices) -> Base:
        epochs = self._affordable(choices.epochs)
        base = base_of(name, further(self.prepared, replace(choices, epochs=epochs).passes()), self.wishes)
        if epochs:
            self.epoch = base.prepared.behind[-1].seconds / epochs
        return base

    def _affordable(self, epochs: int) -> int:
        """As many as fit into a share of the time, once it is known what one takes."""
        if self.auto.trials is not None or self.epoch is None or not epochs:
            return epochs
        return affordable(self.auto, self.epoch, epochs)

    def elsewhere(self) -> Record | None:
        """The best of the study, if it was not made here; None if it was, or there is none."""
        made = [record for record in self.study.records() if "passes" in record.kept]
        best = min(made, key=lambda record: record.value, default=None)
        return None if best is None or best.number in self.mine else best

    def report(self, best: Record) -> SearchReport:
        """All models of the study, of each trial the best; single layers are told of where a model was made."""
        records = [record for record in self.study.records() if "passes" in record.kept]
        front = not_dominated(np.array([_costs(record.kept["point"]) for record in records]))
        points = [
            PointReport(**{**record.kept["point"], "on_front": bool(on), "chosen": record.number == best.number})
            for record, on in zip(records, front, strict=True)
        ]
        told = f"Trial {best.number} of the study is the best; another process, or an earlier run, made it."
        return SearchReport(self.wishes.objective, points, [], [], None, None, [told, *self.notes()])

    def notes(self) -> Iterator[str]:
        """How many trials there were, and why some made nothing."""
        records = self.study.records()
        failed = [record for record in records if "failed" in record.kept]
        yield f"{len(records)} trials of the study in {shown(self.study.place)}, {len(self.mine)} of them made here."
        if failed:
            yield f"{len(failed)} of them made no model; the last: {failed[-1].kept['failed']}."


def _kept(loop: Loop, point: Point) -> dict[str, Any]:
    """Of a point what another process needs to make it again, and to tell of it."""
    return {
        "passes": [step.resolved() for step in point.trial.passes],
        "point": asdict(point_report(loop, point, on_front=False, chosen=False)),
        "verdicts": [asdict(verdict) for verdict in point.verdicts],
    }


def _costs(point: Mapping[str, Any]) -> tuple[float, float, float]:
    return 1 - (point["closeness"] or 0.0), point["bytes"], 1 / (point["speedup"] or 1.0)


def steps_of_record(record: Record) -> list[Step]:
    """The steps of a recipe, from what a study keeps."""
    try:
        return [step_from(PASSES[name], options) for entry in record.kept["passes"] for name, options in entry.items()]
    except (KeyError, OnnxpressError) as fault:
        raise UsageError(
            f"trial {record.number} of the study has a step that is not known here: {fault}",
            hint="another release of onnxpress made it; go on with that one, or name another --storage",
        ) from fault


def outer_of(place: str | Path, prepared: Prepared, wishes: Wishes, auto: Auto, *, must_be_there: bool) -> Outer:
    """The search whose study lies at a place."""
    seed = prepared.job.recipe.seed
    study = study_at(place, identity_of(prepared, wishes, auto), seed, must_be_there=must_be_there)
    return Outer(study, prepared, wishes, auto)


def identity_of(prepared: Prepared, wishes: Wishes, auto: Auto) -> dict[str, str]:
    """All that a value follows from, in words or as digests: what must be the same for trials to be of one study."""
    recipe = prepared.job.recipe
    reading = recipe.data.model_dump(mode="json", exclude={"calibration": True})
    for part in ("training", "evaluation"):
        (reading.get(part) or {}).pop("path", None)
    others = [reading, recipe.measure.model_dump(mode="json"), recipe.drop_default_inputs, recipe.keep_metadata]
    return {
        **{_named(role): digest[:16] for role, digest in sorted(prepared.hashes.items())},
        "budget": _shown(wishes.budget.model_dump(mode="json", exclude_none=True)),
        "aim": wishes.objective,
        "device": auto.device or "",
        "retrain": "yes" if auto.retrain else "no",
        "provider": ", ".join(f"{each.name} {_shown(each.options)}".strip() for each in recipe.provider),
        "threads": str(recipe.threads),
        "seed": str(recipe.seed),
        "how data is read and measured": hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()[:16],
    }


def _named(role: str) -> str:
    return role if role == "model" else f"{role} data"


def _shown(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
