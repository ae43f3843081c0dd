"""Before any work starts: everything that can be known to be wrong is found, and told together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..data import Dataset, DataSettings, ImageSettings, open_data
from ..errors import OnnxpressError, OutputError, RecipeError, UsageError, raise_all
from ..files import model_files
from ..measure.metrics import parse_metric
from ..model import Model, load
from ..passes import Need, unmatched
from ..recipe import Step
from ..runtime import Port, check_providers, open_session
from .job import Job, Prepared, counted_bytes, model_digest

T = TypeVar("T")


@dataclass
class _Collector:
    """Runs checks and keeps their faults; a check that fails gives None."""

    faults: list[OnnxpressError] = field(default_factory=list)

    def check(self, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except OnnxpressError as fault:
            self.faults.append(fault)
            return None


def prepare(job: Job) -> Prepared:
    """Open the model and the data and check them against the recipe; raises all faults together."""
    collector = _Collector()
    collector.check(lambda: check_output(job.out, force=job.force) if job.out is not None else None)
    collector.check(lambda: check_providers(job.recipe.provider))
    model = collector.check(lambda: load(job.model))
    ports = collector.check(lambda: _ports(job.model)) if model is not None else None
    data = _open_all(job, ports, collector) if ports is not None else {}
    if model is not None:
        collector.faults += [*_unmatched_patterns(job, model)]
    collector.faults += [*_unmet_needs(job), *_unmeasured_budgets(job), *_unknown_metrics(job)]
    raise_all(collector.faults)
    assert model is not None
    hashes = {"model": model_digest(job.model), **{role: dataset.digest() for role, dataset in data.items()}}
    raise_all(_changed_since_report(job, hashes))
    size = sum(file.stat().st_size for file in model_files(job.model))
    return Prepared(job, model, data, counted_bytes(model, size), hashes)


def check_output(out: Path, *, force: bool) -> None:
    """Raise OutputError unless ``out`` is a path that may be written."""
    if out.is_dir():
        raise OutputError(f"{out} is a folder; name the file to write")
    if out.exists() and not force:
        raise OutputError(f"{out} exists already", hint="give --force to replace it")
    if not out.parent.is_dir():
        raise OutputError(f"the folder {out.parent} does not exist", hint=f"mkdir -p {out.parent}")
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"the folder {out.parent} is not writable")


def _ports(path: Path) -> tuple[Port, ...]:
    """The model's inputs, as onnxruntime tells them; on the CPU, since only names, types and shapes are asked for."""
    return open_session(path, optimize=False).inputs


def data_settings(job: Job, *, needs_labels: bool) -> DataSettings:
    """How the recipe's data sections are to be read; only evaluation needs its labels."""
    recipe = job.recipe
    images = recipe.data.images
    return DataSettings(
        batch_size=recipe.data.batch_size,
        labels=recipe.data.evaluation.labels if recipe.data.evaluation else None,
        needs_labels=needs_labels,
        images=ImageSettings(**images.model_dump()) if images is not None else None,
        seed=recipe.seed,
        dims=recipe.measure.dims,
        values=recipe.measure.values,
        allow_code=job.allow_code,
        base=job.loaded.folder,
    )


def _open_all(job: Job, ports: tuple[Port, ...], collector: _Collector) -> dict[str, Dataset]:
    section = job.recipe.data
    evaluation = section.evaluation
    sources = {
        "calibration": section.calibration,
        "training": section.training,
        "evaluation": evaluation.path if evaluation else None,
    }
    opened = {
        role: collector.check(partial(open_data, source, ports, data_settings(job, needs_labels=role == "evaluation")))
        for role, source in sources.items()
        if source is not None
    }
    return {role: dataset for role, dataset in opened.items() if dataset is not None}


def _unmatched_patterns(job: Job, model: Model) -> Iterator[OnnxpressError]:
    for index, step in enumerate(job.recipe.passes):
        for option in ("only", "skip"):
            for pattern in unmatched(model, step.arguments().get(option, [])):
                place = job.loaded.document.place(("passes", index, step.operation.name, option))
                hint = "patterns are matched against node names and operator types; see: onnxpress inspect --nodes"
                yield RecipeError(
                    f"{option} pattern '{pattern}' matches no node of {job.model}", hint=hint, place=place
                )


def _unmet_needs(job: Job) -> Iterator[OnnxpressError]:
    given = {
        Need.CALIBRATION: job.recipe.data.calibration,
        Need.TRAINING: job.recipe.data.training or job.recipe.data.calibration,
        Need.EVALUATION: job.recipe.data.evaluation,
        Need.SHAPES: True,
    }
    for index, step in enumerate(job.recipe.passes):
        for need in sorted(step.operation.needs):
            if not given[need]:
                yield _needs(job, index, step, need)


def _needs(job: Job, index: int, step: Step, need: Need) -> OnnxpressError:
    place = job.loaded.document.place(("passes", index))
    key = need.value.removesuffix(" data")
    return RecipeError(
        f"{step.operation.name} needs {need.value}", hint=f"give data.{key} in the recipe, or --data", place=place
    )


def _unmeasured_budgets(job: Job) -> Iterator[OnnxpressError]:
    budget, evaluation = job.recipe.budget, job.recipe.data.evaluation
    place = job.loaded.document.place(("budget",))
    if not job.measure and (budget.min_speedup is not None or budget.max_drop is not None):
        yield UsageError(
            "the budget asks for what --no-measure does not measure", hint="drop one of the two", place=place
        )
    if budget.max_drop is not None and not (evaluation and evaluation.metrics):
        hint = "give data.evaluation with labels and metrics, or drop max_drop"
        yield RecipeError("max_drop needs evaluation data and a metric", hint=hint, place=place)


def _unknown_metrics(job: Job) -> Iterator[OnnxpressError]:
    evaluation = job.recipe.data.evaluation
    place = job.loaded.document.place(("data", "evaluation", "metrics"))
    for name in evaluation.metrics if evaluation else ():
        try:
            parse_metric(name)
        except OnnxpressError as fault:
            yield RecipeError(fault.message, hint=fault.hint, place=place)
    if evaluation and evaluation.metrics and not evaluation.labels:
        yield RecipeError("metrics need labels", hint="name the array that holds them: labels: label", place=place)


def _changed_since_report(job: Job, hashes: dict[str, str]) -> Iterator[OnnxpressError]:
    for what, digest in job.loaded.expected.items():
        if hashes.get(what, digest) != digest:
            yield UsageError(
                f"{what} is not what the report was made with", hint="replay needs the same model and data"
            )
