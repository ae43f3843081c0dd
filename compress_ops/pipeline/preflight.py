"""Before any work starts: everything that can be known to be wrong is found, and told together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from ..data import Dataset, DataSettings, brings_labels, open_data
from ..data.fit import size_faults
from ..data.forms.table import is_data_file, is_known, is_path
from ..distill.training.checkpoint import read_state, refuse_other_training
from ..errors import OnnxpressError, OutputError, Place, RecipeError, UsageError, did_you_mean, raise_all
from ..files.models import model_files
from ..files.reading import is_absent, unreadable
from ..files.writing import Input, output_faults, resolved
from ..measure.metrics.table import parse_metric
from ..model import Model
from ..passes import Context, Need, Promise, unmatched
from ..recipe import Step
from ..runtime import CPU, Port, check_providers, open_session, short_name
from .against import reference_faults, reference_of
from .job import Job, Prepared, checkpoint_of, counted_bytes, model_digest, model_of, training_identity

T = TypeVar("T")


@dataclass
class _Collector:
    """Runs checks and keeps their faults, told at ``place`` where one is given; a check that fails gives None."""

    faults: list[OnnxpressError] = field(default_factory=list)

    def check(self, action: Callable[[], T], place: Place | None = None) -> T | None:
        try:
            return action()
        except OnnxpressError as fault:
            self.faults.append(fault.moved(place) if place else fault)
            return None


def prepare(job: Job) -> Prepared:
    """Open the model and the data and check them against the recipe; raises all faults together."""
    collector = _Collector([*job.loaded.faults, *_checkpoint_faults(job)])
    collector.check(lambda: check_providers(job.recipe.provider), _provider_place(job))
    refused = _Collector()
    model = collector.check(lambda: model_of(job))  # first, since what does not pass the gate can crash onnxruntime
    ports = _ports(job, refused) if model is not None else None
    data = _open_all(job, ports, collector) if ports is not None and model is not None else {}
    collector.faults += refused.faults
    if model is not None:
        collector.faults += _unmatched_patterns(job, model)
    if ports is not None and not job.dry_run:
        collector.faults += reference_faults(job, ports.outputs)
    collector.faults += [*_missing_files(job), *_unmet_needs(job), *_unmeasured_budgets(job), *_unknown_metrics(job)]
    raise_all([*output_faults(job.outputs, _inputs(job, model), force=job.force), *collector.faults])
    assert model is not None and ports is not None
    hashes = {"model": model_digest(model), **{role: dataset.digest() for role, dataset in data.items()}}
    raise_all([*_changed_since_report(job, hashes), *_other_trainings(job, hashes)])
    dropped = len(ports.defaults) if job.recipe.drop_default_inputs else 0
    size = sum(file.stat().st_size for file in model.files)
    return Prepared(job, model, data, counted_bytes(model, size), hashes, ports.outputs, dropped)


def _place(job: Job, path: tuple[str | int, ...], value: object) -> Place | None:
    """Where a value stands in the recipe; None where code has put another in its place."""
    document = job.loaded.document
    return document.place(path) if document.at(path) == value else None


def _provider_place(job: Job) -> Place | None:
    written, auto = job.loaded.document.at(("provider",)), job.recipe.auto
    if written is None and auto is not None and auto.device is not None:
        return job.loaded.document.place(("auto", "device"))
    entries = written if isinstance(written, list) else [written]
    names = [next(iter(entry), None) if isinstance(entry, dict) else entry for entry in entries]
    short = [short_name(name) if isinstance(name, str) else name for name in names]
    return _place(job, ("provider",), written) if short == [p.name for p in job.recipe.provider] else None


def _inputs(job: Job, model: Model | None) -> Iterator[Input]:
    """Every file that will be read."""
    yield from (Input(file, "the model") for file in (model.files if model is not None else [job.model]))
    if job.loaded.path is not None:
        yield Input(job.loaded.path, "the recipe")
    for role, source in _sources(job).items():
        if is_path(source):
            yield from _data_inputs(job, role, job.loaded.folder / source)
    if (reference := reference_of(job)) is not None:
        yield from _option_inputs(reference, "what the budget is against")
    for step in job.recipe.passes:
        for name in step.operation.files:
            if (value := step.arguments()[name]) is not None:
                yield from _option_inputs(job.loaded.folder / value, f"the {name} of {step.operation.name}")


def _data_inputs(job: Job, role: str, path: Path) -> Iterator[Input]:
    """A file, or those of a folder that an output could hit."""
    if not os.path.isdir(path):
        yield Input(path, f"the {role} data")
    for output in job.outputs:
        if is_data_file(output.path) and os.path.realpath(path) in map(str, Path(resolved(output.path)).parents):
            yield Input(output.path, f"a file of the {role} data")


def _option_inputs(path: Path, what: str) -> Iterator[Input]:
    files = [path]
    with suppress(OnnxpressError):  # told by whoever reads it
        files = model_files(path)
    yield from (Input(file, what) for file in files)


def _checkpoint_faults(job: Job) -> Iterator[OnnxpressError]:
    """Nothing to resume; or the work of hours, which is not replaced unasked."""
    kept = [path for path in job.checkpoints if os.path.lexists(path)]
    if job.resume and job.out is not None and not kept:
        pattern = checkpoint_of(job.out, 1).name.replace("step1", "step*")
        yield UsageError(f"there is nothing to resume: {pattern} does not exist", hint="start without --resume")
    for path in kept if not (job.resume or job.force) else ():
        hint = "--resume goes on with it; --force begins anew, and replaces it"
        yield OutputError(f"{path} holds a training that was interrupted", hint=hint)


def _other_trainings(job: Job, hashes: Mapping[str, str]) -> Iterator[OnnxpressError]:
    """Checkpoints that steps of this run cannot go on from."""
    for number, path in enumerate(job.checkpoints if job.resume else (), 1):
        try:
            if os.path.lexists(path):
                refuse_other_training(path, read_state(path), training_identity(job, hashes, number))
        except OnnxpressError as fault:
            yield fault


def data_settings(job: Job, role: str) -> DataSettings:
    """How the recipe's data sections are to be read; only evaluation needs its labels."""
    recipe = job.recipe
    return DataSettings(
        batch_size=recipe.data.batch_size,
        labels=_labels(job) if role == "evaluation" else _training_labels(job),
        needs_labels=role == "evaluation",
        images=recipe.data.images,
        seed=recipe.seed,
        dims=recipe.measure.dims,
        shapes=recipe.measure.shapes,
        values=recipe.measure.values,
        allow_code=job.allow_code,
        base=job.loaded.folder,
    )


