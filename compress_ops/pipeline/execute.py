"""Run a job: prepare, apply, write beside the output, prove, and only then put in place."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import BrokenPromise, UsageError
from ..files.models import file_digest
from ..measure.budget import Budget, needs
from ..measure.comparison import Comparison, compare_models, judge_model
from ..measure.cost import peak_memory
from ..measure.environment import describe_environment
from ..passes import Promise
from ..recipe import Recipe, Step
from ..report import units
from ..report.report import Report, StepReport
from ..runtime import Session, open_session
from .against import outputs_of, reference_of
from .defaults import defaults_note, dropped_note
from .job import Job, Prepared, counted_bytes, refuse_auto
from .lean import drop_given_names, drop_leftovers, entry_bytes
from .preflight import prepare
from .steps import apply_steps, check_outputs
from .undone import Gains


def plan(job: Job) -> list[StepReport]:
    """What each step would touch and decline; nothing is written, and calibration looks at one batch only."""
    refuse_auto(job)
    return list(apply_steps(prepare(job), dry_run=True))


@dataclass(frozen=True)
class Applied:
    """A job whose steps the model has behind it: their reports, and what later ones had to leave in the weights.

    ``original`` is the session of the model that the job began with, where one is open already.
    """

    prepared: Prepared
    steps: list[StepReport]
    gains: Gains
    original: Session | None = None


def run(job: Job) -> Report:
    """Apply the recipe and write the proven result.

    Raises OnnxpressError for whatever the user can mend; the output then is as it was before.
    """
    if job.out is None:
        raise UsageError("a run needs an output path", hint="plan() says what it would do")
    refuse_auto(job)
    started, cpu_started = time.perf_counter(), time.process_time()
    prepared, gains = prepare(job), Gains()
    steps = list(job.progress(apply_steps(prepared, gains=gains), "passes", len(job.recipe.passes)))
    report = finished(Applied(prepared, steps, gains), job.out)
    return replace(report, seconds=time.perf_counter() - started, cpu_seconds=time.process_time() - cpu_started)


def finished(work: Applied, out: Path) -> Report:
    """Write the model to its place, proven. It is signed, and what it need not hold is taken from it."""
    started, cpu_started = time.perf_counter(), time.process_time()
    prepared, job, steps = work.prepared, work.prepared.job, work.steps
    notes = [*work.gains.notes(prepared.model), *_notes(prepared)]
    resolved = _resolved(job.recipe, steps)
    signature = _sign(prepared, resolved, steps)
    drop_given_names(prepared.model)
    with prepared.model.staged(out, force=job.force) as staged:
        result_bytes = counted_bytes(prepared.model, staged.size)
        _hold_whole_run(job.recipe, prepared.original_bytes, result_bytes - signature)
        comparison = _prove(prepared, staged.path, work.original)
        budget = job.recipe.budget
        judged = _held_against(prepared, budget, staged.path, comparison)
        verdicts = judge_model(budget, judged, "result", original_size=prepared.original_bytes, size=result_bytes)
        job.before_commit()
        staged.commit()
    for checkpoint in job.checkpoints:
        checkpoint.unlink(missing_ok=True)
    return Report(
        recipe=resolved,
        folder=job.loaded.folder.resolve(),
        model=job.model,
        out=out,
        hashes=dict(prepared.hashes),
        steps=steps,
        bytes_before=prepared.original_bytes,
        bytes_after=result_bytes,
        comparison=comparison,
        verdicts=verdicts,
        environment=describe_environment(job.recipe.provider[0].name, job.recipe.threads),
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu_started,
        peak_memory_bytes=peak_memory(),
        notes=notes,
    )


def _notes(prepared: Prepared) -> list[str]:
    """What became of inputs with a default, and of exporters' leftovers, which go where a step promised to shrink."""
    recipe = prepared.job.recipe
    gone = drop_leftovers(prepared.model) if _shrinking(recipe) and not recipe.keep_metadata else 0
    told = [defaults_note(prepared.model), dropped_note(prepared.dropped_inputs)]
    if gone:
        told.append(f"{units.size(gone)} of an exporter's stack traces and notes went; --keep-metadata keeps them.")
    return [note for note in told if note]


