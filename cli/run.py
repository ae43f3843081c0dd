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
    out: options.Out = None,
    data: options.Data = None,
    provider: options.Providers = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    dim: options.Dims = None,
    shape: options.Shapes = None,
    value: options.Values = None,
    set_: options.Set = None,
    drop_default_inputs: options.DropDefaults = False,
    keep_metadata: options.KeepMetadata = False,
    no_measure: options.NoMeasure = False,
    dry_run: options.DryRun = False,
    check_steps: options.CheckSteps = False,
    allow_code: options.AllowCode = False,
    allow_unproven: options.AllowUnproven = False,
    force: options.Force = False,
    resume: options.Resume = False,
    report: options.Reports = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Apply a recipe to a model and prove the result.

    The report is printed. Flags win over the recipe; --data replaces its calibration data.

    Exit status: 0 done; 1 a budget is missed or not proven, or a report could not be written (the output is); 2 a fault
    in what was given (nothing is written); 3 a bug; 130 interrupted.
    """
    from compress_ops.pipeline import Job
    from compress_ops.recipe import read_recipe

    from .execute import execute, output
    from .flags import from_here, given, kept, made_up
    from .show import Manner

    sections = {
        "provider": provider,
        "threads": threads,
        "seed": seed,
        **kept(drop_default_inputs=drop_default_inputs, keep_metadata=keep_metadata),
        "data": {"calibration": from_here(data) if data is not None else None},
        "measure": made_up(dim, shape, value),
    }
    loaded = read_recipe(recipe, set_ or (), given(sections))
    given_model = model_of(loaded, model)
    job = Job(
        loaded,
        model=given_model,
        out=output(out, given_model, "small", dry_run=dry_run),
        force=force,
        measure=not no_measure,
        check_steps=check_steps,
        allow_code=allow_code,
        resume=resume,
    )
    execute(job, Manner(as_json, report, quiet, verbose, force), allow_unproven=allow_unproven)


def model_of(loaded: LoadedRecipe, model: Path | None) -> Path:
    """The model of the command line, else the one that the recipe names."""
    from compress_ops.errors import UsageError, raise_all

    if model is None and loaded.recipe.model is None:
        raise_all([*loaded.faults, UsageError("which model? The recipe names none", hint="give MODEL after RECIPE")])
    return model if model is not None else loaded.folder / str(loaded.recipe.model)