def _labels(job: Job) -> str | None:
    """The name of the labels; where the data brings its own, and metrics need them, one that no input has."""
    evaluation = job.recipe.data.evaluation
    if evaluation is None or evaluation.labels or not evaluation.metrics:
        return evaluation.labels if evaluation else None
    return "labels of the data" if brings_labels(evaluation.path, job.loaded.folder) else None


def _training_labels(job: Job) -> str | None:
    """Labels that training may read: of the name said, or of that of evaluation, or the data's own."""
    training = job.recipe.data.training
    if training is None:
        return _labels(job)
    brought = "labels of the data" if brings_labels(training.path, job.loaded.folder) else None
    return training.labels or _labels(job) or brought


class _Ports(NamedTuple):
    inputs: tuple[Port, ...]
    defaults: tuple[Port, ...]
    outputs: tuple[Port, ...]


def _ports(job: Job, collector: _Collector) -> _Ports | None:
    """The model's ports, from the provider that it will be measured on, so that one that does not start is known now.

    The CPU then stands in, to tell the inputs, so that the data is checked all the same.
    """
    place = _provider_place(job) if job.recipe.provider != list(CPU) else None
    asked = collector.check(lambda: open_session(job.model, job.recipe.provider, optimize=False), place)
    session = asked or collector.check(lambda: open_session(job.model, optimize=False))
    if session is None:
        return None
    return _Ports(session.inputs, session.defaults, session.outputs)


def _open_all(job: Job, ports: _Ports, collector: _Collector) -> dict[str, Dataset]:
    """The data of every role; not opened while sizes that it is opened with are at fault."""
    defaults = () if job.recipe.drop_default_inputs else ports.defaults
    unfit = [*_unfit_sizes(job, (*ports.inputs, *defaults))]
    collector.faults += unfit
    opened = {}
    for role, source in _sources(job).items() if not unfit else ():
        settings = data_settings(job, role)
        opening = partial(open_data, source, ports.inputs, settings, defaults)
        dataset = collector.check(opening, _data_place(job, role, source))
        opened.update({role: dataset} if dataset is not None else {})
    return opened


def _unfit_sizes(job: Job, ports: tuple[Port, ...]) -> Iterator[OnnxpressError]:
    measure = job.recipe.measure
    for name, size in measure.dims.items():
        for fault in size_faults(ports, {name: size}, {}):
            yield fault.moved(_place(job, ("measure", "dims", name), size))
    for name, shape in measure.shapes.items():
        for fault in size_faults(ports, measure.dims, {}, {name: shape}):
            yield fault.moved(_place(job, ("measure", "shapes", name), shape))
    for name, value in measure.values.items():
        for fault in size_faults(ports, {}, {name: value}):
            yield fault.moved(_place(job, ("measure", "values", name), value))


def _sources(job: Job) -> dict[str, str]:
    section = job.recipe.data
    training, evaluation = (part.path if part else None for part in (section.training, section.evaluation))
    sources = {"calibration": section.calibration, "training": training, "evaluation": evaluation}
    return {role: source for role, source in sources.items() if source is not None}


def _data_place(job: Job, role: str, source: str) -> Place | None:
    path = ("data", role)
    return _place(job, path, source) or _place(job, (*path, "path"), source)


