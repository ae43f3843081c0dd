"""onnxpress run: apply a recipe, prove the result, print the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    from compress_ops.recipe import LoadedRecipe


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (.yaml), or a report (.json) to replay.")],
    model: Annotated[Path | None, typer.Argument(metavar="MODEL", help="The ONNX model; else the recipe's.")] = None,
    data: options.Data = None,
    *,
    written: options.Written,
    doing: options.Doing,
    resume: options.Resume = False,
) -> None:
    """Apply a recipe to a model and prove the result.

    The report is printed. Flags win over the recipe; --data replaces its calibration data. A recipe of passes: auto is
    done as onnxpress auto does it.

    Exit status: 0 done; 1 a budget is missed or not proven, or a report could not be written (the output is); 2 a fault
    in what was given (nothing is written); 3 a bug; 130 interrupted.
    """
    from compress_ops.recipe import read_recipe

    from .auto import find
    from .execute import execute
    from .flags import from_here, given, job_of, sections_of

    sections = sections_of(written, {"calibration": from_here(data) if data is not None else None}, doing)
    loaded = read_recipe(recipe, written.set_ or (), given(sections))
    job = job_of(loaded, model_of(loaded, model), "small", written, doing, resume=resume)
    if loaded.recipe.auto is not None:
        find(job, doing)
    else:
        execute(job, doing)


def model_of(loaded: LoadedRecipe, model: Path | None) -> Path:
    """The model of the command line, else the one that the recipe names."""
    from compress_ops.errors import UsageError, raise_all

    if model is None and loaded.recipe.model is None:
        raise_all([*loaded.faults, UsageError("which model? The recipe names none", hint="give MODEL after RECIPE")])
    return model if model is not None else loaded.folder / str(loaded.recipe.model)
