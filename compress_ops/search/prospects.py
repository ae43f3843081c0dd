"""What could be compressed: each pass that shrinks a model without data, tried on a fresh load of it."""

from __future__ import annotations

from pathlib import Path

from ..catalogue import PASSES
from ..errors import OnnxpressError
from ..model import load
from ..passes import Need, Pass, Promise
from ..pipeline.job import Job, Prepared
from ..pipeline.steps import apply_steps
from ..recipe import LoadedRecipe, Recipe, Step
from ..report.report import StepReport
from ..runtime import open_session


def prospects(model: Path) -> list[StepReport | str]:
    """What each such pass would do with its defaults; a text says why a pass could not be tried."""
    return [_try(model, operation) for operation in PASSES.values() if _can_be_tried(operation)]


def _can_be_tried(operation: Pass) -> bool:
    required = any(field.is_required() for field in operation.options.model_fields.values())
    return operation.promises is Promise.SHRINKS and operation.needs <= {Need.SHAPES} and not required


def _try(model: Path, operation: Pass) -> StepReport | str:
    options = operation.options.model_validate({"allow_unchanged": True, "allow_larger": True})
    recipe = LoadedRecipe(Recipe(version=1, passes=[Step(operation, options)]))
    prepared = Prepared(Job(recipe, model, out=None), load(model), data={}, original_bytes=0)
    try:
        return next(apply_steps(prepared))
    except OnnxpressError as error:
        return f"{operation.name} was not tried: {error.bare}"
    except Exception as error:  # what one pass does not survive must not hide what the others could save
        return f"{operation.name} was not tried: {_reason(model, error)}"


def _reason(model: Path, error: Exception) -> str:
    """Passes rely on what onnxruntime checks when it loads a model, which a run does first: its refusal, if any."""
    try:
        open_session(model, optimize=False)
    except OnnxpressError as refusal:
        return refusal.message
    return f"this is a bug in onnxpress: {type(error).__name__}: {error}"