def _shrinking(recipe: Recipe) -> list[Step]:
    return [step for step in recipe.passes if step.operation.promises is Promise.SHRINKS]


def _resolved(recipe: Recipe, steps: list[StepReport]) -> dict[str, Any]:
    """The recipe with all defaults, and what passes chose by measuring, filled in."""
    return {**recipe.resolved(), "passes": [{step.name: step.options} for step in steps]}


def _sign(prepared: Prepared, resolved: dict[str, Any], steps: list[StepReport]) -> int:
    """Write into the model which recipe made it from which parent: no dates, no paths, so that runs repeat.

    Returns the bytes that this adds.
    """
    folder = prepared.job.loaded.folder
    passes = [{step.name: {**step.options, **_digests(step, folder)}} for step in steps]
    asked = {name: True for name in ("drop_default_inputs", "keep_metadata") if resolved[name]}
    what = {"passes": passes, "seed": resolved["seed"], "data": dict(prepared.hashes), **asked}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
    signature = {"onnxpress.recipe": digest, "onnxpress.parent": prepared.hashes["model"]}
    metadata = prepared.model.ir.metadata_props
    added = sum(entry_bytes(name, text) for name, text in signature.items() if name not in metadata)
    metadata.update(signature)
    return added


def _digests(step: StepReport, folder: Path) -> dict[str, str]:
    """What stands in the files that a step's options name, instead of where they lie."""
    return {name: file_digest(folder / step.options[name]) for name in step.files}


def _hold_whole_run(recipe: Recipe, before: int, after: int) -> None:
    """By the files as they are written, the signature aside: all that saving adds is somebody's growth."""
    shrinking = _shrinking(recipe)
    if after > before and shrinking and not any(step.options.allow_larger for step in shrinking):
        raise BrokenPromise(
            f"the result is larger than the model: {before:,} -> {after:,} bytes",
            hint="allow_larger: true on a step permits this",
        )


_ROLES = ("evaluation", "calibration", "training")  # the first that there is shows fidelity


def _prove(prepared: Prepared, path: Path, original: Session | None) -> Comparison | None:
    """Load the result once on the provider asked for, then measure it against the original."""
    job = prepared.job
    recipe = job.recipe
    check_outputs(prepared, open_session(path, recipe.provider, threads=recipe.threads, optimize=job.measure))
    if not job.measure:
        return None
    opened = {"original": original} if original is not None else {}
    comparison = _compared(prepared, {"original": job.model, "result": path}, opened=opened)
    return replace(comparison, models={"original": str(job.model), "result": str(job.out)})


def _compared(prepared: Prepared, models: Mapping[str, Path], **asked: Any) -> Comparison:
    """Models side by side, on the data and in the way of the recipe."""
    recipe, evaluation = prepared.job.recipe, prepared.job.recipe.data.evaluation
    return compare_models(
        models,
        providers=recipe.provider,
        threads=recipe.threads,
        settings=recipe.measure,
        evaluation=prepared.data.get("evaluation"),
        metrics=evaluation.metrics if evaluation else [],
        fidelity_data=next((prepared.data[role] for role in _ROLES if role in prepared.data), None),
        seed=recipe.seed,
        progress=prepared.job.progress,
        **asked,
    )


def _held_against(prepared: Prepared, budget: Budget, path: Path, comparison: Comparison | None) -> Comparison | None:
    """The comparison by which the budget is judged: what is lost may be about another model than the original."""
    reference, parts = reference_of(prepared.job), needs(budget) & {"accuracy", "fidelity"}
    if reference is None or comparison is None or not parts:
        return comparison
    outputs = outputs_of(prepared.job, prepared.outputs)
    found = _compared(prepared, {"reference": reference, "result": path}, parts=parts, outputs=outputs)
    return replace(comparison, accuracy=found.accuracy, fidelity=found.fidelity)