def _unmatched_patterns(job: Job, model: Model) -> Iterator[OnnxpressError]:
    """Patterns that match no node of the model, neither as it is given nor as the first steps prepare it."""
    found = [
        (step, option, pattern)
        for step in job.recipe.passes
        for option in ("only", "skip", "ratios")
        for pattern in unmatched(model, step.arguments().get(option, []))
    ]
    missing = set(unmatched(_as_prepared(job, model), [pattern for *_, pattern in found])) if found else ()
    for step, option, pattern in found:
        if pattern in missing:
            patterns = step.arguments()[option]
            key = pattern if isinstance(patterns, dict) else patterns.index(pattern)
            path = (*step.path, step.operation.name, option, key)
            hint = "patterns are matched against node names and operator types; see: onnxpress inspect --nodes"
            message = f"{option} pattern '{pattern}' matches no node of {job.model}"
            yield RecipeError(message, hint=hint, place=job.loaded.document.place(path, of_key=True))


def _as_prepared(job: Job, model: Model) -> Model:
    """The model behind the recipe's first steps, as far as these prepare it; as far as they can, where one fails."""
    copy = model.copy()
    with suppress(Exception):
        for step in takewhile(lambda each: each.operation.promises is Promise.PREPARES, job.recipe.passes):
            step.operation(copy, Context(np.random.default_rng(job.recipe.seed)), **step.arguments())
    return copy


def _missing_files(job: Job) -> Iterator[OnnxpressError]:
    """Files that options name."""
    for step in job.recipe.passes:
        for name in step.operation.files:
            value = step.arguments()[name]
            path = job.loaded.folder / value if value is not None else None
            if path is not None and (why := unreadable(path)):
                beside = os.listdir(path.parent) if is_absent(path) and path.parent.is_dir() else []
                message = f"{name}: {value} {why}{did_you_mean(path.name, beside)}"
                yield RecipeError(message, place=job.loaded.document.place((*step.path, step.operation.name, name)))


def _unmet_needs(job: Job) -> Iterator[OnnxpressError]:
    given = {
        Need.CALIBRATION: job.recipe.data.calibration,
        Need.TRAINING: job.recipe.data.training or job.recipe.data.calibration,
        Need.EVALUATION: job.recipe.data.evaluation,
    }
    for step in job.recipe.passes:
        for need in sorted(step.operation.needs_with(step.options)):
            if not given.get(need, True):
                yield _needs(job, step, need)

    yield from _unmet_by_auto(job)


def _needs(job: Job, step: Step, need: Need) -> OnnxpressError:
    place = job.loaded.document.place(step.path)
    key = need.value.removesuffix(" data")
    return RecipeError(
        f"{step.operation.name} needs {need.value}", hint=f"give data.{key} in the recipe, or --data", place=place
    )


def _unmet_by_auto(job: Job) -> Iterator[OnnxpressError]:
    """It tells losses on data, and trains on data of its own: a few calibration samples are learned by heart."""
    auto, section, place = job.recipe.auto, job.recipe.data, job.loaded.document.place
    if auto is not None and section.calibration is None:
        hint = "a few dozen inputs that the model really sees: data.calibration in the recipe, or --data"
        yield RecipeError("auto needs calibration data", hint=hint, place=place(("passes",)))
    if auto is not None and auto.retrain and section.training is None:
        hint = "give data.training in the recipe, or --training"
        yield RecipeError("retrain needs training data", hint=hint, place=place(("auto", "retrain")))


def _unmeasured_budgets(job: Job) -> Iterator[OnnxpressError]:
    budget, evaluation, document = job.recipe.budget, job.recipe.data.evaluation, job.loaded.document
    for name in ("min_speedup", "max_drop", "min_closeness"):
        if not job.measure and getattr(budget, name) is not None:
            message, hint = f"{name} asks for what --no-measure does not measure", "drop one of the two"
            yield UsageError(message, hint=hint, place=document.place(("budget", name)))
    if budget.max_drop is not None and not (evaluation and evaluation.metrics):
        hint = "give data.evaluation with labels and metrics (--labels and --metric), or drop max_drop"
        place = document.place(("budget", "max_drop"))
        yield RecipeError("max_drop needs evaluation data and a metric", hint=hint, place=place)


def _unknown_metrics(job: Job) -> Iterator[OnnxpressError]:
    evaluation, document = job.recipe.data.evaluation, job.loaded.document
    path = ("data", "evaluation", "metrics")
    for index, name in enumerate(evaluation.metrics if evaluation else ()):
        try:
            parse_metric(name)
        except OnnxpressError as fault:
            yield fault.moved(document.place((*path, index)))
    if evaluation and evaluation.metrics and not _labels(job) and is_known(evaluation.path, job.loaded.folder):
        hint = "name the array that holds them: data.evaluation.labels: label in a recipe, or --labels label"
        yield RecipeError("metrics need labels", hint=hint, place=document.place(path))


def _changed_since_report(job: Job, hashes: dict[str, str]) -> Iterator[OnnxpressError]:
    for what, digest in job.loaded.expected.items():
        if hashes.get(what, digest) != digest:
            yield UsageError(
                f"{what} is not what the report was made with", hint="replay needs the same model and data"
            )
