"""The sensitivity scan of a job: its last step, tried on one group or layer at a time.

Steps before it that prepare the model are applied first. Results are kept in a cache folder under a digest of all that
they follow from: model, data, steps, provider, sizes and versions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..data.forms.table import repeats
from ..errors import OutputError, UsageError
from ..files.writing import write
from ..measure.environment import describe_environment, tool_version
from ..measure.sensitivity import Effect, Sensitivity, most_sensitive_first, standing_out
from ..model import Model
from ..passes import Context, Promise
from ..prune.prune_one_layer import scan_groups
from ..quantize.quantize_one_layer import scan_layers
from ..recipe import Step
from ..report.report import plain
from .job import Job, Prepared, refuse_auto, with_passes
from .preflight import prepare
from .steps import apply_steps, context_of

Found = tuple[list[Effect], int, dict[str, str]]


def scan(job: Job, cache: Path | None = None) -> Sensitivity:
    """How sensitive the parts are that the job's last step would change; ``cache`` is a folder to keep results in.

    Raises UsageError without calibration data or where the last step is none that can be scanned, PassError where the
    model has no part that it could change.
    """
    refuse_auto(job)
    *before, step = job.recipe.passes
    if step.operation.name not in _SCANS:
        raise UsageError(f"{step.operation.name} has no sensitivity scan", hint=f"one of: {', '.join(_SCANS)}")
    if job.recipe.data.calibration is None:
        raise UsageError("a sensitivity scan needs data", hint="give --data DATA")
    prepared = prepare(job)
    file = cache / f"sensitivity-{_digest(prepared)}.json" if cache is not None and _can_be_kept(job) else None
    known = _read(file) if file is not None else None
    if known is not None:
        return replace(known, model=job.model.name)
    found = _scanned(prepared, before, step)
    if file is not None:
        _write(file, found)
    return found


def _scanned(prepared: Prepared, before: Sequence[Step], step: Step) -> Sensitivity:
    names = {node.name for node in prepared.model.nodes()}
    preparing = [one for one in before if one.operation.promises is Promise.PREPARES]
    list(apply_steps(replace(prepared, job=with_passes(prepared.job, preparing))))
    effects, samples, declined = _SCANS[step.operation.name](prepared.model, context_of(prepared), step.options)
    spared = [_pattern(effect, names) for effect in standing_out(effects)]
    skip = [*getattr(step.options, "skip", []), *(pattern for pattern in spared if pattern)]
    told = {**step.options.model_dump(exclude_unset=True), **({"skip": skip} if skip else {})}
    return Sensitivity(
        prepared.job.model.name,
        samples,
        prepared.data["calibration"].name,
        {step.operation.name: told},
        most_sensitive_first(effects),
        declined,
    )


def _pattern(effect: Effect, names: set[str | None]) -> str:
    """What names the part in a recipe: a node of the file as it is; empty where preparing made all of its nodes."""
    return next((escape(name) for name in effect.part.nodes if name in names), "")


def _groups(model: Model, ctx: Context, options: Any, *, heads: bool) -> Found:
    found = scan_groups(model, ctx, ratio=options.ratio, heads=heads)
    return found.effects, found.samples, found.declined


def _layers(model: Model, ctx: Context, options: Any, *, bits: int | None) -> Found:
    found = scan_layers(model, ctx, bits=bits)
    return found.effects, found.samples, found.declined


_SCANS: dict[str, Callable[[Model, Context, Any], Found]] = {
    "prune_channels": lambda model, ctx, options: _groups(model, ctx, options, heads=False),
    "prune_heads": lambda model, ctx, options: _groups(model, ctx, options, heads=True),
    "quantize_static": lambda model, ctx, options: _layers(model, ctx, options, bits=None),
    "quantize_weights": lambda model, ctx, options: _layers(model, ctx, options, bits=options.bits),
}


def _can_be_kept(job: Job) -> bool:
    """What a user's function gives may change while its file does not."""
    return repeats(job.recipe.data.calibration or "")


def _digest(prepared: Prepared) -> str:
    recipe = prepared.job.recipe
    follows_from = {
        "recipe": {key: value for key, value in recipe.resolved().items() if key != "data"},
        "batch_size": recipe.data.batch_size,
        "images": plain(recipe.data.images.model_dump()) if recipe.data.images is not None else None,
        "hashes": dict(prepared.hashes),
        "environment": plain(describe_environment(recipe.provider[0].name, recipe.threads)),
        "onnxpress": tool_version(),
    }
    return hashlib.sha256(json.dumps(follows_from, sort_keys=True, default=str).encode()).hexdigest()


def _read(file: Path) -> Sensitivity | None:
    """A result kept earlier; one that cannot be read is as good as none."""
    try:
        return TypeAdapter(Sensitivity).validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(file: Path, found: Sensitivity) -> None:
    """Whole or not at all; where nothing can be written, nothing is kept."""
    with suppress(OSError, OutputError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, json.dumps(plain(found), indent=1), force=True)
