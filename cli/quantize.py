"""onnxpress quantize: the recipe that most people need, without writing one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import options


def quantize(
    model: options.ModelPath,
    out: options.Out = None,
    data: options.Data = None,
    evaluation: options.Evaluation = None,
    labels: options.Labels = None,
    metric: options.Metrics = None,
    batch_size: options.BatchSize = None,
    provider: options.Providers = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    dim: options.Dims = None,
    value: options.Values = None,
    set_: options.Set = None,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", help="Print the recipe that this stands for, and stop.")
    ] = False,
    no_measure: options.NoMeasure = False,
    dry_run: options.DryRun = False,
    check_steps: options.CheckSteps = False,
    allow_code: options.AllowCode = False,
    allow_unproven: options.AllowUnproven = False,
    force: options.Force = False,
    report: options.Reports = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a model int8, without a recipe.

    With --data, activations are quantized too, with ranges from that data (static); without, as they come (dynamic).

    The result must be faster than the original, or at least not slower: where that is missed or not proven, the exit
    status is 1 (the output is written). --set gives any option of the passes; --show-recipe shows where they stand.
    """
    from compress_ops.pipeline import Job
    from compress_ops.recipe import parse_recipe

    from .execute import execute, output
    from .show import Manner, put

    measure = {"dims": dict(dim or []), "values": dict(value or [])}
    text = recipe_text(
        provider=provider,
        threads=threads,
        seed=seed,
        data=_data_section(data, evaluation, labels, metric, batch_size),
        measure={name: given for name, given in measure.items() if given},
        passes=["simplify", "quantize_static" if data else "quantize_dynamic"],
        budget={} if no_measure or dry_run else {"min_speedup": 1},
    )
    loaded = parse_recipe(text, "quantize", set_ or ())
    if show_recipe:
        put(text if not set_ else recipe_text(**loaded.document.data))
        return
    job = Job(
        loaded,
        model=model,
        out=output(out, dry_run=dry_run),
        force=force,
        measure=not no_measure,
        check_steps=check_steps,
        allow_code=allow_code,
    )
    execute(job, Manner(as_json, report, quiet, verbose), allow_unproven=allow_unproven)


def _data_section(
    data: str | None, evaluation: str | None, labels: str | None, metrics: list[str] | None, batch_size: int | None
) -> dict[str, Any]:
    from compress_ops.errors import UsageError

    if (labels or metrics) and evaluation is None:
        raise UsageError("labels and metrics belong to evaluation data", hint="give --evaluation DATA with them")
    scored = {"path": evaluation, "labels": labels, "metrics": metrics or (["top1"] if labels else [])}
    section = {
        "batch_size": batch_size,
        "calibration": data,
        "evaluation": {name: given for name, given in scored.items() if given} if evaluation else None,
    }
    return {name: given for name, given in section.items() if given is not None}


def recipe_text(**sections: Any) -> str:
    """A recipe as YAML; what is empty or None is left out."""
    import yaml

    given = {name: section for name, section in sections.items() if section not in (None, {}, [])}
    return yaml.safe_dump({"version": 1, **given}, sort_keys=False, width=120)
