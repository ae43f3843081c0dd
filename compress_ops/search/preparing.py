"""How the one-liners prepare a model before they shrink it, whatever the way: a newer operator set, and simplify.

Older operator sets lack what passes write (scales a channel, GELU, layer normalization as one operator). A model that
no converter can raise stays as it is; the passes then say themselves what is too old for them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..catalogue import PASSES
from ..errors import OnnxpressError
from ..graph.opset import require_opset
from ..model import Model, load
from ..pipeline.job import Job, Prepared, with_passes
from ..pipeline.steps import apply_steps
from ..recipe import Step, step_from
from .precisions import Passes

OPSET = 17


def begun(prepared: Prepared) -> Prepared:
    """The job with the steps that come first, on a copy of the model that has them behind it."""
    job = with_passes(prepared.job, steps_of([*_raising(prepared.model), {"simplify": {}}]))
    first = replace(prepared, job=job, model=prepared.model.copy())
    return replace(first, behind=[*apply_steps(first)])


def raised_first(job: Job) -> Job:
    """The job, whose own first step simplifies, with the model raised before where that can be done."""
    return with_passes(job, [*steps_of(more), *job.recipe.passes]) if (more := raising(job.model)) else job


def raising(path: Path) -> Passes:
    """The step that raises the operator set of the model in a file, or none; what cannot be read is told later."""
    try:
        return _raising(load(path))
    except OnnxpressError:
        return []


def _raising(model: Model) -> Passes:
    if model.opset >= OPSET:
        return []
    try:
        require_opset(model.copy(), OPSET)
    except OnnxpressError:
        return []
    return [{"upgrade_opset": {"to": OPSET}}]


def steps_of(passes: Passes) -> list[Step]:
    """Steps of a recipe, from the names and options of passes."""
    return [step_from(PASSES[name], options) for entry in passes for name, options in entry.items()]
