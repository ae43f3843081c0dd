"""Apply a recipe's steps one by one, and hold each to what it promised."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..errors import BrokenPromise, OnnxpressError, PassError, Place
from ..measure.feeds import NoFeed, latency_feed
from ..model import Model
from ..passes import ALL, Change, Context, Need, Promise, selected
from ..recipe import Step
from ..report.report import StepReport
from ..runtime import Session, open_session
from .defaults import defaults_note
from .earlier import Earlier
from .integer_kernels import before_step, hold_kernels
from .job import Prepared, model_of, training_identity
from .undone import Gains, readers_of


def apply_steps(prepared: Prepared, *, dry_run: bool = False, gains: Gains | None = None) -> Iterator[StepReport]:
    """Change the model in place, one step after another; each step's report is given as it is done.

    ``gains`` collects what later steps must leave in the weights.
    """
    gains = gains if gains is not None else Gains()
    job, context = prepared.job, context_of(prepared, dry_run=dry_run)
    earlier = Earlier(job.recipe.passes)
    if prepared.behind:
        earlier.begin_with(lambda: model_of(job))
    yield from prepared.behind
    for index, step in list(enumerate(job.recipe.passes))[len(prepared.behind) :]:
        if job.out is not None and Need.TRAINING in step.operation.needs:
            context.checkpoint = job.checkpoints[index]
            context.identity = training_identity(job, prepared.hashes, index + 1)
        place = job.loaded.document.place(step.path)
        context.earlier = earlier.for_step(prepared.model, index)
        readers = readers_of(prepared.model)
        try:
            report = _apply(prepared.model, context, step, index + 1, place)
        except BrokenPromise:  # a training that came to nothing is none to go on with
            if job.out is not None:
                job.checkpoints[index].unlink(missing_ok=True)
            raise
        gains.settle(prepared.model, step, report, readers, place, _title(step, index + 1))
        if job.check_steps:
            _check_runs(prepared, step, index + 1, place)
        yield report


def context_of(prepared: Prepared, *, dry_run: bool = False) -> Context:
    """What the job gives its passes; on a dry run they look at one batch of calibration data only."""
    job = prepared.job
    return Context(
        rng=np.random.default_rng(job.recipe.seed),
        calibration=prepared.data.get("calibration"),
        training=prepared.data.get("training", prepared.data.get("calibration")),
        evaluation=prepared.data.get("evaluation"),
        metrics=job.recipe.data.evaluation.metrics if job.recipe.data.evaluation else (),
        providers=job.recipe.provider,
        threads=job.recipe.threads,
        dry_run=dry_run,
        progress=job.progress,
        measure=job.recipe.measure,
        folder=job.loaded.folder,
        resume=job.resume,
    )


def _apply(model: Model, context: Context, step: Step, number: int, place: Place) -> StepReport:
    contract, before, found = model.contract(), model.stored_bytes(), before_step(model)
    if Need.SHAPES in step.operation.needs:
        model.infer_shapes()
    clock, cpu = time.perf_counter(), time.process_time()
    try:
        with model.keeping_ports(), threadpool_limits(context.threads):  # NumPy's own threads fight over shared cores
            change = step.operation(model, context, **step.arguments())
        _check_graph(model, contract)
        if not step.options.allow_undone:
            hold_kernels(found, model, context.providers)
    except OnnxpressError as fault:
        raise fault.within(_title(step, number), place) from fault
    except Exception as error:
        error.add_note(f"in {_title(step, number)} ({place})")
        raise
    report = _report(
        step, change, (before, model.stored_bytes()), time.perf_counter() - clock, time.process_time() - cpu
    )
    _hold_to_promise(model, step, report, number, place)
    return report


def _check_graph(model: Model, contract: object) -> None:
    model.check()
    if model.contract() != contract:
        raise PassError(f"the pass changed inputs or outputs: {contract} became {model.contract()}")


def _title(step: Step, number: int) -> str:
    return f"step {number}, {step.operation.name}"


def _report(step: Step, change: Change, size: tuple[int, int], seconds: float, cpu_seconds: float) -> StepReport:
    options = {**step.resolved()[step.operation.name], **change.chosen}
    return StepReport(
        name=step.operation.name,
        promise=step.operation.promises.value,
        options=options,
        touched=dict(change.touched),
        declined=list(change.declined),
        notes=dict(change.notes),
        files=[name for name in step.operation.files if options[name] is not None],
        bytes_before=size[0],
        bytes_after=size[1],
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )


def _hold_to_promise(model: Model, step: Step, report: StepReport, number: int, place: Place) -> None:
    what, promise = _title(step, number), step.operation.promises
    if promise is not Promise.PREPARES and not report.touched and not step.options.allow_unchanged:
        told = [*_reasons(model, step, report), defaults_note(model), "allow_unchanged: true on the step permits this"]
        hint = "\n  ".join(filter(None, told))
        raise BrokenPromise(f"{what} changed nothing", hint=hint, place=place)
    grown = report.bytes_after - report.bytes_before
    if promise is Promise.SHRINKS and grown > 0 and not step.options.allow_larger:
        hint = "allow_larger: true on the step permits this"
        raise BrokenPromise(f"{what} made the model {grown} bytes larger", hint=hint, place=place)


def _reasons(model: Model, step: Step, report: StepReport, most: int = 5) -> Iterator[str]:
    """Why a step changed nothing: what it declined, or else that there was nothing for it."""
    if not report.declined:
        yield _nothing_for(model, step.arguments())
    for declined in report.declined[:most]:
        yield f"{declined.name}: {declined.reason}"
    if len(report.declined) > most:
        yield f"... and {len(report.declined) - most} more declined"


def _nothing_for(model: Model, options: Mapping[str, Any]) -> str:
    """What the kinds of operators and the patterns that a step was given leave of the model."""
    operators, only, skip = (
        options.get(name, usual) for name, usual in (("operators", []), ("only", ALL), ("skip", []))
    )
    kinds = f" ({', '.join(operators)})" if operators else ""
    nodes = [node for node in model.nodes() if not operators or node.op_type in operators]
    if not nodes:
        return f"the model has no operator of the kinds that it works on{kinds}"
    if (only, skip) != (ALL, []) and not (operators and any(selected(node, only, skip) for node in nodes)):
        return f"no operator of the kinds that it works on{kinds} is left by only/skip"
    return "it found nothing to change"


def _check_runs(prepared: Prepared, step: Step, number: int, place: Place) -> None:
    try:
        with prepared.model.exported() as path:
            check_outputs(prepared, open_session(path))
    except OnnxpressError as fault:
        raise fault.within(_title(step, number), place) from fault


def check_outputs(prepared: Prepared, session: Session) -> None:
    """Raise PassError where an output is no longer of the shape that it declares.

    onnxruntime forgets a declared size that contradicts what it infers; what it knew of the original must stay. A
    declaration may have been wrong from the start: only where the result really gives another shape is it our fault.
    """
    for value, before, after in zip(prepared.model.graph.outputs, prepared.outputs, session.outputs, strict=False):
        declared = tuple(value.shape) if value.shape is not None else ()
        sizes = zip(declared, before.shape, after.shape, strict=False)
        lost = any(isinstance(size, int) and was == size != now for size, was, now in sizes)
        if lost and not _still_gives(prepared, session, before.name):
            raise PassError(f"output '{value.name}' is no longer of the shape that it declares, {value.shape}")


def _still_gives(prepared: Prepared, session: Session, name: str) -> bool:
    """Whether the result gives an output in the shape in which the original gives it; False where nothing runs."""
    recipe = prepared.job.recipe
    try:
        original = open_session(prepared.job.model, recipe.provider, threads=recipe.threads, optimize=False)
        data = next(iter(prepared.data.values()), None)
        feed = latency_feed({"original": original, "result": session}, data, recipe.measure, seed=recipe.seed)
        if isinstance(feed, NoFeed):
            return False
        before, after = (one.run(feed, [name])[name] for one in (original, session))
    except OnnxpressError:
        return False
    return bool(np.shape(before) == np.shape(after))
